//! The inventory: what identity providers and gateways say they hold, as one poll found it; what no log can show.
//!
//! A complete poll is a snapshot: its items, and last a row of kind `run` that says `complete`. Items whose run never came
//! (a crash in between) belong to no snapshot, and a poll that failed leaves its `run` row alone: nobody may take
//! what was not listed for deleted. A column that the provider does not show is null and means unknown; where it shows
//! that there is nothing, `flags` says so.

crate::table::table! {
    "inventory", "One client, credential or grant of one snapshot a row, and one row for each run of a poll.", reader Inventory, row InventoryRow;

    "snapshot" {
        snapshot_id: required Str = "Digest of tenant, poll and start of the run.", unit "32 hex digits";
        seen_at: required Time = "When the run began: the item was there at this time or after.", unit "µs UTC", ecs "event.ingested";
        event_day: required Date = "UTC day of `seen_at`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain, given by the poll's configuration.", ecs "organization.id";
        poll: required Str = "Name of the poll.";
        provider: required Str = "Whose form of answer it was (`okta`, `entra` …).", ecs "event.dataset";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "item" {
        kind: required Str = "What the row is.", unit "client, service_principal, credential, grant, activity, run";
        item_id: required Str = "The provider's id of the item; of a run, its snapshot.";
        flags: optional Strs = "What the provider says there is not: `no_owner`, `no_expiry` (it never expires), `never_used`; and of a grant `all_users` (it holds for every user).";
        agent_id: optional Str = "The agent it is of, named as the provider's logs name it.", otel "gen_ai.agent.id";
        agent_name: optional Str = "The agent's name, or the credential's own.", otel "gen_ai.agent.name";
        owner: optional Str = "The person or team accountable for it.";
        org_id: optional Str = "The provider's own organization, account or realm.", ecs "cloud.account.id";
        enabled: optional Bool = "Whether it can be used.";
        created_at: optional Time = "When it was made.", unit "µs UTC";
        last_used_at: optional Time = "When it was last used, as the provider says.", unit "µs UTC";
        expires_at: optional Time = "When it expires.", unit "µs UTC";
    }
    "credential" {
        credential_kind: optional Str = "What is shown to prove identity.", unit "api_key, client_secret, private_key_jwt, refresh_token, password, unknown";
        credential_id: optional Str = "Id of the credential, never the secret.";
    }
    "grant" {
        user_id: optional Str = "The user on whose things the grant holds.", ecs "user.id";
        user_name: optional Str = "The user's name or e-mail address.", ecs "user.name";
        granted_by: optional Str = "Who granted it, where the provider tells.";
        resource: optional Str = "The API or role that it opens.";
        scopes: optional Strs = "What it allows there.";
    }
    "run" {
        outcome: optional Str = "How the run ended.", unit "complete, failed";
        items: optional I64 = "Items that a complete run listed.", unit "items";
        reason: optional Str = "Why it failed.", ecs "error.message";
    }
    "evidence" {
        raw: optional Str = "The provider's item, secrets masked.", ecs "event.original";
    }
}
