WITH judged_alerts AS ({judged_alerts})
SELECT detector, CAST(date_trunc('week', time) AS DATE) AS week,
    count(*) AS alerts,
    count(verdict) AS judged,
    count(*) FILTER (WHERE verdict = 'confirmed') AS confirmed,
    count(*) FILTER (WHERE verdict = 'dismissed') AS dismissed,
    CAST(count(*) FILTER (WHERE verdict = 'confirmed') AS DOUBLE) / nullif(count(verdict), 0) AS precision
FROM judged_alerts GROUP BY detector, CAST(date_trunc('week', time) AS DATE)
