//! Bytes to record batch, a source at a time. Floor: simd-json parsing the same bytes into a tape.
//!
//! Generated records, and for Okta the real ones of the corpus where `MUSTER_CORPUS` or `../shared/corpus` has them.

use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use benches::measure::{lines, parse};
use benches::workload::{Source, Spec};
use criterion::Criterion;
use ingest::{Carrier, Context, Limits, Mapping, Normalized, Sources, normalize};

use crate::{group, on_core};

const RECORDS: u64 = 4_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    for source in Source::ALL {
        let mapping = sources.get(source.name()).expect("what is generated has a mapping");
        let body = Spec { source, events: RECORDS, ..Spec::default() }.written();
        compare(criterion, &format!("mapping/{}", source.name()), mapping, &body);
    }
    if let Some(body) = okta_corpus() {
        compare(criterion, "mapping/okta corpus", sources.get("okta").expect("okta is built in"), &body);
    }
}

fn compare(criterion: &mut Criterion, name: &str, mapping: &Mapping, body: &[u8]) {
    let mut group = group(criterion, name, lines(body).count() as u64);
    on_core(&mut group, "mapping", || map(mapping, body, "bench"));
    on_core(&mut group, "floor: parse", || assert_eq!(parse(body), 0, "the records are JSON"));
    group.finish();
}

fn map(mapping: &Mapping, body: &[u8], token: &str) -> Normalized {
    let context = Context {
        tenant: "default",
        instance: "",
        door: "http",
        live: true,
        received_at: 1_767_312_000_000_000,
        carrier: &Carrier::Request { token: token.to_owned() },
        partitions: ingest::worker::PARTITIONS,
        secret_key: &[7; 32],
    };
    normalize(mapping, body, &context, &Limits::default())
}

/// Generated records, `rows` in each piece.
pub(crate) fn pieces(spec: Spec, rows: usize) -> Vec<Vec<u8>> {
    let body = spec.written();
    let records: Vec<&[u8]> = lines(&body).collect();
    records.chunks(rows).map(|piece| piece.join(&b'\n')).collect()
}

/// Records of Envoy as batches.
pub(crate) fn mapped<'a>(pieces: &'a [Vec<u8>], sources: &'a Sources) -> impl Iterator<Item = RecordBatch> + 'a {
    let mapping = sources.get("envoy").expect("envoy is built in");
    pieces.iter().map(|piece| map(mapping, piece, "bench").events.expect("the records are mapped"))
}

/// Generated Envoy records as the batches that the log and the detectors get, `rows` in each.
pub(crate) fn batches(events: u64, rows: usize) -> Vec<RecordBatch> {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    mapped(&pieces(Spec { events, ..Spec::default() }, rows), &sources).collect()
}

/// The corpus' Okta records, repeated to at least as many as are generated.
fn okta_corpus() -> Option<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    #[allow(clippy::disallowed_methods, reason = "a bench has no configuration")]
    let folder = std::env::var_os("MUSTER_CORPUS").map_or(beside, PathBuf::from).join("okta");
    let mut body = Vec::new();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl")) {
        body.extend(std::fs::read(path).ok()?);
        body.push(b'\n');
    }
    let records = lines(&body).count();
    if records == 0 {
        let _ = writeln!(std::io::stderr(), "mapping/okta corpus: skipped, no records in {}", folder.display());
        return None;
    }
    let size = body.len() / records;
    let _ = writeln!(std::io::stderr(), "mapping/okta corpus: {records} records of {size} bytes");
    Some(body.repeat((RECORDS as usize).div_ceil(records)))
}
