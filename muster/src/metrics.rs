//! Metrics in OpenMetrics form. Counters are read from the log's own frames, so that they tell what is durable. They are the
//! process's: no label names a tenant.

use std::sync::Arc;

use lake::log::{Frame, Log, LogError, Payload};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use schemas::ledger::Ledger;
use schemas::{alert, inventory, order, verdict};

use crate::node::Node;

/// So many mistakes in mapping files are told one by one.
const BROKEN_MAX: usize = 50;
const READ_BYTES_MAX: usize = 8 << 20;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Admission {
    door: String,
    source: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Detector {
    detector: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Judged {
    detector: String,
    verdict: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Poll {
    poll: String,
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Broken {
    file: String,
    line: u64,
    key: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fate {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Role {
    role: &'static str,
}

/// All metrics of the process.
pub(crate) struct Metrics {
    registry: Registry,
    records: Family<Admission, Counter>,
    alerts: Family<Detector, Counter>,
    verdicts: Family<Judged, Counter>,
    orders: Family<State, Counter>,
    polls: Family<Poll, Counter>,
    log_end: Gauge,
    lake_failing: Gauge,
    behind: Family<Role, Gauge>,
    sources_changed: Gauge,
    sources_broken: Family<Broken, Gauge>,
    tokens_remembered: Gauge,
    tokens: Family<Fate, Gauge>,
    kept: Family<Fate, Gauge>,
    keep_failing: Gauge,
    holds: Gauge,
    disk_full: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let (records, alerts, orders) = (Family::default(), Family::default(), Family::default());
        let (polls, verdicts) = (Family::default(), Family::default());
        let (log_end, lake_failing, behind) = (Gauge::default(), Gauge::default(), Family::default());
        let (sources_changed, sources_broken) = (Gauge::default(), Family::default());
        let (tokens_remembered, tokens) = (Gauge::default(), Family::default());
        let mut registry = Registry::with_prefix("muster");
        registry.register("records", "Records since start, by result of admission", records.clone());
        registry.register("alerts", "Alerts since start", alerts.clone());
        registry.register("verdicts", "Verdicts of persons on alerts since start", verdicts.clone());
        registry.register("order_steps", "Steps of orders since start, by the state they led to", orders.clone());
        registry.register("inventory_runs", "Runs of inventory polls since start, by outcome", polls.clone());
        registry.register("log_end", "Offset of the next frame of the log", log_end.clone());
        registry.register("lake_failing", "1 while the last write to the lake failed", lake_failing.clone());
        registry.register("frames_behind", "Frames of the log that a role has not yet passed", behind.clone());
        let help = "Times since start that mapping files changed";
        registry.register("sources_changed", help, sources_changed.clone());
        let help = "1 for each mistake in a mapping file that is not in force";
        registry.register("sources_broken", help, sources_broken.clone());
        registry.register("tokens_remembered", "Tokens whose issuance is remembered", tokens_remembered.clone());
        let help =
            "Since start: events filled from a token's issuance, token ids in conflict, tokens forgotten for room";
        registry.register("tokens", help, tokens.clone());
        let (kept, keep_failing, holds) = (Family::default(), Gauge::default(), Gauge::default());
        let help = "Since start: files merged, files made of them, rows expired, rows erased, files cleared away";
        registry.register("kept", help, kept.clone());
        registry.register("keep_failing", "1 while the last pass of keeping failed", keep_failing.clone());
        registry.register("holds", "Legal holds", holds.clone());
        let disk_full = Gauge::default();
        let help = "1 while appends are refused because the disk is full and its reserve in use";
        registry.register("disk_full", help, disk_full.clone());
        Metrics {
            registry,
            records,
            alerts,
            verdicts,
            orders,
            polls,
            log_end,
            lake_failing,
            behind,
            sources_changed,
            sources_broken,
            tokens_remembered,
            tokens,
            kept,
            keep_failing,
            holds,
            disk_full,
        }
    }

    /// The text of `/metrics`, with gauges as they stand.
    pub(crate) fn text(&self, node: &Node) -> String {
        let end = node.log.end();
        self.log_end.set(end as i64);
        self.lake_failing.set(node.lake.status().error.is_some().into());
        for (role, position) in node.positions() {
            self.behind.get_or_create(&Role { role }).set(end.saturating_sub(position) as i64);
        }
        self.set_sources(node);
        self.set_keeping(node);
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }

    fn set_sources(&self, node: &Node) {
        let in_force = node.ingest.in_force();
        self.sources_changed.set(in_force.changes as i64);
        self.sources_broken.clear();
        for problem in in_force.broken.into_iter().take(BROKEN_MAX) {
            let labels = Broken { file: problem.file, line: problem.line as u64, key: problem.key };
            self.sources_broken.get_or_create(&labels).set(1);
        }
        let counts = node.ingest.tokens();
        self.tokens_remembered.set(counts.entries as i64);
        for (result, count) in
            [("joined", counts.joined), ("conflict", counts.conflicts), ("forgotten", counts.evicted)]
        {
            self.tokens.get_or_create(&Fate { result }).set(count as i64);
        }
    }

    fn set_keeping(&self, node: &Node) {
        let status = node.lake.keep_status();
        let total = status.total;
        for (result, count) in [
            ("merged_files", total.merged_files),
            ("merged_into", total.merged_into),
            ("expired_rows", total.removed_rows),
            ("erased_rows", status.erased_rows),
            ("vacuumed_files", total.vacuumed_files),
        ] {
            self.kept.get_or_create(&Fate { result }).set(count as i64);
        }
        self.keep_failing.set(status.error.is_some().into());
        self.holds.set(status.holds as i64);
        self.disk_full.set(node.log.reserve_is_spent().into());
    }

    /// Counts frames as they become durable, until the log closes.
    pub(crate) async fn follow(self: Arc<Self>, log: Arc<Log>) -> Result<(), LogError> {
        let mut position = log.end();
        loop {
            match log.wait(position).await {
                Ok(_) => {}
                Err(LogError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
            let frames = match log.read(position, READ_BYTES_MAX) {
                // Too far behind: what is gone is not counted.
                Err(LogError::Gone { first }) => {
                    position = first;
                    continue;
                }
                frames => frames?,
            };
            for frame in frames {
                self.count(&frame);
                position = frame.offset + 1;
            }
        }
    }

    fn count(&self, frame: &Frame) {
        match &frame.payload {
            Payload::Ledger(batch) => {
                let Ok(ledger) = Ledger::new(batch) else { return };
                for row in (0..batch.num_rows()).map(|i| ledger.row(i)) {
                    let counts = [
                        ("mapped", row.mapped),
                        ("noise", row.noise),
                        ("quarantined", row.quarantined),
                        ("duplicate", row.duplicates),
                        // A correction counts a record out of quarantine; counters only grow.
                        ("redriven", (-row.quarantined).max(0)),
                    ];
                    for (result, count) in counts {
                        let labels = Admission { door: row.door.clone(), source: row.source.clone(), result };
                        self.records.get_or_create(&labels).inc_by(u64::try_from(count).unwrap_or(0));
                    }
                }
            }
            Payload::Alerts(batch) => {
                let Ok(alerts) = alert::Alerts::new(batch) else { return };
                for i in 0..batch.num_rows() {
                    let labels = Detector { detector: alerts.detector.value(i).into() };
                    self.alerts.get_or_create(&labels).inc();
                }
            }
            Payload::Verdicts(batch) => {
                let Ok(rows) = verdict::Verdicts::new(batch) else { return };
                for row in (0..batch.num_rows()).map(|i| rows.row(i)) {
                    let labels = Judged { detector: row.detector, verdict: row.verdict };
                    self.verdicts.get_or_create(&labels).inc();
                }
            }
            Payload::Orders(batch) => {
                let Ok(orders) = order::Orders::new(batch) else { return };
                for i in 0..batch.num_rows() {
                    let labels = State { state: orders.state.value(i).into() };
                    self.orders.get_or_create(&labels).inc();
                }
            }
            Payload::Inventory(batch) => {
                let Ok(rows) = inventory::Inventory::new(batch) else { return };
                for i in (0..batch.num_rows()).filter(|i| rows.kind.value(*i) == "run") {
                    let labels = Poll { poll: rows.poll.value(i).into(), outcome: rows.outcome.value(i).into() };
                    self.polls.get_or_create(&labels).inc();
                }
            }
            Payload::Events(_) | Payload::Quarantine(_) | Payload::Control(_) | Payload::Tick(_) => {}
        }
    }
}
