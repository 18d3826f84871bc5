//! The alert: what was seen, about whom, why in plain words, with the events that show it.
//!
//! Everything in it is a function of the log, so that a replay makes the same row; when it was written is the log's to say.

crate::table::table! {
    "alerts", "One alert a row.", reader Alerts, row AlertRow;

    "alert" {
        alert_id: required Str = "Digest of tenant, detector, subject and triggering event.", unit "32 hex digits", ocsf "finding_info.uid (1.8)", ecs "event.id";
        time: required Time = "Time of the triggering event.", unit "µs UTC", ocsf "time (1.8)", ecs "@timestamp";
        received_at: required Time = "When the triggering event was received.", unit "µs UTC", ecs "event.ingested";
        event_day: required Date = "UTC day of `time`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain.", ocsf "metadata.tenant_uid (1.8)", ecs "organization.id";
        detector: required Str = "The detector that raised it.", ocsf "finding_info.analytic.uid (1.8)", ecs "rule.id";
        severity_id: required I32 = "How bad it would be.", unit "1 informational, 2 low, 3 medium, 4 high, 5 critical", ocsf "severity_id (1.8)", ecs "event.severity";
        live: required Bool = "Whether the triggering event came through a door that may act, within 60 s of its time: only then may it start an unattended order.";
        rules_digest: required Str = "Digest of the rules and configuration that judged.", unit "32 hex digits";
        over_budget: optional Bool = "Whether the tenant's budget of alerts (`respond.alerts_day_max`) was spent: then it is evidence, starts no order and tells nobody. None for a fact.";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "about whom" {
        agent_id: optional Str = "The agent.", ocsf "evidences[0].ai_agent.uid (1.9)", otel "gen_ai.agent.id";
        agent_name: optional Str = "The agent's name.", otel "gen_ai.agent.name";
        user_id: optional Str = "The user it acted for.", ocsf "evidences[0].actor.user.uid (1.8)", ecs "user.id";
        credential_id: optional Str = "The credential that was used.";
        session_id: optional Str = "The session it happened in.", ocsf "evidences[0].actor.session.uid (1.8)";
    }
    "what" {
        title: required Str = "One line for a pager.", ocsf "finding_info.title (1.8)", ecs "rule.name";
        explanation: required Str = "What is normal for this agent, what happened, against how many peers.", ocsf "finding_info.desc (1.8)", ecs "message";
        action: optional Str = "The triggering action.", ecs "event.action";
        resource_id: optional Str = "The thing acted on.";
        score: required F64 = "Surprise of the event for this agent.", unit "bits", ocsf "risk_score (1.8)", ecs "event.risk_score";
        p_value: required F64 = "How often something at least as surprising happens by chance.", unit "0 to 1";
        threshold: required F64 = "The score that an alert needs, as it stood.", unit "bits";
        terms: required Str = "The parts of the score: JSON array of {name, bits, text}; the bits sum to the score.", unit "JSON";
        event_ids: required Strs = "The events that show it, the trigger last.", ocsf "finding_info.related_events[].uid (1.8)";
    }
}
