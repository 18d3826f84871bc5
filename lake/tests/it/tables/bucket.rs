//! The lake in an object store: calls that fail, writers that race, and the same against a real S3-compatible server.
//!
//! Tests named `s3_…` need one: `.ci/s3 CACHE cargo test s3_`. Without `MUSTER_S3` they say that they skip.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use lake::files::{Bucket, S3Config, Wholes};
use lake::tables::Hold;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::keep::{ANN, DAY_MICROS, admission, filled, hold, holds_together, rule, stride, wanted};
use super::*;

/// How often what failed is tried again, as a running server does.
const TRIES: usize = 10;
/// Calls of a life from one that fails to the next, unless `MUSTER_STRIDE` says otherwise.
const STRIDE: usize = 113;
/// The same for what takes rows away.
const TAKEN_STRIDE: usize = 11;

fn log_of(files: &SimFiles, clock: &Clock) -> Arc<Log> {
    let log = LogConfig { segment_bytes_max: 20_000, duplicates_window: 1_000, ..LogConfig::default() };
    let log = Log::open(Arc::new(files.clone()), PathBuf::from("log"), &log, clock.clone(), &[GROUP]);
    log.expect("the log opens").0
}

fn config() -> LakeConfig {
    LakeConfig { retention: vec![rule("all", 30, &[])], ..LakeConfig::default() }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The call is refused and has no effect.
    Refused,
    /// The call has its effect, and nobody hears of it.
    Unheard,
}

/// A store whose call number `at`, counted from 0, fails once.
#[derive(Debug)]
struct Failing {
    inner: InMemory,
    calls: AtomicU64,
    at: Option<u64>,
    fault: Fault,
    /// While a test asks questions of its own, calls are not counted.
    asked: AtomicBool,
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a store that fails once")
    }
}

impl Failing {
    fn over(inner: InMemory, at: Option<u64>, fault: Fault) -> Arc<Failing> {
        Arc::new(Failing { inner, calls: AtomicU64::new(0), at, fault, asked: AtomicBool::new(false) })
    }

    async fn answers<T>(&self, question: impl Future<Output = T>) -> T {
        self.asked.store(true, Ordering::SeqCst);
        let answer = question.await;
        self.asked.store(false, Ordering::SeqCst);
        answer
    }

    fn fault(&self) -> Option<Fault> {
        if self.asked.load(Ordering::SeqCst) {
            return None;
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        (self.at == Some(call)).then_some(self.fault)
    }

    /// A call that changes something.
    async fn changes<T>(&self, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        match self.fault() {
            None => work.await,
            Some(Fault::Refused) => Err(failed()),
            Some(Fault::Unheard) => {
                work.await?;
                Err(failed())
            }
        }
    }

    /// A call that only asks.
    async fn asks<T>(&self, work: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        if self.fault().is_some() { Err(failed()) } else { work.await }
    }
}

fn failed() -> Error {
    Error::Generic { store: "test", source: "told to fail".into() }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.changes(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.asks(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.asks(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.asks(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        match self.fault() {
            None => self.inner.delete_stream(locations),
            Some(Fault::Refused) => stream::iter([Err(failed())]).boxed(),
            Some(Fault::Unheard) => {
                self.inner.delete_stream(locations.take(1).boxed()).chain(stream::iter([Err(failed())])).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.fault() {
            None => self.inner.list(prefix),
            // Half a listing must not pass for a whole one.
            Some(_) => self.inner.list(prefix).take(1).chain(stream::iter([Err(failed())])).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.asks(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.changes(self.inner.copy_opts(from, to, options)).await
    }
}

/// Tries again what fails, but not for ever.
async fn again<T, E: std::fmt::Display>(what: &str, mut work: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut last = String::new();
    for _ in 0..TRIES {
        match work().await {
            Ok(done) => return done,
            Err(error) => last = error.to_string(),
        }
    }
    panic!("{what}: {last}")
}

/// A life of a lake: made, written, kept in order, a user erased, all with a store that fails once, and opened again.
async fn live(store: Arc<Failing>, what: &str) {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let log = log_of(&files, &clock);
    let open = async || Lake::open(store.clone(), log.clone(), clock.clone(), config()).await;
    let lake = again(what, open).await;
    for (number, age) in (0..6).zip([31, 31, 0, 0, 0, 0]) {
        log.append(admission(number, "okta", NOW - age * DAY_MICROS)).await.expect("is acknowledged");
        again(what, async || lake.flush().await).await;
    }
    again(what, async || lake.hold(hold("case-1", &["agent-1"])).await).await;
    again(what, async || lake.keep().await).await;
    let held: Vec<String> = (0..2).flat_map(|n| [format!("{n:03}-1"), format!("{n:03}-3")]).collect();
    let there: Vec<String> = held.into_iter().chain(wanted(2..6)).collect();
    assert_eq!(store.answers(ids(&lake)).await, there, "{what}");
    again(what, async || lake.release("case-1").await.or_else(gone)).await;
    again(what, async || lake.erase("acme", &[ANN.to_owned()], false).await).await;
    again(what, async || lake.keep().await).await;
    drop(lake);
    let lake = again(what, open).await;
    assert_eq!(store.answers(ids(&lake)).await, wanted(2..6), "{what}");
    let users = store.answers(column(&lake, "events", "user_id")).await.expect("a snapshot");
    assert!(!users.contains(&ANN.to_owned()), "{what}: erased");
    store.answers(holds_together(&lake, what)).await;
    log.close();
}

/// The release was done and nobody heard of it.
fn gone(error: LakeError) -> Result<Hold, LakeError> {
    if let LakeError::NoHold(_) = error { Ok(Hold::default()) } else { Err(error) }
}

#[tokio::test]
async fn a_store_that_fails_at_any_call_loses_nothing_and_doubles_nothing() {
    let whole = Failing::over(InMemory::new(), None, Fault::Refused);
    live(whole.clone(), "no failure").await;
    let calls = whole.calls.load(Ordering::SeqCst);
    assert!(calls > 200, "{calls}");
    for fault in [Fault::Refused, Fault::Unheard] {
        for call in (0..calls).step_by(stride(STRIDE)) {
            live(Failing::over(InMemory::new(), Some(call), fault), &format!("{fault:?} at call {call} of {calls}"))
                .await;
        }
    }
}

/// A commit that came although an error was answered is shown once it is tried again: then there was nothing left to
/// do, and what had been taken away could still be seen until the next flush.
#[tokio::test]
async fn what_was_taken_away_is_not_shown_whatever_call_failed() {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let log = log_of(&files, &clock);
    let before = InMemory::new();
    let lake = Lake::open(Arc::new(before.clone()), log.clone(), clock.clone(), config()).await.expect("a lake");
    for (number, age) in [(0, 31), (1, 0)] {
        log.append(admission(number, "okta", NOW - age * DAY_MICROS)).await.expect("is acknowledged");
        lake.flush().await.expect("is written");
    }
    drop(lake);
    // Rows that are too old go, then a user; gives the calls that each took.
    let taken_away = async |store: Arc<Failing>, what: &str| {
        let lake = again(what, async || Lake::open(store.clone(), log.clone(), clock.clone(), config()).await).await;
        let calls = || store.calls.load(Ordering::SeqCst);
        let begin = calls();
        again(what, async || lake.keep().await).await;
        assert_eq!(store.answers(ids(&lake)).await, wanted(1..2), "{what}: too old");
        let kept = calls();
        again(what, async || lake.erase("acme", &[ANN.to_owned()], false).await).await;
        let users = store.answers(column(&lake, "events", "user_id")).await.expect("a snapshot");
        assert!(!users.contains(&ANN.to_owned()), "{what}: erased");
        [begin..kept, kept..calls()]
    };
    let over = |at, fault| Failing::over(before.fork(), at, fault);
    let [keeping, erasing] = taken_away(over(None, Fault::Refused), "no failure").await;
    assert!(keeping.end > keeping.start + 20 && erasing.end > erasing.start + 20, "{keeping:?} {erasing:?}");
    for fault in [Fault::Refused, Fault::Unheard] {
        for call in keeping.clone().chain(erasing.clone()).step_by(stride(TAKEN_STRIDE)) {
            taken_away(over(Some(call), fault), &format!("{fault:?} at call {call}")).await;
        }
    }
    log.close();
}

/// Two writers of one log into one lake, and two that keep it in order, all at once: of two commits one wins, and the
/// other looks again.
async fn race(store: Arc<dyn ObjectStore>) {
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let log = log_of(&files, &clock);
    let open = || Lake::open(store.clone(), log.clone(), clock.clone(), LakeConfig::default());
    let (one, two) = (open().await.expect("opens"), open().await.expect("opens"));
    for number in 0..8 {
        log.append(admission(number, "okta", NOW)).await.expect("is acknowledged");
        let flush = async |lake: &Lake| again("a race of writers", async || lake.flush().await).await;
        tokio::join!(flush(&one), flush(&two));
    }
    let keep = async |lake: &Lake| again("a race of keepers", async || lake.keep().await).await;
    tokio::join!(keep(&one), keep(&two));
    drop((one, two));
    let lake = open().await.expect("opens");
    assert_eq!(ids(&lake).await, wanted(0..8));
    holds_together(&lake, "after the race").await;
    log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_commits_one_wins_and_no_row_is_lost_or_doubled() {
    race(Arc::new(InMemory::new())).await;
}

/// A place of its own in the bucket of the server that `MUSTER_S3` names; none where it names none.
pub(super) fn bucket(name: &str) -> Option<Bucket> {
    let Ok(address) = std::env::var("MUSTER_S3") else {
        eprintln!("SKIPPED: MUSTER_S3 names no S3-compatible server (.ci/s3 starts one)");
        return None;
    };
    let (endpoint, bucket) = address.rsplit_once('/').expect("MUSTER_S3 is http://HOST:PORT/BUCKET");
    let config = S3Config { endpoint: Some(endpoint.to_owned()), ..S3Config::default() };
    let place = format!("s3://{bucket}/lake-tests/{}/{name}", std::process::id());
    Some(Bucket::new(&place, &config, None, std::env::vars()).expect("a bucket"))
}

/// The bucket as a bare store: all that the lake sees of it.
async fn opened(bucket: &Bucket, log: &Arc<Log>, clock: &Clock, owner: &str) -> Result<Arc<Lake>, LakeError> {
    Lake::open_bucket(bucket, owner, log.clone(), clock.clone(), config()).await
}

#[tokio::test]
async fn s3_rows_are_written_merged_expired_held_and_erased() {
    let Some(bucket) = bucket("kept") else { return };
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let log = log_of(&files, &clock);
    let lake = opened(&bucket, &log, &clock, "me").await.unwrap();
    filled(&log, &lake, 0..2, "okta", NOW - 31 * DAY_MICROS).await.unwrap();
    filled(&log, &lake, 2..12, "okta", NOW).await.unwrap();
    lake.hold(hold("case-1", &[ANN])).await.unwrap();
    let kept = lake.keep().await.unwrap();
    assert!(kept.merged_files >= 30 && kept.removed_rows == 6, "{kept:?}");
    let held = ["000-0".to_owned(), "001-0".to_owned()];
    assert_eq!(ids(&lake).await, held.iter().cloned().chain(wanted(2..12)).collect::<Vec<_>>());
    holds_together(&lake, "held").await;
    let refused = lake.erase("acme", &[ANN.to_owned()], false).await.unwrap_err();
    assert!(matches!(refused, LakeError::Held { .. }), "{refused}");
    drop(lake);

    let lake = opened(&bucket, &log, &clock, "me").await.unwrap();
    assert_eq!(lake.holds().len(), 1, "a hold survives a restart");
    lake.release("case-1").await.unwrap();
    clock.set(NOW + 2 * 3_600_000_000);
    let kept = lake.keep().await.unwrap();
    assert!(kept.vacuumed_files >= 30, "{kept:?}");
    let erased = lake.erase("acme", &[ANN.to_owned()], false).await.unwrap();
    assert!(erased.files_deleted > 0 && !erased.files_wait, "{erased:?}");
    let users = column(&lake, "events", "user_id").await.unwrap();
    assert!(users.len() == 40 && !users.contains(&ANN.to_owned()), "{users:?}");
    assert_eq!(ids(&lake).await, wanted(2..12));
    holds_together(&lake, "erased").await;
    log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_of_two_commits_one_wins() {
    let Some(bucket) = bucket("race") else { return };
    race(bucket.store()).await;
}

#[tokio::test]
async fn s3_a_lake_has_one_log() {
    let Some(bucket) = bucket("owned") else { return };
    let (files, clock) = (SimFiles::new(), Clock::manual(NOW));
    let log = log_of(&files, &clock);
    drop(opened(&bucket, &log, &clock, "me").await.unwrap());
    let refused = opened(&bucket, &log, &clock, "another").await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, LakeError::Foreign { found } if found == "me"), "{refused}");
    drop(opened(&bucket, &log, &clock, "me").await.expect("it is still mine"));
    log.close();
}

#[tokio::test]
async fn s3_a_small_file_is_replaced_whole() {
    let Some(bucket) = bucket("whole") else { return };
    let files = Wholes::in_bucket(&bucket, "detect");
    let file = files.file("topic/7/0");
    assert_eq!((file.read().await.unwrap(), files.names().await.unwrap()), (None, vec![]));
    for bytes in [&b"first"[..], b"second"] {
        file.write(bytes).await.unwrap();
        assert_eq!(file.read().await.unwrap().as_deref(), Some(bytes));
    }
    files.file("other").write(&b""[..]).await.unwrap();
    let mut names = files.names().await.unwrap();
    names.sort();
    assert_eq!(names, ["other", "topic/7/0"]);
    for _ in 0..2 {
        files.delete("topic/7/0").await.expect("nothing there is fine");
    }
    assert_eq!(files.names().await.unwrap(), ["other"]);
}
