//! What the benches need: generated records, and the parse floor.

pub(crate) use benches::thread_time;
use benches::workload::{Generator, Source, Spec};
use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

/// `events` generated records of a source, one a line.
pub(crate) fn generated(source: Source, events: u64) -> Vec<u8> {
    written(Spec { source, events, ..Spec::default() })
}

pub(crate) fn written(spec: Spec) -> Vec<u8> {
    let mut generator = Generator::new(spec);
    let mut out = Vec::new();
    while generator.write_record(&mut out) {}
    out
}

pub(crate) fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The parse floor: every line of `body` parsed into a reused tape, and nothing done with it.
pub(crate) fn parse(body: &[u8]) {
    let (mut buffers, mut kept, mut bytes) = (Buffers::default(), Tape(Vec::new()), Vec::new());
    for line in lines(body) {
        bytes.clear();
        bytes.extend_from_slice(line);
        bytes.resize(line.len() + INPUT_PADDING, 0);
        let mut tape = kept.reset();
        fill_tape_padded(&mut bytes, line.len(), &mut buffers, &mut tape).expect("the records are JSON");
        std::hint::black_box(&tape);
        kept = tape.reset();
    }
}
