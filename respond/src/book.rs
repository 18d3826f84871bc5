//! All orders in memory, as the control log has them: found by id, by target, and counted for the caps.
//!
//! Standing orders are kept until they end. Of those that ended the newest [`ENDED_MAX`] stay, so that a repeated alert finds
//! its order; older ones are in the lake. What is still to be done is kept apart, by time: among a hundred thousand orders that
//! stand, the few with something to do are found without a look at the others.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::config::Mode;
use crate::order::{Order, State, Target, mode_name};

/// Orders that ended (or only observe) kept in memory.
pub(crate) const ENDED_MAX: usize = 2000;
/// Orders that stand at once, all tenants together.
pub(crate) const STANDING_MAX: usize = 100_000;
const MINUTE_MICROS: i64 = 60_000_000;

#[derive(Default)]
pub(crate) struct Book {
    /// After how long without a sign an order is quiet.
    quiet_secs: u64,
    orders: HashMap<String, Order>,
    /// Ids of orders with calls to be made.
    calling: BTreeSet<String>,
    /// When time alone changes an order, and its id.
    deadlines: BTreeSet<(i64, String)>,
    /// How many there are, by state and mode.
    by_state: BTreeMap<(&'static str, &'static str), u64>,
    by_target: HashMap<(String, Target), Vec<String>>,
    /// Ids in the order in which they ended.
    ended: VecDeque<String>,
    /// Orders that acted: when, and for which tenant. Only the last minute counts.
    acted: VecDeque<(i64, String)>,
}

impl Book {
    pub(crate) fn new(quiet_secs: u64) -> Book {
        Book { quiet_secs, ..Book::default() }
    }

    /// Takes the newest state of an order.
    pub(crate) fn put(&mut self, order: Order) {
        self.forget_plans(&order.order_id);
        *self.by_state.entry(kind(&order)).or_default() += 1;
        if order.calls.iter().any(|call| call.next_at.is_some()) {
            self.calling.insert(order.order_id.clone());
        }
        if let Some(at) = order.deadline(self.quiet_secs) {
            self.deadlines.insert((at, order.order_id.clone()));
        }
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

    fn forget_plans(&mut self, id: &str) {
        let Some(order) = self.orders.get(id) else { return };
        self.calling.remove(id);
        if let Some(at) = order.deadline(self.quiet_secs) {
            self.deadlines.remove(&(at, id.to_owned()));
        }
        if let Some(count) = self.by_state.get_mut(&kind(order)) {
            *count -= 1;
        }
    }

    fn evict(&mut self) {
        // One that still has to undo something goes back to the end of the queue; looked at once a turn, never for ever.
        for _ in 0..self.ended.len().saturating_sub(ENDED_MAX) {
            let Some(id) = self.ended.pop_front() else { return };
            let Some(order) = self.orders.get(&id) else { continue };
            if self.calling.contains(&id) {
                self.ended.push_back(id);
                continue;
            }
            let key = (order.tenant.clone(), order.target.clone());
            self.forget_plans(&id);
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

    pub(crate) fn by_state(&self) -> &BTreeMap<(&'static str, &'static str), u64> {
        &self.by_state
    }

    /// Orders with calls to be made.
    pub(crate) fn calling(&self) -> impl Iterator<Item = &Order> {
        self.calling.iter().filter_map(|id| self.orders.get(id))
    }

    /// Ids of the orders that time alone changes, `now` or before.
    pub(crate) fn due(&self, now: i64) -> Vec<String> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| id.clone()).collect()
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

fn kind(order: &Order) -> (&'static str, &'static str) {
    (order.state.name(), mode_name(order.mode, order.drill))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [State::Requested, State::Executing, State::Executed, State::Released, State::Violated];

    fn order(random: &mut fastrand::Rng, id: usize) -> Order {
        let next_at = random.bool().then(|| random.i64(0..100));
        let (mode, state) = (["observe", "ask", "act"][random.usize(0..3)], STATES[random.usize(0..5)]);
        let text = serde_json::json!({
            "order_id": format!("{id:032x}"), "tenant": "acme", "target": {"kind": "agent", "agent": "a"}, "step": 1,
            "mode": mode, "requested_by": "p", "requested_at": 1, "reason": "r",
            "state": state, "log_partition": 0, "switches": [], "ended_at": null,
            "alert": {"id": "a", "detector": "d", "severity_id": 4, "title": "", "explanation": "", "agent_id": "a"},
            "expires_at": random.i64(0..100), "approve_until": random.i64(0..100), "effective_at": random.i64(0..100),
            "calls": [{"switch": "s", "act": "stop", "step": 1, "state": "executing", "asked_at": 1, "attempt": 1,
                "next_at": next_at, "done": false, "detail": null}],
        });
        serde_json::from_value(text).expect("is an order")
    }

    /// What is kept apart is what a look at every order would find.
    #[test]
    fn plans_are_those_of_the_orders_that_are_there() {
        let random = &mut fastrand::Rng::with_seed(7);
        let mut book = Book::new(0);
        for _ in 0..2000 {
            let id = random.usize(0..50);
            book.put(order(random, id));
            let now = random.i64(0..100);
            let mut due = book.due(now);
            let mut expected: Vec<String> =
                book.all().filter(|o| o.deadline(0).is_some_and(|at| at <= now)).map(|o| o.order_id.clone()).collect();
            due.sort();
            expected.sort();
            assert_eq!(due, expected);
            let calling = book.all().filter(|o| o.calls.iter().any(|call| call.next_at.is_some())).count();
            assert_eq!(book.calling().count(), calling);
            assert_eq!(book.by_state().values().sum::<u64>(), book.all().count() as u64);
        }
    }
}
