//! Whether a stopped target is really stopped, by what the log shows of it.
//!
//! | seen | the order becomes |
//! | --- | --- |
//! | a denied attempt after the order took effect, or a read-back from the system | `verified` |
//! | an allowed event after that and the slack, or a system that reads back otherwise | `violated`: tell, next layer |
//! | nothing for `quiet_secs` | `quiet`, and whether its sources were silent too: then it proves nothing |
//!
//! Only live events count, and of a denial only what a gate says (401, 403, or no status): a rate limit proves nothing. An
//! event's time is never taken to be later than its arrival. That the denial was this order's doing is not known from a log
//! line; that nothing got through after it is.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use schemas::{Events, OrderRow};
use tokio::sync::MutexGuard;

use crate::deny::rfc3339;
use crate::error::Error;
use crate::order::{Act, Order, State, after};
use crate::responder::Responder;
use crate::target::{Asker, is_live};

/// What one batch shows about one order: the first event of each kind.
#[derive(Clone, Debug, Default)]
struct Seen {
    denied: Option<Sign>,
    allowed: Option<Sign>,
}

#[derive(Clone, Debug)]
struct Sign {
    event_id: String,
    at: i64,
    what: String,
}

impl Responder {
    /// Counts who is active in `events`, and weighs what they show about the orders that stand.
    pub async fn see_events(&self, events: &RecordBatch) -> Result<(), Error> {
        let now = self.clock.now_micros();
        let seen = {
            let events = Events::new(events)?;
            self.activity().see(&events, now);
            self.signs(&events)
        };
        for (order_id, seen) in seen {
            let writing = self.writing.lock().await;
            if let Some(sign) = seen.allowed {
                let detail = format!("let through at {}: {} (event {})", rfc3339(sign.at), sign.what, sign.event_id);
                self.violate(&writing, &order_id, &detail).await?;
            } else if let Some(sign) = seen.denied {
                let detail = format!("denied attempt at {}: {} (event {})", rfc3339(sign.at), sign.what, sign.event_id);
                self.verify(&writing, &order_id, &detail).await?;
            }
        }
        Ok(())
    }

    fn signs(&self, events: &Events<'_>) -> BTreeMap<String, Seen> {
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        if self.deny.is_empty() {
            return seen;
        }
        for row in 0..events.tenant.len() {
            let tenant = events.tenant.value(row);
            if self.deny.len(tenant) == 0 || !is_live(events, row) {
                continue;
            }
            let at = events.time.value(row).min(events.received_at.value(row));
            let (outcome, status) = (events.outcome.value(row), events.http_status);
            let gate = !status.is_valid(row) || matches!(status.value(row), 401 | 403);
            let denied = outcome == "denied" && gate;
            if !denied && outcome != "success" {
                continue;
            }
            for entry in self.deny.matches(tenant, &Asker::of(events, row)) {
                let seen = seen.entry(entry.order_id.clone()).or_default();
                let place = if denied { &mut seen.denied } else { &mut seen.allowed };
                let counts = if denied { at >= entry.effective_at } else { self.is_late(at, entry.effective_at) };
                if counts && place.is_none() {
                    let (event_id, what) = (events.event_id.value(row).to_owned(), events.action.value(row).to_owned());
                    *place = Some(Sign { event_id, at, what });
                }
            }
        }
        seen
    }

    /// Whether an allowed call at `at` came later than clocks and lists can explain.
    fn is_late(&self, at: i64, effective_at: i64) -> bool {
        at > after(effective_at, self.config.slack_secs)
    }

    pub(crate) async fn verify(&self, writing: &MutexGuard<'_, ()>, order_id: &str, detail: &str) -> Result<(), Error> {
        let Some(mut order) = self.order(order_id) else { return Ok(()) };
        let (before, mut rows) = (order.clone(), Vec::new());
        self.note_verified(&mut order, detail, self.clock.now_micros(), &mut rows);
        if order == before {
            return Ok(());
        }
        self.write(writing, vec![order], rows).await
    }

    async fn violate(&self, writing: &MutexGuard<'_, ()>, order_id: &str, detail: &str) -> Result<(), Error> {
        let Some(mut order) = self.order(order_id) else { return Ok(()) };
        let (first, mut rows) = (order.calls.len(), Vec::new());
        self.note_violated(&mut order, detail, self.clock.now_micros(), &mut rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.write_begun(writing, order, Vec::new(), rows, first).await
    }

    /// The order has evidence. Kept back while switches are still being called: it is not executed yet.
    pub(crate) fn note_verified(&self, order: &mut Order, detail: &str, now: i64, rows: &mut Vec<OrderRow>) {
        match order.state {
            State::Executing if order.evidence.is_none() => order.evidence = Some(detail.into()),
            State::Executed | State::Partial | State::Quiet | State::Violated => {
                rows.push(order.take(State::Verified, now, detail));
            }
            _ => {}
        }
    }

    /// The target was let through: says so, tells persons, and calls the next layer where there is one.
    pub(crate) fn note_violated(&self, order: &mut Order, detail: &str, now: i64, rows: &mut Vec<OrderRow>) {
        if !order.denies() || order.state == State::Violated {
            return;
        }
        tracing::error!(order = order.order_id, target = order.target.id(), "the order is violated: {detail}");
        rows.push(order.take(State::Violated, now, detail));
        order.evidence = None;
        // What proves or disproves the order from now on comes after this.
        order.effective_at = Some(now);
        self.escalate("violated", order, detail, now, rows);
        let next = std::mem::take(&mut order.switches_next);
        if !next.is_empty() {
            rows.push(order.take(State::Executing, now, "the next layer"));
            order.ask(next, Act::Stop, now, rows);
        }
    }

    pub(crate) async fn call_quiet(
        &self,
        writing: &MutexGuard<'_, ()>,
        mut order: Order,
        now: i64,
    ) -> Result<(), Error> {
        let detail = self.quiet_detail(&order);
        let row = order.take(State::Quiet, now, &detail);
        self.write(writing, vec![order], vec![row]).await
    }

    fn quiet_detail(&self, order: &Order) -> String {
        let since = order.effective_at.unwrap_or(order.requested_at);
        let agent = order.target.agent().or(order.alert.agent_id.as_deref());
        let activity = self.activity();
        let (spoke, silent) = activity.sources_since(&order.tenant, agent, since);
        match (spoke.is_empty(), silent.is_empty()) {
            (false, true) => format!("nothing was seen of it, while its sources went on ({})", spoke.join(", ")),
            (false, false) => format!(
                "nothing was seen of it, while {} went on; {} was silent, which proves nothing",
                spoke.join(", "),
                silent.join(", ")
            ),
            _ => "nothing was seen of it, but its sources were silent: this proves nothing".to_owned(),
        }
    }
}
