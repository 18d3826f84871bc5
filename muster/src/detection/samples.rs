//! Events for tests of judging and learning.

use schemas::{EventRow, id};

/// 2026-05-04, microseconds since 1970.
pub(crate) const START: i64 = 1_777_852_800_000_000;

/// What an agent did; each fourth one is another tenant's, each second one has an owner.
pub(crate) fn row(agent: i64, time: i64, (action, effect): (&str, &str)) -> EventRow {
    let (name, tenant) = (format!("agent-{agent}"), if agent % 4 == 3 { "globex" } else { "acme" });
    EventRow {
        event_id: id::digest([name.as_bytes(), &time.to_le_bytes(), action.as_bytes()]),
        time,
        received_at: time,
        event_day: id::day(time),
        tenant: tenant.into(),
        log_partition: id::partition(tenant, Some(&name), None, 64),
        source: "envoy".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(name),
        agent_owner: (agent % 2 == 0).then(|| "payments".into()),
        attribution: "agent_only".into(),
        action: action.into(),
        effect: effect.into(),
        resource_id: Some(format!("thing/{}", agent % 3)),
        outcome: "success".into(),
        raw: format!("{{\"time\":{time}}}"),
        ..EventRow::default()
    }
}
