//! Fuzzing of the engine and all mappings: records of the fixtures, cut, spliced, changed and repeated at random, go
//! through a random mapping. No panic, and the ledger balances.
//!
//! The number of rounds is bounded, `MUSTER_FUZZ_ROUNDS` (default 20,000), and `MUSTER_FUZZ_SEED` repeats a run.

use ingest::{Limits, Sources, normalize};

use crate::properties::{records, sources};
use crate::support::{context, file};

const ROUNDS: u64 = 20_000;
const RECORD_BYTES_MAX: usize = 16 << 10;
/// Bytes that mean something to a parser somewhere.
const TELLING: &[u8] = b"{}[]\",:\\=|%+-. \n\r\t0e\x00\x7f\xc3\xff$";

#[test]
fn no_bytes_make_any_mapping_panic_or_lose_a_record() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let seed = number("MUSTER_FUZZ_SEED", 1);
    let mut random = Random(seed);
    let records = records();
    let names: Vec<&str> = sources().iter().map(|m| m.name()).collect();
    for round in 0..number("MUSTER_FUZZ_ROUNDS", ROUNDS) {
        let (own, record) = &records[random.below(records.len())];
        let mut bytes = record.clone().into_bytes();
        for _ in 0..=random.below(6) {
            change(&mut bytes, &records[random.below(records.len())].1, &mut random);
        }
        bytes.truncate(RECORD_BYTES_MAX);
        let name = if random.below(4) == 0 { names[random.below(names.len())] } else { own };
        check(sources(), name, &bytes, (seed, round));
    }
}

fn check(sources: &Sources, name: &str, bytes: &[u8], round: (u64, u64)) {
    let mapping = sources.get(name).expect("the source is built in");
    let found = normalize(mapping, bytes, &context(&file()), &Limits::default());
    assert!(found.ledger.balances(), "{round:?}");
    assert_eq!(found.ledger.received, found.outcomes.len() as i64, "{round:?}");
    let rows = |batch: &Option<arrow::array::RecordBatch>| batch.as_ref().map_or(0, |b| b.num_rows());
    assert_eq!(rows(&found.events), found.event_record.len(), "{round:?}");
    assert_eq!(rows(&found.quarantine) as i64, found.ledger.quarantined, "{round:?}");
    let blank = bytes.iter().all(|b| b.is_ascii_whitespace() || b"[],\xef\xbb\xbf".contains(b));
    assert!(found.ledger.received > 0 || blank || begins_json(bytes), "{round:?}: nothing became of {bytes:?}");
}

/// Whether the bytes may be an envelope or array around no record.
fn begins_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn change(bytes: &mut Vec<u8>, other: &str, random: &mut Random) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(other.as_bytes());
    }
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(40)).min(bytes.len());
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at] = random.below(256) as u8,
        2 => bytes[at] = TELLING[random.below(TELLING.len())],
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece.repeat(1 + random.below(8)));
        }
        _ => {
            let from = random.below(other.len().max(1));
            let piece = &other.as_bytes()[from..(from + 60).min(other.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }
}
