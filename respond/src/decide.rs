//! From an alert to an order: what policy says, what holds it back, and the caps.
//!
//! Only a live alert, received within a minute, starts anything. Unattended it acts only where it is a fact or critical, and
//! where the tenant is armed; a cap that is hit refuses the order, disarms the tenant and tells a person.

use schemas::AlertRow;
use tokio::sync::MutexGuard;

use crate::arming::Arming;
use crate::book::STANDING_MAX;
use crate::config::{Mode, Policy, Severity};
use crate::error::Error;
use crate::order::{Cause, Order, State, Target, Wish};
use crate::responder::Responder;

/// An alert received longer ago than this starts nothing.
const FRESH_MICROS: i64 = 60_000_000;
/// Orders of a tenant that wait for approval at once; beyond that alerts are only observed.
const WAITING_MAX: usize = 1000;

/// What an alert led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Beyond the tenant's budget: evidence only.
    OverBudget,
    /// No policy matches.
    NoPolicy,
    /// A policy matches, but the alert does not say whom to stop.
    NoTarget,
    /// An order that stands, or stood when the alert came, gives all that this one asks for.
    Covered(String),
    /// Written down; nothing is done.
    Observed(String),
    /// Waits for persons to approve it.
    Asked(String),
    /// A cap was hit: refused, and written down.
    Refused(String),
    /// The target is on the deny list, and the switches are being called.
    Acting(String),
}

impl Responder {
    /// Does what policy says about an alert. Safe to repeat.
    pub async fn handle_alert(&self, alert: &AlertRow) -> Result<Handled, Error> {
        let handled = self.decide(alert).await?;
        self.counts.handled(&handled);
        Ok(handled)
    }

    async fn decide(&self, alert: &AlertRow) -> Result<Handled, Error> {
        if alert.over_budget == Some(true) {
            return Ok(Handled::OverBudget);
        }
        let Some(policy) = self.config.policy(&alert.detector, alert.severity_id) else { return Ok(Handled::NoPolicy) };
        let Some(target) = Target::of(policy.target, alert) else {
            tracing::warn!(alert = alert.alert_id, target = ?policy.target, "the alert does not name what policy would stop");
            return Ok(Handled::NoTarget);
        };
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let (mode, held_back) = self.allowed(policy, &target, alert, now);
        let wish = Wish {
            tenant: &alert.tenant,
            target,
            mode,
            drill: false,
            switches: &policy.switches,
            switches_next: &policy.switches_next,
            stands_secs: self.config.deny_secs,
            approvals_needed: if mode == Mode::Ask { policy.approvals } else { 0 },
            requested_by: format!("policy for {}", alert.detector),
            reason: &alert.title,
            cause: &alert.alert_id,
            log_partition: alert.log_partition,
            alert: Cause::of(alert),
        };
        let order = Order::new(wish, now, self.config.approve_secs);
        if let Some(order_id) = self.covered(&order, alert.received_at) {
            return Ok(Handled::Covered(order_id));
        }
        match mode {
            Mode::Observe => self.observe(&writing, order, held_back, now).await,
            Mode::Ask => self.wait(&writing, order, held_back, now).await.map(Handled::Asked),
            Mode::Act => self.act(&writing, order, now).await,
        }
    }

    /// The mode that policy has for this alert, or the lesser one that it is held back to, and why.
    fn allowed(&self, policy: &Policy, target: &Target, alert: &AlertRow, now: i64) -> (Mode, Option<String>) {
        if policy.mode == Mode::Observe {
            return (Mode::Observe, None);
        }
        let observed = |why: &str| (Mode::Observe, Some(why.to_owned()));
        if !alert.live {
            return observed("the alert is not live: its event was late, or came through a door that may not act");
        }
        if now.saturating_sub(alert.received_at).saturating_abs() > FRESH_MICROS {
            return observed("the event was received more than 60 s ago");
        }
        if let Some(why) = self.protected(&alert.tenant, target, alert.agent_id.as_deref()) {
            return (Mode::Observe, Some(why));
        }
        if policy.mode == Mode::Act {
            if let Some(arming) = self.disarmed(&alert.tenant) {
                return (Mode::Observe, Some(format!("{} disarmed it: {}", arming.by, arming.reason)));
            }
            let statistics = alert.threshold > 0.0;
            if statistics && alert.severity_id < Severity::Critical as i32 {
                return (Mode::Ask, Some("it rests on statistics and is less than critical".into()));
            }
        }
        let waiting = |order: &&Order| order.tenant == alert.tenant && order.waits();
        if policy.mode == Mode::Ask && self.book().all().filter(waiting).count() >= WAITING_MAX {
            return (Mode::Observe, Some(format!("{WAITING_MAX} orders wait for approval already")));
        }
        (policy.mode, None)
    }

    /// Why nobody may stop `target`, whose agent is `agent` as far as is known.
    pub(crate) fn protected(&self, tenant: &str, target: &Target, agent: Option<&str>) -> Option<String> {
        if !self.deny.protects_any(tenant) || target.is_wide() {
            // The deny list itself lets the protected through where an order is about many.
            return None;
        }
        let (_, first, second) = target.parts();
        let names = [agent, target.agent(), Some(first), Some(second)].into_iter().flatten();
        if let Some(name) = names.filter(|name| !name.is_empty()).find(|name| self.deny.protects(tenant, name)) {
            return Some(format!("{name} is protected"));
        }
        // Nobody can say that the credential is not a protected agent's.
        let unknown = agent.is_none() && target.agent().is_none() && !matches!(target, Target::Client { .. });
        unknown.then(|| "no agent is named, and some are protected".into())
    }

    /// The change that disarmed a tenant, where it is disarmed.
    pub fn disarmed(&self, tenant: &str) -> Option<Arming> {
        self.armings().get(tenant).filter(|arming| !arming.armed).cloned()
    }

    fn covered(&self, order: &Order, received_at: i64) -> Option<String> {
        let book = self.book();
        if book.get(&order.order_id).is_some() {
            return Some(order.order_id.clone());
        }
        let mut against = book.against(&order.tenant, &order.target);
        against.find(|other| other.covers(order.mode, &order.switches, received_at)).map(|other| other.order_id.clone())
    }

    async fn observe(
        &self,
        writing: &MutexGuard<'_, ()>,
        mut order: Order,
        held_back: Option<String>,
        now: i64,
    ) -> Result<Handled, Error> {
        let plan = self.plan(&order).line(order.expires_at);
        let detail = match held_back {
            Some(why) => format!("only observed: {why}; else: {plan}"),
            None => format!("would do: {plan}"),
        };
        let row = order.take(State::Requested, now, &detail);
        let order_id = order.order_id.clone();
        self.write(writing, vec![order], vec![row]).await?;
        Ok(Handled::Observed(order_id))
    }

    /// Writes an order down that persons must approve, and tells them.
    pub(crate) async fn wait(
        &self,
        writing: &MutexGuard<'_, ()>,
        mut order: Order,
        held_back: Option<String>,
        now: i64,
    ) -> Result<String, Error> {
        let plan = self.plan(&order);
        let (needed, until) = (order.approvals_needed, crate::deny::rfc3339(order.approve_until));
        let why = held_back.map_or_else(String::new, |why| format!("; it does not act unattended: {why}"));
        let waits = format!("waits for {needed} to approve plan {} until {until}{why}", plan.digest);
        let line = plan.line(order.expires_at);
        order.plan = plan.digest;
        let mut rows = vec![order.take(State::Requested, now, &format!("{line}; {waits}"))];
        self.escalate("approval", &mut order, &waits, now, &mut rows);
        let order_id = order.order_id.clone();
        self.write_begun(writing, order, Vec::new(), rows, 0).await?;
        Ok(order_id)
    }

    async fn act(&self, writing: &MutexGuard<'_, ()>, mut order: Order, now: i64) -> Result<Handled, Error> {
        let plan = self.plan(&order);
        let mut rows = vec![order.take(State::Requested, now, &plan.line(order.expires_at))];
        order.plan = plan.digest;
        if let Some(why) = self.cap_hit(&order.tenant, now) {
            return self.refuse(writing, order, rows, &why, now).await;
        }
        let by = order.requested_by.clone();
        order.execute(&by, now, "policy lets it act without a person", &mut rows);
        let order_id = order.order_id.clone();
        self.start(writing, order, rows).await?;
        Ok(Handled::Acting(order_id))
    }

    /// A cap was hit: nothing acts unattended any more until somebody has looked.
    async fn refuse(
        &self,
        writing: &MutexGuard<'_, ()>,
        mut order: Order,
        mut rows: Vec<schemas::OrderRow>,
        why: &str,
        now: i64,
    ) -> Result<Handled, Error> {
        let (order_id, tenant) = (order.order_id.clone(), order.tenant.clone());
        tracing::error!(order = order_id, tenant, target = order.target.id(), "order refused, tenant disarmed: {why}");
        rows.push(order.take(State::Failed, now, why));
        self.escalate("cap", &mut order, &format!("a cap was hit, and the tenant is disarmed: {why}"), now, &mut rows);
        let before = self.armings().get(&tenant).cloned();
        let (arming, row) = Arming::change(before.as_ref(), &tenant, false, "muster", why, now);
        rows.push(row);
        self.write_begun(writing, order, vec![arming], rows, 0).await?;
        Ok(Handled::Refused(order_id))
    }

    /// One group, one fsync: intent, approval and first attempts are durable together, and only then is anything done.
    pub(crate) async fn start(
        &self,
        writing: &MutexGuard<'_, ()>,
        order: Order,
        rows: Vec<schemas::OrderRow>,
    ) -> Result<(), Error> {
        self.start_from(writing, order, rows, 0).await
    }

    pub(crate) async fn start_from(
        &self,
        writing: &MutexGuard<'_, ()>,
        order: Order,
        rows: Vec<schemas::OrderRow>,
        first: usize,
    ) -> Result<(), Error> {
        let order_id = order.order_id.clone();
        self.write_begun(writing, order, Vec::new(), rows, first).await?;
        // It acts already: a last step that cannot be written now is written by the next tick.
        if let Err(error) = self.finish(writing, &order_id).await {
            tracing::warn!(%error, order = order_id, "the order acts, its last step is written later");
        }
        Ok(())
    }

    fn cap_hit(&self, tenant: &str, now: i64) -> Option<String> {
        let mut book = self.book();
        let minute = book.acted_last_minute(tenant, now);
        if minute >= self.config.orders_per_minute_max as usize {
            return Some(format!("{minute} orders in the last minute (orders_per_minute_max)"));
        }
        if book.standing() >= STANDING_MAX {
            return Some(format!("{STANDING_MAX} orders stand already"));
        }
        let stopped = self.deny.len(tenant);
        if stopped >= self.config.orders_standing_max as usize {
            return Some(format!("{stopped} are stopped already (orders_standing_max)"));
        }
        let active = self.activity().active(tenant);
        let allowed = ((active as f64 * self.config.active_agents_share_max) as usize).max(1);
        let capped = self.config.active_agents_share_max < 1.0 && stopped >= allowed;
        capped.then(|| {
            format!("{stopped} of {active} active agents are stopped, {allowed} may be (active_agents_share_max)")
        })
    }
}
