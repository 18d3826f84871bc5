//! `muster status`: what was received and where it went, how far each role is.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::ingest::load_sources;
use super::sql::Tenant;
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format, grouped};

#[derive(Args)]
pub(crate) struct Status {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &Status, config: Config) -> Result<ExitCode> {
    let tenant = &command.tenant.tenant;
    let access = Access::open(config, tenant).await?;
    let status = match &access {
        Access::Server(client) => client.get("/v1/status").await,
        Access::Folder(store) => store.status(tenant, &load_sources(&store.config)?).await,
    }?;
    let serving = matches!(access, Access::Server(_));
    match command.format {
        Format::Table => output::print(&text(&status, serving))?,
        Format::Json | Format::Csv => output::json_lines(&[status])?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Value, serving: bool) -> String {
    let mut text = format!(
        "{}; tenant {}\n\n",
        if serving {
            "a server runs on this data folder"
        } else {
            "no server runs; the folder was opened for this answer"
        },
        status["tenant"].as_str().unwrap_or("-")
    );
    text.push_str(&ledger(&rows(&status["ledger"])));
    text.push_str(&format!("\nlog: frames {} to {}\n", status["log"]["first"], status["log"]["end"]));
    if status["log"]["disk_full"] == true {
        text.push_str("THE DISK IS FULL: appends are refused until the tables are written and segments have gone\n");
    }
    for (role, state) in status["roles"].as_object().into_iter().flatten() {
        text.push_str(&format!("{role:>10}: {} frames behind", state["behind"]));
        if let Some(error) = state["error"].as_str() {
            text.push_str(&format!(", failing: {error}"));
        }
        text.push('\n');
    }
    for door in rows(&status["kafka"]) {
        let partitions = door["next"].as_object().map_or(0, serde_json::Map::len);
        text.push_str(&format!(
            "\nkafka {}: topic {}, {partitions} partitions",
            door["name"].as_str().unwrap_or("-"),
            door["topic"].as_str().unwrap_or("-")
        ));
        if door["lost"].as_i64().unwrap_or(0) > 0 {
            text.push_str(&format!(", {} MESSAGES WERE GONE BEFORE THEY WERE READ", door["lost"]));
        }
        if let Some(error) = door["error"].as_str() {
            text.push_str(&format!(", waiting: {error}"));
        }
        text.push('\n');
    }
    for poll in rows(&status["inventory"]) {
        text.push_str(&format!("\ninventory {}\n", poll_line(&poll)));
    }
    text.push_str(&gaps(&rows(&status["gaps"])));
    text.push_str(&keeping(&status["keeping"]));
    text.push_str(&sources(&status["sources"]));
    text.push_str(&tokens(&status["tokens"]));
    for (title, name, columns) in
        [("alerts", "alerts", ["detector", "severity_id", "alerts"]), ("orders", "orders", ["state", "mode", "orders"])]
    {
        let found = rows(&status[name]);
        text.push_str(&format!("\n{title}: {}\n", if found.is_empty() { "none" } else { "" }));
        for row in found {
            let cells: Vec<String> = columns.iter().map(|c| row[*c].to_string().replace('"', "")).collect();
            text.push_str(&format!("  {:20} {:10} {}\n", cells[0], cells[1], cells[2]));
        }
    }
    text.push_str(&precision(&rows(&status["precision"])));
    text
}

/// What should have come and did not.
fn gaps(gaps: &[Value]) -> String {
    let text = |gap: &Value, key: &str| gap[key].as_str().unwrap_or("").to_owned();
    let line = |gap: &Value| match gap["gap"].as_str() {
        Some("silent") => {
            let since =
                gap["silent_minutes"].as_i64().map_or("ever".to_owned(), |minutes| format!("{minutes} minutes"));
            let (limit, by) = (&gap["limit_minutes"], text(gap, "by"));
            format!(
                "GAP {} {}: nothing for {since}, {by} limit {limit} minutes\n",
                text(gap, "door"),
                text(gap, "source")
            )
        }
        _ => format!(
            "GAP {} {}: {} numbers missing between {} and {}\n",
            text(gap, "source"),
            text(gap, "within"),
            gap["missing"],
            gap["first"],
            gap["last"]
        ),
    };
    gaps.iter().map(line).collect()
}

/// What is being kept in order, and whether it works.
fn keeping(keeping: &Value) -> String {
    if !keeping.is_object() {
        return String::new();
    }
    let count = |key: &str| grouped(keeping["total"][key].as_i64().unwrap_or(0));
    let mut text = format!(
        "keeping: {} files merged into {}, {} rows expired, {} files cleared away, {} holds",
        count("merged_files"),
        count("merged_into"),
        count("removed_rows"),
        count("vacuumed_files"),
        keeping["holds"]
    );
    if let Some(running) = keeping["running"].as_str() {
        text.push_str(&format!("; now: {running}"));
    }
    if let Some(error) = keeping["error"].as_str() {
        text.push_str(&format!("; FAILING: {error}"));
    }
    text.push('\n');
    text
}

/// How often each detector was right, of the alerts that somebody judged, by week.
fn precision(weeks: &[Value]) -> String {
    let mut text = String::new();
    for week in weeks {
        let part = |key: &str| week[key].as_str().unwrap_or("-").to_owned();
        let share = 100.0 * week["precision"].as_f64().unwrap_or(0.0);
        let (detector, monday) = (part("detector"), part("week"));
        let (confirmed, judged, alerts) = (&week["confirmed"], &week["judged"], &week["alerts"]);
        text.push_str(&format!(
            "  {detector:20} week of {monday}: {share:.0} % right ({confirmed} of {judged} judged, {alerts} alerts)\n"
        ));
    }
    if text.is_empty() { text } else { format!("\nverdicts:\n{text}") }
}

/// How a poll's last run ended, and when one was last complete.
pub(crate) fn poll_line(poll: &Value) -> String {
    let text = |name: &str| poll[name].as_str().unwrap_or("never").to_owned();
    let items = poll["items"].as_i64().unwrap_or(0);
    let mut line = format!(
        "{} ({}): last complete {}, {} items",
        text("poll"),
        text("provider"),
        text("last_complete"),
        grouped(items)
    );
    if poll["outcome"] == "failed" {
        line.push_str(&format!("; FAILED {}: {}", text("last_run"), text("reason")));
    }
    line
}

/// The user's own mappings in force, and every mistake in files that are not.
fn sources(sources: &Value) -> String {
    let own: Vec<String> = rows(&sources["in_force"])
        .iter()
        .filter(|source| source["built_in"] == false)
        .map(|source| {
            format!("{} {}", source["source"].as_str().unwrap_or("-"), source["version"].as_str().unwrap_or("-"))
        })
        .collect();
    let mut text = String::new();
    if !own.is_empty() {
        text.push_str(&format!("own sources: {}\n", own.join(", ")));
    }
    for problem in rows(&sources["broken"]) {
        let part = |key: &str| problem[key].as_str().unwrap_or("").to_owned();
        let (file, key, message) = (part("file"), part("key"), part("message"));
        text.push_str(&format!("broken, not in force: {file}:{}: {key}: {message}\n", problem["line"]));
    }
    text
}

fn tokens(tokens: &Value) -> String {
    let count = |key: &str| tokens[key].as_i64().unwrap_or(0);
    if !tokens.is_object() {
        return String::new();
    }
    format!(
        "tokens: {} remembered, {} events filled from their issuance, {} in conflict\n",
        grouped(count("entries")),
        grouped(count("joined")),
        grouped(count("conflicts"))
    )
}

fn rows(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The ledger by door and source, with its sum and whether it balances.
pub(crate) fn ledger(rows: &[Value]) -> String {
    const COUNTS: [&str; 7] = ["received", "mapped", "noise", "quarantined", "duplicates", "events", "masked"];
    let mut text = format!("{:10} {:18}", "door", "source");
    for count in COUNTS {
        text.push_str(&format!("{count:>12}"));
    }
    text.push('\n');
    let mut sum = [0i64; 7];
    for row in rows {
        text.push_str(&format!(
            "{:10} {:18}",
            row["door"].as_str().unwrap_or("-"),
            row["source"].as_str().unwrap_or("-")
        ));
        for (total, count) in sum.iter_mut().zip(COUNTS) {
            let value = row[count].as_i64().unwrap_or(0);
            *total += value;
            text.push_str(&format!("{:>12}", grouped(value)));
        }
        text.push('\n');
    }
    if rows.len() > 1 {
        text.push_str(&format!("{:10} {:18}", "all", ""));
        text.push_str(&sum.iter().map(|n| format!("{:>12}", grouped(*n))).collect::<String>());
        text.push('\n');
    }
    let [received, mapped, noise, quarantined, duplicates, ..] = sum;
    let relation = if received == mapped + noise + quarantined + duplicates { "=" } else { "≠" };
    text.push_str(&format!(
        "received {received} {relation} mapped {mapped} + noise {noise} + quarantined {quarantined} + duplicates {duplicates}\n"
    ));
    text
}
