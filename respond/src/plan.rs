//! The plan of an order: every call that would be made, what can be undone, and what stays alive after it.
//!
//! An approval is bound to the plan's digest. It is made from what would really be done: another target, another switch, a
//! switch that calls something else since the configuration changed, or a longer time is another plan.

use schemas::id;
use serde::Serialize;

use crate::order::{Order, Target};
use crate::responder::Responder;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What an approval names.
    pub digest: String,
    pub tenant: String,
    pub target: Target,
    /// How long it stands from the approval on.
    pub stands_secs: u64,
    pub approvals_needed: u32,
    pub steps: Vec<Step>,
}

/// What one system is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub system: String,
    /// Only where the target was let through although the steps before were done.
    pub only_if_violated: bool,
    pub calls: Vec<String>,
    /// Whether expiry and release undo it.
    pub reversible: bool,
    /// Whether the system is asked afterwards what it holds.
    pub reads_back: bool,
    pub stays_alive: String,
    pub permission: String,
    pub tried_against: String,
}

impl Responder {
    /// What `order` would do with the configuration as it is now.
    pub fn plan(&self, order: &Order) -> Plan {
        let mut steps = vec![deny_list(&order.target)];
        let layers = [(&order.switches, false), (&order.switches_next, true)];
        for (names, only_if_violated) in layers {
            steps.extend(names.iter().map(|name| self.step(name, order, only_if_violated)));
        }
        let mut plan = Plan {
            digest: String::new(),
            tenant: order.tenant.clone(),
            target: order.target.clone(),
            stands_secs: order.stands_secs,
            approvals_needed: order.approvals_needed,
            steps,
        };
        let text = serde_json::to_vec(&plan).expect("texts and numbers are JSON");
        plan.digest = id::digest([order.order_id.as_bytes(), text.as_slice()]);
        plan
    }

    fn step(&self, name: &str, order: &Order, only_if_violated: bool) -> Step {
        let Some(switch) = self.switches.get(name) else {
            let gone = "no switch has this name any more".to_owned();
            let (permission, tried_against) = (String::new(), String::new());
            let (calls, system) = (Vec::new(), name.to_owned());
            let (reversible, reads_back) = (false, false);
            return Step {
                system,
                only_if_violated,
                calls,
                reversible,
                reads_back,
                stays_alive: gone,
                permission,
                tried_against,
            };
        };
        let about = switch.about();
        Step {
            system: name.to_owned(),
            only_if_violated,
            calls: switch.calls(order),
            reversible: switch.reversible(),
            reads_back: switch.reads_back(),
            stays_alive: about.stays_alive.to_owned(),
            permission: about.permission.to_owned(),
            tried_against: about.tried_against.to_owned(),
        }
    }
}

fn deny_list(target: &Target) -> Step {
    let what =
        if *target == Target::Tenant { "every agent".to_owned() } else { format!("{} {}", target.kind(), target.id()) };
    Step {
        system: "deny list".into(),
        only_if_violated: false,
        calls: vec![format!("deny {what}")],
        reversible: true,
        reads_back: false,
        stays_alive: "Calls that pass no gateway that asks Muster or holds its list; issued tokens, there.".into(),
        permission: "None: gateways ask Muster.".into(),
        tried_against:
            "nginx 1.22, Envoy 1.40 and OPA 1.22, by the trials in `examples/`; Kong's questions as documented.".into(),
    }
}

impl Plan {
    /// In one line, as the row of the order keeps it.
    pub(crate) fn line(&self, until: i64) -> String {
        let (kind, id) = (self.target.kind(), self.target.id());
        let mut line = format!("deny {kind} {id} until {}", crate::deny::rfc3339(until));
        for step in self.steps.iter().skip(1) {
            let word = if step.only_if_violated { "call if let through" } else { "call" };
            line.push_str(&format!(", {word} {}", step.system));
        }
        line
    }
}
