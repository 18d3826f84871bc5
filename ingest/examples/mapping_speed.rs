//! Records a CPU second of one core, bytes to record batch, with the parse floor beside it, in pieces of 4 MiB as bodies
//! are admitted:
//! `mapping_speed SOURCE FILES…` (JSON lines).

use std::io::Write;

use ingest::{Carrier, Context, Limits, Sources, normalize};
use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let mapping = sources.get(&arguments[1]).expect("the source is built in");
    let mut body = Vec::new();
    for file in &arguments[2..] {
        body.extend(std::fs::read(file)?);
        body.push(b'\n');
    }
    let once = body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
    let body = body.repeat((4096 / once).max(1));
    let lines = body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
    let rounds = (20_000 / lines).max(1);
    let pieces = pieces(&body);
    let context = Context {
        tenant: "default",
        instance: "",
        door: "http",
        live: true,
        received_at: 1_767_225_600_000_000,
        carrier: &Carrier::Request { token: "bench".to_owned() },
        partitions: 64,
        secret_key: &[7; 32],
    };
    let mut best = [f64::MAX; 2];
    for _ in 0..10 {
        let start = cpu_secs()?;
        for _ in 0..rounds {
            for piece in &pieces {
                std::hint::black_box(normalize(mapping, piece, &context, &Limits::default()));
            }
        }
        best[0] = best[0].min(cpu_secs()? - start);
        let start = cpu_secs()?;
        let (mut buffers, mut kept, mut bytes) = (Buffers::default(), Tape(Vec::new()), Vec::new());
        for _ in 0..rounds {
            for line in body.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                bytes.clear();
                bytes.extend_from_slice(line);
                bytes.resize(line.len() + INPUT_PADDING, 0);
                let mut tape = kept.reset();
                let parsed = fill_tape_padded(&mut bytes, line.len(), &mut buffers, &mut tape);
                std::hint::black_box(parsed.is_ok());
                kept = tape.reset();
            }
        }
        best[1] = best[1].min(cpu_secs()? - start);
    }
    let records = (lines * rounds) as f64;
    let size = body.len() / lines;
    let [mapping, floor] = best.map(|seconds| records / seconds);
    writeln!(std::io::stdout(), "{lines} records of {size} bytes: mapping {mapping:.0}/s, parse floor {floor:.0}/s")
}

/// Pieces of the size in which bodies are admitted.
fn pieces(mut body: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while body.len() > 4 << 20 {
        let end = body[..4 << 20].iter().rposition(|b| *b == b'\n').map_or(body.len(), |at| at + 1);
        let (piece, rest) = body.split_at(end);
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}

/// Time that this thread was on a core: other processes do not count.
fn cpu_secs() -> std::io::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    Ok(nanos / 1e9)
}
