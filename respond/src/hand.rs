//! What persons do with orders: ask for one, approve it, release it, disarm and arm; and what time does: expiry.
//!
//! An order asked for by hand waits for other persons' approval. An approval names the digest of the plan it was shown; it
//! counts only while that is still what would be done. Nobody approves what they asked for, and nobody counts twice.

use schemas::{Holder, Principal, Verb};
use tokio::sync::MutexGuard;

use crate::arming::Arming;
use crate::book::STANDING_MAX;
use crate::config::Mode;
use crate::error::Error;
use crate::order::{Act, Approval, Cause, Order, State, Target, Wish};
use crate::plan::Plan;
use crate::responder::Responder;

/// Persons who decide about a target that is more than one agent.
const WIDE_APPROVALS: u32 = 2;

/// What somebody asks for by hand.
#[derive(Clone, Debug)]
pub struct Request {
    pub target: Target,
    /// Called besides the deny list, by name.
    pub switches: Vec<String>,
    pub switches_next: Vec<String>,
    pub stands_secs: u64,
    pub reason: String,
    /// What makes a repeat of the request the same request.
    pub key: String,
}

impl Responder {
    /// The order and plan that `request` would become, with nothing written or done.
    pub fn draft(&self, by: &Principal, request: &Request) -> Result<(Order, Plan), Error> {
        let switches = request.switches.iter().chain(&request.switches_next);
        let missing = switches.clone().find(|name| !self.switches.contains_key(*name));
        let missing = missing.map(|name| format!("no switch is named `{name}`"));
        let cannot = |name: &&String| self.switches.get(*name).is_some_and(|switch| !switch.stops(&request.target));
        let cannot = switches.clone().find(cannot);
        let missing =
            missing.or_else(|| cannot.map(|name| format!("`{name}` cannot stop a {}", request.target.kind())));
        let secs = !(60..=31_536_000).contains(&request.stands_secs);
        let secs = secs.then(|| "it must stand between 60 and 31536000 s".to_owned());
        let problem = request.target.problem().or(missing).or(secs);
        let problem = problem.or_else(|| self.protected(&by.tenant, &request.target, None));
        if let Some(problem) = problem {
            return Err(Error::Request(problem));
        }
        let least = if request.target.is_wide() { WIDE_APPROVALS } else { 0 };
        let wish = Wish {
            tenant: &by.tenant,
            target: request.target.clone(),
            mode: Mode::Ask,
            drill: false,
            switches: &request.switches,
            switches_next: &request.switches_next,
            stands_secs: request.stands_secs,
            approvals_needed: self.config.approvals.max(least),
            requested_by: by.name.clone(),
            reason: &request.reason,
            cause: &format!("{} {}", by.name, request.key),
            log_partition: 0,
            alert: Cause::default(),
        };
        let mut order = Order::new(wish, self.clock.now_micros(), self.config.approve_secs);
        let plan = self.plan(&order);
        order.plan.clone_from(&plan.digest);
        Ok((order, plan))
    }

    /// Writes a person's order down; it waits for approvals, or acts where none is needed. Safe to repeat with the same key.
    pub async fn request(&self, by: &Principal, request: &Request) -> Result<Order, Error> {
        let writing = self.writing.lock().await;
        let (mut order, plan) = self.draft(by, request)?;
        if let Some(before) = self.order(&order.order_id) {
            return Ok(before);
        }
        if self.book().standing() >= STANDING_MAX {
            return Err(Error::Request(format!("{STANDING_MAX} orders stand already")));
        }
        let (order_id, now) = (order.order_id.clone(), order.requested_at);
        if order.approvals_needed > 0 {
            self.wait(&writing, order, None, now).await?;
        } else {
            let mut rows = vec![order.take(State::Requested, now, &plan.line(order.expires_at))];
            order.execute(&by.name, now, "configuration asks for no approval", &mut rows);
            self.start(&writing, order, rows).await?;
        }
        self.order(&order_id).ok_or(Error::Unknown(order_id))
    }

    /// Counts one person's approval of the plan with digest `plan`; the last one needed starts it.
    pub async fn approve(&self, by: &Principal, order_id: &str, plan: &str) -> Result<Order, Error> {
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let mut order = self.order(order_id).ok_or_else(|| Error::Unknown(order_id.into()))?;
        if let Some(why) = self.no_approval(by, &order, plan, now) {
            return Err(Error::NotApproved { order_id: order_id.into(), why });
        }
        order.approvals.push(Approval { by: by.name.clone(), at: now });
        let (given, needed) = (order.approvals.len() as u32, order.approvals_needed);
        let mut rows = Vec::new();
        if given < needed {
            rows.push(order.take_by(&by.name, State::Requested, now, &format!("approved by {given} of {needed}")));
            self.write(&writing, vec![order], rows).await?;
        } else {
            let all: Vec<&str> = order.approvals.iter().map(|approval| approval.by.as_str()).collect();
            let detail = format!("plan {} approved by {}", order.plan, all.join(" and "));
            let first = order.calls.len();
            order.execute(&by.name, now, &detail, &mut rows);
            self.start_from(&writing, order, rows, first).await?;
        }
        self.order(order_id).ok_or_else(|| Error::Unknown(order_id.into()))
    }

    /// Why this approval does not count.
    fn no_approval(&self, by: &Principal, order: &Order, plan: &str, now: i64) -> Option<String> {
        if order.tenant != by.tenant || !by.may(Verb::Approve) || by.holder != Holder::Person {
            return Some(format!("`{}` is not a person who may approve here", by.name));
        }
        if order.requested_by == by.name {
            return Some(format!("`{}` asked for it", by.name));
        }
        if order.approvals.iter().any(|approval| approval.by == by.name) {
            return Some(format!("`{}` approved it already", by.name));
        }
        if !order.waits() {
            return Some(format!("it is {} and does not wait for approval", order.state.name()));
        }
        if order.approve_until <= now {
            return Some("the time for approvals is over".into());
        }
        if let Some(why) = self.protected(&order.tenant, &order.target, order.alert.agent_id.as_deref()) {
            return Some(why);
        }
        let current = self.plan(order).digest;
        if current != order.plan {
            return Some("the configuration changed: what would be done now is not what was asked for".into());
        }
        (plan != current).then(|| format!("the approval is for another plan: this one is {current}"))
    }

    /// Arms or disarms a tenant. `None` where it is so already.
    pub async fn arm(&self, by: &Principal, armed: bool, reason: &str) -> Result<Option<Arming>, Error> {
        let writing = self.writing.lock().await;
        if self.disarmed(&by.tenant).is_none() == armed {
            return Ok(None);
        }
        let now = self.clock.now_micros();
        let before = self.armings().get(&by.tenant).cloned();
        let (arming, row) = Arming::change(before.as_ref(), &by.tenant, armed, &by.name, reason, now);
        self.write_armed(&writing, Vec::new(), vec![arming.clone()], vec![row]).await?;
        Ok(Some(arming))
    }

    /// Lets a target go again: off the deny list, and every switch that can undo what it did is asked to. An order that still
    /// waits is withdrawn.
    pub async fn release(&self, order_id: &str, by: &str, reason: &str) -> Result<Order, Error> {
        let writing = self.writing.lock().await;
        let order = self.order(order_id).ok_or_else(|| Error::Unknown(order_id.into()))?;
        if !order.denies() && !order.waits() {
            return Err(Error::NotStanding { order_id: order.order_id, state: order.state });
        }
        self.end(&writing, order, State::Released, by, reason).await
    }

    /// Expires what is over, calls quiet what was quiet, and finishes what a restart left unfinished. Returns how many orders
    /// were looked at.
    pub async fn tick(&self, now: i64) -> Result<usize, Error> {
        let is_past = |at: Option<i64>| at.is_some_and(|at| at <= now);
        let due = self.book().due(now);
        for order_id in &due {
            let writing = self.writing.lock().await;
            self.finish(&writing, order_id).await?;
            let Some(order) = self.order(order_id) else { continue };
            if is_past(order.over_at()) {
                let reason = if order.denies() { "its time is over" } else { "nobody approved it in time" };
                self.end(&writing, order, State::Expired, "muster", reason).await?;
            } else if is_past(order.quiet_at(self.config.quiet_secs)) {
                self.call_quiet(&writing, order, now).await?;
            }
        }
        Ok(due.len())
    }

    async fn end(
        &self,
        writing: &MutexGuard<'_, ()>,
        mut order: Order,
        state: State,
        by: &str,
        reason: &str,
    ) -> Result<Order, Error> {
        let now = self.clock.now_micros();
        let mut names: Vec<String> = order.stops().map(|call| call.switch.clone()).collect();
        names.dedup();
        let can = |name: &String| self.switches.get(name).is_none_or(|switch| switch.reversible());
        let (undo, stay): (Vec<String>, Vec<String>) = names.into_iter().partition(can);
        let mut detail = if order.denies() { "off the deny list" } else { "withdrawn, nothing was done" }.to_owned();
        if !stay.is_empty() {
            detail.push_str(&format!("; cannot be undone: {}", stay.join(", ")));
        }
        let mut row = order.take_by(by, state, now, &detail);
        row.reason = reason.into();
        let mut rows = vec![row];
        for call in order.calls.iter_mut().filter(|call| call.act != Act::Tell) {
            call.next_at = None;
        }
        let first = order.calls.len();
        order.ask(undo, Act::Release, now, &mut rows);
        self.write_begun(writing, order.clone(), Vec::new(), rows, first).await?;
        Ok(order)
    }

    /// Takes the last steps of an order whose calls are all done or given up.
    pub(crate) async fn finish(&self, writing: &MutexGuard<'_, ()>, order_id: &str) -> Result<(), Error> {
        let Some(mut order) = self.order(order_id).filter(Order::may_finish) else { return Ok(()) };
        let (first, mut rows) = (order.calls.len(), Vec::new());
        self.end_execution(&mut order, self.clock.now_micros(), &mut rows);
        self.write_begun(writing, order, Vec::new(), rows, first).await
    }
}
