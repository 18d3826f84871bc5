//! Appends to the log on a disk, durable when they return. Floor: the bytes that the log wrote, written to a plain file
//! with one fsync an append. The log may beat the floor's fsyncs: appends that wait together share one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use criterion::Criterion;
use lake::clock::Clock;
use lake::files::Disk;
use lake::log::{Group, Log, LogConfig};
use schemas::ledger::LedgerRow;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::{group, mapping};

pub(crate) fn bench(criterion: &mut Criterion) {
    compare(criterion, "log/1000 records an append, 4 senders", &mapping::batches(32_000, 1_000), 4);
    compare(criterion, "log/1 record an append, 64 senders", &mapping::batches(1_000, 1), 64);
}

fn compare(criterion: &mut Criterion, name: &str, batches: &[RecordBatch], senders: usize) {
    let runtime = Runtime::new().expect("threads can start");
    let records = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let mut group = group(criterion, name, records);
    let mut written = 0;
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds).map(|_| runtime.block_on(append_all(batches, senders, &mut written))).sum()
        });
    });
    if written > 0 {
        group.bench_function("floor: write and fsync", |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| write_all(written, batches.len())).sum());
        });
    }
    group.finish();
}

/// A folder on a disk: the system's temporary one may be memory.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder can be written")
}

pub(crate) fn append(batch: RecordBatch) -> Group {
    let rows = batch.num_rows() as i64;
    let tenant = "default".to_owned();
    let ledger = LedgerRow { tenant, received: rows, mapped: rows, events: rows, ..LedgerRow::default() };
    Group { events: Some(batch), ledger: Some(ledger), ..Group::default() }
}

/// Each sender waits for its append before it makes the next.
async fn append_all(batches: &[RecordBatch], senders: usize, written: &mut u64) -> Duration {
    let folder = folder();
    let opened =
        Log::open(Arc::new(Disk::default()), folder.path().into(), &LogConfig::default(), Clock::system(), &[]);
    let (log, _) = opened.expect("an empty folder opens");
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for sender in 0..senders {
        let log = log.clone();
        let batches: Vec<RecordBatch> = batches.iter().skip(sender).step_by(senders).cloned().collect();
        tasks.spawn(async move {
            for batch in batches {
                log.append(append(batch)).await.expect("the disk has room");
            }
        });
    }
    tasks.join_all().await;
    let took = start.elapsed();
    log.close();
    *written = bytes(folder.path());
    took
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len()).sum()
}

fn write_all(bytes: u64, writes: usize) -> Duration {
    let folder = folder();
    let chunk = vec![7; bytes as usize / writes];
    let mut file = File::create(folder.path().join("plain")).expect("the folder can be written");
    let start = Instant::now();
    for _ in 0..writes {
        file.write_all(&chunk).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
    }
    start.elapsed()
}
