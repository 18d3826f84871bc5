//! The control log: where every step is written first, and from where each step is mirrored to the main log once.
//!
//! A group holds the rows of table `orders` and a note: the orders as they are after those rows, a receiver's stream, or how far the main log was
//! handled. The last note about an order is its state. When the log grew by [`KEEP_FRAMES`] all orders are noted again, and what
//! lies before is released.
//!
//! Mirroring once: what was mirrored is remembered only now and then, so after a restart the rows that the main log already
//! holds, from the remembered position on, are read back and left out. An hour in which only time passes is not remembered:
//! reading it again costs less than a note every few seconds would.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use lake::log::{Frame, Group, Log, Payload, Positions};
use schemas::OrderRow;
use schemas::order::Orders;
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use crate::activity::Activity;
use crate::arming::Arming;
use crate::error::Error;
use crate::order::Order;
use crate::responder::{Followed, Responder};
use crate::stream::Stream;

/// The group for which the control log retains.
pub const CONTROL_GROUP: &str = "orders";
/// The group for which the main log retains.
pub const MAIN_GROUP: &str = "respond";

pub(crate) const READ_BYTES_MAX: usize = 4 << 20;
pub(crate) const KEEP_FRAMES: u64 = 10_000;
const KEEP_ORDERS: usize = 100;
/// The main log's frames that a restart reads again at most, although they say nothing to the responder.
const REREAD_FRAMES_MAX: u64 = 10_000;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    orders: Vec<Order>,
    arming: Vec<Arming>,
    streams: Vec<Stream>,
    position: Option<Position>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Position {
    /// Frames of the main log below this are handled.
    alerts_passed: Positions,
    /// Frames of the control log below this are mirrored.
    mirrored: u64,
    /// Active agents of each tenant.
    active: BTreeMap<String, u64>,
}

#[derive(Default)]
pub(crate) struct Mirror {
    /// Frames of the control log below this are mirrored.
    next: u64,
    /// The position that was remembered last.
    flushed: Position,
    /// Steps that the main log holds although the remembered position does not say so.
    there: HashSet<(String, i32)>,
}

/// All frames from `from` to the end that are there, in order.
fn each_frame(log: &Log, from: &Positions, mut take: impl FnMut(&Frame) -> Result<(), Error>) -> Result<(), Error> {
    let mut next = log.firsts();
    next.pass_all(from);
    while !next.reaches(&log.ends()) {
        let frames: Vec<Arc<Frame>> = log.read_all(&next, READ_BYTES_MAX)?;
        for frame in &frames {
            take(frame)?;
            next.pass(frame.sequence, frame.offset + 1);
        }
    }
    Ok(())
}

fn order_rows(frame: &Frame) -> Result<Vec<OrderRow>, Error> {
    let Payload::Orders(batch) = &frame.payload else { return Ok(Vec::new()) };
    let orders = Orders::new(batch)?;
    Ok((0..batch.num_rows()).map(|row| orders.row(row)).collect())
}

impl Responder {
    /// Makes all state again from the control log.
    pub(crate) fn rebuild(&self, now: i64) -> Result<(), Error> {
        let mut position = Position { alerts_passed: self.main.firsts(), ..Position::default() };
        each_frame(&self.control, &Positions::default(), |frame| {
            let Payload::Control(value) = &frame.payload else { return Ok(()) };
            let unreadable = |error: serde_json::Error| Error::Note { offset: frame.offset, reason: error.to_string() };
            let note = Note::deserialize(value).map_err(unreadable)?;
            position = note.position.unwrap_or(std::mem::take(&mut position));
            for order in note.orders {
                self.deny.apply(&order, frame.offset + 1);
                self.book().put(order);
            }
            self.armings().extend(note.arming.into_iter().map(|arming| (arming.tenant.clone(), arming)));
            note.streams.into_iter().for_each(|stream| self.know_stream(stream));
            Ok(())
        })?;
        // At least what any earlier run said, so that a version never goes back.
        self.deny.raise(self.control.end(0));
        let mut there = HashSet::new();
        each_frame(&self.main, &position.alerts_passed, |frame| {
            there.extend(order_rows(frame)?.into_iter().map(|row| (row.order_id, row.step)));
            Ok(())
        })?;
        *self.mirror.try_lock().expect("nobody else has it yet") =
            Mirror { next: position.mirrored, flushed: position.clone(), there };
        *self.followed() = Followed { passed: position.alerts_passed, news: Positions::default() };
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = Activity::new(position.active, now);
        self.kept_at.store(self.control.first(0), Ordering::SeqCst);
        self.main.passed(MAIN_GROUP, &self.alerts_passed());
        Ok(())
    }

    /// Makes steps durable, then applies them.
    pub(crate) async fn write(
        &self,
        writing: &MutexGuard<'_, ()>,
        orders: Vec<Order>,
        rows: Vec<OrderRow>,
    ) -> Result<(), Error> {
        self.write_armed(writing, orders, Vec::new(), rows).await
    }

    /// The same, with changes of what may act unattended.
    pub(crate) async fn write_armed(
        &self,
        _writing: &MutexGuard<'_, ()>,
        orders: Vec<Order>,
        arming: Vec<Arming>,
        rows: Vec<OrderRow>,
    ) -> Result<(), Error> {
        let note = Note { orders, arming, ..Note::default() };
        let group = Group {
            orders: (!rows.is_empty()).then(|| schemas::order::batch(&rows)),
            control: Some(value(&note)),
            ..Group::default()
        };
        let end = self.control.append(group).await?.end;
        for order in note.orders {
            self.deny.apply(&order, end);
            self.book().put(order);
        }
        self.armings().extend(note.arming.into_iter().map(|arming| (arming.tenant.clone(), arming)));
        self.woken.notify_one();
        Ok(())
    }

    /// Makes what a receiver says of its stream durable, then applies it.
    pub(crate) async fn write_stream(&self, _writing: &MutexGuard<'_, ()>, stream: Stream) -> Result<(), Error> {
        let note = Note { streams: vec![stream.clone()], ..Note::default() };
        self.control.append(Group { control: Some(value(&note)), ..Group::default() }).await?;
        self.know_stream(stream);
        self.woken.notify_one();
        Ok(())
    }

    fn know_stream(&self, stream: Stream) {
        let key = (stream.tenant.clone(), stream.receiver.clone());
        if stream.deleted {
            self.feeds().remove(&key);
        } else {
            self.feeds().insert(key, stream);
        }
    }

    /// Brings the main log's `orders` up to the control log: each step once. Safe to repeat.
    pub async fn mirror(&self) -> Result<(), Error> {
        let mut mirror = self.mirror.lock().await;
        while mirror.next.max(self.control.first(0)) < self.control.end(0) {
            let frames = self.control.read(0, mirror.next.max(self.control.first(0)), READ_BYTES_MAX)?;
            let mut rows = Vec::new();
            for frame in &frames {
                rows.extend(order_rows(frame)?);
            }
            rows.retain(|row| !mirror.there.contains(&(row.order_id.clone(), row.step)));
            if !rows.is_empty() {
                let orders = Some(schemas::order::batch(&rows));
                self.main.append(Group { orders, ..Group::default() }).await?;
            }
            let Some(last) = frames.last() else { break };
            mirror.next = last.offset + 1;
        }
        // All that was found at start lies below now.
        mirror.there = HashSet::new();
        Ok(())
    }

    /// How far the control log is mirrored.
    pub(crate) async fn mirrored(&self) -> u64 {
        self.mirror.lock().await.next
    }

    /// Remembers how far the main log was handled and the control log mirrored, and lets the main log forget.
    pub async fn flush(&self) -> Result<(), Error> {
        self.remember(|position, flushed| position != flushed).await
    }

    /// The same where it is worth a note: alerts or orders were handled, or the main log is held back.
    pub async fn flush_news(&self) -> Result<(), Error> {
        self.remember(|position, flushed| {
            let (from, to) = (&flushed.alerts_passed, &position.alerts_passed);
            position.mirrored != flushed.mirrored
                || !from.reaches(&self.followed().news)
                || from.behind(to) >= REREAD_FRAMES_MAX
                || self.main.segment_begins(from, to)
        })
        .await
    }

    async fn remember(&self, worth: impl FnOnce(&Position, &Position) -> bool) -> Result<(), Error> {
        // Under the mirror's lock: what is not mirrored yet will be at or past the main log's end, so past `alerts_passed`.
        let mut mirror = self.mirror.lock().await;
        let active = self.activity.lock().unwrap_or_else(PoisonError::into_inner).counts();
        let alerts_passed = self.alerts_passed();
        let mut position = Position { alerts_passed: alerts_passed.clone(), mirrored: mirror.next, active };
        if !worth(&position, &mirror.flushed) {
            return Ok(());
        }
        let note = Note { position: Some(position.clone()), ..Note::default() };
        let end = self.control.append(Group { control: Some(value(&note)), ..Group::default() }).await?.end;
        self.main.passed(MAIN_GROUP, &alerts_passed);
        // Its own note alone is no news: without this an idle process would write one every time.
        if mirror.next + 1 == end {
            (mirror.next, position.mirrored) = (end, end);
        }
        mirror.flushed = position;
        Ok(())
    }

    /// Notes all orders again when the control log grew by `frames` since the last time, and lets it forget what lies before.
    pub async fn keep(&self, frames: u64) -> Result<(), Error> {
        if self.control.end(0) - self.kept_at.load(Ordering::SeqCst) < frames {
            return Ok(());
        }
        let start = self.note_all().await?;
        // In any case: the last note of the position may lie before `start`.
        self.remember(|_, _| true).await?;
        let passed = start.min(self.mirrored().await);
        self.control.passed(CONTROL_GROUP, &[passed].into_iter().collect());
        self.kept_at.store(start, Ordering::SeqCst);
        Ok(())
    }

    async fn note_all(&self) -> Result<u64, Error> {
        let _writing = self.writing.lock().await;
        let start = self.control.end(0);
        let orders: Vec<Order> = self.book().all().cloned().collect();
        let arming: Vec<Arming> = self.armings().values().cloned().collect();
        let streams: Vec<Stream> = self.feeds().values().cloned().collect();
        if !arming.is_empty() || !streams.is_empty() {
            let note = Note { arming, streams, ..Note::default() };
            self.control.append(Group { control: Some(value(&note)), ..Group::default() }).await?;
        }
        for orders in orders.chunks(KEEP_ORDERS) {
            let note = Note { orders: orders.to_vec(), ..Note::default() };
            self.control.append(Group { control: Some(value(&note)), ..Group::default() }).await?;
        }
        Ok(start)
    }
}

fn value(note: &Note) -> serde_json::Value {
    serde_json::to_value(note).expect("texts and numbers are JSON")
}
