WITH {listed},
reported AS (
    SELECT credential_id, max(last_used_at) AS last_used_at, bool_or(array_has(flags, 'never_used')) AS never_used
    FROM listed WHERE kind = 'activity' AND credential_id IS NOT NULL GROUP BY credential_id
),
seen AS (
    SELECT credential_id, max(time) AS last_seen, count(*) AS events
    FROM events WHERE credential_id IS NOT NULL GROUP BY credential_id
)
SELECT listed.credential_id, listed.credential_kind, listed.agent_id, listed.agent_name, owner, org_id, enabled, created_at,
    coalesce(reported.last_used_at, listed.last_used_at) AS last_used_at, expires_at, seen.last_seen,
    coalesce(seen.events, 0) AS events,
    CASE WHEN seen.events > 0 OR coalesce(reported.last_used_at, listed.last_used_at) IS NOT NULL THEN 'no'
        WHEN reported.never_used OR array_has(flags, 'never_used') THEN 'yes' ELSE 'unknown' END AS never_used,
    CASE WHEN array_has(flags, 'no_expiry') THEN 'yes' WHEN expires_at IS NOT NULL THEN 'no' ELSE 'unknown' END AS never_expires,
    provider, poll, item_id, seen_at, snapshot_id
FROM listed
LEFT JOIN reported ON reported.credential_id = listed.credential_id
LEFT JOIN seen ON seen.credential_id = listed.credential_id
WHERE kind = 'credential'
