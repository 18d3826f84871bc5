//! Metrics in OpenMetrics form. Counters are read from the log's own frames, so that they tell what is durable. They are the
//! process's: no label names a tenant.

use std::sync::Arc;

use lake::log::{Frame, Log, LogError, Payload, Positions};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{TypedMetric, counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Metric, Registry};
use respond::Counts;
use schemas::ledger::Ledger;
use schemas::{alert, inventory, order, verdict};

use crate::node::{Node, Standing};

/// So many mistakes in mapping files are told one by one.
const BROKEN_MAX: usize = 50;
/// Between two attempts to read.
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);
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
struct OfRole {
    role: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Stand {
    state: &'static str,
    mode: &'static str,
}

/// All metrics of the process.
pub(crate) struct Metrics {
    registry: Registry,
    list: Vec<Described>,
    records: Family<Admission, Counter>,
    alerts: Family<Detector, Counter>,
    verdicts: Family<Judged, Counter>,
    order_steps: Family<State, Counter>,
    orders: Family<Stand, Gauge>,
    deny_entries: Gauge,
    polls: Family<Poll, Counter>,
    log_end: Gauge,
    lake_failing: Gauge,
    behind: Family<OfRole, Gauge>,
    sources_changed: Gauge,
    sources_broken: Family<Broken, Gauge>,
    tokens_remembered: Gauge,
    tokens: Family<Fate, Gauge>,
    kept: Family<Fate, Gauge>,
    keep_failing: Gauge,
    holds: Gauge,
    disk_full: Gauge,
}

/// A metric as its page shows it.
struct Described {
    name: &'static str,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
}

impl Metrics {
    /// The one list of what there is; `acted` is what the responder counts.
    pub(crate) fn new(acted: &Counts) -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("muster"),
            list: Vec::new(),
            records: Family::default(),
            alerts: Family::default(),
            verdicts: Family::default(),
            order_steps: Family::default(),
            orders: Family::default(),
            deny_entries: Gauge::default(),
            polls: Family::default(),
            log_end: Gauge::default(),
            lake_failing: Gauge::default(),
            behind: Family::default(),
            sources_changed: Gauge::default(),
            sources_broken: Family::default(),
            tokens_remembered: Gauge::default(),
            tokens: Family::default(),
            kept: Family::default(),
            keep_failing: Gauge::default(),
            holds: Gauge::default(),
            disk_full: Gauge::default(),
        };
        let m = &mut metrics;
        m.show("records", "door, source, result", "Records since start, by result of admission", m.records.clone());
        m.show("alerts", "detector", "Alerts since start", m.alerts.clone());
        m.show("verdicts", "detector, verdict", "Verdicts of persons on alerts since start", m.verdicts.clone());
        m.show("order_steps", "state", "Steps of orders since start, by the state they led to", m.order_steps.clone());
        m.show("orders", "state, mode", "Orders that stand, and the newest of those that ended", m.orders.clone());
        let help = "Alerts handled since start, by what policy made of them";
        m.show("alerts_handled", "result", help, acted.alerts.clone());
        let help = "Attempts at switches since start: done, to be made again, given up";
        m.show("switch_attempts", "switch, outcome", help, acted.attempts.clone());
        let help = "Seconds from the step that asked for a call to the switch's word that it is done, repeats included";
        m.show("switch_call_seconds", "switch", help, acted.call_secs.clone());
        m.show(
            "escalations",
            "result",
            "Times since start that persons were to be told, by why",
            acted.escalations.clone(),
        );
        m.show("deny_entries", "", "Targets on the deny list", m.deny_entries.clone());
        m.show("deny_answers", "result", "Answers to gateways that asked since start", acted.answers.clone());
        m.show("inventory_runs", "poll, outcome", "Runs of inventory polls since start, by outcome", m.polls.clone());
        m.show(
            "log_end",
            "",
            "Offset of the next frame of the log; in Kafka the sum over its partitions",
            m.log_end.clone(),
        );
        m.show("lake_failing", "", "1 while the last write to the lake failed", m.lake_failing.clone());
        m.show("frames_behind", "role", "Frames of the log that a role has not yet passed", m.behind.clone());
        m.show("sources_changed", "", "Times since start that mapping files changed", m.sources_changed.clone());
        let help = "1 for each mistake in a mapping file that is not in force";
        m.show("sources_broken", "file, line, key", help, m.sources_broken.clone());
        m.show("tokens_remembered", "", "Tokens whose issuance is remembered", m.tokens_remembered.clone());
        let help =
            "Since start: events filled from a token's issuance, token ids in conflict, tokens forgotten for room";
        m.show("tokens", "result", help, m.tokens.clone());
        let help = "Since start: files merged, files made of them, rows expired, rows erased, files cleared away";
        m.show("kept", "result", help, m.kept.clone());
        m.show("keep_failing", "", "1 while the last pass of keeping failed", m.keep_failing.clone());
        m.show("holds", "", "Legal holds", m.holds.clone());
        let help = "1 while appends are refused because the disk is full and its reserve in use";
        m.show("disk_full", "", help, m.disk_full.clone());
        metrics
    }

    fn show<M: Metric + TypedMetric>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
        metric: M,
    ) {
        self.registry.register(name, help, metric);
        self.list.push(Described { name, kind: M::TYPE.as_str(), labels, help });
    }

    /// The page of all metrics.
    pub(crate) fn reference() -> String {
        let mut page = "# Metrics\n\nGenerated from the code; do not edit (`muster docs` writes it). `GET /metrics` tells them to a \
                        token with the verb `admin`, in OpenMetrics form. They are the process's: no label names a tenant.\n\n\
                        | metric | kind | labels | what |\n| --- | --- | --- | --- |\n"
            .to_owned();
        for Described { name, kind, labels, help } in Metrics::new(&Counts::default()).list {
            let end = if kind == "counter" { "_total" } else { "" };
            page.push_str(&format!("| `muster_{name}{end}` | {kind} | {labels} | {help} |\n"));
        }
        page
    }

    /// The text of `/metrics`, with gauges as they stand.
    pub(crate) fn text(&self, node: &Node) -> String {
        let end = node.log.ends();
        // Of all sequences together.
        self.log_end.set(Positions::default().behind(&end) as i64);
        self.lake_failing.set(node.lake.status().error.is_some().into());
        for Standing { role, behind, .. } in node.standings() {
            self.behind.get_or_create(&OfRole { role: role.name() }).set(behind as i64);
        }
        self.orders.clear();
        for ((state, mode), count) in node.responder.orders_by_state() {
            self.orders.get_or_create(&Stand { state, mode }).set(count as i64);
        }
        self.deny_entries.set(node.responder.deny().targets() as i64);
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
        let mut position = log.ends();
        loop {
            match log.wait(&position).await {
                Ok(_) => {}
                Err(LogError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
            let frames = match log.read_all(&position, READ_BYTES_MAX) {
                // Too far behind: what is gone is not counted.
                Err(LogError::Gone { .. }) => {
                    position.pass_all(&log.firsts());
                    continue;
                }
                // They are counted when the brokers answer again.
                Err(error) if error.retry_helps() => {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                frames => frames?,
            };
            for frame in frames {
                self.count(&frame);
                position.pass(frame.sequence, frame.offset + 1);
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
                    self.order_steps.get_or_create(&labels).inc();
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
