//! What holds for any bytes: no panic, every record counted, raw kept byte for byte but for secrets.

use ingest::{Limits, Normalized, Sources, event_objects, normalize};
use proptest::prelude::*;

use crate::support::{context, file};

pub(crate) fn sources() -> &'static Sources {
    static SOURCES: std::sync::LazyLock<Sources> =
        std::sync::LazyLock::new(|| Sources::load(None).expect("the built-in mappings are right"));
    &SOURCES
}

fn run(name: &str, body: &[u8]) -> Normalized {
    let mapping = sources().get(name).expect("the source is built in");
    let found = normalize(mapping, body, &context(&file()), &Limits::default());
    assert!(found.ledger.balances());
    assert_eq!(found.ledger.received, found.outcomes.len() as i64);
    assert_eq!(found.event_record.len(), found.events.as_ref().map_or(0, |e| e.num_rows()));
    found
}

pub(crate) fn records() -> Vec<(String, String)> {
    let of = |name: &str| ingest::fixtures::records(name).into_iter().map(|r| (name.to_owned(), r)).collect::<Vec<_>>();
    sources().iter().flat_map(|mapping| of(mapping.name())).collect()
}

#[test]
fn a_record_cut_off_anywhere_stops_nothing_else() {
    // A cut array has no end by which to tell where the next line begins, unless it was cut within a text.
    for (name, record) in records().into_iter().filter(|(_, record)| !record.starts_with("{\"Records\"")) {
        for end in (0..record.len()).step_by(37).filter(|end| record.is_char_boundary(*end)) {
            let body = format!("{}\n{record}\n", &record[..end]);
            let (alone, both) = (run(&name, record.as_bytes()), run(&name, body.as_bytes()));
            assert!(both.ledger.events >= alone.ledger.events, "cut at {end}: {record}");
        }
    }
}

#[test]
fn raw_is_kept_byte_for_byte() {
    let record = r#"{ "start_time":"2025-12-03T10:11:12.345Z",  "method":"GET","path":"/\u0061","response_code":200,"response_flags":"-","extra":[1, 2.50] }"#;
    let events = event_objects(&run("envoy", record.as_bytes()).events.expect("an event"));
    assert_eq!(events[0]["raw"], record);
}

#[test]
fn an_id_that_comes_again_with_other_bytes_stays_two_rows() {
    let line = |path: &str| {
        format!(
            r#"{{"start_time":"2025-12-03T10:11:12Z","method":"GET","path":"{path}","response_code":200,"response_flags":"-","request_id":"same"}}"#
        )
    };
    let found = run("envoy", format!("{}\n{}\n", line("/a"), line("/secrets")).as_bytes());
    let events = event_objects(&found.events.expect("two events"));
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["event_id"], events[1]["event_id"]);
    assert_ne!(events[0]["raw"], events[1]["raw"]);
}

#[test]
fn secrets_do_not_reach_quarantine() {
    let found = run("okta", br#"{"eventType":"x","client_secret":"tops3cret"}"#);
    let rows = found.quarantine.expect("a row");
    let rows = schemas::quarantine::Quarantine::new(&rows).expect("a quarantine batch").row(0);
    assert_eq!(String::from_utf8_lossy(&rows.raw), r#"{"eventType":"x","client_secret":"***"}"#);
}

#[test]
fn a_record_over_the_limit_is_refused_by_itself() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    let found = run("okta", format!("{long}\n{}\n", "{").as_bytes());
    assert_eq!(found.ledger.quarantined, 2);
    let rows = found.quarantine.expect("two rows");
    let row = schemas::quarantine::Quarantine::new(&rows).expect("a quarantine batch").row(0);
    assert_eq!((row.reason.as_str(), row.size_bytes, row.raw.len()), ("too_large", long.len() as i64, 64 << 10));
}

proptest! {
    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for mapping in sources().iter() {
            run(mapping.name(), &bytes);
        }
    }

    #[test]
    fn any_change_to_a_record(which in any::<proptest::sample::Index>(), at in 0_usize..5000, byte in any::<u8>()) {
        let records = records();
        let (name, record) = &records[which.index(records.len())];
        let mut bytes = record.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        run(name, &bytes);
    }
}
