//! One Muster process: the data folder, opened and held, with every role running in it.
//!
//! `serve`, `demo` and every command that opens the folder itself go through [`Node::open`], so there is one wiring.
//! A role that fails poisons the process: [`Node::failed`] resolves, and the caller stops everything.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ingest::Ingest;
use lake::clock::Clock;
use lake::files::{Disk, Files};
use lake::log::{Group, Log, LogError};
use lake::tables::Lake;
use query::Query;
use respond::Responder;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::ingest::load_sources;
use crate::config::{Config, resolve_secrets};
use crate::detection::{self, Detection};
use crate::metrics::Metrics;
use crate::tokens::write_private;

/// Bytes of events between two snapshots of the detectors.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
const KEY_BYTES: usize = 32;

/// The open data folder and the roles at work.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<Log>,
    pub(crate) lake: Arc<Lake>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) query: Arc<Query>,
    pub(crate) responder: Arc<Responder>,
    pub(crate) metrics: Arc<Metrics>,
    control: Arc<Log>,
    detected: Arc<AtomicU64>,
    failure: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    roles: tokio::sync::Mutex<JoinSet<()>>,
    /// Held while the process lives: two processes on one folder would both own the log.
    _lock: File,
}

impl Node {
    /// Opens the data folder and starts the roles. Fails at once where another process holds the folder.
    pub(crate) async fn open(config: Config, clock: Clock) -> Result<Arc<Node>> {
        let folder = config.data.folder.clone();
        make_private(&folder)?;
        let lock = lock(&folder)?;
        let files: Arc<dyn Files> = Arc::new(Disk::default());
        let groups = ["lake", detection::GROUP, "respond"];
        let (log, recovery) = Log::open(files.clone(), folder.join("log"), &config.log, clock.clone(), &groups)?;
        tracing::info!(?recovery, "the log is open");
        let (control, recovery) =
            Log::open(files.clone(), folder.join("control"), &config.log, clock.clone(), &[respond::CONTROL_GROUP])?;
        tracing::info!(?recovery, "the control log is open");
        let lake =
            Lake::open_folder(files.clone(), folder.join("lake"), log.clone(), clock.clone(), config.lake.clone())
                .await?;
        let sources = load_sources(&config)?;
        let key = installation_key(&folder)?;
        let ingest = Arc::new(Ingest::new(log.clone(), sources, clock.clone(), key, &config.ingest));
        let query = Query::new(lake.clone(), clock.clone(), config.query.clone())?;
        let respond = resolve_secrets(&config.respond)?;
        let responder = Responder::open(control.clone(), log.clone(), respond, clock.clone())?;
        let mut detection = config.detect.clone();
        detection.hash_key = hash_key(&key);
        let detection = Detection::open(log.clone(), files, folder.join("detect"), &detection)?;

        let (stop, _) = watch::channel(false);
        let (failed, failure) = watch::channel(None);
        let node = Arc::new(Node {
            detected: detection.progress(),
            metrics: Arc::new(Metrics::new()),
            roles: tokio::sync::Mutex::new(JoinSet::new()),
            _lock: lock,
            config,
            clock,
            log,
            lake,
            ingest,
            query,
            responder,
            control,
            failure,
            stop,
        });
        node.start(detection, failed).await;
        Ok(node)
    }

    async fn start(self: &Arc<Self>, detection: Detection, failed: watch::Sender<Option<String>>) {
        let mut roles = self.roles.lock().await;
        let failed = Arc::new(failed);
        let mut spawn = |name: &'static str, role: tokio::task::JoinHandle<Result<()>>| {
            let failed = failed.clone();
            roles.spawn(async move {
                let reason = match role.await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => format!("{name}: {error:#}"),
                    Err(panic) => format!("{name} panicked: {panic}"),
                };
                tracing::error!("{reason}");
                failed.send_replace(Some(reason));
            });
        };
        let runtime = tokio::runtime::Handle::current();
        spawn("detect", tokio::task::spawn_blocking(move || detection.run(&runtime, SNAPSHOT_BYTES_MAX)));
        let (lake, stop) = (self.lake.clone(), stopped(self.stop.subscribe()));
        spawn("lake", tokio::spawn(async move { lake.run(stop).await.context("the lake writer failed") }));
        let (responder, stop) = (self.responder.clone(), stopped(self.stop.subscribe()));
        spawn("respond", tokio::spawn(async move { responder.run(stop).await.context("the responder failed") }));
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        spawn("metrics", tokio::spawn(async move { metrics.follow(log).await.context("the metrics failed") }));
        let (log, clock, stop) = (self.log.clone(), self.clock.clone(), self.stop.subscribe());
        spawn("tick", tokio::spawn(tick(log, clock, stop)));
    }

    /// Resolves with the reason once a role has failed: the process must end and recover from the log.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await, // every role ended well: nothing will fail any more
        }
    }

    /// Whether requests can be served, or why not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.failure.borrow().as_ref() {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// One past the last frame that each role has durably passed.
    pub(crate) fn positions(&self) -> [(&'static str, u64); 3] {
        [
            ("lake", self.lake.status().next),
            ("detect", self.detected.load(Ordering::Acquire)),
            ("respond", self.responder.alerts_passed()),
        ]
    }

    /// Resolves when every role has passed all that is in the log now: tables written, alerts judged and handled.
    pub(crate) async fn settle(&self) -> Result<()> {
        let mut polls = tokio::time::interval(Duration::from_millis(5));
        // Alerts make frames of their own, so wait until the end stands still but for ticks.
        for role in [detection::GROUP, "respond"] {
            let end = self.log.end();
            while self.positions().iter().any(|(name, position)| *name == role && *position < end) {
                self.ready().map_err(anyhow::Error::msg)?;
                polls.tick().await;
            }
        }
        self.lake.flush().await.context("the lake cannot be written")
    }

    /// State of the process and one tenant's totals, as `muster status` and `/v1/status` show it.
    pub(crate) async fn status(&self, tenant: &str) -> Result<Value> {
        let ledger = self.query.sql(tenant, LEDGER).await?.rows_as::<Value>()?;
        let alerts = self.query.sql(tenant, ALERTS).await?.rows_as::<Value>()?;
        let orders = self.query.sql(tenant, ORDERS).await?.rows_as::<Value>()?;
        let end = self.log.end();
        let roles: serde_json::Map<String, Value> = self
            .positions()
            .into_iter()
            .map(|(role, position)| {
                (role.to_owned(), json!({"position": position, "behind": end.saturating_sub(position)}))
            })
            .collect();
        Ok(json!({
            "ready": self.ready().is_ok(),
            "tenant": tenant,
            "log": {"first": self.log.first(), "end": end},
            "roles": roles,
            "ledger": ledger,
            "alerts": alerts,
            "orders": orders,
        }))
    }

    /// Stops the roles in order: no new ticks, tables written, log closed, snapshots saved.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        self.stop.send_replace(true);
        let flushed = self.lake.flush().await.context("the lake cannot be written");
        self.log.close();
        let mut roles = self.roles.lock().await;
        while roles.join_next().await.is_some() {}
        self.control.close();
        flushed?;
        self.ready().map_err(anyhow::Error::msg)
    }
}

const LEDGER: &str = "SELECT door, source, sum(received) AS received, sum(mapped) AS mapped, sum(noise) AS noise, \
     sum(quarantined) AS quarantined, sum(duplicates) AS duplicates, sum(events) AS events, sum(masked) AS masked, \
     max(received_at) AS last_received_at FROM ingest_ledger GROUP BY door, source ORDER BY door, source";
const ALERTS: &str = "SELECT detector, severity_id, count(*) AS alerts, max(time) AS last_time FROM alerts \
     GROUP BY detector, severity_id ORDER BY detector, severity_id DESC";
const ORDERS: &str = "SELECT state, mode, count(*) AS orders FROM (SELECT state, mode, row_number() \
     OVER (PARTITION BY order_id ORDER BY step DESC) AS back FROM orders) WHERE back = 1 GROUP BY state, mode ORDER BY state";

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the node is gone, and with it whatever would wait.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One tick a second: the time that detection knows when nothing happens.
async fn tick(log: Arc<Log>, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = seconds.tick() => {}
        }
        match log.append(Group { tick: Some(clock.now_micros()), ..Group::default() }).await {
            // A tick that finds no room is late, not lost: the next one tells the time as well.
            Ok(_) | Err(LogError::Full { .. } | LogError::Overloaded { .. }) => {}
            Err(LogError::Closed) => return Ok(()),
            Err(error) => return Err(error).context("the log cannot be written"),
        }
    }
}

pub(crate) fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the data folder {}", folder.display()))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("another muster process holds the data folder {}", folder.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// The key under which credentials are hashed: 32 random bytes, made at the first start and kept in the data folder.
fn installation_key(folder: &Path) -> Result<[u8; KEY_BYTES]> {
    let path = key_path(folder);
    if path.exists() {
        return read_key(folder);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    write_private(&path, &key)?;
    Ok(key)
}

pub(crate) fn read_key(folder: &Path) -> Result<[u8; KEY_BYTES]> {
    let path = key_path(folder);
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{} does not hold {KEY_BYTES} bytes", path.display()))
}

/// The detectors' hash key, from the installation's.
fn hash_key(key: &[u8; KEY_BYTES]) -> [u64; 2] {
    let half = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().expect("eight bytes"));
    [half(0), half(8)]
}

pub(crate) fn key_path(folder: &Path) -> PathBuf {
    folder.join("installation.key")
}
