//! One order: whom it stops, how far it got, and which calls to switches are still to be made.
//!
//! An order is a plain value. Each step changes it and yields the row of table `orders` that says so; both go into the control
//! log in one group, so that the last value in that log is the state and the rows are its history.

use serde::{Deserialize, Serialize};

use schemas::{AlertRow, OrderRow, id};

use crate::config::Mode;
pub use crate::state::State;
pub use crate::target::Target;

/// What a switch is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Stop,
    Release,
    /// Read back whether the system holds what it said.
    Look,
    /// Tell a person: nothing is stopped by it, and an order does not depend on it.
    Tell,
}

impl Act {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Act::Stop => "stop",
            Act::Release => "release",
            Act::Look => "look",
            Act::Tell => "tell",
        }
    }
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
    /// What the switch said last; of a call that tells, what is to be told.
    pub detail: Option<String>,
    /// Tokens of it that the receiver fetched and acknowledged; only while others are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<String>,
}

/// What the receiver of a webhook is told about the alert. Clipped: an order must fit its frame and its message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Empty where no alert is behind the order.
    pub id: String,
    pub detector: String,
    pub severity_id: i32,
    pub title: String,
    pub explanation: String,
    pub agent_id: Option<String>,
}

/// One person's word for the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub by: String,
    pub at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub order_id: String,
    pub tenant: String,
    pub target: Target,
    pub mode: Mode,
    /// A rehearsal against a canary.
    #[serde(default)]
    pub drill: bool,
    pub state: State,
    /// Number of the last step.
    pub step: i32,
    pub requested_by: String,
    pub requested_at: i64,
    pub reason: String,
    pub alert: Cause,
    pub log_partition: i32,
    /// Called when it is approved.
    pub switches: Vec<String>,
    /// Called when it was seen violated; empty once they were.
    #[serde(default)]
    pub switches_next: Vec<String>,
    /// How long it stands from the approval on.
    #[serde(default)]
    pub stands_secs: u64,
    pub expires_at: i64,
    /// Digest of the plan that approvals are bound to.
    #[serde(default)]
    pub plan: String,
    #[serde(default)]
    pub approvals_needed: u32,
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Until when persons may approve.
    #[serde(default)]
    pub approve_until: i64,
    /// Since when nothing should get through.
    #[serde(default)]
    pub effective_at: Option<i64>,
    /// Evidence seen while switches were still being called.
    #[serde(default)]
    pub evidence: Option<String>,
    /// When it was released, expired or failed.
    pub ended_at: Option<i64>,
    pub calls: Vec<Call>,
}

/// What somebody wants stopped, before it is an order.
#[derive(Clone, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) target: Target,
    pub(crate) mode: Mode,
    pub(crate) drill: bool,
    pub(crate) switches: &'a [String],
    pub(crate) switches_next: &'a [String],
    pub(crate) stands_secs: u64,
    pub(crate) approvals_needed: u32,
    pub(crate) requested_by: String,
    pub(crate) reason: &'a str,
    /// What makes two wishes the same one.
    pub(crate) cause: &'a str,
    pub(crate) log_partition: i32,
    pub(crate) alert: Cause,
}

const TITLE_BYTES_MAX: usize = 500;
const EXPLANATION_BYTES_MAX: usize = 4000;
const DETAIL_BYTES_MAX: usize = 1000;

impl Cause {
    pub(crate) fn of(alert: &AlertRow) -> Cause {
        Cause {
            id: alert.alert_id.clone(),
            detector: alert.detector.clone(),
            severity_id: alert.severity_id,
            title: clip(&alert.title, TITLE_BYTES_MAX).into(),
            explanation: clip(&alert.explanation, EXPLANATION_BYTES_MAX).into(),
            agent_id: alert.agent_id.clone(),
        }
    }
}

impl Order {
    /// The order that is wished for; its step 0 is still to be taken.
    pub(crate) fn new(wish: Wish<'_>, now: i64, approve_secs: u64) -> Order {
        let (kind, first, second) = wish.target.parts();
        let mode = mode_name(wish.mode, wish.drill);
        let digest = |parts: [&str; 6]| id::digest(parts.map(str::as_bytes));
        Order {
            order_id: digest([wish.tenant, kind, first, second, wish.cause, mode]),
            tenant: wish.tenant.to_owned(),
            mode: wish.mode,
            drill: wish.drill,
            state: State::Requested,
            step: -1,
            requested_by: wish.requested_by,
            requested_at: now,
            reason: clip(wish.reason, TITLE_BYTES_MAX).into(),
            alert: wish.alert,
            log_partition: wish.log_partition,
            switches: wish.switches.to_vec(),
            switches_next: wish.switches_next.to_vec(),
            stands_secs: wish.stands_secs,
            expires_at: after(now, wish.stands_secs),
            plan: String::new(),
            approvals_needed: wish.approvals_needed,
            approvals: Vec::new(),
            approve_until: after(now, approve_secs),
            effective_at: None,
            evidence: None,
            ended_at: None,
            calls: Vec::new(),
            target: wish.target,
        }
    }

    /// Takes the next step and returns its row.
    pub(crate) fn take(&mut self, state: State, now: i64, detail: &str) -> OrderRow {
        assert!(self.state.may_become(state), "an order that is {:?} does not become {state:?}", self.state);
        self.state = state;
        self.step += 1;
        if state.is_last() {
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
            target_id: if self.target == Target::Tenant { self.tenant.clone() } else { self.target.id() },
            state: state.name().into(),
            mode: mode_name(self.mode, self.drill).into(),
            detail: (!detail.is_empty()).then(|| clip(detail, DETAIL_BYTES_MAX).into()),
            expires_at: Some(self.expires_at),
            requested_by: self.requested_by.clone(),
            alert_id: (!self.alert.id.is_empty()).then(|| self.alert.id.clone()),
            reason: self.reason.clone(),
            ..OrderRow::default()
        }
    }

    /// The same, with somebody other than the asker behind it.
    pub(crate) fn take_by(&mut self, by: &str, state: State, now: i64, detail: &str) -> OrderRow {
        OrderRow { requested_by: by.into(), ..self.take(state, now, detail) }
    }

    /// Approved, and with it in force: the deny list holds it, its time runs, and the first attempts are asked for.
    pub(crate) fn execute(&mut self, by: &str, now: i64, detail: &str, rows: &mut Vec<OrderRow>) {
        self.expires_at = after(now, self.stands_secs);
        rows.push(self.take_by(by, State::Approved, now, detail));
        self.effective_at = Some(now);
        rows.push(self.take(State::Executing, now, "the deny list holds it"));
        self.ask(self.switches.clone(), Act::Stop, now, rows);
    }

    /// A step about one call; the state stays what it is.
    pub(crate) fn take_call(&mut self, call: usize, now: i64, detail: &str) -> OrderRow {
        let row = self.take(self.state, now, detail);
        let call = &mut self.calls[call];
        if call.act != Act::Tell {
            call.detail = Some(clip(detail, DETAIL_BYTES_MAX).into());
        }
        OrderRow { switch: Some(call.switch.clone()), attempt: Some(call.attempt), ..row }
    }

    /// Asks `switches` to act: one row for each first attempt.
    pub(crate) fn ask(&mut self, switches: Vec<String>, act: Act, now: i64, rows: &mut Vec<OrderRow>) {
        for switch in switches {
            let (step, state) = (self.step + 1, self.state);
            let next_at = Some(now);
            let (asked_at, attempt, done, detail, taken) = (now, 1, false, None, Vec::new());
            self.calls.push(Call { switch, act, step, state, asked_at, attempt, next_at, done, detail, taken });
            let first =
                if act == Act::Stop { "first attempt".to_owned() } else { format!("{}: first attempt", act.name()) };
            rows.push(self.take_call(self.calls.len() - 1, now, &first));
        }
    }

    /// Has `switches` tell persons `what`.
    pub(crate) fn tell(&mut self, switches: &[String], what: &str, now: i64, rows: &mut Vec<OrderRow>) {
        let first = self.calls.len();
        self.ask(switches.to_vec(), Act::Tell, now, rows);
        for call in &mut self.calls[first..] {
            call.detail = Some(clip(what, DETAIL_BYTES_MAX).into());
        }
    }

    /// Whether only the last step is missing: every call that stops is done or given up.
    pub(crate) fn may_finish(&self) -> bool {
        self.state == State::Executing && self.stops().all(|call| call.next_at.is_none())
    }

    pub(crate) fn stops(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.act == Act::Stop)
    }

    /// The steps that end the execution, with the evidence that came meanwhile; `tell` are told where a switch was given up.
    pub(crate) fn finish(&mut self, now: i64, tell: &[String], rows: &mut Vec<OrderRow>) {
        let given_up: Vec<&str> = self.stops().filter(|call| !call.done).map(|call| call.switch.as_str()).collect();
        if given_up.is_empty() {
            rows.push(self.take(State::Executed, now, "the deny list holds it, and every switch is done"));
        } else {
            let detail = format!("the deny list holds it, but these were given up: {}", given_up.join(", "));
            rows.push(self.take(State::Partial, now, &detail));
            self.tell(tell, &detail, now, rows);
        }
        if let Some(evidence) = self.evidence.take() {
            rows.push(self.take(State::Verified, now, &evidence));
        }
    }

    /// Whether the deny list holds this order.
    pub fn denies(&self) -> bool {
        self.state.denies()
    }

    /// When its time is over: its own, or that for approvals.
    pub(crate) fn over_at(&self) -> Option<i64> {
        self.denies().then_some(self.expires_at).or(self.waits().then_some(self.approve_until))
    }

    /// When it is quiet, if nothing is seen of it until then.
    pub(crate) fn quiet_at(&self, quiet_secs: u64) -> Option<i64> {
        let may = matches!(self.state, State::Executed | State::Partial) && self.mode != Mode::Observe && !self.drill;
        may.then(|| after(self.effective_at.unwrap_or(self.requested_at), quiet_secs))
    }

    /// When time alone changes it; at once where a restart left its last step out.
    pub(crate) fn deadline(&self, quiet_secs: u64) -> Option<i64> {
        let finish = self.may_finish().then_some(i64::MIN);
        [self.over_at(), self.quiet_at(quiet_secs), finish].into_iter().flatten().min()
    }

    /// Whether it waits for persons to approve it.
    pub fn waits(&self) -> bool {
        self.state == State::Requested && self.mode == Mode::Ask
    }

    /// Whether nothing more will come of it by itself, but for calls that undo or tell.
    pub fn ended(&self) -> bool {
        self.mode == Mode::Observe || self.ended_at.is_some()
    }

    /// Whether an alert received at `received_at` asks for nothing that this order does not give already. An order that
    /// ended covers what was received before it ended, so that a late alert does not undo a release.
    pub(crate) fn covers(&self, mode: Mode, switches: &[String], received_at: i64) -> bool {
        let until = match self.mode {
            Mode::Observe => self.expires_at,
            Mode::Ask | Mode::Act => self.ended_at.unwrap_or(i64::MAX),
        };
        // One that stands gives all there is, whoever approved it.
        (self.denies() || self.mode >= mode)
            && !self.drill
            && received_at <= until
            && switches.iter().all(|name| self.switches.contains(name))
    }
}

pub(crate) fn after(now: i64, secs: u64) -> i64 {
    now.saturating_add((secs as i64).saturating_mul(1_000_000))
}

pub(crate) fn mode_name(mode: Mode, drill: bool) -> &'static str {
    match mode {
        _ if drill => "drill",
        Mode::Observe => "observe",
        Mode::Ask => "ask",
        Mode::Act => "act",
    }
}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends at a character.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An order as version 0.1 before approvals wrote it into its control log.
    #[test]
    fn an_older_order_is_read() {
        let text = r#"{"order_id":"o","tenant":"acme","target":{"kind":"agent","agent":"billing"},"mode":"act",
            "state":"executed","step":4,"requested_by":"policy for combination","requested_at":1,"reason":"r",
            "alert":{"id":"a","detector":"combination","severity_id":4,"title":"t","explanation":"e","agent_id":"billing"},
            "log_partition":3,"switches":["soc"],"expires_at":9,"ended_at":null,"calls":[{"switch":"soc","act":"stop",
            "step":3,"state":"executing","asked_at":1,"attempt":1,"next_at":null,"done":true,"detail":"done: 204"}]}"#;
        let order: Order = serde_json::from_str(text).expect("it is read");
        assert!(order.denies() && !order.waits() && !order.drill && order.switches_next.is_empty());
        assert_eq!((order.effective_at, order.approvals_needed), (None, 0));
    }
}
