//! How fast the generator is, by source: `cargo run --release -p benches --example workload_speed`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use benches::workload::{Generator, Source, Spec};

fn main() {
    for source in Source::ALL {
        let mut generator = Generator::new(Spec { source, ..Spec::default() });
        let (mut out, mut bytes, mut records) = (Vec::with_capacity(1 << 20), 0, 0u64);
        let start = Instant::now();
        while generator.write_record(&mut out) {
            records += 1;
            if out.len() > 1 << 19 {
                bytes += out.len();
                out.clear();
            }
        }
        let secs = start.elapsed().as_secs_f64();
        let mean = (bytes + out.len()) as u64 / records;
        println!("{:15} {:7.0} thousand records/s, {mean} bytes a record", source.name(), records as f64 / secs / 1e3);
    }
}
