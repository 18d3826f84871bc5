//! `muster agents report`: the review that a security team does each quarter. Each line rests on a fact of the roster; what no
//! fact decides is counted as such, never listed as fine.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::sql::{Tenant, ask_json};
use super::status::poll_line;
use crate::client::Access;
use crate::config::Config;
use crate::node::POLLS;
use crate::output::{self, grouped};

#[derive(Args)]
pub(crate) struct ReportArgs {
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    #[command(flatten)]
    tenant: Tenant,
}

/// Form of the report.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
    Markdown,
}

/// Flag, title, and what it means that an agent is listed.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("no_owner", "Unowned", "Nobody is named as accountable."),
    ("unused", "Unused", "No use for 90 days, or never: what nobody needs can go."),
    ("never_expires", "Never expiring", "A stolen credential stays good."),
    ("long_lived", "Long-lived credentials", "Made more than a year ago and still in force."),
    ("generic_name", "Generic names", "The name does not say what it is for."),
    ("overprivileged", "Overprivileged", "Granted what opens nearly everything."),
    ("unused_scopes", "Granted and never used", "Scopes that no call needed."),
    ("shared_credential", "Shared credentials", "One credential in several hands."),
];
const AGENTS: &str = "SELECT * FROM agents ORDER BY agent_id";
const UNUSED: &str = "SELECT credential_id, item_id, agent_id, agent_name, owner, provider, created_at, last_used_at, last_seen, \
     never_used FROM credentials WHERE enabled IS DISTINCT FROM false AND (never_used = 'yes' \
     OR greatest(last_used_at, last_seen) < now() - INTERVAL '{days} days') ORDER BY provider, agent_id, credential_id";

#[derive(Serialize)]
struct Report {
    tenant: String,
    agents: usize,
    seen_in_logs: usize,
    only_in_inventory: usize,
    in_logs_and_no_inventory: usize,
    /// The polls that it rests on, with their last complete run.
    inventory: Vec<Value>,
    sections: Vec<Section>,
}

#[derive(Serialize)]
struct Section {
    title: &'static str,
    meaning: &'static str,
    count: usize,
    /// Agents of which no fact says whether they belong here.
    unknown: usize,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    agent_id: Option<String>,
    agent_name: Option<String>,
    owner: Option<String>,
    fact: String,
}

pub(crate) async fn run(command: &ReportArgs, config: Config) -> Result<ExitCode> {
    let tenant = &command.tenant.tenant;
    let access = Access::open(config, tenant).await?;
    let agents = ask_json(&access, tenant, AGENTS).await?;
    let unused = UNUSED.replace("{days}", query::roster::UNUSED_DAYS);
    let credentials = ask_json(&access, tenant, &unused).await?;
    let polls = ask_json(&access, tenant, POLLS).await?;
    let report = report(tenant, &agents, &credentials, polls);
    match command.format {
        Form::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Form::Text => output::print(&text(&report))?,
        Form::Markdown => output::print(&markdown(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn report(tenant: &str, agents: &[Value], credentials: &[Value], inventory: Vec<Value>) -> Report {
    let is_seen = |agent: &&Value| agent["events"].as_i64().unwrap_or(0) > 0;
    let is_listed = |agent: &&Value| agent["listed_in"].is_array();
    let mut sections: Vec<Section> = SECTIONS.iter().map(|section| of_flag(section, agents)).collect();
    let lines: Vec<Line> = credentials.iter().map(unused).collect();
    let (title, meaning) =
        ("Unused credentials", "In force, and not used for 90 days or never, whatever else their agent does.");
    // After the unused agents.
    sections.insert(2, Section { title, meaning, count: lines.len(), unknown: 0, lines });
    let unlisted: Vec<&Value> = agents.iter().filter(|agent| !is_listed(agent)).collect();
    if !inventory.is_empty() {
        let fact = |agent: &&Value| {
            let (events, last) = (agent["events"].as_i64().unwrap_or(0), agent["last_seen"].as_str().unwrap_or("-"));
            line(agent, format!("{} events, last {last}, and no inventory lists it", grouped(events)))
        };
        let lines: Vec<Line> = unlisted.iter().map(fact).collect();
        let (title, meaning) = ("In no inventory", "Seen at work, and none of the polled providers knows it.");
        sections.push(Section { title, meaning, count: lines.len(), unknown: 0, lines });
    }
    Report {
        tenant: tenant.to_owned(),
        agents: agents.len(),
        seen_in_logs: agents.iter().filter(is_seen).count(),
        only_in_inventory: agents.iter().filter(|agent| is_listed(agent) && !is_seen(agent)).count(),
        in_logs_and_no_inventory: unlisted.len(),
        inventory,
        sections,
    }
}

fn of_flag((flag, title, meaning): &(&str, &'static str, &'static str), agents: &[Value]) -> Section {
    let fact = |agent: &Value| agent[format!("{flag}_fact")].as_str().unwrap_or("").to_owned();
    let lines: Vec<Line> =
        agents.iter().filter(|agent| agent[*flag] == "yes").map(|agent| line(agent, fact(agent))).collect();
    let unknown = agents.iter().filter(|agent| agent[*flag] == "unknown").count();
    Section { title, meaning, count: lines.len(), unknown, lines }
}

fn line(agent: &Value, fact: String) -> Line {
    let text = |name: &str| agent[name].as_str().map(plain);
    Line { agent_id: text("agent_id"), agent_name: text("agent_name"), owner: text("agent_owner"), fact: plain(&fact) }
}

/// Without what a terminal would obey: names come from whoever registered the agent.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn unused(credential: &Value) -> Line {
    let text = |name: &str| credential[name].as_str().map(plain);
    let provider = text("provider").unwrap_or_default();
    let id = text("credential_id").or_else(|| text("item_id")).unwrap_or_default();
    let last = text("last_used_at").max(text("last_seen"));
    let use_ = last.map_or_else(|| format!("never used, says {provider}"), |last| format!("last used {last}"));
    let made = text("created_at").map_or_else(String::new, |made| format!(", made {made}"));
    let fact = format!("credential {id}: {use_}{made}");
    Line { agent_id: text("agent_id"), agent_name: text("agent_name"), owner: text("owner"), fact }
}

impl Line {
    fn who(&self) -> String {
        match (&self.agent_name, &self.agent_id) {
            (Some(name), Some(id)) if name != id => format!("{name} ({id})"),
            (_, Some(id)) => id.clone(),
            (name, None) => name.clone().unwrap_or_else(|| "(no agent named)".into()),
        }
    }
}

fn head(report: &Report) -> String {
    let Report { agents, seen_in_logs, only_in_inventory, in_logs_and_no_inventory, .. } = report;
    format!(
        "{agents} agents: {seen_in_logs} seen in the logs, {only_in_inventory} only in an inventory, \
         {in_logs_and_no_inventory} in the logs and no inventory"
    )
}

fn polls(report: &Report) -> Vec<String> {
    if report.inventory.is_empty() {
        return vec![
            "no inventory was polled: unused agents, owners and expiry are known only as far as logs tell".into(),
        ];
    }
    report.inventory.iter().map(poll_line).collect()
}

fn total(section: &Section) -> String {
    let unknown = match section.unknown {
        0 => String::new(),
        unknown => format!("; of {unknown} more nothing tells"),
    };
    format!("{}{unknown}", section.count)
}

fn text(report: &Report) -> String {
    let mut text = format!("REVIEW OF AGENTS, tenant {}\n{}\n", report.tenant, head(report));
    polls(report).iter().for_each(|poll| text.push_str(&format!("inventory {poll}\n")));
    for section in &report.sections {
        text.push_str(&format!("\n{}: {}\n  {}\n", section.title.to_uppercase(), total(section), section.meaning));
        for line in &section.lines {
            let owner = line.owner.as_ref().map_or_else(String::new, |owner| format!(", owner {owner}"));
            text.push_str(&format!("    {}{owner}: {}\n", line.who(), line.fact));
        }
    }
    text
}

fn markdown(report: &Report) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut text = format!("# Review of agents, tenant {}\n\n{}.\n\n", report.tenant, head(report));
    polls(report).iter().for_each(|poll| text.push_str(&format!("- inventory {poll}\n")));
    text.push_str("\n| section | agents | nothing tells |\n| --- | ---: | ---: |\n");
    for section in &report.sections {
        text.push_str(&format!("| {} | {} | {} |\n", section.title, section.count, section.unknown));
    }
    for section in report.sections.iter().filter(|section| section.count > 0) {
        text.push_str(&format!("\n## {}: {}\n\n{}\n\n", section.title, total(section), section.meaning));
        text.push_str("| agent | owner | fact |\n| --- | --- | --- |\n");
        for line in &section.lines {
            let owner = line.owner.as_deref().unwrap_or("");
            text.push_str(&format!("| {} | {} | {} |\n", cell(&line.who()), cell(owner), cell(&line.fact)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_line_has_its_fact_and_what_nothing_tells_is_counted() {
        let agents = [
            json!({"agent_id": "a", "agent_name": "Ledger", "agent_owner": "ann", "events": 3, "last_seen": "2026-05-01T00:00:00Z",
                "no_owner": "no", "unused": "no", "overprivileged": "yes", "overprivileged_fact": "was granted admin"}),
            json!({"agent_id": "b", "events": 0, "listed_in": ["okta"], "no_owner": "yes", "no_owner_fact": "no owner, says okta client b",
                "unused": "unknown"}),
        ];
        let credentials = [json!({"credential_id": "k", "agent_id": "b", "provider": "okta", "never_used": "yes"})];
        let polls = vec![
            json!({"poll": "okta", "provider": "okta", "outcome": "complete", "items": 4, "last_complete": "2026-05-02"}),
        ];
        let report = report("acme", &agents, &credentials, polls);
        let text = text(&report);
        for expected in [
            "2 agents: 1 seen in the logs, 1 only in an inventory, 1 in the logs and no inventory\n",
            "UNOWNED: 1\n",
            "    b: no owner, says okta client b\n",
            "UNUSED: 0; of 1 more nothing tells\n",
            "    b: credential k: never used, says okta\n",
            "    Ledger (a), owner ann: was granted admin\n",
            "    Ledger (a), owner ann: 3 events, last 2026-05-01T00:00:00Z, and no inventory lists it\n",
        ] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
        assert!(markdown(&report).contains("| b |  | no owner, says okta client b |"));
    }
}
