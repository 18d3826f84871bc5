//! The attacks: one for each family of detectors, and those that try to pass for ordinary work.
//!
//! A script makes the rows of one attack on one agent; the agent's ordinary sessions go on beside it.

use schemas::EventRow;
use schemas::table::Hop;
use serde_json::{Value, json};

use crate::fleet::{DAY, Fleet, MINUTE, TENANT};
use crate::jobs::Step;

type Script = fn(&mut Fleet, usize, i64) -> Vec<EventRow>;

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// `hard` (a fact), `bits` (a matter of how surprising), `mimicry` (meant to pass).
    pub(crate) kind: &'static str,
    /// Detectors of this family.
    pub(crate) detectors: &'static [&'static str],
    pub(crate) script: Script,
    /// A control frame that comes before it.
    pub(crate) control: Option<fn(&str, i64) -> Value>,
    /// One injection into all its agents within the hour: found when it is found once.
    pub(crate) at_once: bool,
    /// Its agents worked long ago, and then no more.
    pub(crate) sleepers: bool,
}

const fn attack(name: &'static str, kind: &'static str, detectors: &'static [&'static str], script: Script) -> Attack {
    Attack { name, kind, detectors, script, control: None, at_once: false, sleepers: false }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("hijacked", "bits", &["combination"], hijacked),
    attack("new grave action", "bits", &["first_action"], new_action),
    attack("burst", "bits", &["rate"], burst),
    attack("scope never granted", "hard", &["scope"], scope),
    attack("token in two places", "bits", &["moved_token"], moved),
    attack("another's token", "hard", &["shared_credential"], borrowed),
    attack("token of an hour for ever", "hard", &["token_dead"], expired),
    attack("another's organization", "hard", &["tenant_reach"], reach),
    attack("loop of delegation", "hard", &["delegation_loop", "delegation"], delegation_loop),
    attack("delegation widens", "bits", &["delegation", "scope_widening", "grant_fanout"], deeper),
    Attack { sleepers: true, ..attack("dormant awake", "bits", &["dormant"], dormant) },
    Attack { at_once: true, ..attack("campaign", "bits", &["campaign"], campaign) },
    Attack {
        control: Some(
            |agent, at| json!({"tenant": TENANT, "killed": {"agent": agent}, "order": format!("stop {agent}"), "time": at - 5 * MINUTE}),
        ),
        ..attack("goes on after a kill", "hard", &["after_kill"], ordinary)
    },
    attack("known calls only", "mimicry", &["combination"], ordinary),
    attack("slow drip", "mimicry", &["combination"], drip),
    attack("padded with reads", "mimicry", &["combination"], padded),
    attack("ten times over", "mimicry", &["combination"], repeated),
    attack("errors first", "mimicry", &["combination"], errors_first),
];

fn step(action: &str, effect: &'static str, resource: &str) -> Step {
    Step { action: action.to_owned(), effect, resource: Some(resource.to_owned()) }
}

fn exfiltrate(victim: usize) -> Step {
    step("mail.forwarding_rule.create", "export", &format!("drop-{victim}@evil.example"))
}

fn ordinary(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let steps = fleet.steps(victim);
    fleet.session(victim, at, &steps)
}

/// In the middle of its work it sends something out that it never sent.
fn hijacked(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut steps = fleet.steps(victim);
    steps.insert(steps.len().min(2), step("files.share", "export", &format!("outsider-{victim}@evil.example")));
    fleet.session(victim, at, &steps)
}

fn new_action(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let steps = [step("iam.access_key.create", "admin", "admin")];
    fleet.session(victim, at, &steps)
}

/// Its own calls, thirty times as many in ten minutes.
fn burst(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let steps = fleet.steps(victim);
    (0..60).flat_map(|i| fleet.session(victim, at + i * 10_000_000, &steps)).collect()
}

fn scope(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut rows = ordinary(fleet, victim, at);
    rows.iter_mut().for_each(|row| row.scopes_used = vec!["directory.admin".to_owned()]);
    rows
}

/// Its sessions go on while another machine in another country uses the same token.
fn moved(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let steps = fleet.steps(victim);
    let mut rows: Vec<EventRow> = (0..6).flat_map(|i| fleet.session(victim, at + i * MINUTE, &steps)).collect();
    let token = rows[0].token_id.clone();
    for (i, row) in rows.iter_mut().enumerate() {
        row.token_id.clone_from(&token);
        if i % 2 == 1 {
            row.src_ip = Some("203.0.113.9".to_owned());
            row.src_country = Some("KP".to_owned());
            row.src_asn = Some(64_500);
            row.user_agent = Some("curl/8.7".to_owned());
        }
    }
    rows
}

/// It uses the token that another agent got an hour ago.
fn borrowed(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let other = (victim + 1) % fleet.len();
    let steps = fleet.steps(other);
    let mut rows = fleet.session(other, at, &steps);
    let token = rows[0].token_id.clone();
    let mut stolen = ordinary(fleet, victim, at + 60 * MINUTE);
    stolen.iter_mut().for_each(|row| row.token_id.clone_from(&token));
    rows.extend(stolen);
    rows
}

fn expired(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut rows = ordinary(fleet, victim, at);
    for row in &mut rows {
        row.token_issued_at = Some(at - DAY);
        row.token_expires_at = Some(at - DAY + 60 * MINUTE);
    }
    rows
}

fn reach(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut rows = ordinary(fleet, victim, at);
    rows.iter_mut().for_each(|row| row.resource_tenant = Some("org-rival".to_owned()));
    rows
}

fn hop(id: &str) -> Hop {
    Hop { kind: "agent".to_owned(), id: id.to_owned(), issuer: None }
}

fn delegation_loop(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let (own, mut rows) = (fleet.id(victim), ordinary(fleet, victim, at));
    for row in &mut rows {
        row.delegation.extend([hop("helper-1"), hop("helper-2"), hop(&own)]);
        row.delegation_depth = Some(row.delegation.len() as i32);
    }
    rows
}

fn deeper(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut rows = ordinary(fleet, victim, at);
    for row in &mut rows {
        let own = row.delegation.pop().into_iter();
        row.delegation.extend((0..4).map(|i| hop(&format!("helper-{victim}-{i}"))).chain(own));
        row.delegation_depth = Some(row.delegation.len() as i32);
        row.scopes.push("directory.admin".to_owned());
    }
    rows
}

/// An agent that worked long ago is back with deletions.
fn dormant(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let steps = [step("records.purge", "delete", "archive"), step("records.purge", "delete", "ledger")];
    fleet.session(victim, at, &steps)
}

/// The same injection in all its agents.
fn campaign(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut steps = fleet.steps(victim);
    steps.push(step("mail.send", "export", "collector@evil.example"));
    fleet.session(victim, at, &steps)
}

/// One small export a day, in the middle of ordinary work.
fn drip(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let day = |i: i64| {
        let mut steps = fleet.steps(victim);
        steps.push(exfiltrate(victim));
        fleet.session(victim, at + i * DAY / 4, &steps)
    };
    (0..3).flat_map(day).collect()
}

fn padded(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let reads: Vec<Step> = fleet.steps(victim).into_iter().filter(|step| step.effect == "read").collect();
    let pad = || (0..3).flat_map(|_| reads.clone());
    let steps: Vec<Step> = pad().chain([exfiltrate(victim)]).chain(pad()).collect();
    fleet.session(victim, at, &steps)
}

fn repeated(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let mut steps = fleet.steps(victim);
    steps.push(exfiltrate(victim));
    (0..10).flat_map(|i| fleet.session(victim, at + i * 20 * MINUTE, &steps)).collect()
}

/// Probes what is allowed by calls that fail, then does what it found.
fn errors_first(fleet: &mut Fleet, victim: usize, at: i64) -> Vec<EventRow> {
    let probes = ["files.share", "mail.send", "mail.forwarding_rule.create"];
    let steps: Vec<Step> = probes.iter().map(|action| step(action, "export", "drop@evil.example")).collect();
    let mut rows = fleet.session(victim, at, &steps);
    rows.iter_mut().for_each(|row| row.outcome = "denied".to_owned());
    rows.extend(fleet.session(victim, at + MINUTE, &[exfiltrate(victim)]));
    rows
}
