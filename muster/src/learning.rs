//! Learning from the lake: events in the order of their arrival go through the engine that judges live, time passing.
//!
//! Equal to streaming: the state is, byte for byte, what the engine comes to by the same frames of the log with a tick at
//! every whole second that passes, as `received_at` and the times of verdicts and orders tell it. A server's ticks are a
//! second apart too, but begin where the process began, stand still while none runs, and one may stand before an event
//! that was received earlier: what hangs on that is at which tick a session that ended joins what agents share, and when
//! one that is held back is let go. Of a silence only the last [`SILENCE_SECS_MAX`] are ticked. Control frames that leave no row (none is sent
//! today) are not repeated.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use detect::Engine;
use lake::tables::Lake;
use query::QueryConfig;
use query::history::{Span, arrivals};
use respond::budget::Budget;
use schemas::order::Orders;
use schemas::verdict::Verdicts;
use schemas::{AlertRow, Events, Judgement, OrderRow, VerdictRow, event, order, verdict};
use serde_json::Value;

use crate::cli::ingest::load_catalogue;
use crate::detection;
use crate::node::{Store, make_private};

/// Sorting in less would not begin.
const MEMORY_BYTES_MIN: usize = 64 << 20;
const SECOND_MICROS: i64 = 1_000_000;
/// Seconds without an event that are still ticked one by one: longer than anything the detectors wait for.
const SILENCE_SECS_MAX: i64 = 31 * 86_400;

/// The engine under way.
pub(crate) struct Learning {
    engine: Engine,
    /// Still to come.
    controls: VecDeque<Control>,
    /// The second that it is.
    second: Option<i64>,
    /// What was raised on the way; counted and dropped, since the lake has it.
    alerts: Vec<AlertRow>,
    pub(crate) learned: Learned,
}

/// What a person said or an order did, as detection obeys it: its place in the log, its time and the frame.
pub(crate) struct Control {
    pub(crate) offset: i64,
    pub(crate) time: i64,
    pub(crate) frame: Value,
}

/// What was learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) events: u64,
    /// Verdicts and steps of orders that meant something to the detectors.
    pub(crate) controls: u64,
    pub(crate) alerts: u64,
}

impl Learning {
    /// `controls` in the order of the log.
    pub(crate) fn new(engine: Engine, controls: Vec<Control>) -> Learning {
        Learning { engine, controls: controls.into(), second: None, alerts: Vec::new(), learned: Learned::default() }
    }

    /// Learns the next events, which are in the order of the log.
    pub(crate) fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let (mut begin, rows) = (0, batch.num_rows());
        let events = Events::new(batch)?;
        for row in 0..rows {
            let (offset, second) = (events.log_offset.value(row), events.received_at.value(row) / SECOND_MICROS);
            let controlled = self.controls.front().is_some_and(|control| control.offset < offset);
            if controlled || self.second.is_none_or(|now| second > now) {
                self.observe(&batch.slice(begin, row - begin))?;
                begin = row;
                self.control(offset);
                self.pass(second);
            }
        }
        self.observe(&batch.slice(begin, rows - begin))
    }

    /// The engine, after the control frames that came last.
    pub(crate) fn finish(mut self) -> (Engine, Learned) {
        self.control(i64::MAX);
        (self.engine, self.learned)
    }

    fn observe(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.engine.observe(batch, &mut self.alerts)?;
            self.learned.events += batch.num_rows() as u64;
            self.learned.alerts += self.alerts.len() as u64;
            self.alerts.clear();
        }
        Ok(())
    }

    fn control(&mut self, before: i64) {
        while let Some(control) = self.controls.pop_front_if(|control| control.offset < before) {
            self.pass(control.time / SECOND_MICROS);
            self.learned.controls += u64::from(self.engine.control(&control.frame));
        }
    }

    fn pass(&mut self, second: i64) {
        let from = self.second.unwrap_or(second).max(second.saturating_sub(SILENCE_SECS_MAX));
        for now in from + 1..=second {
            self.engine.tick(now * SECOND_MICROS, &mut self.alerts);
        }
        self.second = self.second.max(Some(second));
    }
}

/// Learns a span of days from the store's lake, and writes the snapshot from which a server goes on where the log ends.
/// Says how many agents are known now.
pub(crate) async fn run(store: &Store, from: Option<i32>, to: Option<i32>) -> Result<(usize, Learned)> {
    store.lake.flush().await.context("the lake cannot be written")?;
    let position = store.log.ends();
    let spill = store.config.data.folder.join(detection::FOLDER).join("spill");
    make_private(&spill)?;
    let engine = Engine::new(&store.detect_config(load_catalogue(&store.config)?));
    let memory_bytes_max = store.config.query.memory_bytes_max.max(MEMORY_BYTES_MIN);
    let span = Span { from, to, memory_bytes_max, spill };
    let (lake, query) = (&store.lake, &store.config.query);
    let done = match controls(lake, query, &span).await {
        Ok(controls) => learn(lake, query, &span, engine, controls).await,
        Err(error) => Err(error),
    };
    // It holds nothing once the sorting is done.
    let _ = std::fs::remove_dir_all(&span.spill);
    let (engine, learned) = done?;
    // Where several processes judge, what they handed over before is of no more use.
    let exchange = store.exchange().await?.map_or(0, |exchange| exchange.end(0));
    let (budget, all) = (Budget::default(), 0..store.log.sequences());
    let files = store.memory.files(&engine, &budget, &position, (store.clock.now_micros(), exchange), all)?;
    store.memory.write(files).await.context("what was learned cannot be stored")?;
    Ok((engine.agents(), learned))
}

/// All verdicts and steps of orders, whenever they came: what a person knows of an alert is worth no less for being said later.
async fn controls(lake: &Lake, config: &QueryConfig, span: &Span) -> Result<Vec<Control>> {
    let all = Span { from: None, to: None, ..span.clone() };
    let mut controls = Vec::new();
    let mut rows = arrivals(lake, config, &verdict::TABLE, &all).await?;
    while let Some(batch) = rows.next().await? {
        let verdicts = Verdicts::new(&batch)?;
        controls.extend((0..batch.num_rows()).filter_map(|row| Control::of_verdict(&verdicts.row(row))));
    }
    let mut rows = arrivals(lake, config, &order::TABLE, &all).await?;
    while let Some(batch) = rows.next().await? {
        let orders = Orders::new(&batch)?;
        controls.extend((0..batch.num_rows()).filter_map(|row| Control::of_order(&orders.row(row))));
    }
    // Each table came in order, and no frame holds rows of both.
    controls.sort_by_key(|control| control.offset);
    Ok(controls)
}

async fn learn(
    lake: &Lake,
    config: &QueryConfig,
    span: &Span,
    engine: Engine,
    controls: Vec<Control>,
) -> Result<(Engine, Learned)> {
    let mut learning = Learning::new(engine, controls);
    let mut rows = arrivals(lake, config, &event::TABLE, span).await?;
    while let Some(batch) = rows.next().await? {
        learning.take(&batch)?;
    }
    Ok(learning.finish())
}

impl Control {
    fn of_verdict(row: &VerdictRow) -> Option<Control> {
        let frame = Judgement::of_name(&row.verdict)?.control(&row.tenant, &row.alert_id);
        Some(Control { offset: row.log_offset, time: row.time, frame })
    }

    fn of_order(row: &OrderRow) -> Option<Control> {
        Some(Control { offset: row.log_offset, time: row.time, frame: detection::control_of(row)? })
    }
}

#[cfg(test)]
mod tests;
