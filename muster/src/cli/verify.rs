//! `muster verify`: reconciles log, ledger and tables; `muster keep`: one pass of keeping, now.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lake::tables::{Count, Kept, Verification};
use serde::de::DeserializeOwned;

use crate::client::Access;
use crate::config::Config;
use crate::node::Node;
use crate::output::{self, Format, complain, grouped};

#[derive(Args)]
pub(crate) struct Verify {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Args)]
pub(crate) struct Keep {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Exits with 1 where anything is not accounted for exactly once.
pub(crate) async fn run(command: &Verify, config: Config) -> Result<ExitCode> {
    let access = Access::open(config, "default").await?;
    let found: Verification = match &access {
        Access::Server(client) => answered(client.post("/operator/verify", Vec::new()).await?)?,
        Access::Folder(store) => store.lake.verify().await?,
    };
    match command.format {
        Format::Table => output::print(&told(&found))?,
        Format::Json | Format::Csv => output::json_lines(&[serde_json::to_value(&found)?])?,
    }
    Ok(if found.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) async fn keep(command: &Keep, config: Config) -> Result<ExitCode> {
    let access = Access::open(config, "default").await?;
    let kept: Kept = match &access {
        Access::Server(client) => answered(client.post("/operator/keep", Vec::new()).await?)?,
        Access::Folder(store) => {
            store.lake.flush().await?;
            store.lake.keep().await?
        }
    };
    match command.format {
        Format::Table => {
            let Kept { merged_files, merged_into, removed_rows, vacuumed_files } = kept;
            output::print(&format!(
                "merged {merged_files} files into {merged_into}, deleted {removed_rows} rows that were too old, \
                 cleared away {vacuumed_files} files\n"
            ))?;
        }
        Format::Json | Format::Csv => output::json_lines(&[serde_json::to_value(&kept)?])?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn answered<T: DeserializeOwned>(reply: crate::client::Reply) -> Result<T> {
    Ok(serde_json::from_slice(&reply.body)?)
}

/// What is told of rows that another process is to write.
fn waiting(rows: u64) -> String {
    let rows = grouped(rows as i64);
    format!(
        "{rows} rows of the log are not in the tables yet: a process with the role `lake` writes them; SQL sees them"
    )
}

/// The same, after a command that answers something else; of nothing, more rows wait than were counted.
pub(crate) fn tell_waiting(rows: Option<u64>) {
    match rows {
        Some(0) => {}
        Some(rows) => complain(&waiting(rows)),
        None => {
            complain("the tables are far behind the log: what was taken is in it, and SQL sees it when they catch up")
        }
    }
}

/// Ends what a command did in a data folder of no server: everything is taken, and what waits is told.
pub(crate) async fn leave(node: &Node) -> Result<()> {
    let settled = node.settle().await;
    node.shut_down().await?;
    tell_waiting(settled?);
    Ok(())
}

fn told(found: &Verification) -> String {
    const NAMES: [&str; 6] = ["received", "events", "in tables", "expired", "refused", "in tables"];
    let mut text = format!("{:12} {:8} {:18}", "tenant", "door", "source");
    NAMES.iter().for_each(|name| text.push_str(&format!("{name:>12}")));
    text.push('\n');
    for count in &found.counts {
        let Count { tenant, door, source, .. } = count;
        text.push_str(&format!("{tenant:12} {door:8} {source:18}"));
        let numbers = [
            count.received,
            count.events,
            count.events_stored,
            count.events_removed + count.refused_removed,
            count.refused,
            count.refused_stored,
        ];
        numbers.iter().for_each(|number| text.push_str(&format!("{:>12}", grouped(*number))));
        text.push('\n');
    }
    let Verification { log_from, log_until, tables_until, .. } = found;
    text.push_str(&format!(
        "\nlog: frames {log_from} to {log_until} read, those below {tables_until} looked for in the tables\n"
    ));
    if found.rows_waiting > 0 {
        text.push_str(&format!("{}\n", waiting(found.rows_waiting)));
    }
    if found.holds {
        let which = if found.rows_waiting > 0 { "every record in the tables" } else { "every record" };
        text.push_str(&format!("{which} is accounted for exactly once\n"));
        return text;
    }
    let all = found.problems.len() as u64 + found.problems_omitted;
    text.push_str(&format!("\nNOT ACCOUNTED FOR ({all}):\n"));
    found.problems.iter().for_each(|problem| text.push_str(&format!("  {problem}\n")));
    if found.problems_omitted > 0 {
        text.push_str(&format!("  and {} more\n", found.problems_omitted));
    }
    text
}
