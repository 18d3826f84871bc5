latest AS (
    SELECT last_value(snapshot_id ORDER BY seen_at) AS snapshot_id FROM inventory
    WHERE kind = 'run' AND outcome = 'complete' GROUP BY poll
),
listed AS (
    SELECT inventory.*, concat(provider, ' ', kind, ' ', item_id) AS item FROM inventory
    JOIN latest ON inventory.snapshot_id = latest.snapshot_id WHERE kind <> 'run'
)
