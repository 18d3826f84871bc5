//! The order: one kill-switch order, a row for each step of its life.

crate::table::table! {
    "orders", "One step of an order a row; an order's state is its last step.", reader Orders, row OrderRow;

    "order" {
        order_id: required Str = "Digest of tenant, target, cause and action: the same cause asks for the same order once.", unit "32 hex digits", ocsf "command_uid (1.8)", ecs "event.id";
        step: required I32 = "Number of this step in the order's life, from 0.";
        time: required Time = "When the step was taken.", unit "µs UTC", ocsf "time (1.8)", ecs "@timestamp";
        event_day: required Date = "UTC day of `time`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain.", ocsf "metadata.tenant_uid (1.8)", ecs "organization.id";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "whom" {
        target_kind: required Str = "What is stopped.", unit "agent, instance, credential, token, agent_user, client, delegation, tenant";
        target_id: required Str = "Id of what is stopped; an instance is `agent instance`, an agent-user pair `agent user`, with one space.";
    }
    "what" {
        state: required Str = "State after this step. `verified` rests on evidence, `quiet` on nothing; `disarmed` and `armed` are about unattended orders of the whole tenant.", unit "requested, approved, executing, executed, partial, failed, verified, quiet, violated, released, expired; disarmed, armed", ocsf "status_id (1.8)", ecs "event.outcome";
        mode: required Str = "How it may act: observe records what would be done, ask waits for persons, act does it; a drill is a rehearsal against a canary.", unit "observe, ask, act, drill";
        switch: optional Str = "The switch that took the step.", ocsf "remediation.uid (1.8)";
        attempt: optional I32 = "Number of the attempt, from 1.";
        detail: optional Str = "What the switch or the person said.", ocsf "status_detail (1.8)", ecs "event.reason";
        expires_at: optional Time = "When reversible steps are released.", unit "µs UTC";
    }
    "why" {
        requested_by: required Str = "Person or policy that asked; of an approval or release, the person who took that step.", ocsf "actor.user.name (1.8)", ecs "user.name";
        alert_id: optional Str = "The alert behind it.", ocsf "finding_info.uid (1.8)";
        reason: required Str = "Why, in plain words.", ecs "event.reason";
    }
}
