//! The event: one agent/user/action record, one flat row.
//!
//! Three columns go beyond the vendor's record: `door` (which way it came in, so that a switch can tell a live door from
//! a backfill), `event_index` (which event of its record this is, so that records can be counted) and `flags` (what
//! Muster noticed about the record itself). `log_partition` is filled by ingest, `log_offset` and `log_index`
//! by the log's writer.

crate::table::table! {
    "events", "One normalized agent/user/action record a row.", reader Events, row EventRow;

    "record" {
        event_id: required Str = "Id of the event: a keyless digest of tenant, source instance and the vendor's record id where that is unique, else of the record's place in its carrier. Equal ids with equal `raw` are one event.",
            unit "32 hex digits", ocsf "metadata.uid (1.8)", ecs "event.id", otel "log.record.uid";
        time: required Time = "When it happened, as the vendor says.", unit "µs UTC", ocsf "time (1.8)", ecs "@timestamp", otel "time_unix_nano";
        received_at: required Time = "When Muster received it; the only clock that detection knows.", unit "µs UTC", ocsf "metadata.logged_time (1.8)", ecs "event.ingested", otel "observed_time_unix_nano";
        event_day: required Date = "UTC day of `time`; the lake is partitioned by it.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain, given by the door's token alone, never read from a record.", ocsf "metadata.tenant_uid (1.8)", ecs "organization.id";
        org_id: optional Str = "The vendor's own organization, account, realm or workspace.", ocsf "actor.user.org.uid (1.8)", ecs "cloud.account.id";
        source: required Str = "Name of the mapping that read the record (`okta`, `envoy` …).", ocsf "metadata.product.name (1.8)", ecs "event.dataset";
        door: required Str = "The way the bytes came in (`http`, `file` …).", ocsf "metadata.log_name (1.8)", ecs "input.type";
        source_event_id: optional Str = "The vendor's own id of the record.", ocsf "metadata.original_event_uid (1.8)", ecs "event.id of the source";
        event_index: required I32 = "Which event of its record this is: 0 for the first, more where one record holds several.";
        flags: optional Strs = "What Muster noticed about the record: `id_conflict` (its id came before with other bytes), `erased` (a user whom it named was erased from it: see `docs/keeping.md`), `time_ahead` (`time` is more than ten minutes after `received_at`), `time_received` (the record carries no time: `time` is that of its receipt), `backfill` (not live), `no_expiry` (the record shows the credential and no expiry), `no_owner` (the record has a field for the owner and it is empty), `registry` (name or owner of the agent, or the purpose, are the registry's, not the record's), `in_intent` (the registry says that the agent is meant to do this), `agent_expired` (it came after the day on which the registry lets the agent end), `token_issued` (what it says of its token is carried to later records), `token_join` (what was said when its token was issued fills what the record does not say: of agent, user, delegation, scopes and times of the token, at least one is not the record's), `token_conflict` (its token's id was issued to, or seen with, another agent; nothing is carried).";
        log_partition: required I32 = "Partition of the log, from tenant and agent (else user).";
        log_offset: required I64 = "Offset of the frame in the log.", ocsf "metadata.sequence (1.8)", ecs "event.sequence";
        log_index: required I32 = "Row within the frame.";
    }
    "who" {
        actor_kind: required Str = "Who acted.", unit "agent, user, service, unknown", ocsf "actor.user.type_id (1.8)";
        agent_id: optional Str = "The software principal that acted: OAuth client, service principal, API-key consumer, MCP client. The registry's id where that knows the vendor's.", ocsf "ai_agent.uid (1.9), actor.app_uid (1.8)", ecs "gen_ai.agent.id", otel "gen_ai.agent.id";
        agent_alias: optional Str = "The agent's id as the vendor writes it, where the registry knows the agent by another id.", ocsf "unmapped";
        agent_name: optional Str = "The agent's name as the vendor shows it.", ocsf "ai_agent.name (1.9), actor.app_name (1.8)", ecs "gen_ai.agent.name", otel "gen_ai.agent.name";
        agent_instance: optional Str = "One run or deployment of the agent.", ocsf "ai_agent.instance_uid (1.9)";
        agent_version: optional Str = "The version that the agent claims.", ocsf "ai_agent.version (1.9)", otel "gen_ai.agent.version";
        agent_owner: optional Str = "The person or team accountable for the agent.", ocsf "unmapped";
        user_id: optional Str = "The person or service on whose behalf it was done (`sub`), or who did it.", ocsf "actor.user.uid (1.8)", ecs "user.id", otel "user.id";
        user_name: optional Str = "The user's name or e-mail address.", ocsf "actor.user.name (1.8)", ecs "user.name", otel "user.name";
        user_kind: optional Str = "What the user is.", unit "human, service, system, unknown", ocsf "actor.user.type (1.8)", ecs "user.roles";
        delegation: optional Hops = "Chain from the root principal to the immediate actor (RFC 8693 `act`, reversed: root first).", ocsf "delegation.{uid, parent_uid} (1.9), unmapped.delegation_chain";
        delegation_depth: optional I32 = "Number of hops in `delegation`.";
        attribution: required Str = "Which of agent and user the record named, itself or by a token whose issuance named them.", unit "both, agent_only, user_only, none";
    }
    "with what" {
        credential_kind: optional Str = "What was shown to prove identity.", unit "api_key, client_secret, private_key_jwt, access_token, refresh_token, mtls, dpop, session, password, unknown", ocsf "api.token.type_id (1.8)";
        credential_id: optional Str = "Id of the credential, or a keyed hash of it; never the secret.", ocsf "actor.session.credential_uid (1.8)";
        token_id: optional Str = "Id of the token (`jti`), or the vendor's hash of it.", ocsf "api.token.uid (1.8)";
        token_binding: optional Str = "Key the token is bound to (`cnf.jkt`, `x5t#S256`).", ocsf "unmapped", ecs "tls.client.hash.sha256";
        session_id: optional Str = "Session of the user or agent at the vendor.", ocsf "actor.session.uid (1.8)", otel "session.id";
        scopes: optional Strs = "Scopes granted.", ocsf "delegation.scopes (1.9)";
        scopes_used: optional Strs = "Scopes that this call needed.", ocsf "unmapped";
        token_issued_at: optional Time = "When the token was issued.", unit "µs UTC", ocsf "actor.session.created_time (1.8)";
        token_expires_at: optional Time = "When the token or credential expires.", unit "µs UTC", ocsf "api.token.expiration_time (1.8)";
        grant_id: optional Str = "The grant or consent that the call rests on.", ocsf "delegation.uid (1.9)";
        approval_id: optional Str = "The human approval that the call rests on.", ocsf "unmapped";
    }
    "did what" {
        class_uid: required I32 = "OCSF class of the event.", ocsf "class_uid (1.8)", ecs "event.category";
        activity_id: required I32 = "OCSF activity within the class.", ocsf "activity_id (1.8)", ecs "event.type";
        action: required Str = "What was done, in the vendor's word (`user.session.start`, `s3:GetObject`, `GET /invoices/{id}`).", ocsf "api.operation (1.8)", ecs "event.action", otel "gen_ai.operation.name, mcp.method.name";
        effect: required Str = "What the action does to the world.", unit "read, write, delete, export, execute, admin, auth, delegate, unknown", ecs "event.type";
        service: optional Str = "The service that was called.", ocsf "api.service.name (1.8)", ecs "service.name", otel "server.address";
        tool: optional Str = "The tool that the agent called.", ocsf "unmapped", ecs "gen_ai.tool.name", otel "gen_ai.tool.name";
        resource_type: optional Str = "Kind of the thing acted on.", ocsf "resources[0].type (1.8)";
        resource_id: optional Str = "Id of the thing acted on.", ocsf "resources[0].uid (1.8)", otel "mcp.resource.uri";
        resource_tenant: optional Str = "The organization that owns the resource, where the record says so.", ocsf "resources[0].namespace (1.8)";
    }
    "with which result" {
        outcome: required Str = "How it ended.", unit "success, failure, denied, challenged, unknown", ocsf "status_id (1.8)", ecs "event.outcome";
        status_code: optional Str = "The vendor's result code.", ocsf "status_code (1.8)", ecs "error.code", otel "error.type";
        reason: optional Str = "Why it ended so, in the vendor's words.", ocsf "status_detail (1.8)", ecs "event.reason";
        policy_id: optional Str = "The policy or rule that decided.", ocsf "actor.authorizations[0].policy.uid (1.8)", ecs "rule.id";
        severity_id: required I32 = "Severity that the vendor gave.", unit "0 unknown, 1 informational, 2 low, 3 medium, 4 high, 5 critical, 6 fatal", ocsf "severity_id (1.8)", ecs "event.severity", otel "severity_number";
    }
    "over what" {
        http_method: optional Str = "HTTP method.", ocsf "http_request.http_method (1.8)", ecs "http.request.method", otel "http.request.method";
        http_path: optional Str = "Path of the request, without the query.", ocsf "http_request.url.path (1.8)", ecs "url.path", otel "url.path";
        http_status: optional I32 = "HTTP status of the response.", ocsf "http_response.code (1.8)", ecs "http.response.status_code", otel "http.response.status_code";
        user_agent: optional Str = "User-Agent header.", ocsf "http_request.user_agent (1.8)", ecs "user_agent.original", otel "user_agent.original";
        src_ip: optional Str = "Address the call came from, without a port.", ocsf "src_endpoint.ip (1.8)", ecs "source.ip", otel "client.address";
        src_country: optional Str = "Country of `src_ip`, as the vendor says.", ocsf "src_endpoint.location.country (1.8)", ecs "source.geo.country_name";
        src_asn: optional I64 = "Autonomous system of `src_ip`.", ocsf "src_endpoint.autonomous_system.number (1.8)", ecs "source.as.number";
    }
    "how much" {
        latency_ms: optional I64 = "Duration of the call.", unit "ms", ocsf "http_response.latency (1.8)", ecs "event.duration (ns)";
        bytes_in: optional I64 = "Size of the request.", unit "bytes", ocsf "http_request.length (1.8)", ecs "http.request.bytes";
        bytes_out: optional I64 = "Size of the response.", unit "bytes", ocsf "http_response.length (1.8)", ecs "http.response.bytes";
        records: optional I64 = "Number of things read, written or exported.", ocsf "unmapped";
        tokens_in: optional I64 = "Model tokens read.", unit "tokens", ocsf "message_context.prompt_tokens (1.8)", ecs "gen_ai.usage.input_tokens", otel "gen_ai.usage.input_tokens";
        tokens_out: optional I64 = "Model tokens written.", unit "tokens", ocsf "message_context.completion_tokens (1.8)", ecs "gen_ai.usage.output_tokens", otel "gen_ai.usage.output_tokens";
        cost_micros: optional I64 = "Cost of the call.", unit "millionths of the billing currency", ocsf "unmapped";
    }
    "why" {
        purpose: optional Str = "Declared purpose of the call: the record's, else what the registry says the agent is for.", ocsf "unmapped";
        prompt_hash: optional Str = "Digest of the prompt behind the call.", ocsf "unmapped";
        conversation_id: optional Str = "Conversation or thread that the call belongs to.", ocsf "unmapped", ecs "gen_ai.conversation.id", otel "gen_ai.conversation.id";
        trace_id: optional Str = "W3C trace id.", ocsf "trace.uid (1.8)", ecs "trace.id", otel "trace_id";
        span_id: optional Str = "W3C span id.", ocsf "trace.span.uid (1.8)", ecs "span.id", otel "span_id";
        correlation_id: optional Str = "Id that joins this event with others of the same request or transaction.", ocsf "metadata.correlation_uid (1.8)", ecs "labels.correlation_id";
    }
    "evidence" {
        raw: required Str = "The vendor's record, untouched but for masked secrets.", ocsf "raw_data (1.8)", ecs "event.original", otel "body";
    }
}
