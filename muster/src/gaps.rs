//! Gaps in what is received: a source that went silent, and a hole in a sequence that the vendor numbers.
//!
//! A source is silent where it was declared to send more often (`[[ingest.expected]]`), else where it pauses longer than
//! twice its longest pause of the last week, if it came often enough to know. A mapping that declares a sequence
//! (`sequence`) has a hole where a number between the first and the last received in the last day did not come.

use anyhow::Result;
use ingest::Sources;
use ingest::config::ExpectedSource;
use serde::Serialize;
use serde_json::Value;

use crate::cli::sql::quoted;
use crate::node::Store;

const MINUTE_MICROS: i64 = 60_000_000;
/// Minutes with records that it takes to know a source's habit.
const MINUTES_MIN: i64 = 20;
/// No pause shorter than this is silence.
const PAUSE_MICROS_MIN: i64 = 10 * MINUTE_MICROS;
/// So many holes of one sequence are named.
const HOLES_MAX: usize = 20;

/// Something that should have come.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "gap", rename_all = "snake_case")]
pub(crate) enum Gap {
    Silent {
        source: String,
        door: String,
        /// Microseconds since the Unix epoch; none where it never came.
        last_received_at: Option<i64>,
        silent_minutes: Option<i64>,
        /// Longer than this is silence.
        limit_minutes: i64,
        /// `declared` or `learned`.
        by: &'static str,
    },
    Hole {
        source: String,
        /// What the numbers run within.
        within: String,
        first: i64,
        last: i64,
        missing: i64,
    },
}

/// What a source did in the last week, in minutes with records.
const PAUSES: &str = "SELECT door, source, max(at) AS last, count(*) AS minutes, max(pause) AS pause FROM (\
     SELECT door, source, at, at - lag(at) OVER (PARTITION BY door, source ORDER BY at) AS pause FROM (\
     SELECT DISTINCT door, source, CAST(date_trunc('minute', received_at) AS BIGINT) AS at FROM ingest_ledger \
     WHERE received > 0 AND received_at > now() - INTERVAL '7 days')) GROUP BY door, source ORDER BY door, source";

/// The gaps of a tenant.
pub(crate) async fn find(store: &Store, tenant: &str, sources: &Sources) -> Result<Vec<Gap>> {
    let seen = store.query.sql(tenant, PAUSES).await?.rows_as::<Value>()?;
    let declared: Vec<&ExpectedSource> =
        store.config.ingest.expected.iter().filter(|expected| expected.tenant == tenant).collect();
    let mut gaps = silent(&seen, &declared, store.clock.now_micros());
    for mapping in sources.iter() {
        if let Some([number, within]) = mapping.sequence() {
            gaps.extend(holes(store, tenant, mapping.name(), number, within).await?);
        }
    }
    Ok(gaps)
}

fn silent(seen: &[Value], declared: &[&ExpectedSource], now: i64) -> Vec<Gap> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut gaps = Vec::new();
    for expected in declared {
        let limit = i64::from(expected.silence_minutes) * MINUTE_MICROS;
        let last =
            seen.iter().filter(|row| row["source"] == expected.source.as_str()).filter_map(|row| row["last"].as_i64());
        let last = last.max();
        if last.is_none_or(|last| now - last > limit + MINUTE_MICROS) {
            gaps.push(gap(expected.source.clone(), String::new(), last, limit, now, "declared"));
        }
    }
    for row in seen {
        let source = text(row, "source");
        // A file is read once, and Muster's own events come when there is something to tell.
        let is_stream = !matches!(row["door"].as_str(), Some("file" | crate::audit::DOOR));
        let known = row["minutes"].as_i64().unwrap_or(0) >= MINUTES_MIN;
        if !is_stream || !known || declared.iter().any(|expected| expected.source == source) {
            continue;
        }
        let limit = (row["pause"].as_i64().unwrap_or(0) * 2).max(PAUSE_MICROS_MIN);
        let last = row["last"].as_i64();
        if last.is_some_and(|last| now - last > limit + MINUTE_MICROS) {
            gaps.push(gap(source, text(row, "door"), last, limit, now, "learned"));
        }
    }
    gaps
}

fn gap(source: String, door: String, last: Option<i64>, limit: i64, now: i64, by: &'static str) -> Gap {
    Gap::Silent {
        source,
        door,
        last_received_at: last,
        silent_minutes: last.map(|last| (now - last) / MINUTE_MICROS),
        limit_minutes: limit / MINUTE_MICROS,
        by,
    }
}

async fn holes(store: &Store, tenant: &str, source: &str, number: &str, within: &str) -> Result<Vec<Gap>> {
    let path = |dotted: &str| dotted.split('.').map(quoted).collect::<Vec<_>>().join(", ");
    let (number, within) = (path(number), path(within));
    let query = format!(
        "SELECT within, min(n) AS first, max(n) AS last, count(DISTINCT n) AS found FROM (\
         SELECT json_get_str(raw, {within}) AS within, json_get_int(raw, {number}) AS n FROM events \
         WHERE source = {} AND event_index = 0 AND received_at > now() - INTERVAL '1 day') \
         WHERE within <> '' AND n IS NOT NULL GROUP BY within HAVING max(n) - min(n) + 1 > count(DISTINCT n) \
         ORDER BY within LIMIT {HOLES_MAX}",
        quoted(source)
    );
    let rows = store.query.sql(tenant, &query).await?.rows_as::<Value>()?;
    let number = |row: &Value, name: &str| row[name].as_i64().unwrap_or(0);
    let hole = |row: &Value| Gap::Hole {
        source: source.to_owned(),
        within: row["within"].as_str().unwrap_or_default().to_owned(),
        first: number(row, "first"),
        last: number(row, "last"),
        missing: number(row, "last") - number(row, "first") + 1 - number(row, "found"),
    };
    Ok(rows.iter().map(hole).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 10_000 * MINUTE_MICROS;

    fn seen(source: &str, door: &str, silent_minutes: i64, pause_minutes: i64, minutes: i64) -> Value {
        let (last, pause) = (NOW - silent_minutes * MINUTE_MICROS, pause_minutes * MINUTE_MICROS);
        json!({"source": source, "door": door, "last": last, "pause": pause, "minutes": minutes})
    }

    fn names(gaps: &[Gap]) -> Vec<(&str, &str)> {
        let name = |gap: &Gap| match gap {
            Gap::Silent { source, by, .. } => (source.clone(), *by),
            Gap::Hole { source, .. } => (source.clone(), "hole"),
        };
        gaps.iter().map(name).map(|(source, by)| (&*source.leak(), by)).collect()
    }

    #[test]
    fn a_source_is_silent_where_it_pauses_longer_than_it_said_or_ever_did() {
        let expected = |source: &str, silence_minutes| ExpectedSource {
            tenant: "acme".into(),
            source: source.into(),
            silence_minutes,
        };
        let (okta, kong, never) = (expected("okta", 30), expected("kong", 120), expected("vault", 60));
        let rows = [
            seen("okta", "http", 45, 100, 500),
            seen("kong", "http", 45, 1, 500),
            seen("envoy", "http", 45, 1, 500),
            seen("nginx", "http", 45, 30, 500),
            seen("github", "http", 45, 1, 3),
            seen("auth0", "file", 4500, 1, 500),
        ];
        let gaps = silent(&rows, &[&okta, &kong, &never], NOW);
        assert_eq!(names(&gaps), [("okta", "declared"), ("vault", "declared"), ("envoy", "learned")]);
        let Gap::Silent { silent_minutes, limit_minutes, .. } = &gaps[2] else { panic!("{gaps:?}") };
        assert_eq!((*silent_minutes, *limit_minutes), (Some(45), 10));
    }
}
