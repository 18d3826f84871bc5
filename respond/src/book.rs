//! All orders in memory, as the control log has them: found by id, by target, and counted for the caps.
//!
//! Standing orders are kept until they end. Of those that ended the newest [`ENDED_MAX`] stay, so that a repeated alert finds
//! its order; older ones are in the lake.

use std::collections::{HashMap, VecDeque};

use crate::config::Mode;
use crate::order::{Order, State, Target};

/// Orders that ended (or only observe) kept in memory.
pub(crate) const ENDED_MAX: usize = 2000;
/// Orders that stand at once, all tenants together.
pub(crate) const STANDING_MAX: usize = 100_000;
const MINUTE_MICROS: i64 = 60_000_000;

#[derive(Default)]
pub(crate) struct Book {
    orders: HashMap<String, Order>,
    by_target: HashMap<(String, Target), Vec<String>>,
    /// Ids in the order in which they ended.
    ended: VecDeque<String>,
    /// Orders that acted: when, and for which tenant. Only the last minute counts.
    acted: VecDeque<(i64, String)>,
}

impl Book {
    /// Takes the newest state of an order.
    pub(crate) fn put(&mut self, order: Order) {
        let before = self.orders.get(&order.order_id);
        if before.is_none_or(|before| !before.ended()) && order.ended() {
            self.ended.push_back(order.order_id.clone());
        }
        if before.is_none() {
            let key = (order.tenant.clone(), order.target.clone());
            self.by_target.entry(key).or_default().push(order.order_id.clone());
            if order.mode == Mode::Act && !order.drill && order.state != State::Failed {
                self.acted.push_back((order.requested_at, order.tenant.clone()));
            }
        }
        self.orders.insert(order.order_id.clone(), order);
        self.evict();
    }

    fn evict(&mut self) {
        // One that still has to undo something goes back to the end of the queue; looked at once a turn, never for ever.
        for _ in 0..self.ended.len().saturating_sub(ENDED_MAX) {
            let Some(id) = self.ended.pop_front() else { return };
            let Some(order) = self.orders.get(&id) else { continue };
            if order.calls.iter().any(|call| call.next_at.is_some()) {
                self.ended.push_back(id);
                continue;
            }
            let key = (order.tenant.clone(), order.target.clone());
            if let Some(ids) = self.by_target.get_mut(&key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_target.remove(&key);
                }
            }
            self.orders.remove(&id);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Order> {
        self.orders.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Order> {
        self.orders.values()
    }

    pub(crate) fn standing(&self) -> usize {
        self.orders.len().saturating_sub(self.ended.len())
    }

    /// Orders against `target`, ended ones too.
    pub(crate) fn against<'a>(&'a self, tenant: &str, target: &Target) -> impl Iterator<Item = &'a Order> {
        let ids = self.by_target.get(&(tenant.to_owned(), target.clone()));
        ids.into_iter().flatten().filter_map(|id| self.orders.get(id))
    }

    /// How many orders of `tenant` acted in the minute before `now`.
    pub(crate) fn acted_last_minute(&mut self, tenant: &str, now: i64) -> usize {
        while self.acted.front().is_some_and(|(at, _)| now - at > MINUTE_MICROS) {
            self.acted.pop_front();
        }
        self.acted.iter().filter(|(at, whose)| now - at <= MINUTE_MICROS && whose == tenant).count()
    }
}
