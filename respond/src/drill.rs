//! Rehearsals: a canary agent whose traffic Muster makes itself is stopped and let go, and the time it took is kept.
//!
//! The canary calls the drill's URL through the operator's gateway, with a credential of its own. It must get through before; then
//! an order stops it, by the same path as any other, and it calls on until it is refused three times in a row. Then it is
//! released, and must get through again. Without a URL the deny list itself is asked: that rehearses Muster alone, and the report
//! says so. A drill needs no approval, since it can only stop the canary; it counts for no cap.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use schemas::Principal;
use serde::{Deserialize, Serialize};

use crate::config::{Drill, Mode};
use crate::error::Error;
use crate::order::{Cause, Order, State, Target, Wish};
use crate::responder::Responder;
use crate::target::Asker;

/// Between two calls of the canary.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the canary may get through after the decision, or be refused after the release.
const PATIENCE_MICROS: i64 = 60_000_000;
const REFUSALS: u32 = 3;
const CALL: Duration = Duration::from_secs(5);
/// The canary of a drill that nobody configured.
const CANARY: &str = "muster-canary";

/// What a drill measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub drill: String,
    pub order_id: String,
    pub agent: String,
    /// What the canary called.
    pub path: String,
    /// Whether it was refused, and let through again after the release.
    pub stopped: bool,
    pub released: bool,
    /// From the decision to the end of the last call that was let through; 0 where none was.
    pub last_allowed_ms: f64,
    /// From the decision to the first refusal.
    pub first_refused_ms: f64,
    /// From the release to the first call that was let through.
    pub back_ms: f64,
    pub calls: u32,
}

impl Responder {
    /// The configured drills; where there is none, one that asks the deny list itself.
    pub fn drills(&self) -> Vec<Drill> {
        if self.config.drills.is_empty() {
            return vec![Drill { name: "deny-list".into(), agent: CANARY.into(), ..Drill::default() }];
        }
        self.config.drills.clone()
    }

    /// Rehearses; `by` is who asked for it.
    pub async fn drill(&self, by: &Principal, name: &str) -> Result<Report, Error> {
        let drills = self.drills();
        let drill = drills.iter().find(|drill| drill.name == name);
        let drill = drill.ok_or_else(|| Error::Request(format!("no drill is named `{name}`")))?;
        let Ok(_one) = self.drilling.try_lock() else { return Err(Error::Request("a drill is under way".into())) };
        if !self.canary(&by.tenant, drill).await? {
            return Err(Error::Request(format!("the canary {} is refused before the drill begins", drill.agent)));
        }
        let order_id = self.decide_drill(by, drill).await?;
        let mut report = Report {
            drill: drill.name.clone(),
            order_id: order_id.clone(),
            agent: drill.agent.clone(),
            path: drill.url.clone().unwrap_or_else(|| "Muster's deny list itself, no gateway".into()),
            stopped: false,
            released: false,
            last_allowed_ms: 0.0,
            first_refused_ms: 0.0,
            back_ms: 0.0,
            calls: 0,
        };
        let stopped = self.until_refused(&by.tenant, drill, &mut report).await;
        if stopped.is_ok() && report.stopped {
            let writing = self.writing.lock().await;
            let detail = format!("canary refused on the same path ({})", report.path);
            self.verify(&writing, &order_id, &detail).await?;
        }
        // Whatever happened: the canary is not left stopped.
        self.release(&order_id, &by.name, "the drill is over").await?;
        stopped?;
        self.until_back(&by.tenant, drill, &mut report).await?;
        self.keep_report(&report).await?;
        Ok(report)
    }

    async fn decide_drill(&self, by: &Principal, drill: &Drill) -> Result<String, Error> {
        let writing = self.writing.lock().await;
        let now = self.clock.now_micros();
        let wish = Wish {
            tenant: &by.tenant,
            target: Target::Agent { agent: drill.agent.clone() },
            mode: Mode::Act,
            drill: true,
            switches: &drill.switches,
            switches_next: &[],
            stands_secs: 300,
            approvals_needed: 0,
            requested_by: by.name.clone(),
            reason: &format!("drill {}", drill.name),
            cause: &now.to_string(),
            log_partition: 0,
            alert: Cause::default(),
        };
        let mut order = Order::new(wish, now, 0);
        let plan = self.plan(&order);
        let mut rows = vec![order.take(State::Requested, now, &plan.line(order.expires_at))];
        order.plan = plan.digest;
        order.execute(&by.name, now, "a drill can only stop its canary", &mut rows);
        let order_id = order.order_id.clone();
        self.start(&writing, order, rows).await?;
        Ok(order_id)
    }

    async fn until_refused(&self, tenant: &str, drill: &Drill, report: &mut Report) -> Result<(), Error> {
        let decided = self.order(&report.order_id).map_or(0, |order| order.requested_at);
        let since = |now: i64| (now - decided) as f64 / 1000.0;
        let mut refusals = 0;
        while refusals < REFUSALS && self.clock.now_micros() - decided < PATIENCE_MICROS {
            report.calls += 1;
            let through = self.canary(tenant, drill).await?;
            let now = self.clock.now_micros();
            if through {
                (refusals, report.last_allowed_ms) = (0, since(now));
            } else {
                if refusals == 0 {
                    report.first_refused_ms = since(now);
                }
                refusals += 1;
            }
            if refusals < REFUSALS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        report.stopped = refusals >= REFUSALS;
        Ok(())
    }

    async fn until_back(&self, tenant: &str, drill: &Drill, report: &mut Report) -> Result<(), Error> {
        let released = self.clock.now_micros();
        loop {
            let through = self.canary(tenant, drill).await?;
            let waited = self.clock.now_micros() - released;
            if through {
                (report.released, report.back_ms) = (true, waited as f64 / 1000.0);
            }
            if through || waited >= PATIENCE_MICROS {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One call of the canary: whether it gets through.
    async fn canary(&self, tenant: &str, drill: &Drill) -> Result<bool, Error> {
        let Some(url) = &drill.url else {
            let asker = Asker { agent: Some(drill.agent.clone()), ..Asker::default() };
            return Ok(self.deny().check(tenant, &asker).is_none());
        };
        let unable = |why: String| Error::Request(format!("the canary's call to {url} failed: {why}"));
        let client = crate::outbound::client(&self.config).map_err(|error| unable(error.to_string()))?;
        let mut request = client.get(url).timeout(CALL);
        if let Some(credential) = &drill.credential {
            let name = HeaderName::from_bytes(drill.header.as_bytes()).map_err(|error| unable(error.to_string()))?;
            let value = HeaderValue::from_str(credential.text()).map_err(|error| unable(error.to_string()))?;
            request = request.header(name, value);
        }
        let status = request.send().await.map_err(|error| unable(error.to_string()))?.status();
        match status.as_u16() {
            401 | 403 => Ok(false),
            _ if status.is_success() => Ok(true),
            // Neither stopped nor let through: it says nothing about the order.
            _ => Err(unable(format!("answered {status}"))),
        }
    }

    /// The report as a step of the drill's order, after its end: rows are its history.
    async fn keep_report(&self, report: &Report) -> Result<(), Error> {
        let writing = self.writing.lock().await;
        let Some(mut order) = self.order(&report.order_id) else { return Ok(()) };
        let text = serde_json::to_string(report).expect("a report is JSON");
        let row = order.take(order.state, self.clock.now_micros(), &text);
        self.write(&writing, vec![order], vec![row]).await
    }
}
