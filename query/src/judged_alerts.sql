SELECT alerts.*, judged.verdict, judged.judged_by, judged.judged_at, judged.why FROM alerts LEFT JOIN (
    SELECT alert_id AS judged_id,
        last_value(verdict ORDER BY log_offset, log_index) AS verdict,
        last_value(judged_by ORDER BY log_offset, log_index) AS judged_by,
        last_value(time ORDER BY log_offset, log_index) AS judged_at,
        last_value(why ORDER BY log_offset, log_index) AS why
    FROM verdicts GROUP BY alert_id
) AS judged ON judged.judged_id = alerts.alert_id
