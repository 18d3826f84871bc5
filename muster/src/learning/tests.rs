//! Learning from the lake comes to the very bytes that streaming comes to.

use std::sync::Arc;

use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::files::{Files, Wholes};
use lake::log::{Group, Log, LogConfig, Payload};
use lake::tables::LakeConfig;
use schemas::ledger::LedgerRow;
use schemas::{EventRow, alert, id};

use super::*;
use crate::detection::memory::{Memory, parts};
use crate::detection::samples::{self, START};
use crate::detection::{self, Detection};

const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;
const AGENTS: i64 = 8;

/// A backfill: some days of work, received in order, about four events a second.
struct Backfill {
    received_at: i64,
}

impl Backfill {
    fn row(&mut self, agent: i64, time: i64, call: (&str, &str)) -> EventRow {
        self.received_at += 260_000;
        // Some were received before what stands before them.
        let late = if time.rem_euclid(7) == 3 { 3 * SECOND_MICROS } else { 0 };
        EventRow { received_at: self.received_at - late, door: "file".into(), ..samples::row(agent, time, call) }
    }

    /// Two days of an agent come together, the last agent first: they arrive in another order than that of time.
    fn days(&mut self, days: std::ops::Range<i64>) -> Vec<EventRow> {
        let mut rows = Vec::new();
        let pairs = days.step_by(2).flat_map(|day| (0..AGENTS).rev().map(move |agent| (day, agent)));
        for (day, agent) in pairs.flat_map(|(day, agent)| [(day, agent), (day + 1, agent)]) {
            let time = START + day * DAY_MICROS + agent * 3_600 * SECOND_MICROS + day % 10;
            for (n, call) in [("list", "read"), ("get", "read"), ("note", "write")].into_iter().enumerate() {
                rows.push(self.row(agent, time + n as i64 * SECOND_MICROS, call));
            }
            if day % 12 == 11 && agent % 3 == 0 {
                rows.push(self.row(agent, time + 5 * SECOND_MICROS, ("wipe", "delete")));
            }
        }
        rows
    }
}

/// A log that is judged live, with a tick at every whole second that passes.
struct Live {
    log: Arc<Log>,
    second: i64,
}

impl Live {
    async fn stream(&mut self, rows: &[EventRow]) {
        let mut waiting: Vec<&EventRow> = Vec::new();
        for row in rows {
            if row.received_at / SECOND_MICROS > self.second || waiting.len() == 5 {
                self.append(std::mem::take(&mut waiting)).await;
                self.pass(row.received_at / SECOND_MICROS).await;
            }
            waiting.push(row);
        }
        self.append(waiting).await;
    }

    async fn append(&self, rows: Vec<&EventRow>) {
        if rows.is_empty() {
            return;
        }
        let mapped = rows.len() as i64;
        let ledger = Some(LedgerRow { received: mapped, mapped, events: mapped, ..LedgerRow::default() });
        let group = Group { events: Some(event::batch(rows)), ledger, ..Group::default() };
        self.log.append(group).await.unwrap();
    }

    async fn pass(&mut self, second: i64) {
        let from = if self.second == 0 { second } else { self.second };
        for now in from + 1..=second {
            self.log.append(Group { tick: Some(now * SECOND_MICROS), ..Group::default() }).await.unwrap();
        }
        self.second = self.second.max(second);
    }

    async fn judge(&self, alert_id: &str, judgement: Judgement, time: i64) {
        let row = VerdictRow {
            time,
            event_day: id::day(time),
            tenant: "acme".into(),
            alert_id: alert_id.into(),
            verdict: judgement.name().into(),
            ..VerdictRow::default()
        };
        let control = Some(judgement.control("acme", alert_id));
        let group = Group { control, verdicts: Some(verdict::batch([&row])), ..Group::default() };
        self.log.append(group).await.unwrap();
    }

    async fn stop(&self, agent: &str, time: i64) {
        let step = OrderRow {
            order_id: "stopped".into(),
            time,
            event_day: id::day(time),
            tenant: "acme".into(),
            target_kind: "agent".into(),
            target_id: agent.into(),
            state: "executed".into(),
            ..OrderRow::default()
        };
        self.log.append(Group { orders: Some(order::batch([&step])), ..Group::default() }).await.unwrap();
    }

    fn alerts(&self) -> Vec<AlertRow> {
        let (mut alerts, mut next) = (Vec::new(), 0);
        while next < self.log.end(0) {
            for frame in self.log.read(0, next, 1 << 20).unwrap() {
                next = frame.offset + 1;
                let Payload::Alerts(batch) = &frame.payload else { continue };
                let rows = alert::Alerts::new(batch).unwrap();
                alerts.extend((0..batch.num_rows()).map(|row| rows.row(row)));
            }
        }
        alerts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lake_teaches_what_the_stream_taught() {
    let files: Arc<dyn Files> = Arc::new(SimFiles::new());
    let (clock, groups) = (Clock::manual(START), [lake::tables::GROUP, detection::GROUP]);
    let opened = Log::open(files.clone(), "log".into(), &LogConfig::default(), clock.clone(), &groups);
    let (log, _) = opened.unwrap();
    let lake = Lake::open_folder(files.clone(), "lake".into(), log.clone(), clock, LakeConfig::default());
    let lake = lake.await.unwrap();
    let config = detect::Config { hash_key: [7, 9], ..detect::Config::default() };
    let kept = Wholes::in_folder(files.clone(), "detect".into(), Clock::manual(START));
    let (memory, share) = (Memory::new(kept.clone(), &log), log.join(detection::GROUP).unwrap());
    let detection = Detection::open(log.clone(), None, share, memory.clone(), &config, 50).await.unwrap();
    let (progress, runtime) = (detection.progress(), tokio::runtime::Handle::current());
    let judging = tokio::task::spawn_blocking(move || detection.run(&runtime));

    let mut backfill = Backfill { received_at: START + 100 * DAY_MICROS };
    let mut live = Live { log: log.clone(), second: 0 };
    let first = backfill.days(0..24);
    live.stream(&first).await;
    while progress.lock().unwrap().behind(&log.ends()) > 0 {
        tokio::task::yield_now().await;
    }
    lake.flush().await.unwrap();
    let raised: Vec<AlertRow> = live.alerts().into_iter().filter(|alert| alert.tenant == "acme").collect();
    assert!(raised.len() >= 2, "there is something to judge: {raised:?}");
    backfill.received_at += 30 * SECOND_MICROS;
    live.pass(backfill.received_at / SECOND_MICROS).await;
    for (alert, judgement) in [(&raised[0], Judgement::Dismissed), (&raised[1], Judgement::Confirmed)] {
        live.judge(&alert.alert_id, judgement, backfill.received_at).await;
    }
    live.stop("agent-1", backfill.received_at).await;
    let second = backfill.days(24..40);
    live.stream(&second).await;
    lake.flush().await.unwrap();
    log.close();
    judging.await.unwrap().unwrap();

    let streamed = kept.file("engine.snapshot").read().await.unwrap().unwrap();
    let (_, _, streamed) = parts(&streamed).unwrap();
    let spill = tempfile::tempdir().unwrap();
    let span = |to| Span { from: None, to, spill: spill.path().to_owned(), memory_bytes_max: 64 << 20 };
    let query = QueryConfig::default();
    let said = controls(&lake, &query, &span(None)).await.unwrap();
    let (engine, learned) = learn(&lake, &query, &span(None), Engine::new(&config), said).await.unwrap();
    assert_eq!((learned.events, learned.controls), ((first.len() + second.len()) as u64, 3));
    assert!(learned.alerts >= raised.len() as u64);
    assert!(engine.snapshot() == streamed, "the states differ");
    let (unsaid, _) = learn(&lake, &query, &span(None), Engine::new(&config), Vec::new()).await.unwrap();
    assert!(unsaid.snapshot() != streamed, "the verdicts taught something");

    let to = Some(id::day(START) + 19);
    let (_, fewer) = learn(&lake, &query, &span(to), Engine::new(&config), Vec::new()).await.unwrap();
    assert_eq!(fewer.events, first.iter().filter(|row| row.event_day <= id::day(START) + 19).count() as u64);
}
