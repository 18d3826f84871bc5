//! Criterion benches of the parts, each with the floor it is measured against in the same run:
//! `cargo bench --profile dev -p benches --bench speed [-- FILTER]`; about three minutes in all.
//!
//! One program for all parts, because linking it is most of the build. Work of one thread is measured in processor time
//! (`measure`), work that waits for the disk or runs on several threads by the clock.

mod detect;
mod generator;
mod log;
mod mapping;
mod sql;

use std::hint::black_box;
use std::time::Duration;

use benches::measure::thread_time;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, measurement::WallTime};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// A group whose figures are per record: few samples, because each is thousands of records.
fn group<'a>(criterion: &'a mut Criterion, name: &str, records: u64) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(records));
    group
}

/// Measures `work` in processor time of its thread.
fn on_core<T>(group: &mut Group<'_>, name: &str, mut work: impl FnMut() -> T) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| taken(|| (0..rounds).for_each(|_| drop(black_box(work())))));
    });
}

/// Processor time of this thread that `work` takes.
fn taken<T>(work: impl FnOnce() -> T) -> Duration {
    let start = thread_time();
    drop(black_box(work()));
    thread_time() - start
}

criterion_group!(benches, generator::bench, mapping::bench, log::bench, detect::bench, sql::bench);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, alone, case] = arguments.as_slice()
        && alone == detect::ALONE
    {
        return detect::alone(case);
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
