//! What the demo prints: what happened, in the order it happened, with the figures that were measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::util::pretty::pretty_format_batches;
use benches::fleet::{Facts, Fleet, TENANTS};
use lake::log::Payload;
use schemas::AlertRow;
use schemas::alert::Alerts;
use serde_json::Value;

use super::receiver::Call;
use crate::node::Node;
use crate::output::{grouped, print};

const TEXT_COLUMNS: usize = 110;
const MARGIN: &str = "          ";

/// The teller: everything it says comes from the node's own tables.
pub(super) struct Story<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) began: Instant,
}

impl Story<'_> {
    pub(super) fn opening(&self, fleet: &Fleet, url: &str) -> Result<()> {
        print(&format!(
            "MUSTER DEMO\n\nA simulated company: {} agents in the tenants {} and {}, with owners, habits, and people they act for.\n\
             Its identity provider (Okta) and two gateways (Envoy, Kong) post their logs to {url}/v1/ingest.\n\n\
             1. A WEEK OF HISTORY\n",
            fleet.agents(),
            TENANTS[0],
            TENANTS[1]
        ))
    }

    pub(super) async fn week(&self, records: usize, took: Duration) -> Result<()> {
        let mut raised = 0;
        for tenant in TENANTS {
            raised += self.number(tenant, "SELECT count(*) AS n FROM alerts").await?;
        }
        let each_second = (records as f64 / took.as_secs_f64()) as i64;
        print(&format!(
            "   {} vendor records, each acknowledged after an fsync, in {:.1} s ({} a second, unoptimized build)\n",
            grouped(records as i64),
            took.as_secs_f64(),
            grouped(each_second)
        ))?;
        print(&format!(
            "   every one became an event; in all that ordinary work {raised} rare actions raised an alert (history never acts)\n\n"
        ))
    }

    pub(super) async fn hijack(&self, fleet: &Fleet, acknowledged: &[i64], call: &Call) -> Result<()> {
        let facts = fleet.facts();
        let Facts { hijack, .. } = &facts;
        print(&format!(
            "2. THE HIJACK\n   {} ({}), owned by {}, acts for {}.\n   It reads its invoices as every day. Then, in the same session:\n",
            hijack.agent.name,
            hijack.agent.id,
            hijack.agent.owner.as_deref().unwrap_or("nobody"),
            hijack.user_mail,
        ))?;
        for stray in &hijack.stray_calls {
            print(&format!("     {stray}\n"))?;
        }
        let alerts = self.alerts_about(&hijack.agent.id)?;
        // The whole of the alert that says most, of the others their titles.
        let strongest = alerts.iter().map(|(alert, _)| alert).max_by(|a, b| a.score.total_cmp(&b.score));
        print("\n")?;
        for (alert, _) in &alerts {
            print(&format!("   ALERT  {} ({:.1} bits)\n", alert.title, alert.score))?;
            if strongest.is_some_and(|strongest| strongest.alert_id == alert.alert_id) {
                print(&explained(alert))?;
            }
        }
        self.order(&hijack.agent.id).await?;
        self.call(call)?;
        self.times(acknowledged, &alerts, call)
    }

    async fn order(&self, agent: &str) -> Result<()> {
        let query = format!(
            "SELECT step, state, coalesce(switch, '') AS switch, coalesce(detail, '') AS detail FROM orders \
             WHERE target_id = '{agent}' ORDER BY time, order_id, step"
        );
        let rows = self.node.query.sql(TENANTS[0], &query).await?.rows_as::<Value>()?;
        print(&format!("\n   ORDER  stop agent {agent}\n"))?;
        for row in rows {
            let line = format!("{:10} {} {}", plain(&row["state"]), plain(&row["switch"]), plain(&row["detail"]));
            print(&format!("{}\n", wrapped(&line, MARGIN)))?;
        }
        Ok(())
    }

    fn call(&self, call: &Call) -> Result<()> {
        print(&format!(
            "\n   WEBHOOK  {} arrived, signature verified (Standard Webhooks, HMAC-SHA256)\n          webhook-id {}\n",
            plain(&call.body["type"]),
            call.id
        ))
    }

    /// The times from the acknowledgement of the triggering event, all from the machine's one clock.
    fn times(&self, acknowledged: &[i64], alerts: &[(AlertRow, i64)], call: &Call) -> Result<()> {
        let (first, written_at) = alerts.first().context("the hijacked agent raised no alert")?;
        // The request that held the triggering event is the last one received before the alert was written.
        let received = first.received_at;
        let ack = acknowledged.iter().copied().find(|ack| *ack >= received).unwrap_or(received);
        let millis = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        // The alert is often written before the acknowledgement has travelled back to the sender.
        print(&format!(
            "\n   MEASURED  received → acknowledged {:.1} ms · received → alert {:.1} ms (acknowledged → alert {:.1} ms) \
             · alert → webhook {:.1} ms\n\n",
            millis(received, ack),
            millis(received, *written_at),
            millis(ack, *written_at).max(0.0),
            millis(*written_at, call.received_at),
        ))
    }

    pub(super) async fn hygiene(&self, fleet: &Fleet) -> Result<()> {
        let facts = fleet.facts();
        print("3. WHAT THE ROSTER SAYS OF TWO OTHERS\n")?;
        for (agent, why) in [
            (&facts.shared.agent, "its key is used by another agent, from hosts it never ran on"),
            (&facts.never_expires.agent, "it holds a token that never expires, and nobody owns it"),
        ] {
            let query = format!("SELECT * FROM agents WHERE agent_id IN ('{}', '{}')", agent.id, agent.consumer);
            print(&format!("   {}: {why}\n", agent.name))?;
            for found in self.node.query.sql(TENANTS[0], &query).await?.rows_as::<query::roster::Agent>()? {
                for (flag, known, fact) in found.flags() {
                    if known == query::roster::Known::Yes {
                        print(&format!("{}\n", wrapped(&format!("{flag}: {fact}"), MARGIN)))?;
                    }
                }
            }
        }
        print("\n")
    }

    pub(super) async fn questions(&self, fleet: &Fleet) -> Result<()> {
        let agent = fleet.facts().hijack.agent.id;
        let questions = [
            (
                "What did the hijacked agent touch, and how much went out?",
                format!(
                    "SELECT action, resource_id, outcome, count(*) AS calls, sum(bytes_out) AS bytes\n     \
                     FROM events WHERE agent_id = '{agent}' AND time > now() - INTERVAL '10 minutes'\n     \
                     GROUP BY 1, 2, 3 ORDER BY bytes DESC NULLS LAST LIMIT 6"
                ),
            ),
            (
                "Which credentials are in more than one agent's hands?",
                "SELECT credential_id, credential_kind, count(DISTINCT agent_id) AS agents, count(DISTINCT src_ip) AS addresses\n     \
                 FROM events WHERE credential_id IS NOT NULL\n     \
                 GROUP BY 1, 2 HAVING count(DISTINCT agent_id) > 1 ORDER BY agents DESC LIMIT 5"
                    .to_owned(),
            ),
            (
                "Which agents act through others, and on whose behalf did it begin?",
                "SELECT agents.agent_name, chain_root(delegation) AS began_with, delegation_depth, count(*) AS calls\n     \
                 FROM events JOIN agents USING (agent_id) WHERE delegation_depth > 2\n     \
                 GROUP BY 1, 2, 3 ORDER BY calls DESC LIMIT 5"
                    .to_owned(),
            ),
        ];
        print("4. THREE QUESTIONS WORTH ASKING\n")?;
        for (question, sql) in questions {
            let answer = self.node.query.sql(TENANTS[0], &sql).await?;
            let table = pretty_format_batches(&answer.batches)?.to_string();
            print(&format!("\n   {question}\n     {sql}\n{}\n", indented(&table, "   ")))?;
        }
        Ok(())
    }

    pub(super) async fn closing(&self) -> Result<()> {
        let sums = "SELECT sum(received) AS received, sum(mapped) AS mapped, sum(noise) AS noise, \
             sum(quarantined) AS quarantined, sum(duplicates) AS duplicates FROM ingest_ledger";
        let mut total = [0i64; 5];
        for tenant in TENANTS {
            let rows = self.node.query.sql(tenant, sums).await?.rows_as::<Value>()?;
            let names = ["received", "mapped", "noise", "quarantined", "duplicates"];
            for (sum, name) in total.iter_mut().zip(names) {
                *sum += rows[0][name].as_i64().unwrap_or(0);
            }
        }
        let [received, mapped, noise, quarantined, duplicates] = total.map(grouped);
        print(&format!(
            "\nreceived {received} = mapped {mapped} + noise {noise} + quarantined {quarantined} + duplicates {duplicates}\n\
             the whole demo took {:.1} s\n",
            self.began.elapsed().as_secs_f64()
        ))
    }

    /// Alerts about an agent, as the log holds them, with the time each was written.
    fn alerts_about(&self, agent: &str) -> Result<Vec<(AlertRow, i64)>> {
        let mut found = Vec::new();
        let mut position = self.node.log.firsts();
        while !position.reaches(&self.node.log.ends()) {
            for frame in self.node.log.read_all(&position, 8 << 20)? {
                position.pass(frame.sequence, frame.offset + 1);
                let Payload::Alerts(batch) = &frame.payload else { continue };
                let alerts = Alerts::new(batch)?;
                let about =
                    (0..batch.num_rows()).map(|i| alerts.row(i)).filter(|a| a.agent_id.as_deref() == Some(agent));
                found.extend(about.map(|alert| (alert, frame.written_at)));
            }
        }
        Ok(found)
    }

    async fn number(&self, tenant: &str, query: &str) -> Result<i64> {
        let rows = self.node.query.sql(tenant, query).await?.rows_as::<Value>()?;
        Ok(rows[0]["n"].as_i64().unwrap_or(0))
    }
}

/// An alert's explanation and the terms of its score.
fn explained(alert: &AlertRow) -> String {
    let mut text = wrapped(&alert.explanation, MARGIN) + "\n";
    let terms: Vec<Value> = serde_json::from_str(&alert.terms).unwrap_or_default();
    for term in terms {
        let bits = term["bits"].as_f64().unwrap_or(0.0);
        text += &wrapped(&format!("{bits:.1} bits {}: {}", plain(&term["name"]), plain(&term["text"])), MARGIN);
        text += "\n";
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

fn indented(text: &str, margin: &str) -> String {
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}

/// Text broken at spaces, each line behind a margin.
fn wrapped(text: &str, margin: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > TEXT_COLUMNS - margin.len() {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    indented(&lines.join("\n"), margin)
}
