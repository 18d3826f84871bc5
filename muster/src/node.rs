//! One Muster process: the data folder, opened and held, with its roles running in it.
//!
//! `serve`, `demo` and `ingest` go through [`Node::open`], so there is one wiring; questions only need the [`Store`].
//! A role that fails poisons the process: [`Node::failed`] resolves, and the caller stops everything.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ingest::inventory::Inventory;
use ingest::kafka::DoorStatus;
use ingest::{InForce, Ingest, Sources};
use lake::clock::Clock;
use lake::files::{Disk, Files, Wholes};
use lake::log::{Group, KafkaLogConfig, Log, LogConfig, LogError, Positions, Share};
use lake::tables::{Lake, LakeError};
use query::Query;
use respond::Responder;
use respond::signer::Signer;
use schemas::Catalogue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::ingest::{load_catalogue, load_registry, load_sources};
use crate::config::{self, Config, resolve_kafka, resolve_secrets};
use crate::detection::exchange::MESSAGE_BYTES_MAX;
use crate::detection::memory::Memory;
use crate::detection::{self, Detection, Shown};
use crate::gaps;
use crate::metrics::Metrics;
use crate::role::Role;
use crate::tokens::write_private;

const CONTROL_SEGMENT_BYTES_MAX: u64 = 4 << 20;
/// The file that keeps room on the disk.
const RESERVE: &str = "reserve";
/// What stands there for the data folder itself.
const IN_FOLDER: &str = "the data folder";
/// The file that says where the lake is.
const PLACE: &str = "lake.place";
/// Where the doors of Kafka keep how far they have read.
const DOORS: &str = "doors";
const KEY_BYTES: usize = 32;

/// The data folder, opened and held: log, tables, SQL. Enough for questions; nothing runs in it.
pub(crate) struct Store {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<Log>,
    pub(crate) lake: Arc<Lake>,
    pub(crate) query: Arc<Query>,
    pub(crate) files: Arc<dyn Files>,
    /// The detectors' memory, where the lake is.
    pub(crate) memory: Memory,
    key: [u8; KEY_BYTES],
    /// Held while the process lives: two processes on one folder would both own the log.
    _lock: File,
}

/// The open data folder and the roles at work.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) responder: Arc<Responder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) control: Arc<Log>,
    /// The topics that are read.
    doors: Mutex<Vec<Arc<Mutex<DoorStatus>>>>,
    /// Held by the one redrive that runs.
    pub(crate) redriving: tokio::sync::Mutex<()>,
    /// None without the role.
    detected: Option<Shown>,
    /// Where detectors of several processes meet.
    exchange: Option<Arc<Log>>,
    failed: Arc<watch::Sender<Option<String>>>,
    failure: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    /// The roles that write to the log, and end before it is closed.
    writing: tokio::sync::Mutex<JoinSet<()>>,
    /// The roles that read the log, and end when it is closed.
    reading: tokio::sync::Mutex<JoinSet<()>>,
}

/// How far a role is: one past the last frame that it took, and the frames that it has still to take.
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) behind: u64,
    pub(crate) position: Positions,
}

impl std::ops::Deref for Node {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Store {
    /// Opens the data folder, making it if it does not exist. Fails at once where another process holds it.
    pub(crate) async fn open(config: Config, clock: Clock) -> Result<Store> {
        let folder = config.data.folder.clone();
        make_private(&folder)?;
        let lock = lock(&folder)?;
        let files: Arc<dyn Files> = Arc::new(Disk::default());
        let mut groups = vec![lake::tables::GROUP, detection::GROUP, respond::MAIN_GROUP];
        groups.extend((!config.ingest.kafka.is_empty()).then_some(ingest::kafka::GROUP));
        let log = open_log(&config, &files, &clock, &groups).await?;
        let (keeper, reserve, bytes) = (log.clone(), folder.join(RESERVE), config.data.reserve_bytes);
        tokio::task::spawn_blocking(move || keeper.keep_reserve(reserve, bytes)).await?;
        let key = installation_key(&folder)?;
        let (lake, memory) = open_lake(&config, &key, &files, &log, &clock).await?;
        let query = Query::new(lake.clone(), clock.clone(), config.query.clone())?;
        Ok(Store { config, clock, log, lake, query, files, memory, key, _lock: lock })
    }

    /// The detectors' configuration, with the key of this installation.
    pub(crate) fn detect_config(&self, catalogue: Catalogue) -> detect::Config {
        detect::Config { hash_key: hash_key(&self.key), catalogue, ..self.config.detect.clone() }
    }

    /// Where the detectors of several processes meet; none where the log is one process's alone.
    pub(crate) async fn exchange(&self) -> Result<Option<Arc<Log>>> {
        let Some(kafka) = &self.config.log.kafka else { return Ok(None) };
        let message_bytes_max = kafka.message_bytes_max.max(MESSAGE_BYTES_MAX);
        let kafka = KafkaLogConfig { topic: exchange_topic(kafka), partitions: 1, message_bytes_max, ..kafka.clone() };
        let settings = LogConfig { duplicates_window: 0, kafka: Some(kafka), ..LogConfig::default() };
        let groups = [detection::GROUP];
        let config = Config { log: settings, ..self.config.clone() };
        open_log(&config, &self.files, &self.clock, &groups).await.map(Some)
    }

    /// One tenant's totals, as `muster status` and `/v1/status` show them.
    pub(crate) async fn status(&self, tenant: &str, sources: &Sources) -> Result<Value> {
        let lake = self.lake.status();
        Ok(json!({
            "tenant": tenant,
            "log": {"first": self.log.firsts(), "end": self.log.ends(), "disk_full": self.log.reserve_is_spent()},
            "roles": {"lake": {"position": lake.next, "behind": lake.behind, "error": lake.error}},
            "gaps": gaps::find(self, tenant, sources).await?,
            "keeping": self.lake.keep_status(),
            "ledger": self.query.sql(tenant, LEDGER).await?.rows_as::<Value>()?,
            "alerts": self.query.sql(tenant, ALERTS).await?.rows_as::<Value>()?,
            "precision": self.query.sql(tenant, PRECISION).await?.rows_as::<Value>()?,
            "orders": self.query.sql(tenant, ORDERS).await?.rows_as::<Value>()?,
            "inventory": self.query.sql(tenant, POLLS).await?.rows_as::<Value>()?,
        }))
    }
}

/// The lake, and beside it what the detectors remember: in the data folder, or in the bucket that the configuration names.
async fn open_lake(
    config: &Config,
    key: &[u8; KEY_BYTES],
    files: &Arc<dyn Files>,
    log: &Arc<Log>,
    clock: &Clock,
) -> Result<(Arc<Lake>, Memory)> {
    let (folder, lake) = (&config.data.folder, config.lake.clone());
    stay_in_place(folder, config.lake.url.as_deref().unwrap_or(IN_FOLDER))?;
    let Some(bucket) = config::bucket(&config.lake)? else {
        let memory = Memory::new(Wholes::in_folder(files.clone(), folder.join(detection::FOLDER), clock.clone()), log);
        let lake = Lake::open_folder(files.clone(), folder.join("lake"), log.clone(), clock.clone(), lake).await?;
        return Ok((lake, memory));
    };
    let owner = schemas::id::digest([&b"owner of a lake"[..], key]);
    let lake = Lake::open_bucket(&bucket, &owner, log.clone(), clock.clone(), lake).await;
    let lake = lake.with_context(|| format!("the lake in {bucket} cannot be opened"))?;
    Ok((lake, Memory::new(Wholes::in_bucket(&bucket, detection::FOLDER), log)))
}

/// What the log has let go is in the lake that it was written to: another lake would never get it. So the data folder knows
/// where its lake is.
fn stay_in_place(folder: &Path, wanted: &str) -> Result<()> {
    let path = folder.join(PLACE);
    let known = match std::fs::read_to_string(&path) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A version before this file had one place only.
            folder.join("lake").exists().then(|| IN_FOLDER.to_owned())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match known.as_deref().map(str::trim) {
        Some(known) if known == wanted => Ok(()),
        Some(known) => bail!(
            "the lake of {} is in {known}, but the configuration says {wanted}: what the log has let go would be missing \
             there. Copy it (docs/object-store.md), then write the new place into {}",
            folder.display(),
            path.display()
        ),
        None => std::fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display())),
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Its writer thread ends with it; everything acknowledged is durable already.
        self.log.close();
    }
}

impl Node {
    /// Opens the data folder and starts the roles.
    pub(crate) async fn open(config: Config, clock: Clock) -> Result<Arc<Node>> {
        // What can be wrong with the configuration is found before anything runs.
        let sources = load_sources(&config)?;
        let registry = load_registry(&config, &sources)?;
        let catalogue = load_catalogue(&config)?;
        let respond = resolve_secrets(&config.respond)?;
        let store = Store::open(config, clock).await?;
        let Store { config, clock, log, files, key, .. } = &store;
        if config.server.has(Role::Respond) {
            let claiming = log.clone();
            let claimed = tokio::task::spawn_blocking(move || claiming.claim(Role::Respond.name())).await?;
            claimed.context("orders would be carried out twice: `server.roles` says what this process does")?;
        }
        let folder = &config.data.folder;
        // Orders are few and old ones are noted again: small segments, and no window of event ids to keep.
        let small = LogConfig {
            segment_bytes_max: CONTROL_SEGMENT_BYTES_MAX,
            duplicates_window: 0,
            kafka: None,
            ..config.log.clone()
        };
        let groups = [respond::CONTROL_GROUP];
        let (control, recovery) = Log::open(files.clone(), folder.join("control"), &small, clock.clone(), &groups)?;
        tracing::info!(?recovery, "the control log is open");
        let inventory = Arc::new(Inventory::new(config.inventory.clone(), log.clone(), clock.clone()));
        let mut ingest = Ingest::new(log.clone(), sources, clock.clone(), *key, &config.ingest);
        let responder = Responder::open(control.clone(), log.clone(), respond, clock.clone())?;
        responder.sign_with(Signer::from_pkcs8(&signing_key(folder)?)?);
        if let Some(registry) = registry {
            responder.deny().know(registry.clone());
            ingest = ingest.with_registry(registry);
        }
        let ingest = Arc::new(ingest);
        let (remembering, mut learned) = (ingest.clone(), ingest.remembers_from());
        let remembered = move || remembering.remember(&mut learned).map(|taught| (taught, learned));
        let (taught, learned) = tokio::task::spawn_blocking(remembered).await??;
        tracing::info!(taught, "what was said of tokens is learned again from the log");
        let detect = store.detect_config(catalogue);
        let budget = config.respond.alerts_day_max;
        let (mut detection, mut exchange) = (None, None);
        if config.server.has(Role::Detect) {
            exchange = store.exchange().await?;
            let (share, memory) = (log.join(detection::GROUP)?, store.memory.clone());
            let opened = Detection::open(log.clone(), exchange.clone(), share.clone(), memory, &detect, budget);
            detection = Some((opened.await?, share));
        }

        let (stop, _) = watch::channel(false);
        let (failed, failure) = watch::channel(None);
        let node = Arc::new(Node {
            exchange,
            detected: detection.as_ref().map(|(detection, _)| detection.progress()),
            metrics: Arc::new(Metrics::new(responder.counts())),
            writing: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            store,
            ingest,
            inventory,
            responder,
            control,
            doors: Mutex::default(),
            redriving: tokio::sync::Mutex::default(),
            failed: Arc::new(failed),
            failure,
            stop,
        });
        node.start(detection, learned).await?;
        Ok(node)
    }

    /// [`open`](Self::open), where there is a data folder: a question or a change must not make one.
    pub(crate) async fn open_existing(config: Config, clock: Clock) -> Result<Arc<Node>> {
        let folder = &config.data.folder;
        if !folder.exists() {
            bail!("there is no data folder {} yet: `muster serve` or `muster ingest` makes it", folder.display());
        }
        Node::open(config, clock).await
    }

    async fn start(&self, detection: Option<(Detection, Share)>, learned: Positions) -> Result<()> {
        let watched = |name, role| watched(self.failed.clone(), name, role);
        let stopped = || stopped(self.stop.subscribe());
        let mut writing = self.writing.lock().await;
        let has = |role| self.config.server.has(role);
        let (lake, stop) = (self.lake.clone(), stopped());
        if has(Role::Lake) {
            let share = self.log.join(lake::tables::GROUP)?;
            let role = async move { lake.run(share, stop).await.context("the lake writer failed") };
            writing.spawn(watched("lake", tokio::spawn(role)));
            let (lake, stop) = (self.lake.clone(), stopped());
            let role = async move {
                lake.keep_running(stop).await;
                Ok(())
            };
            writing.spawn(watched("keep", tokio::spawn(role)));
        } else {
            let role = async move {
                lake.follow(stop).await;
                Ok(())
            };
            writing.spawn(watched("lake", tokio::spawn(role)));
        }
        if has(Role::Respond) {
            let (responder, stop) = (self.responder.clone(), stopped());
            let role = async move { responder.run(stop).await.context("the responder failed") };
            writing.spawn(watched("respond", tokio::spawn(role)));
        }
        if has(Role::Ingest) && self.log.is_shared() {
            let (ingest, stop) = (self.ingest.clone(), stopped());
            let role =
                async move { ingest.keep_remembering(learned, stop).await.context("tokens cannot be learned of") };
            writing.spawn(watched("tokens", tokio::spawn(role)));
        }

        let poll_secs = self.config.ingest.sources_poll_secs;
        if self.config.ingest.sources_folder.is_some() && poll_secs > 0 {
            let role = reload(self.ingest.clone(), Duration::from_secs(poll_secs), self.stop.subscribe());
            writing.spawn(watched("sources", tokio::spawn(role)));
        }

        let mut reading = self.reading.lock().await;
        if let Some((detection, share)) = detection {
            let ticking = tick(self.log.clone(), self.clock.clone(), share, self.stop.subscribe());
            writing.spawn(watched("tick", tokio::spawn(ticking)));
            let runtime = tokio::runtime::Handle::current();
            reading.spawn(watched("detect", tokio::task::spawn_blocking(move || detection.run(&runtime))));
        }
        let (metrics, log) = (self.metrics.clone(), self.log.clone());
        let role = async move { metrics.follow(log).await.context("the metrics failed") };
        reading.spawn(watched("metrics", tokio::spawn(role)));
        Ok(())
    }

    /// Runs the inventory polls at their intervals until the node is stopped. A command that only opens the folder does not.
    pub(crate) async fn poll_inventory(&self) {
        let (inventory, stop) = (self.inventory.clone(), stopped(self.stop.subscribe()));
        self.writing.lock().await.spawn(async move {
            tokio::select! {
                () = inventory.serve() => {}
                () = stop => {}
            }
        });
    }

    /// Reads the topics of `[[ingest.kafka]]` until the node is stopped. A command that only opens the folder does not.
    pub(crate) async fn read_kafka(&self) -> Result<()> {
        let mut doors = self.config.ingest.kafka.clone();
        for door in &mut doors {
            resolve_kafka(&mut door.client).with_context(|| format!("the Kafka door `{}`", door.name))?;
        }
        let folder = self.config.data.folder.join(DOORS);
        let opened = ingest::kafka::open(&doors, &self.ingest, &self.log, &self.files, folder, &self.clock);
        let mut writing = self.writing.lock().await;
        for door in opened.await.context("a Kafka door cannot be opened")? {
            self.doors.lock().unwrap_or_else(PoisonError::into_inner).push(door.status());
            let stop = self.stop.subscribe();
            let role = move || door.run(|| *stop.borrow()).context("a Kafka door failed");
            writing.spawn(watched(self.failed.clone(), "kafka", tokio::task::spawn_blocking(role)));
        }
        Ok(())
    }

    /// How the tenant's topics stand.
    fn doors(&self, tenant: &str) -> Vec<DoorStatus> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let all = doors.iter().map(|door| door.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all.filter(|door| door.tenant == tenant).collect()
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
        if let Some(reason) = self.failure.borrow().as_ref() {
            return Err(reason.clone());
        }
        match self.lake.status().error {
            None => Ok(()),
            Some(error) => Err(format!("the lake cannot be written, and is tried again: {error}")),
        }
    }

    /// How far each role of this process is, in the sequences that are its own.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let (ends, has) = (self.log.ends(), |role| self.config.server.has(role));
        let lake = self.lake.status();
        let mut standings = vec![Standing { role: Role::Lake, behind: lake.behind, position: lake.next }];
        if let Some(shown) = &self.detected {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let (behind, position) = (shown.behind(&ends), shown.next().clone());
            standings.push(Standing { role: Role::Detect, behind, position });
        }
        if has(Role::Respond) {
            let position = self.responder.alerts_passed();
            standings.push(Standing { role: Role::Respond, behind: position.behind(&ends), position });
        }
        standings
    }

    /// Resolves when every role of this process has taken all that is in the log now, of its own sequences: tables written,
    /// alerts judged and handled. Says how many rows wait for other processes to write them to the tables; nothing where they
    /// are more than are read for it.
    pub(crate) async fn settle(&self) -> Result<Option<u64>> {
        let mut polls = tokio::time::interval(Duration::from_millis(5));
        // Alerts make frames of their own, so the responder's end is asked for when the detectors are done.
        if let Some(shown) = &self.detected {
            let end = self.log.ends();
            while shown.lock().unwrap_or_else(PoisonError::into_inner).behind(&end) > 0 {
                self.ready().map_err(anyhow::Error::msg)?;
                polls.tick().await;
            }
        }
        if self.config.server.has(Role::Respond) {
            let end = self.log.ends();
            while !self.responder.alerts_passed().reaches(&end) {
                self.ready().map_err(anyhow::Error::msg)?;
                polls.tick().await;
            }
        }
        self.lake.flush().await.context("the lake cannot be written")?;
        if !self.log.is_shared() {
            return Ok(Some(0));
        }
        match self.lake.snapshot().await {
            Ok(snapshot) => Ok(Some(snapshot.waiting_rows())),
            Err(LakeError::Behind { .. }) => Ok(None),
            Err(error) => Err(error).context("the log cannot be read"),
        }
    }

    /// The store's status and that of the roles.
    pub(crate) async fn status(&self, tenant: &str) -> Result<Value> {
        let mut status = self.store.status(tenant, &self.ingest.sources()).await?;
        for Standing { role, behind, position } in self.standings() {
            status["roles"][role.name()]["behind"] = behind.into();
            status["roles"][role.name()]["position"] = serde_json::to_value(position)?;
        }
        status["ready"] = self.ready().is_ok().into();
        status["kafka"] = serde_json::to_value(self.doors(tenant))?;
        status["sources"] = self.sources();
        status["tokens"] = serde_json::to_value(self.ingest.tokens())?;
        Ok(status)
    }

    /// The mappings in force, and what is wrong with files that are not.
    pub(crate) fn sources(&self) -> Value {
        let InForce { sources, broken, changes } = self.ingest.in_force();
        let sources: Vec<Value> = sources.iter().map(|mapping| crate::cli::sources::described(mapping)).collect();
        json!({"in_force": sources, "broken": broken, "changes": changes})
    }

    /// Stops the roles in order: those that write to the log end, the tables are written, the log is closed, those that
    /// read it end and save what they know.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        self.stop.send_replace(true);
        let mut writing = self.writing.lock().await;
        while writing.join_next().await.is_some() {}
        let flushed = self.lake.flush().await.context("the lake cannot be written");
        self.log.close();
        self.exchange.iter().for_each(|exchange| exchange.close());
        let mut reading = self.reading.lock().await;
        while reading.join_next().await.is_some() {}
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
/// Of the weeks in which an alert was judged, the newest.
const PRECISION: &str = "SELECT * FROM detector_precision WHERE judged > 0 ORDER BY week DESC, detector LIMIT 20";
const ORDERS: &str = "SELECT state, mode, count(*) AS orders FROM (SELECT state, mode, row_number() \
     OVER (PARTITION BY order_id ORDER BY step DESC) AS back FROM orders) WHERE back = 1 GROUP BY state, mode ORDER BY state";

/// The last run of each poll, and the last one that was complete.
pub(crate) const POLLS: &str = "SELECT poll, provider, last_value(outcome ORDER BY seen_at) AS outcome, max(seen_at) AS last_run, \
     max(seen_at) FILTER (WHERE outcome = 'complete') AS last_complete, \
     last_value(items ORDER BY seen_at) FILTER (WHERE outcome = 'complete') AS items, \
     last_value(reason ORDER BY seen_at) AS reason FROM inventory WHERE kind = 'run' GROUP BY poll, provider ORDER BY poll";

/// Waits for a role's end; a failure is the node's.
async fn watched(failed: Arc<watch::Sender<Option<String>>>, name: &'static str, role: JoinHandle<Result<()>>) {
    let reason = match role.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{name}: {error:#}"),
        Err(panic) => format!("{name} panicked: {panic}"),
    };
    tracing::error!("{reason}");
    failed.send_replace(Some(reason));
}

/// The log that the configuration names.
async fn open_log(config: &Config, files: &Arc<dyn Files>, clock: &Clock, groups: &[&'static str]) -> Result<Arc<Log>> {
    let Some(kafka) = &config.log.kafka else {
        let folder = config.data.folder.join("log");
        let (log, recovery) = Log::open(files.clone(), folder, &config.log, clock.clone(), groups)?;
        tracing::info!(?recovery, "the log is open");
        return Ok(log);
    };
    let mut kafka = kafka.clone();
    resolve_kafka(&mut kafka.client)?;
    let (settings, clock, groups) = (config.log.clone(), clock.clone(), groups.to_vec());
    let opening = tokio::task::spawn_blocking(move || Log::connect(&kafka, &settings, clock, &groups));
    let log = opening.await?.context("the log in Kafka cannot be opened")?;
    tracing::info!(first = %log.firsts(), end = %log.ends(), "the log in Kafka is open");
    Ok(log)
}

/// The topic where detectors meet.
pub(crate) fn exchange_topic(kafka: &KafkaLogConfig) -> String {
    format!("{}-ticks", kafka.topic)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the node is gone, and with it whatever would wait.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One tick a second: the time that detection knows when nothing happens. Of several processes the one that judges sequence 0
/// writes it.
async fn tick(log: Arc<Log>, clock: Clock, share: Share, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = seconds.tick() => {}
        }
        if !share.now().has(0) {
            continue;
        }
        match log.append(Group { tick: Some(clock.now_micros()), ..Group::default() }).await {
            // A tick that finds no room is late, not lost: the next one tells the time as well.
            Ok(_) => {}
            Err(error) if error.retry_helps() => tracing::debug!(%error, "a tick is late"),
            Err(LogError::Closed) => return Ok(()),
            Err(error) => return Err(error).context("the log cannot be written"),
        }
    }
}

/// Takes the user's mapping files anew when one changed.
async fn reload(ingest: Arc<Ingest>, every: Duration, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            _ = looks.tick() => {}
        }
        let looking = ingest.clone();
        let Some(after) = tokio::task::spawn_blocking(move || looking.reload()).await? else { continue };
        for mapping in after.sources.iter().filter(|mapping| !mapping.is_built_in()) {
            tracing::info!(source = mapping.name(), version = mapping.version(), file = mapping.file(), "in force");
        }
        for problem in &after.broken {
            tracing::error!("a mapping is broken, the one before it stays in force: {problem}");
        }
    }
}

pub(crate) fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    // A folder that was there, such as a mounted volume, may be open to others: raw records are not for them.
    let closed = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    closed.with_context(|| format!("cannot close the data folder {} to other users", folder.display()))
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

/// The key that signs what others hold or pass on: made at the first start and kept in the data folder.
fn signing_key(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join("signing.key");
    if path.exists() {
        return std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    }
    let key = Signer::generate()?;
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
