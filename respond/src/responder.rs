//! The responder: an alert becomes an order, an order takes its steps, and each is durable before it has an effect.
//!
//! All state is made again from the control log at start. `handle_alert`, `due` and `release` may be repeated and interrupted at
//! any point: an order's id is a digest of its cause, and a switch is called again with the same message id.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use lake::clock::Clock;
use lake::log::Log;
use schemas::AlertRow;
use tokio::sync::{MutexGuard, Notify};

use crate::activity::Activity;
use crate::book::{Book, STANDING_MAX};
use crate::calls::Progress;
use crate::config::{Config, Mode, Policy};
use crate::deny::DenyList;
use crate::error::Error;
use crate::journal::{CONTROL_GROUP, MAIN_GROUP, Mirror};
use crate::order::{Act, Order, State, Target};
use crate::switches::{self, Switch};

/// An alert received longer ago than this starts nothing.
const FRESH_MICROS: i64 = 60_000_000;
/// A shorter beginning of an order's id names nothing.
const PREFIX_BYTES_MIN: usize = 8;

pub struct Responder {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) control: Arc<Log>,
    pub(crate) main: Arc<Log>,
    pub(crate) switches: HashMap<String, Box<dyn Switch>>,
    /// Held from reading an order to having its next step durable and applied: steps have one order.
    pub(crate) writing: tokio::sync::Mutex<()>,
    pub(crate) book: Mutex<Book>,
    pub(crate) deny: DenyList,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) mirror: tokio::sync::Mutex<Mirror>,
    /// Frames of the main log below this need no more handling.
    pub(crate) alerts_passed: AtomicU64,
    /// One past the last of them that held alerts or orders.
    pub(crate) news_passed: AtomicU64,
    pub(crate) activity: Mutex<Activity>,
    /// Control log position of the last rewrite of all orders.
    pub(crate) kept_at: AtomicU64,
    /// Told when a call may be due.
    pub(crate) woken: Notify,
    pub(crate) counts: Counts,
}

/// What happened since start, for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub alerts_without_policy: AtomicU64,
    pub alerts_without_target: AtomicU64,
    pub alerts_covered: AtomicU64,
    pub orders_observed: AtomicU64,
    pub orders_refused: AtomicU64,
    pub orders_acting: AtomicU64,
    pub calls_done: AtomicU64,
    /// Attempts that failed and are made again.
    pub calls_again: AtomicU64,
    pub calls_given_up: AtomicU64,
}

impl Counts {
    fn of(&self, handled: &Handled) -> &AtomicU64 {
        match handled {
            Handled::NoPolicy => &self.alerts_without_policy,
            Handled::NoTarget => &self.alerts_without_target,
            Handled::Covered(_) => &self.alerts_covered,
            Handled::Observed(_) => &self.orders_observed,
            Handled::Refused(_) => &self.orders_refused,
            Handled::Acting(_) => &self.orders_acting,
        }
    }
}

/// What an alert led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// No policy matches.
    NoPolicy,
    /// A policy matches, but the alert does not say whom to stop.
    NoTarget,
    /// An order that stands, or stood when the alert came, gives all that this one asks for.
    Covered(String),
    /// Written down; nothing is done.
    Observed(String),
    /// A cap was hit: refused, and written down.
    Refused(String),
    /// The target is on the deny list, and the switches are being called.
    Acting(String),
}

impl Responder {
    /// Reads the control log and stands where it left off. `control` must retain for the group [`CONTROL_GROUP`],
    /// `main` for [`MAIN_GROUP`]; webhook secrets must be resolved.
    pub fn open(control: Arc<Log>, main: Arc<Log>, config: Config, clock: Clock) -> Result<Arc<Responder>, Error> {
        let mut problems = config.problems();
        for (name, log, group) in [("control", &control, CONTROL_GROUP), ("main", &main, MAIN_GROUP)] {
            if !log.has_group(group) {
                problems
                    .push(format!("the {name} log is open without the group `{group}`, so it would not retain for it"));
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let built = switches::build(&config).map_err(|problem| Error::Config(vec![problem]))?;
        let now = clock.now_micros();
        let responder = Responder {
            config,
            clock,
            control,
            main,
            switches: built.into_iter().map(|switch| (switch.name().to_owned(), switch)).collect(),
            writing: tokio::sync::Mutex::default(),
            book: Mutex::default(),
            deny: DenyList::default(),
            progress: Mutex::default(),
            mirror: tokio::sync::Mutex::default(),
            alerts_passed: AtomicU64::new(0),
            news_passed: AtomicU64::new(0),
            activity: Mutex::new(Activity::new(BTreeMap::new(), now)),
            kept_at: AtomicU64::new(0),
            woken: Notify::new(),
            counts: Counts::default(),
        };
        responder.rebuild(now)?;
        Ok(Arc::new(responder))
    }

    pub fn deny(&self) -> &DenyList {
        &self.deny
    }

    pub(crate) fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The order with this id, of any tenant.
    pub fn order(&self, order_id: &str) -> Option<Order> {
        self.book().get(order_id).cloned()
    }

    /// The order of a tenant with this id, or with an id that begins so if only one does.
    pub fn find(&self, tenant: &str, order_id: &str) -> Result<Order, Error> {
        let book = self.book();
        if let Some(order) = book.get(order_id).filter(|order| order.tenant == tenant) {
            return Ok(order.clone());
        }
        let begins = |order: &&Order| order.tenant == tenant && order.order_id.starts_with(order_id);
        let mut found = book.all().filter(begins).take(if order_id.len() < PREFIX_BYTES_MIN { 0 } else { 2 });
        match (found.next(), found.next()) {
            (Some(order), None) => Ok(order.clone()),
            (Some(_), Some(_)) => Err(Error::Ambiguous(order_id.into())),
            (None, _) => Err(Error::Unknown(order_id.into())),
        }
    }

    /// The newest orders of a tenant.
    pub fn orders(&self, tenant: &str, limit: usize) -> Vec<Order> {
        let book = self.book();
        let mut orders: Vec<&Order> = book.all().filter(|order| order.tenant == tenant).collect();
        orders.sort_by(|a, b| (b.requested_at, &b.order_id).cmp(&(a.requested_at, &a.order_id)));
        orders.into_iter().take(limit).cloned().collect()
    }

    /// Counts the agents of `events` as active.
    pub fn see_events(&self, events: &RecordBatch) -> Result<(), Error> {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(activity.see(events, self.clock.now_micros())?)
    }

    /// Frames of the main log below this are handled.
    pub fn alerts_passed(&self) -> u64 {
        self.alerts_passed.load(Ordering::SeqCst)
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Does what policy says about an alert. Safe to repeat.
    pub async fn handle_alert(&self, alert: &AlertRow) -> Result<Handled, Error> {
        let handled = self.decide(alert).await?;
        self.counts.of(&handled).fetch_add(1, Ordering::Relaxed);
        Ok(handled)
    }

    async fn decide(&self, alert: &AlertRow) -> Result<Handled, Error> {
        let Some(policy) = self.config.policy(&alert.detector, alert.severity_id) else { return Ok(Handled::NoPolicy) };
        let Some(target) = Target::of(policy.target, alert) else {
            tracing::warn!(alert = alert.alert_id, target = ?policy.target, "the alert does not name what policy would stop");
            return Ok(Handled::NoTarget);
        };
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let held_back = self.held_back(policy, &target, alert, now);
        let mode = if held_back.is_some() { Mode::Observe } else { policy.mode };
        let order = Order::of(alert, target, mode, &policy.switches, now, self.config.deny_secs);
        if let Some(order_id) = self.covered(&order, alert.received_at) {
            return Ok(Handled::Covered(order_id));
        }
        match mode {
            Mode::Observe => self.observe(&writing, order, held_back, now).await,
            Mode::Act => self.act(&writing, order, now).await,
        }
    }

    /// Why an alert that policy would act on is only observed.
    fn held_back(&self, policy: &Policy, target: &Target, alert: &AlertRow, now: i64) -> Option<String> {
        if policy.mode == Mode::Observe {
            return None;
        }
        if !alert.live {
            return Some("the alert is not live: its event was late, or came through a door that may not act".into());
        }
        if now.saturating_sub(alert.received_at).saturating_abs() > FRESH_MICROS {
            return Some("the event was received more than 60 s ago".into());
        }
        let protected = &self.config.protected;
        let listed = |id: &str| protected.iter().any(|other| other == id);
        let named = |id: &str| listed(id) || self.deny.protects(&alert.tenant, id);
        let any = !protected.is_empty() || self.deny.protects_any(&alert.tenant);
        match &alert.agent_id {
            Some(agent) if named(agent) => Some(format!("{agent} is protected")),
            // Nobody can say that the credential is not a protected agent's.
            None if any => Some("the alert names no agent, and some are protected".into()),
            _ if named(&target.id()) => Some(format!("{} is protected", target.id())),
            _ => None,
        }
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
        let plan = plan(&order);
        let detail = match held_back {
            Some(why) => format!("only observed: {why}; else: {plan}"),
            None => format!("would do: {plan}"),
        };
        let row = order.take(State::Requested, now, &detail);
        let order_id = order.order_id.clone();
        self.write(writing, vec![order], vec![row]).await?;
        Ok(Handled::Observed(order_id))
    }

    async fn act(&self, writing: &MutexGuard<'_, ()>, mut order: Order, now: i64) -> Result<Handled, Error> {
        let order_id = order.order_id.clone();
        let plan = plan(&order);
        let mut rows = vec![order.take(State::Requested, now, &plan)];
        if let Some(why) = self.cap_hit(&order.tenant, now) {
            tracing::error!(
                order = order_id,
                tenant = order.tenant,
                target = order.target.id(),
                "order refused: {why}"
            );
            rows.push(order.take(State::Failed, now, &why));
            self.write(writing, vec![order], rows).await?;
            return Ok(Handled::Refused(order_id));
        }
        rows.push(order.take(State::Approved, now, "policy lets it act without a person"));
        rows.push(order.take(State::Executing, now, "the deny list holds it"));
        order.ask(order.switches.clone(), Act::Stop, now, &mut rows);
        // One group, one fsync: intent, approval and first attempts are durable together, and only then is anything done.
        let calls = order.calls.len();
        self.write(writing, vec![order], rows).await?;
        self.begun(&order_id, 0..calls);
        // It acts already: a last step that cannot be written now is written by the next tick.
        if let Err(error) = self.finish(writing, &order_id).await {
            tracing::warn!(%error, order = order_id, "the order acts, its last step is written later");
        }
        Ok(Handled::Acting(order_id))
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
        let active = self.activity.lock().unwrap_or_else(PoisonError::into_inner).active(tenant);
        let allowed = ((active as f64 * self.config.active_agents_share_max) as usize).max(1);
        let stopped = self.deny.len(tenant);
        let capped = self.config.active_agents_share_max < 1.0 && stopped >= allowed;
        capped.then(|| {
            format!("{stopped} of {active} active agents are stopped, {allowed} may be (active_agents_share_max)")
        })
    }

    /// Lets a target go again: off the deny list, and every switch that was asked to stop it is asked to undo that.
    pub async fn release(&self, order_id: &str, by: &str, reason: &str) -> Result<Order, Error> {
        let writing = self.writing.lock().await;
        let order = self.order(order_id).ok_or_else(|| Error::Unknown(order_id.into()))?;
        if !order.denies() {
            return Err(Error::NotStanding { order_id: order.order_id, state: order.state });
        }
        self.end(&writing, order, State::Released, by, reason).await
    }

    /// Expires what is over, and finishes what a restart left unfinished. Returns how many orders took a step.
    pub async fn tick(&self, now: i64) -> Result<usize, Error> {
        let over = |order: &&Order| order.denies() && (order.expires_at <= now || order.may_finish());
        let due: Vec<String> = self.book().all().filter(over).map(|order| order.order_id.clone()).collect();
        for order_id in &due {
            let writing = self.writing.lock().await;
            self.finish(&writing, order_id).await?;
            let Some(order) = self.order(order_id) else { continue };
            if order.denies() && order.expires_at <= now {
                self.end(&writing, order, State::Expired, "muster", "its time is over").await?;
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
        let mut row = order.take(state, now, "off the deny list");
        row.requested_by = by.into();
        row.reason = reason.into();
        let mut rows = vec![row];
        for call in &mut order.calls {
            call.next_at = None;
        }
        let (first, switches) = (order.calls.len(), order.calls.iter().map(|call| call.switch.clone()).collect());
        order.ask(switches, Act::Release, now, &mut rows);
        self.write(writing, vec![order.clone()], rows).await?;
        self.begun(&order.order_id, first..order.calls.len());
        Ok(order)
    }

    /// Takes the last step of an order whose calls are all done or given up.
    pub(crate) async fn finish(&self, writing: &MutexGuard<'_, ()>, order_id: &str) -> Result<(), Error> {
        let Some(mut order) = self.order(order_id).filter(Order::may_finish) else { return Ok(()) };
        let row = order.take_last(self.clock.now_micros());
        self.write(writing, vec![order], vec![row]).await
    }
}

fn plan(order: &Order) -> String {
    let (kind, id) = (order.target.kind(), order.target.id());
    let mut plan = format!("deny {kind} {id} until {}", crate::deny::rfc3339(order.expires_at));
    for switch in &order.switches {
        plan.push_str(&format!(", call {switch}"));
    }
    plan
}
