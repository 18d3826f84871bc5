//! What measuring needs: a thread's processor time, and the floor under everything that reads records: parsing alone.

use std::time::Duration;

use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

/// The lines of `body` that hold something.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Parses every JSON line of `body` into a reused tape, and looks at the others; says how many others there were.
pub fn parse(body: &[u8]) -> usize {
    let (mut buffers, mut kept, mut bytes) = (Buffers::default(), Tape(Vec::new()), Vec::new());
    let mut others = 0;
    for line in lines(body) {
        bytes.clear();
        bytes.extend_from_slice(line);
        bytes.resize(line.len() + INPUT_PADDING, 0);
        let mut tape = kept.reset();
        let parsed =
            line.starts_with(b"{") && fill_tape_padded(&mut bytes, line.len(), &mut buffers, &mut tape).is_ok();
        std::hint::black_box(&tape);
        others += usize::from(!parsed);
        kept = tape.reset();
    }
    others
}

/// Time that the calling thread was on a core: other processes on the machine do not count.
pub fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the benches run on Linux");
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok()).expect("the first field is nanoseconds");
    Duration::from_nanos(nanos)
}
