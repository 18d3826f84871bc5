//! What the operator may say about orders: policies, limits, and where the webhooks are.
//!
//! Everything is checked by [`Config::problems`] before anything runs. Secrets are not part of the text: a webhook names a file
//! or an environment variable, and the binary hands the resolved [`Secret`] in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

pub use lake::hidden::Hidden;

use crate::gateway::Gateway;
use crate::webhook::Secret;

/// Persons who can be made to approve one order.
pub(crate) const APPROVALS_MAX: u32 = 2;

/// Orders against agents: when to ask for one, and what carries it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Alerts a day and tenant that anybody is told of, beside facts: the gravest and most surprising of them. Up to a day's
    /// worth is saved. What goes beyond is marked `over_budget`, starts no order, and is listed by `muster alerts list --all`.
    pub alerts_day_max: u32,
    /// The first policy that matches an alert decides; an alert that none matches asks for nothing.
    pub policies: Vec<Policy>,
    /// Ids of agents and credentials that are never stopped, beside the agents that the registry protects. Names do not
    /// count: an agent can claim one.
    pub protected: Vec<String>,
    /// Orders a tenant's alerts may start unattended in any 60 s. Whichever cap is hit, the order is refused, the tenant is
    /// disarmed (its alerts are only observed until `muster orders arm`), and `tell` is told.
    pub orders_per_minute_max: u32,
    /// Orders of a tenant that may stand at once for one more to start unattended.
    pub orders_standing_max: u32,
    /// Largest share of a tenant's active agents (seen in the last day or two) that may be stopped at once; one always may.
    /// 1: all of them.
    pub active_agents_share_max: f64,
    /// After this time an order expires and what can be undone is undone. At least 60.
    pub deny_secs: u64,
    /// Persons who must approve an order that somebody asked for by hand, never the asker: 0, 1 or 2. An order against a
    /// delegation or a whole tenant needs 2 whatever this says.
    pub approvals: u32,
    /// How long an order may wait for its approvals before it expires, at least 60.
    pub approve_secs: u64,
    /// Attempts at one switch before it is given up, at 0, 1, 2, 5, 10, 30 s and then every minute.
    pub attempts_max: u32,
    /// How long after an order took effect a call may still be let through: clocks differ, and gateways fetch lists.
    pub slack_secs: u64,
    /// An order of which nothing was seen for so long is `quiet`: neither verified nor violated.
    pub quiet_secs: u64,
    /// Webhooks told of what a person should know: an order that waits for approval, a cap that was hit, a switch that was
    /// given up, a target that was let through.
    pub tell: Vec<String>,
    /// Receivers of signed webhooks; a policy names them in `switches`.
    pub webhooks: Vec<Webhook>,
    /// Systems whose own switches are called; a policy names them in `switches`.
    pub systems: Vec<System>,
    /// Receivers of shared signals (CAEP); a policy names them in `switches`.
    pub receivers: Vec<Receiver>,
    /// Muster's URL as receivers of shared signals know it: the issuer of its tokens.
    pub issuer: String,
    /// How gateways tell who asks, besides the rules that are there for `envoy`, `nginx`, `kong` and `opa`.
    pub gateways: Vec<Gateway>,
    /// Rehearsals against a canary agent. Where there is none, `muster orders drill` asks the deny list itself.
    pub drills: Vec<Drill>,
    /// Folder with your own declarations of kinds of systems, one TOML file each.
    pub switches_folder: Option<String>,
    /// Hosts that may be called. Empty: those that webhooks and systems name.
    pub hosts_allowed: Vec<String>,
    /// Whether a host may resolve to a private or loopback address; only then may a URL be plain `http`.
    pub private_addresses_allowed: bool,
}

/// Which alert leads to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Name of the detector, or `*` for any.
    pub detector: String,
    /// Least severity of the alert.
    pub severity_min: Severity,
    pub mode: Mode,
    /// What is stopped.
    pub target: TargetKind,
    /// Switches called besides the deny list, by name.
    pub switches: Vec<String>,
    /// The next layer: switches called when the target was let through although the order stands.
    pub switches_next: Vec<String>,
    /// Persons who must approve where it asks: 1 or 2.
    pub approvals: u32,
}

/// How bad an alert would be, as `severity_id` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Informational = 1,
    Low,
    Medium,
    High,
    Critical,
}

/// What may be done without a person. The order of the modes is the order of what they allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Records what would be done, and does nothing.
    Observe,
    /// Does it when persons have approved.
    Ask,
    /// Does it at once where the alert is live and a fact, or live and critical; an alert that rests on statistics and is less
    /// than critical asks.
    Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Agent,
    Credential,
    /// One agent acting for one user.
    AgentUser,
}

/// A receiver of Standard Webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    pub name: String,
    /// `https`, or `http` where private addresses are allowed.
    pub url: String,
    /// File that holds the secret: `whsec_` and 24 to 64 bytes in base64, or for Ed25519 `whsk_` and the 32 bytes of the key's seed.
    pub secret_file: Option<String>,
    /// Environment variable that holds the secret.
    pub secret_env: Option<String>,
    /// How long one call may take, in milliseconds, from 1 to 60,000.
    pub timeout_ms: u64,
    /// The secret itself, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

/// One system with a switch of its own: an identity provider, a token server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct System {
    pub name: String,
    /// Its declaration: `keycloak`, `rfc7009`, or one of `switches_folder`.
    pub kind: String,
    /// What the declaration needs to know, by name.
    pub parameters: BTreeMap<String, String>,
    /// Files that hold the declaration's secrets, by the secret's name.
    pub secret_files: BTreeMap<String, String>,
    /// Environment variables that hold them.
    pub secret_envs: BTreeMap<String, String>,
    /// The source whose names of agents this system has; the registry tells them.
    pub names: Option<String>,
    /// How long one call may take, in milliseconds, from 1 to 60,000.
    pub timeout_ms: u64,
    /// The secrets themselves, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub secrets: BTreeMap<String, Hidden>,
}

/// A receiver of security event tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Receiver {
    pub name: String,
    /// Where tokens are pushed (RFC 8935); without it the receiver fetches them (RFC 8936) at `/v1/ssf/poll/NAME`, with the
    /// token that is named like it.
    pub url: Option<String>,
    /// Whether the receiver makes its stream itself (SSF stream management, `/v1/ssf/streams`), with the token that is named like
    /// it; `url` and `authorization_…` are its to say then. It may have tokens pushed to `hosts_allowed` only.
    pub managed: bool,
    /// What tokens name as their audience.
    pub audience: String,
    /// File that holds the value of the header `authorization`, such as `Bearer …`.
    pub authorization_file: Option<String>,
    /// Environment variable that holds it.
    pub authorization_env: Option<String>,
    /// How long one call may take, in milliseconds, from 1 to 60,000.
    pub timeout_ms: u64,
    /// The value itself, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub authorization: Option<Hidden>,
}

impl Default for Receiver {
    fn default() -> Self {
        Receiver {
            name: String::new(),
            url: None,
            managed: false,
            audience: String::new(),
            authorization_file: None,
            authorization_env: None,
            timeout_ms: 15_000,
            authorization: None,
        }
    }
}

/// A rehearsal against a canary agent, whose traffic Muster makes itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drill {
    pub name: String,
    /// The tenant whose canary it is, for drills at intervals.
    pub tenant: String,
    /// The canary's id, as the gateway's log has it. It must do no work.
    pub agent: String,
    /// What the canary calls with GET, through the gateway; the deny list itself where it is missing.
    pub url: Option<String>,
    /// The header that holds the canary's credential.
    pub header: String,
    /// File that holds the header's value.
    pub credential_file: Option<String>,
    /// Environment variable that holds it.
    pub credential_env: Option<String>,
    /// Switches called besides the deny list, by name.
    pub switches: Vec<String>,
    /// Hours between drills; 0: only when somebody asks.
    pub every_hours: u64,
    /// The value itself, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub credential: Option<Hidden>,
}

impl Default for Drill {
    fn default() -> Self {
        Drill {
            name: String::new(),
            tenant: "default".into(),
            agent: String::new(),
            url: None,
            header: "authorization".into(),
            credential_file: None,
            credential_env: None,
            switches: Vec::new(),
            every_hours: 0,
            credential: None,
        }
    }
}

impl Default for System {
    fn default() -> Self {
        System {
            name: String::new(),
            kind: String::new(),
            parameters: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            secret_envs: BTreeMap::new(),
            names: None,
            timeout_ms: 15_000,
            secrets: BTreeMap::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            alerts_day_max: 50,
            policies: vec![Policy::default()],
            protected: Vec::new(),
            orders_per_minute_max: 10,
            active_agents_share_max: 0.05,
            orders_standing_max: 100,
            deny_secs: 3600,
            approvals: 1,
            approve_secs: 3600,
            attempts_max: 30,
            slack_secs: 10,
            quiet_secs: 300,
            tell: Vec::new(),
            webhooks: Vec::new(),
            systems: Vec::new(),
            receivers: Vec::new(),
            issuer: String::new(),
            gateways: Vec::new(),
            drills: Vec::new(),
            switches_folder: None,
            hosts_allowed: Vec::new(),
            private_addresses_allowed: false,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            detector: "*".into(),
            severity_min: Severity::Medium,
            mode: Mode::Observe,
            target: TargetKind::Agent,
            switches: Vec::new(),
            switches_next: Vec::new(),
            approvals: 1,
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        let (name, url) = (String::new(), String::new());
        Webhook { name, url, secret_file: None, secret_env: None, timeout_ms: 15_000, secret: None }
    }
}

impl Config {
    /// All that is wrong, each with the path of the key; empty when it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(60..=31_536_000).contains(&self.deny_secs) {
            problems.push("deny_secs: must be between 60 and 31536000".into());
        }
        if !(0.0..=1.0).contains(&self.active_agents_share_max) {
            problems.push("active_agents_share_max: must be between 0 and 1".into());
        }
        if !(1..=1000).contains(&self.attempts_max) {
            problems.push("attempts_max: must be between 1 and 1000".into());
        }
        for (key, approvals, min) in std::iter::once(("approvals".to_owned(), self.approvals, 0))
            .chain(self.policies.iter().enumerate().map(|(i, p)| (format!("policies[{i}].approvals"), p.approvals, 1)))
        {
            if !(min..=APPROVALS_MAX).contains(&approvals) {
                problems.push(format!("{key}: must be between {min} and {APPROVALS_MAX}"));
            }
        }
        for (key, secs, min) in [
            ("approve_secs", self.approve_secs, 60),
            ("slack_secs", self.slack_secs, 0),
            ("quiet_secs", self.quiet_secs, 1),
        ] {
            if !(min..=86_400).contains(&secs) {
                problems.push(format!("{key}: must be between {min} and 86400"));
            }
        }
        if self.orders_per_minute_max > 6000 {
            problems.push("orders_per_minute_max: must be at most 6000".into());
        }
        let named = self.policies.iter().enumerate().flat_map(|(i, policy)| {
            let first = policy.switches.iter().map(move |name| (format!("policies[{i}].switches"), name));
            first.chain(policy.switches_next.iter().map(move |name| (format!("policies[{i}].switches_next"), name)))
        });
        for (key, name) in named {
            if !self.has_switch(name) {
                problems.push(format!("{key}: no switch is named `{name}`"));
            }
        }
        for name in &self.tell {
            if !self.webhooks.iter().any(|webhook| webhook.name == *name) {
                problems.push(format!("tell: no webhook is named `{name}`"));
            }
        }
        for (i, webhook) in self.webhooks.iter().enumerate() {
            if self.webhooks[..i].iter().any(|earlier| earlier.name == webhook.name) {
                problems.push(format!("webhooks[{i}].name: `{}` is taken", webhook.name));
            }
            problems.extend(self.webhook_problems(webhook).into_iter().map(|text| format!("webhooks[{i}].{text}")));
        }
        for (i, system) in self.systems.iter().enumerate() {
            if system.name.is_empty() || self.switch_names().filter(|name| *name == system.name).count() > 1 {
                problems.push(format!("systems[{i}].name: `{}` is empty or taken", system.name));
            }
            if !(1..=60_000).contains(&system.timeout_ms) {
                problems.push(format!("systems[{i}].timeout_ms: must be between 1 and 60000"));
            }
        }
        problems.extend(self.receiver_problems());
        problems.extend(self.drill_problems());
        for (i, gateway) in self.gateways.iter().enumerate() {
            problems.extend(gateway.problem().map(|problem| format!("gateways[{i}]: {problem}")));
        }
        problems
    }

    fn receiver_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.receivers.is_empty() && Url::parse(&self.issuer).is_err() {
            problems.push("issuer: receivers need to know Muster's URL".into());
        }
        for (i, receiver) in self.receivers.iter().enumerate() {
            let Receiver { name, audience, timeout_ms, url, .. } = receiver;
            if name.is_empty() || self.switch_names().filter(|other| other == name).count() > 1 {
                problems.push(format!("receivers[{i}].name: `{name}` is empty or taken"));
            }
            if audience.is_empty() {
                problems.push(format!("receivers[{i}].audience: is missing"));
            }
            if !(1..=60_000).contains(timeout_ms) {
                problems.push(format!("receivers[{i}].timeout_ms: must be between 1 and 60000"));
            }
            let own = [url, &receiver.authorization_file, &receiver.authorization_env];
            if receiver.managed && own.into_iter().any(Option::is_some) {
                problems
                    .push(format!("receivers[{i}].managed: where tokens go, and with what, is the receiver's to say"));
            }
            problems.extend(
                url.iter().filter_map(|url| self.url_problem(url)).map(|text| format!("receivers[{i}].url: {text}")),
            );
        }
        problems
    }

    fn drill_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (i, drill) in self.drills.iter().enumerate() {
            if drill.name.is_empty() || self.drills[..i].iter().any(|earlier| earlier.name == drill.name) {
                problems.push(format!("drills[{i}].name: `{}` is empty or taken", drill.name));
            }
            if drill.agent.is_empty() || self.protected.contains(&drill.agent) {
                problems.push(format!("drills[{i}].agent: is missing, or protected and never stopped"));
            }
            problems.extend(
                drill.url.iter().filter_map(|url| self.url_problem(url)).map(|text| format!("drills[{i}].url: {text}")),
            );
            let missing = drill.switches.iter().find(|name| !self.has_switch(name));
            problems.extend(missing.map(|name| format!("drills[{i}].switches: no switch is named `{name}`")));
        }
        problems
    }

    fn url_problem(&self, text: &str) -> Option<String> {
        match Url::parse(text) {
            Ok(url) => crate::outbound::url_problem(self, &url),
            Err(error) => Some(error.to_string()),
        }
    }

    fn webhook_problems(&self, webhook: &Webhook) -> Vec<String> {
        let mut problems = Vec::new();
        if webhook.name.is_empty() {
            problems.push("name: is missing".into());
        }
        problems.extend(self.url_problem(&webhook.url).map(|text| format!("url: {text}")));
        if webhook.secret_file.is_some() == webhook.secret_env.is_some() && webhook.secret.is_none() {
            problems.push("secret_file: exactly one of `secret_file` and `secret_env` is needed".into());
        }
        if !(1..=60_000).contains(&webhook.timeout_ms) {
            problems.push("timeout_ms: must be between 1 and 60000".into());
        }
        problems
    }

    pub(crate) fn has_switch(&self, name: &str) -> bool {
        self.switch_names().any(|other| other == name)
    }

    fn switch_names(&self) -> impl Iterator<Item = &str> {
        let webhooks = self.webhooks.iter().map(|webhook| webhook.name.as_str());
        let systems = self.systems.iter().map(|system| system.name.as_str());
        webhooks.chain(systems).chain(self.receivers.iter().map(|receiver| receiver.name.as_str()))
    }

    /// The policy that decides about an alert of this detector and severity.
    pub(crate) fn policy(&self, detector: &str, severity_id: i32) -> Option<&Policy> {
        let matches = |policy: &&Policy| {
            (policy.detector == "*" || policy.detector == detector) && severity_id >= policy.severity_min as i32
        };
        self.policies.iter().find(matches)
    }
}
