//! Calls to switches: which are due, making them, and what comes of them.
//!
//! A call's attempt is written down before it is made, and its outcome after. A call has at most one attempt under way; one that
//! undoes waits for the one that it undoes. Time is handed in.

use std::collections::HashMap;
use std::sync::PoisonError;

use schemas::OrderRow;
use tokio::sync::MutexGuard;

use crate::arming::Arming;
use crate::error::Error;
use crate::order::{Act, Call, Order};
use crate::responder::Responder;
use crate::switches::{Message, Outcome};

/// Attempts under way at one switch: a slow one does not take the places of the others.
const AT_ONE_SWITCH_MAX: usize = 8;
const FIRST_DELAYS_SECS: [i64; 5] = [1, 2, 5, 10, 30];
const DELAY_SECS: i64 = 60;

/// Of which calls this process wrote down an attempt that it has not made (`Begun`), or is making (`Calling`).
pub(crate) type Progress = HashMap<(String, usize), Stage>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Begun,
    Calling,
}

/// The right to make one attempt; given back when dropped.
pub(crate) struct Claim<'a> {
    responder: &'a Responder,
    order_id: String,
    call: usize,
    /// Whether the attempt is written down already.
    begun: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.responder.progress().remove(&(self.order_id.clone(), self.call));
    }
}

impl Responder {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes steps durable that ask for the calls from `first` on, with their first attempts. Marked before the pump can see
    /// them: it would write each attempt down once more.
    pub(crate) async fn write_begun(
        &self,
        writing: &MutexGuard<'_, ()>,
        order: Order,
        arming: Vec<Arming>,
        rows: Vec<OrderRow>,
        first: usize,
    ) -> Result<(), Error> {
        let calls: Vec<(String, usize)> = (first..order.calls.len()).map(|i| (order.order_id.clone(), i)).collect();
        self.progress().extend(calls.iter().map(|call| (call.clone(), Stage::Begun)));
        let written = self.write_armed(writing, vec![order], arming, rows).await;
        if written.is_err() {
            let mut progress = self.progress();
            calls.iter().for_each(|call| _ = progress.remove(call));
        }
        written
    }

    /// Has persons told `what`, because of `why`.
    pub(crate) fn escalate(
        &self,
        why: &'static str,
        order: &mut Order,
        what: &str,
        now: i64,
        rows: &mut Vec<OrderRow>,
    ) {
        self.counts.escalated(why);
        order.tell(&self.config.tell, what, now, rows);
    }

    /// Takes the steps that end an execution.
    pub(crate) fn end_execution(&self, order: &mut Order, now: i64, rows: &mut Vec<OrderRow>) {
        if order.stops().any(|call| !call.done) {
            self.counts.escalated("given_up");
        }
        order.finish(now, &self.config.tell, rows);
    }

    /// Makes every attempt that is due at `now`, all at once, and waits for them. Returns how many were made.
    pub async fn due(&self, now: i64) -> Result<usize, Error> {
        let claims = self.claim_due(now);
        let attempts = claims.len();
        let results = futures::future::join_all(claims.into_iter().map(|claim| self.attempt(claim))).await;
        results.into_iter().collect::<Result<(), Error>>().map(|()| attempts)
    }

    /// When the next attempt is due, of those that are not under way.
    pub fn next_due(&self) -> Option<i64> {
        let (book, progress) = (self.book(), self.progress());
        let idle = |order: &Order, call| progress.get(&(order.order_id.clone(), call)) != Some(&Stage::Calling);
        let calls =
            book.calling().flat_map(|order| order.calls.iter().enumerate().map(move |(i, call)| (order, i, call)));
        calls.filter_map(|(order, i, call)| call.next_at.filter(|_| idle(order, i))).min()
    }

    pub(crate) fn claim_due(&self, now: i64) -> Vec<Claim<'_>> {
        let (book, mut progress) = (self.book(), self.progress());
        let mut at_switch: HashMap<&str, usize> = HashMap::new();
        for (order_id, call) in progress.iter().filter(|(_, stage)| **stage == Stage::Calling).map(|(key, _)| key) {
            if let Some(call) = book.get(order_id).and_then(|order| order.calls.get(*call)) {
                *at_switch.entry(&call.switch).or_default() += 1;
            }
        }
        let mut claims = Vec::new();
        for order in book.calling() {
            for (i, call) in order.calls.iter().enumerate().filter(|(_, call)| call.next_at.is_some_and(|at| at <= now))
            {
                let key = (order.order_id.clone(), i);
                let stage = progress.get(&key).copied();
                let places = at_switch.entry(&call.switch).or_default();
                if stage == Some(Stage::Calling) || *places >= AT_ONE_SWITCH_MAX || must_wait(order, i, &progress) {
                    continue;
                }
                *places += 1;
                progress.insert(key, Stage::Calling);
                let begun = stage == Some(Stage::Begun);
                claims.push(Claim { responder: self, order_id: order.order_id.clone(), call: i, begun });
            }
        }
        claims
    }

    pub(crate) async fn attempt(&self, claim: Claim<'_>) -> Result<(), Error> {
        let Some(message) = self.begin(&claim).await? else { return Ok(()) };
        let outcome = match self.switches.get(&message.call.switch) {
            Some(switch) if message.call.act == Act::Look => switch.look(&message).await,
            Some(switch) => switch.call(&message).await,
            None => Outcome::Failed("no switch has this name any more".into()),
        };
        self.conclude(&claim.order_id, claim.call, outcome).await
    }

    /// Writes the attempt down, unless it is already; `None` where the call is not wanted any more.
    async fn begin(&self, claim: &Claim<'_>) -> Result<Option<Message>, Error> {
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let Some(mut order) = self.order(&claim.order_id) else { return Ok(None) };
        if order.calls[claim.call].next_at.is_none() {
            return Ok(None);
        }
        if !claim.begun {
            order.calls[claim.call].attempt += 1;
            let row = order.take_call(claim.call, now, "another attempt");
            self.write(&writing, vec![order.clone()], vec![row]).await?;
        }
        let call = order.calls[claim.call].clone();
        let id = format!("order_{}_{}", order.order_id, call.step);
        let names = self.deny.names(&order.tenant, order.target.parts().1);
        let signer = self.signer.get().cloned();
        let stream = self.stream(&order.tenant, &call.switch);
        Ok(Some(Message { id, now_secs: now.div_euclid(1_000_000), order, call, signer, names, stream }))
    }

    /// Writes down what came of an attempt, and what follows from it.
    pub(crate) async fn conclude(&self, order_id: &str, place: usize, outcome: Outcome) -> Result<(), Error> {
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let Some(mut order) = self.order(order_id) else { return Ok(()) };
        let call = &mut order.calls[place];
        let said = judge(call, &outcome, now, self.config.attempts_max as i32);
        self.counts.attempted(call, now);
        let (act, done, over) = (call.act, call.done, call.next_at.is_none());
        if over && !done {
            tracing::error!(order = order.order_id, switch = call.switch, attempt = call.attempt, "{said}");
        }
        let (first, switch) = (order.calls.len(), order.calls[place].switch.clone());
        let mut rows = vec![order.take_call(place, now, &said)];
        let reads_back = self.switches.get(&switch).is_some_and(|switch| switch.reads_back());
        if act == Act::Stop && done && reads_back && order.denies() {
            order.ask(vec![switch.clone()], Act::Look, now, &mut rows);
        }
        if act == Act::Release && over && !done {
            self.escalate("not_undone", &mut order, &format!("{switch} did not undo it: {said}"), now, &mut rows);
        }
        match &outcome {
            Outcome::Done(detail) if act == Act::Look => {
                self.note_verified(&mut order, &format!("read back from {switch}: {detail}"), now, &mut rows);
            }
            Outcome::NotSo(detail) if act == Act::Look => {
                self.note_violated(&mut order, &format!("read back from {switch}: {detail}"), now, &mut rows);
            }
            _ => {}
        }
        if order.may_finish() {
            self.end_execution(&mut order, now, &mut rows);
        }
        self.write_begun(&writing, order, Vec::new(), rows, first).await
    }
}

/// What an attempt's outcome does to its call, in words.
fn judge(call: &mut Call, outcome: &Outcome, now: i64, attempts_max: i32) -> String {
    // A call that was called off meanwhile stays so.
    let wanted = call.next_at.take().is_some();
    match outcome {
        Outcome::Done(detail) => {
            call.done = true;
            format!("done: {detail}")
        }
        Outcome::Retry(detail, after_secs) if wanted && call.attempt < attempts_max => {
            let secs = delay_secs(call.attempt).max(after_secs.unwrap_or(0) as i64);
            call.next_at = Some(now + secs * 1_000_000);
            format!("again in {secs} s: {detail}")
        }
        Outcome::NotSo(detail) => format!("not so: {detail}"),
        Outcome::Retry(detail, _) | Outcome::Failed(detail) => format!("given up: {detail}"),
    }
}

/// A release goes out only when the stop at the same switch has come back: they must not overtake each other.
fn must_wait(order: &Order, call: usize, progress: &Progress) -> bool {
    let this = &order.calls[call];
    let stop_under_way = |(i, other): (usize, &crate::order::Call)| {
        other.switch == this.switch && i != call && progress.get(&(order.order_id.clone(), i)) == Some(&Stage::Calling)
    };
    this.act == Act::Release && order.calls.iter().enumerate().any(stop_under_way)
}

/// Seconds from the outcome of attempt `attempt` to the next one.
pub(crate) fn delay_secs(attempt: i32) -> i64 {
    let index = usize::try_from(attempt - 1).unwrap_or(0);
    FIRST_DELAYS_SECS.get(index).copied().unwrap_or(DELAY_SECS)
}
