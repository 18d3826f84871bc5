//! The alert row: everything in it is a function of the log up to the triggering event.

use schemas::table::has;
use schemas::{AlertRow, id};

use crate::Config;
use crate::agent::{Agent, Raised};
use crate::detectors::{About, DETECTORS, Report, Seen};
use crate::engine::{MINUTE_MICROS, text};
use crate::evidence::{Evidence, History};
use crate::explain::Case;
use crate::impact::GRAVE;
use crate::row::Row;
use crate::session::EVENTS_MAX;
use crate::shard::Surroundings;
use crate::symbol::Symbols;
use crate::tenant::Tenant;

/// Surprise from which an alert is high, whichever detector raised it.
const HIGH_BITS: f64 = 32.0;
const LOW: i32 = 2;
const MEDIUM: i32 = 3;
const HIGH: i32 = 4;
const CRITICAL: i32 = 5;

/// The alert, unless the same was raised about the same agent lately.
pub(crate) fn raise(
    around: &Surroundings,
    symbols: &Symbols,
    agent: &mut Agent,
    tenant: &Tenant,
    seen: &Seen,
    detector: usize,
    score: f64,
) -> Option<AlertRow> {
    let (row, config) = (seen.row, around.config);
    let (events, at) = (row.events, row.at);
    let name = DETECTORS[detector].name;
    let detector_tag = tag(name);
    let window = config.repeat_hours * 60 * MINUTE_MICROS;
    if agent.raised_lately(detector_tag, row.call.action, row.time, window) {
        return None;
    }
    let (tenant_name, subject) = (events.tenant.value(at), events.agent_id.value(at));
    let parts = [tenant_name, name, subject, events.event_id.value(at)];
    let alert_id = id::digest_bytes(parts.map(str::as_bytes));
    let mut alert = describe(config, symbols, agent, tenant, seen, detector, score);
    alert.alert_id = id::hex(alert_id);
    alert.rules_digest = around.rules_digest.to_owned();
    agent.note_raised(Raised { alert_id, detector: detector_tag, time: row.time, recent: seen.recent, call: row.call });
    Some(alert)
}

/// A detector's name in the state: 32 bits, so that its place in the list may change.
pub(crate) fn tag(name: &str) -> u32 {
    id::digest_bytes([name.as_bytes()]) as u32
}

fn describe(
    config: &Config,
    symbols: &Symbols,
    agent: &Agent,
    tenant: &Tenant,
    seen: &Seen,
    detector: usize,
    score: f64,
) -> AlertRow {
    let Seen { row, evidence, recent, .. } = seen;
    let (events, at) = (row.events, row.at);
    let About { name: detector_name, hard, .. } = DETECTORS[detector];
    let cohort = tenant.cohorts.get(&agent.cohort);
    let peers: Vec<_> = cohort.into_iter().chain([&tenant.all]).collect();
    let agent_id = events.agent_id.value(at);
    let action = events.action.value(at);
    let case = Case {
        who: if agent.name.is_empty() { agent_id } else { &agent.name },
        action: symbols.name_or(row.call.action, action),
        effect: row.effect,
        outcome: events.outcome.value(at),
        call: row.call,
        resources: &row.resources(),
        recent: *recent,
        time: row.time,
        evidence,
        agent,
        peers: &peers,
        symbols,
    };
    let Report { title, terms } = agent.states.report(detector, seen, &tenant.shared, &case);
    let tail = &tenant.tails[detector];
    let threshold = if hard { 0.0 } else { tail.threshold() };
    let parts: Vec<String> = terms.iter().map(|term| format!("{} {:.1}", term.name, term.bits)).collect();
    let needs = if hard { "a fact, whatever is usual".to_owned() } else { format!("an alert needs {threshold:.1}") };
    let score_text = format!("{score:.1} bits = {}; {needs}.", parts.join(" + "));
    // A fact of another kind has nothing to do with how usual the action is.
    let is_of_habits = terms.iter().any(|term| term.name == "action");
    let ordinary = if is_of_habits { case.ordinary() } else { "" };
    let owned = |column| text(column, at).map(str::to_owned);
    let time = events.time.value(at);
    AlertRow {
        time,
        received_at: events.received_at.value(at),
        event_day: id::day(time),
        tenant: events.tenant.value(at).to_owned(),
        detector: detector_name.to_owned(),
        severity_id: if hard { HIGH } else { severity(evidence) },
        live: is_live(config, row),
        log_partition: events.log_partition.value(at),
        log_offset: events.log_offset.value(at),
        log_index: events.log_index.value(at),
        agent_id: Some(agent_id.to_owned()),
        agent_name: (!agent.name.is_empty()).then(|| agent.name.clone()),
        user_id: owned(events.user_id),
        credential_id: owned(events.credential_id),
        session_id: owned(events.session_id),
        title,
        explanation: case.text() + ordinary + &score_text,
        action: Some(action.to_owned()),
        resource_id: owned(events.resource_id),
        score,
        p_value: if hard { 0.0 } else { tail.p_value(score) },
        threshold,
        terms: serde_json::to_string(&terms).expect("terms are plain data"),
        event_ids: event_ids(agent, events.event_id.value(at)),
        ..AlertRow::default()
    }
}

/// Low: only the cohort's history speaks, or it did not succeed. Critical: what may stop an agent unattended.
fn severity(evidence: &Evidence) -> i32 {
    let Evidence { impact, weight, history, .. } = *evidence;
    if history != History::Own || weight < impact {
        return LOW;
    }
    match evidence.weighed_bits() >= HIGH_BITS {
        _ if evidence.is_sure() => CRITICAL,
        true if impact >= GRAVE => HIGH,
        _ => MEDIUM,
    }
}

fn is_live(config: &Config, row: &Row) -> bool {
    let (events, at) = (row.events, row.at);
    let late = (events.received_at.value(at) - events.time.value(at)).abs();
    let marked = has(events.flags, at, "backfill");
    !marked && late <= config.live_secs_max * 1_000_000
}

fn event_ids(agent: &Agent, trigger: &str) -> Vec<String> {
    let before = agent.open.last().map_or(&[][..], |session| &session.event_ids);
    let from = before.len().saturating_sub(EVENTS_MAX - 1);
    before[from..].iter().map(|event| id::hex(*event)).chain([trigger.to_owned()]).collect()
}
