//! SQL over events in the tables, over events still in the log, and right after a restart. Floor: the same count by agent and
//! action over batches in memory, in a hash map.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use criterion::Criterion;
use lake::clock::Clock;
use lake::files::Disk;
use lake::log::{Log, LogConfig};
use lake::tables::{GROUP, Lake, LakeConfig};
use query::{Query, QueryConfig};
use tokio::runtime::Runtime;

use crate::detect::count;
use crate::log::{append, folder};
use crate::{group, mapping, on_core};

const EVENTS: u64 = 100_000;
const QUESTION: &str = "SELECT agent_id, action, count(*) AS events FROM events GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 20";

struct World {
    log: Arc<Log>,
    lake: Arc<Lake>,
    query: Arc<Query>,
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let batches = mapping::batches(EVENTS, 4_096);
    let runtime = Runtime::new().expect("threads can start");
    let folder = folder();
    let mut group = group(criterion, "sql", EVENTS);
    on_core(&mut group, "floor: count in a hash map", || count(&batches));

    let world = runtime.block_on(filled(folder.path(), &batches));
    group.bench_function("in the log", |bencher| bencher.iter(|| runtime.block_on(world.ask())));
    runtime.block_on(world.lake.flush()).expect("the tables can be written");
    group.bench_function("in the tables", |bencher| bencher.iter(|| runtime.block_on(world.ask())));
    world.log.close();
    drop(world);
    group.bench_function("after a restart", |bencher| {
        bencher.iter_custom(|rounds| {
            let once = |_| {
                let start = Instant::now();
                let world = runtime.block_on(World::open(folder.path()));
                runtime.block_on(world.ask());
                let took = start.elapsed();
                world.log.close();
                took
            };
            (0..rounds).map(once).sum()
        });
    });
    group.finish();
}

async fn filled(folder: &Path, batches: &[RecordBatch]) -> World {
    let world = World::open(folder).await;
    for batch in batches {
        world.log.append(append(batch.clone())).await.expect("the disk has room");
    }
    world
}

impl World {
    async fn open(folder: &Path) -> World {
        let (files, clock) = (Arc::new(Disk::default()), Clock::system());
        let opened = Log::open(files.clone(), folder.join("log"), &LogConfig::default(), clock.clone(), &[GROUP]);
        let (log, _) = opened.expect("the log opens");
        let opened = Lake::open_folder(files, folder.join("lake"), log.clone(), clock.clone(), LakeConfig::default());
        let lake = opened.await.expect("the tables open");
        let query = Query::new(lake.clone(), clock, QueryConfig::default()).expect("the settings are right");
        World { log, lake, query }
    }

    async fn ask(&self) {
        let answer = self.query.sql("default", QUESTION).await.expect("the question is right");
        assert_eq!(answer.rows(), 20);
    }
}
