WITH {listed}
SELECT item_id AS grant_id, agent_id, agent_name, user_id, user_name,
    coalesce(array_has(flags, 'all_users'), false) AS all_users,
    granted_by, resource, scopes, created_at, last_used_at, expires_at, enabled, org_id, provider, poll, seen_at, snapshot_id
FROM listed WHERE kind = 'grant'
