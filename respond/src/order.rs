//! One order: whom it stops, how far it got, and which calls to switches are still to be made.
//!
//! An order is a plain value. Each step changes it and yields the row of table `orders` that says so; both go into the control
//! log in one group, so that the last value in that log is the state and the rows are its history.

use serde::{Deserialize, Serialize};

use schemas::{AlertRow, OrderRow, id};

use crate::config::{Mode, TargetKind};

/// Whom an order stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    Agent { agent: String },
    Credential { credential: String },
    AgentUser { agent: String, user: String },
}

impl Target {
    /// What `alert` says about this kind of target; `None` where it says nothing.
    pub fn of(kind: TargetKind, alert: &AlertRow) -> Option<Target> {
        let agent = alert.agent_id.clone();
        match kind {
            TargetKind::Agent => agent.map(|agent| Target::Agent { agent }),
            TargetKind::Credential => alert.credential_id.clone().map(|credential| Target::Credential { credential }),
            TargetKind::AgentUser => {
                agent.zip(alert.user_id.clone()).map(|(agent, user)| Target::AgentUser { agent, user })
            }
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Target::Agent { .. } => "agent",
            Target::Credential { .. } => "credential",
            Target::AgentUser { .. } => "agent_user",
        }
    }

    /// As table `orders` writes it.
    pub fn id(&self) -> String {
        match self {
            Target::Agent { agent } => agent.clone(),
            Target::Credential { credential } => credential.clone(),
            Target::AgentUser { agent, user } => format!("{agent} {user}"),
        }
    }

    /// Each name apart, for digests: an id with a space in it must not run into another pair.
    fn parts(&self) -> [&str; 3] {
        match self {
            Target::Agent { agent } => ["agent", agent, ""],
            Target::Credential { credential } => ["credential", credential, ""],
            Target::AgentUser { agent, user } => ["agent_user", agent, user],
        }
    }
}

/// How far an order got. `verified` and `violated` need evidence, which this version does not gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Requested,
    Approved,
    /// The deny list holds; switches are still being called.
    Executing,
    /// The deny list holds and every switch said that it did its part.
    Executed,
    /// The deny list holds; at least one switch was given up.
    Partial,
    /// Nothing was stopped.
    Failed,
    Released,
    Expired,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Requested => "requested",
            State::Approved => "approved",
            State::Executing => "executing",
            State::Executed => "executed",
            State::Partial => "partial",
            State::Failed => "failed",
            State::Released => "released",
            State::Expired => "expired",
        }
    }
}

/// What a switch is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Stop,
    Release,
}

/// One call to one switch, repeated until it is done or given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub switch: String,
    pub act: Act,
    /// The step that asked for it: with the order's id, the same id for every repeat.
    pub step: i32,
    /// State that the order was in then, and when: the receiver is told the same at every repeat.
    pub state: State,
    pub asked_at: i64,
    /// Number of the last attempt that was begun.
    pub attempt: i32,
    /// When to try (again); `None` once it is done or given up.
    pub next_at: Option<i64>,
    pub done: bool,
    /// What the switch said last.
    pub detail: Option<String>,
}

/// What the receiver of a webhook is told about the alert. Clipped: an order must fit its frame and its message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    pub id: String,
    pub detector: String,
    pub severity_id: i32,
    pub title: String,
    pub explanation: String,
    pub agent_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub order_id: String,
    pub tenant: String,
    pub target: Target,
    pub mode: Mode,
    pub state: State,
    /// Number of the last step.
    pub step: i32,
    pub requested_by: String,
    pub requested_at: i64,
    pub reason: String,
    pub alert: Cause,
    pub log_partition: i32,
    pub switches: Vec<String>,
    pub expires_at: i64,
    /// When it was released, expired or failed.
    pub ended_at: Option<i64>,
    pub calls: Vec<Call>,
}

const TITLE_BYTES_MAX: usize = 500;
const EXPLANATION_BYTES_MAX: usize = 4000;
const DETAIL_BYTES_MAX: usize = 1000;

impl Order {
    /// The order that `alert` asks for; its step 0 is taken by [`Order::begin`].
    pub(crate) fn of(alert: &AlertRow, target: Target, mode: Mode, switches: &[String], now: i64, secs: u64) -> Order {
        let mode_name = mode_name(mode).as_bytes();
        let [kind, first, second] = target.parts().map(str::as_bytes);
        let parts = [alert.tenant.as_bytes(), kind, first, second, alert.alert_id.as_bytes(), mode_name];
        Order {
            order_id: id::digest(parts),
            tenant: alert.tenant.clone(),
            target,
            mode,
            state: State::Requested,
            step: -1,
            requested_by: format!("policy for {}", alert.detector),
            requested_at: now,
            reason: clip(&alert.title, TITLE_BYTES_MAX).into(),
            alert: Cause {
                id: alert.alert_id.clone(),
                detector: alert.detector.clone(),
                severity_id: alert.severity_id,
                title: clip(&alert.title, TITLE_BYTES_MAX).into(),
                explanation: clip(&alert.explanation, EXPLANATION_BYTES_MAX).into(),
                agent_id: alert.agent_id.clone(),
            },
            log_partition: alert.log_partition,
            switches: switches.to_vec(),
            expires_at: now.saturating_add(secs as i64 * 1_000_000),
            ended_at: None,
            calls: Vec::new(),
        }
    }

    /// Takes the next step and returns its row.
    pub(crate) fn take(&mut self, state: State, now: i64, detail: &str) -> OrderRow {
        self.state = state;
        self.step += 1;
        if matches!(state, State::Failed | State::Released | State::Expired) {
            self.ended_at.get_or_insert(now);
        }
        OrderRow {
            order_id: self.order_id.clone(),
            step: self.step,
            time: now,
            event_day: id::day(now),
            tenant: self.tenant.clone(),
            log_partition: self.log_partition,
            target_kind: self.target.kind().into(),
            target_id: self.target.id(),
            state: state.name().into(),
            mode: mode_name(self.mode).into(),
            detail: (!detail.is_empty()).then(|| clip(detail, DETAIL_BYTES_MAX).into()),
            expires_at: Some(self.expires_at),
            requested_by: self.requested_by.clone(),
            alert_id: Some(self.alert.id.clone()),
            reason: self.reason.clone(),
            ..OrderRow::default()
        }
    }

    /// A step about one call; the state stays what it is.
    pub(crate) fn take_call(&mut self, call: usize, now: i64, detail: &str) -> OrderRow {
        let row = self.take(self.state, now, detail);
        let call = &mut self.calls[call];
        call.detail = Some(clip(detail, DETAIL_BYTES_MAX).into());
        OrderRow { switch: Some(call.switch.clone()), attempt: Some(call.attempt), ..row }
    }

    /// Asks `switches` to act: one row for each first attempt.
    pub(crate) fn ask(&mut self, switches: Vec<String>, act: Act, now: i64, rows: &mut Vec<OrderRow>) {
        for switch in switches {
            let (step, state) = (self.step + 1, self.state);
            let next_at = Some(now);
            let call = Call { switch, act, step, state, asked_at: now, attempt: 1, next_at, done: false, detail: None };
            self.calls.push(call);
            rows.push(self.take_call(self.calls.len() - 1, now, "first attempt"));
        }
    }

    /// Whether only the last step is missing: every call is done or given up.
    pub(crate) fn may_finish(&self) -> bool {
        self.state == State::Executing && self.calls.iter().all(|call| call.next_at.is_none())
    }

    pub(crate) fn take_last(&mut self, now: i64) -> OrderRow {
        let given_up: Vec<&str> =
            self.calls.iter().filter(|call| !call.done).map(|call| call.switch.as_str()).collect();
        if given_up.is_empty() {
            return self.take(State::Executed, now, "the deny list holds it, and every switch is done");
        }
        let detail = format!("the deny list holds it, but these were given up: {}", given_up.join(", "));
        self.take(State::Partial, now, &detail)
    }

    /// Whether the deny list holds this order.
    pub fn denies(&self) -> bool {
        matches!(self.state, State::Executing | State::Executed | State::Partial)
    }

    /// Whether nothing more will come of it by itself, but for calls that undo.
    pub fn ended(&self) -> bool {
        self.mode == Mode::Observe || self.ended_at.is_some()
    }

    /// Whether an alert received at `received_at` asks for nothing that this order does not give already. An order that
    /// ended covers what was received before it ended, so that a late alert does not undo a release.
    pub(crate) fn covers(&self, mode: Mode, switches: &[String], received_at: i64) -> bool {
        let until = match self.mode {
            Mode::Observe => self.expires_at,
            Mode::Act => self.ended_at.unwrap_or(i64::MAX),
        };
        (self.mode == Mode::Act || mode == Mode::Observe)
            && received_at <= until
            && switches.iter().all(|name| self.switches.contains(name))
    }
}

pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Act => "act",
    }
}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends at a character.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
