WITH {listed},
acts AS (SELECT * FROM events WHERE agent_id IS NOT NULL),
base AS (
    SELECT agent_id,
        last_value(agent_name ORDER BY time) FILTER (WHERE agent_name IS NOT NULL) AS agent_name,
        last_value(agent_owner ORDER BY time) FILTER (WHERE agent_owner IS NOT NULL) AS agent_owner,
        min(time) AS first_seen,
        max(time) AS last_seen,
        array_agg(DISTINCT credential_kind) FILTER (WHERE credential_kind IS NOT NULL) AS credential_kinds,
        array_agg(DISTINCT credential_id) FILTER (WHERE credential_id IS NOT NULL) AS credential_ids,
        array_agg(DISTINCT user_id) FILTER (WHERE user_id IS NOT NULL) AS users,
        array_agg(DISTINCT org_id) FILTER (WHERE org_id IS NOT NULL) AS org_ids,
        array_agg(DISTINCT resource_tenant) FILTER (WHERE resource_tenant IS NOT NULL) AS resource_tenants,
        array_agg(DISTINCT source) AS sources,
        count(*) AS events,
        count(*) FILTER (WHERE effect IN ('write', 'delete', 'export', 'admin')) AS writes,
        count(*) FILTER (WHERE outcome = 'denied') AS denied,
        count(*) FILTER (WHERE time > {now} - INTERVAL '24 hours') AS events_24h,
        count(*) FILTER (WHERE array_has(flags, 'no_owner')) AS ownerless,
        last_value(event_id ORDER BY time) FILTER (WHERE array_has(flags, 'no_owner')) AS ownerless_event,
        last_value(event_id ORDER BY time) FILTER (WHERE agent_owner IS NOT NULL) AS owner_event,
        count(*) FILTER (WHERE array_has(flags, 'no_expiry')) AS unexpiring,
        last_value(event_id ORDER BY time) FILTER (WHERE array_has(flags, 'no_expiry')) AS unexpiring_event,
        count(*) FILTER (WHERE token_expires_at > time + INTERVAL '365 days') AS long_lived,
        last_value(event_id ORDER BY time) FILTER (WHERE token_expires_at > time + INTERVAL '365 days') AS long_lived_event,
        max(token_expires_at) AS expires_at,
        count(*) FILTER (WHERE attribution = 'agent_only') AS unattributed,
        last_value(event_id ORDER BY time) FILTER (WHERE attribution = 'agent_only') AS unattributed_event,
        count(*) FILTER (WHERE attribution = 'both') AS attributed,
        last_value(event_id ORDER BY time) FILTER (WHERE attribution = 'both') AS attributed_event
    FROM acts GROUP BY agent_id
),
granted AS (
    SELECT agent_id, array_agg(scope) AS scopes,
        array_agg(scope) FILTER (WHERE regexp_like(lower(scope), '{broad}')) AS broad
    FROM (
        SELECT DISTINCT agent_id, scope FROM (
            SELECT agent_id, unnest(scopes) AS scope FROM acts
            UNION ALL SELECT agent_id, unnest(scopes) AS scope FROM listed WHERE agent_id IS NOT NULL
        )
    ) GROUP BY agent_id
),
used AS (
    SELECT agent_id, array_agg(DISTINCT scope) AS scopes
    FROM (SELECT agent_id, unnest(scopes_used) AS scope FROM acts) GROUP BY agent_id
),
holders AS (
    SELECT credential_id, count(DISTINCT agent_id) AS agents
    FROM acts WHERE credential_id IS NOT NULL GROUP BY credential_id
),
shared AS (
    SELECT held.agent_id, max(holders.agents) AS agents, max(held.credential_id) AS credential_id
    FROM (SELECT DISTINCT agent_id, credential_id FROM acts WHERE credential_id IS NOT NULL) AS held
    JOIN holders ON holders.credential_id = held.credential_id
    WHERE holders.agents > 1 GROUP BY held.agent_id
),
hours AS (
    SELECT agent_id, credential_id, date_trunc('hour', time) AS hour,
        count(DISTINCT user_agent) AS clients, count(DISTINCT src_ip) AS addresses
    FROM acts WHERE credential_id IS NOT NULL GROUP BY agent_id, credential_id, date_trunc('hour', time)
),
spread AS (
    SELECT agent_id, max(clients) AS clients, max(addresses) AS addresses, max(credential_id) AS credential_id
    FROM hours WHERE clients >= 3 AND addresses >= 3 GROUP BY agent_id
),
known AS (
    SELECT agent_id,
        first_value(agent_name ORDER BY kind) FILTER (WHERE agent_name IS NOT NULL) AS agent_name,
        first_value(owner ORDER BY kind) FILTER (WHERE owner IS NOT NULL) AS owner,
        first_value(item ORDER BY kind) FILTER (WHERE owner IS NOT NULL) AS owner_item,
        min(item) FILTER (WHERE array_has(flags, 'no_owner')) AS ownerless_item,
        bool_and(enabled) FILTER (WHERE kind IN ('client', 'service_principal')) AS enabled,
        count(*) FILTER (WHERE array_has(flags, 'no_expiry') AND enabled IS DISTINCT FROM false) AS unexpiring,
        min(item) FILTER (WHERE array_has(flags, 'no_expiry') AND enabled IS DISTINCT FROM false) AS unexpiring_item,
        max(expires_at) FILTER (WHERE kind <> 'grant') AS expires_at,
        min(created_at) FILTER (WHERE kind = 'credential' AND enabled IS DISTINCT FROM false) AS oldest,
        first_value(item ORDER BY created_at) FILTER (WHERE kind = 'credential' AND enabled IS DISTINCT FROM false AND created_at IS NOT NULL) AS oldest_item,
        max(last_used_at) AS last_used_at,
        min(item) FILTER (WHERE array_has(flags, 'never_used')) AS unused_item,
        count(*) FILTER (WHERE kind = 'credential') AS credentials,
        count(*) FILTER (WHERE kind = 'grant') AS grants,
        count(DISTINCT user_id) FILTER (WHERE kind = 'grant') AS grant_users,
        array_agg(DISTINCT poll) AS polls
    FROM listed WHERE agent_id IS NOT NULL GROUP BY agent_id
),
everyone AS (
    SELECT agent_id FROM base UNION SELECT agent_id FROM known
)
SELECT everyone.agent_id, coalesce(base.agent_name, known.agent_name) AS agent_name,
    coalesce(agent_owner, known.owner) AS agent_owner, first_seen, last_seen,
    array_slice(array_sort(credential_kinds), 1, 20) AS credential_kinds,
    array_slice(array_sort(credential_ids), 1, 20) AS credential_ids,
    coalesce(array_length(credential_ids), 0) AS credentials,
    array_slice(array_sort(granted.scopes), 1, 50) AS scopes_granted,
    array_slice(array_sort(used.scopes), 1, 50) AS scopes_used,
    array_slice(array_sort(users), 1, 20) AS users,
    coalesce(array_length(users), 0) AS users_count,
    array_slice(array_sort(org_ids), 1, 20) AS org_ids,
    array_slice(array_sort(resource_tenants), 1, 20) AS resource_tenants,
    array_slice(array_sort(sources), 1, 20) AS sources,
    coalesce(events, 0) AS events, coalesce(writes, 0) AS writes, coalesce(denied, 0) AS denied,
    coalesce(events_24h, 0) AS events_24h,
    array_sort(known.polls) AS listed_in, known.enabled, coalesce(known.credentials, 0) AS credentials_listed,
    coalesce(known.grants, 0) AS grants, coalesce(known.grant_users, 0) AS grant_users,
    greatest(base.expires_at, known.expires_at) AS expires_at,
    known.last_used_at,
    CASE WHEN owner_event IS NOT NULL OR known.owner IS NOT NULL THEN 'no'
        WHEN ownerless > 0 OR ownerless_item IS NOT NULL THEN 'yes' ELSE 'unknown' END AS no_owner,
    CASE WHEN owner_event IS NOT NULL THEN concat('owner ', agent_owner, ', last event with an owner ', owner_event)
        WHEN known.owner IS NOT NULL THEN concat('owner ', known.owner, ', says ', owner_item)
        WHEN ownerless_item IS NOT NULL THEN concat('no owner, says ', ownerless_item)
        WHEN ownerless > 0 THEN concat(ownerless, ' events with an empty owner field, last ', ownerless_event)
        ELSE 'no record had a field for the owner' END AS no_owner_fact,
    CASE WHEN base.unexpiring > 0 OR long_lived > 0 OR known.unexpiring > 0 THEN 'yes'
        WHEN base.expires_at IS NOT NULL OR known.expires_at IS NOT NULL THEN 'no' ELSE 'unknown' END AS never_expires,
    CASE WHEN known.unexpiring > 0 THEN concat(known.unexpiring, ' credentials without an expiry, says ', unexpiring_item)
        WHEN base.unexpiring > 0 THEN concat(base.unexpiring, ' events whose credential has no expiry, last ', unexpiring_event)
        WHEN long_lived > 0 THEN concat(long_lived, ' events whose credential outlives them by more than a year, last ', long_lived_event)
        WHEN base.expires_at IS NOT NULL OR known.expires_at IS NOT NULL
            THEN concat('latest expiry seen ', greatest(base.expires_at, known.expires_at))
        ELSE 'no record showed an expiry' END AS never_expires_fact,
    CASE WHEN shared.agents IS NOT NULL OR spread.clients IS NOT NULL THEN 'yes'
        WHEN credential_ids IS NOT NULL THEN 'no' ELSE 'unknown' END AS shared_credential,
    CASE WHEN shared.agents IS NOT NULL THEN concat('credential ', shared.credential_id, ' was used by ', shared.agents, ' agents')
        WHEN spread.clients IS NOT NULL THEN concat('credential ', spread.credential_id, ' came from ', spread.clients,
            ' user agents and ', spread.addresses, ' addresses within one hour')
        WHEN credential_ids IS NOT NULL THEN concat(array_length(credential_ids), ' credentials seen, none with another agent')
        ELSE 'no record named the credential' END AS shared_credential_fact,
    CASE WHEN used.scopes IS NULL OR granted.scopes IS NULL THEN 'unknown'
        WHEN array_length(array_except(granted.scopes, used.scopes)) > 0 THEN 'yes' ELSE 'no' END AS unused_scopes,
    CASE WHEN granted.scopes IS NULL THEN 'no record named granted scopes'
        WHEN used.scopes IS NULL THEN 'no record named the scopes that a call needed'
        WHEN array_length(array_except(granted.scopes, used.scopes)) > 0
            THEN concat('granted and never used: ', array_to_string(array_slice(array_sort(array_except(granted.scopes, used.scopes)), 1, 20), ', '))
        ELSE 'every granted scope was used' END AS unused_scopes_fact,
    CASE WHEN attributed > 0 THEN 'no' WHEN unattributed > 0 THEN 'yes' ELSE 'unknown' END AS no_user_attribution,
    CASE WHEN attributed > 0 THEN concat(attributed, ' events name the user, last ', attributed_event)
        WHEN unattributed > 0 THEN concat(unattributed, ' events name the agent only, last ', unattributed_event)
        ELSE 'no record named the agent as actor' END AS no_user_attribution_fact,
    CASE WHEN greatest(last_seen, known.last_used_at) >= {now} - INTERVAL '{unused_days} days' THEN 'no'
        WHEN greatest(last_seen, known.last_used_at) IS NOT NULL OR unused_item IS NOT NULL THEN 'yes' ELSE 'unknown' END AS unused,
    CASE WHEN last_seen IS NOT NULL AND (known.last_used_at IS NULL OR last_seen >= known.last_used_at)
            THEN concat('last event ', last_seen)
        WHEN known.last_used_at IS NOT NULL THEN concat('last used ', known.last_used_at, ', says ', array_to_string(array_sort(known.polls), ', '))
        WHEN unused_item IS NOT NULL THEN concat('never used, says ', unused_item)
        ELSE concat('no event names it, and ', array_to_string(array_sort(known.polls), ', '), ' does not tell when it was last used') END AS unused_fact,
    CASE WHEN known.oldest < {now} - INTERVAL '{long_days} days' THEN 'yes'
        WHEN known.oldest IS NOT NULL THEN 'no' ELSE 'unknown' END AS long_lived,
    CASE WHEN known.oldest IS NOT NULL THEN concat('oldest credential in force made ', known.oldest, ', says ', oldest_item)
        ELSE 'no inventory tells when its credentials were made' END AS long_lived_fact,
    CASE WHEN regexp_like(lower(coalesce(base.agent_name, known.agent_name, everyone.agent_id)), '{generic}') THEN 'yes'
        WHEN coalesce(base.agent_name, known.agent_name) IS NOT NULL THEN 'no' ELSE 'unknown' END AS generic_name,
    CASE WHEN coalesce(base.agent_name, known.agent_name) IS NOT NULL THEN concat('its name is ', coalesce(base.agent_name, known.agent_name))
        ELSE concat('only its id is known: ', everyone.agent_id) END AS generic_name_fact,
    CASE WHEN granted.broad IS NOT NULL THEN 'yes' WHEN granted.scopes IS NOT NULL THEN 'no' ELSE 'unknown' END AS overprivileged,
    CASE WHEN granted.broad IS NOT NULL THEN concat('was granted ', array_to_string(array_slice(array_sort(granted.broad), 1, 10), ', '))
        WHEN granted.scopes IS NOT NULL THEN concat(array_length(granted.scopes), ' scopes granted, none of them broad')
        ELSE 'no record or inventory named granted scopes' END AS overprivileged_fact
FROM everyone
LEFT JOIN base ON base.agent_id = everyone.agent_id
LEFT JOIN known ON known.agent_id = everyone.agent_id
LEFT JOIN granted ON granted.agent_id = everyone.agent_id
LEFT JOIN used ON used.agent_id = everyone.agent_id
LEFT JOIN shared ON shared.agent_id = everyone.agent_id
LEFT JOIN spread ON spread.agent_id = everyone.agent_id
