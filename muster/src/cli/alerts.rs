//! `muster alerts`: what the detectors raised, and what people say of it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use schemas::Judgement;
use serde_json::{Value, json};

use super::sql::{Tenant, ask, ask_json, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};
use crate::server::operator;
use crate::verdict;

#[derive(Subcommand)]
pub(crate) enum AlertsCommand {
    /// The newest alerts
    List(List),
    /// One alert: what is normal, what happened, why it was raised
    Show(Show),
    /// Say that an alert was about ordinary work: the detectors learn it
    Dismiss(Judge),
    /// Say that an alert was right: what is held back because of it is never learned
    Confirm(Judge),
}

#[derive(Args)]
pub(crate) struct List {
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Also those beyond the tenant's budget, of which nobody was told
    #[arg(long)]
    all: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Id of the alert; its first digits are enough
    id: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Judge {
    /// Id of the alert; its first 8 digits are enough
    id: String,
    /// Why, for the record
    #[arg(long)]
    why: String,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &AlertsCommand, config: Config) -> Result<ExitCode> {
    let tenant = match command {
        AlertsCommand::List(list) => &list.tenant.tenant,
        AlertsCommand::Show(show) => &show.tenant.tenant,
        AlertsCommand::Dismiss(judge) | AlertsCommand::Confirm(judge) => &judge.tenant.tenant,
    };
    let access = Access::open(config, tenant).await?;
    match command {
        AlertsCommand::List(command) => list(command, &access).await,
        AlertsCommand::Show(command) => show(command, &access).await,
        AlertsCommand::Dismiss(command) => judge(command, Judgement::Dismissed, &access).await,
        AlertsCommand::Confirm(command) => judge(command, Judgement::Confirmed, &access).await,
    }
}

async fn list(command: &List, access: &Access) -> Result<ExitCode> {
    let columns = match command.format {
        Format::Table => "substr(alert_id, 1, 12) AS alert, time, detector, severity_id AS severity, verdict, title",
        Format::Json | Format::Csv => "*",
    };
    let which = if command.all { "" } else { "WHERE over_budget IS NOT TRUE" };
    let limit = command.limit;
    let query = format!("SELECT {columns} FROM judged_alerts {which} ORDER BY time DESC, alert_id LIMIT {limit}");
    output::rows(&ask(access, &command.tenant.tenant, &query).await?, command.format)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(command: &Show, access: &Access) -> Result<ExitCode> {
    let tenant = &command.tenant.tenant;
    let query = format!("SELECT * FROM judged_alerts WHERE starts_with(alert_id, {}) LIMIT 2", quoted(&command.id));
    let found = ask_json(access, tenant, &query).await?;
    let alert = match found.as_slice() {
        [alert] => alert,
        [] => bail!("no alert of tenant `{tenant}` has an id that starts with `{}`", command.id),
        _ => bail!("more than one alert has an id that starts with `{}`", command.id),
    };
    match command.format {
        Format::Table => output::print(&story(alert))?,
        Format::Json | Format::Csv => output::json_lines(&found)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a verdict, through the running server, else in the folder itself, where the next server learns of it.
async fn judge(command: &Judge, judgement: Judgement, access: &Access) -> Result<ExitCode> {
    let Judge { id, why, tenant } = command;
    let id = match access {
        Access::Server(client) => {
            let body = serde_json::to_vec(&json!({"verdict": judgement, "why": why}))?;
            let answer = client.post(&format!("/v1/alerts/{id}/verdict"), body).await?;
            let row: Value = serde_json::from_slice(&answer.body)?;
            row["alert_id"].as_str().unwrap_or(id).to_owned()
        }
        Access::Folder(store) => verdict::give(store, &operator(&tenant.tenant), id, judgement, why).await?.alert_id,
    };
    output::print(&format!("{judgement} {id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The alert as a person reads it.
pub(crate) fn story(alert: &Value) -> String {
    let text = |name: &str| alert.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let number = |name: &str| alert.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let mut story = format!("{}\n\n{}\n\n", text("title"), text("explanation"));
    let (score, threshold, p_value) = (number("score"), number("threshold"), number("p_value"));
    story.push_str(&format!(
        "score      {score:.1} bits (an alert needs {threshold:.1}; by chance p = {p_value:.2e})\n"
    ));
    let terms: Vec<Value> = serde_json::from_str(&text("terms")).unwrap_or_default();
    for term in &terms {
        let bits = term.get("bits").and_then(Value::as_f64).unwrap_or(0.0);
        let part = |name: &str| term.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        story.push_str(&format!("  {bits:6.1}   {}: {}\n", part("name"), part("text")));
    }
    for (label, column) in
        [("agent", "agent_id"), ("user", "user_id"), ("credential", "credential_id"), ("session", "session_id")]
    {
        story.push_str(&format!("{label:10} {}\n", text(column)));
    }
    if alert.get("over_budget").and_then(Value::as_bool) == Some(true) {
        story.push_str("budget     beyond what the tenant is told of in a day: evidence only\n");
    }
    story.push_str(&format!("time       {}\nalert      {}\n", text("time"), text("alert_id")));
    if alert.get("verdict").is_some_and(Value::is_string) {
        let (verdict, by, at, why) = (text("verdict"), text("judged_by"), text("judged_at"), text("why"));
        story.push_str(&format!("verdict    {verdict} by {by} at {at}: {why}\n"));
    }
    let events: Vec<&str> =
        alert.get("event_ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    story.push_str(&format!("events     {}\n", events.join("\n           ")));
    story
}
