//! `muster quarantine`: which records could not become events, why, and driving them again.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ingest::redrive::Redriven;
use lake::clock::Clock;

use super::sql::{Tenant, ask, ask_json};
use super::verify::leave;
use crate::client::{Access, Client, SOCKET};
use crate::config::Config;
use crate::node::Node;
use crate::output::{self, Format};
use crate::quarantine::{COLUMNS, Redrive, Which, redrive, waiting};
use crate::server::operator;

/// So many records that stay are told one by one.
const SHOWN_MAX: usize = 20;

#[derive(Subcommand)]
pub(crate) enum QuarantineCommand {
    /// The records that wait
    List(List),
    /// One record as it was received
    Show(Show),
    /// Drive waiting records through the mappings in force now
    Redrive(Again),
}

/// Which of the waiting records.
#[derive(Args)]
pub(crate) struct Wanted {
    /// Only of this source
    #[arg(long)]
    source: Option<String>,
    /// Only with this reason (`not_json`, `no_time` …)
    #[arg(long)]
    reason: Option<String>,
    /// Only these: places (`offset/index`) or beginnings of record ids
    #[arg(value_name = "RECORD")]
    records: Vec<String>,
}

impl Wanted {
    fn which(&self) -> Which {
        Which { source: self.source.clone(), reason: self.reason.clone(), records: self.records.clone() }
    }
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    wanted: Wanted,
    /// How many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Place (`offset/index`) of the record, or the beginning of its id
    record: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Again {
    #[command(flatten)]
    wanted: Wanted,
    /// Only tell what would become of them
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &QuarantineCommand, config: Config) -> Result<ExitCode> {
    match command {
        QuarantineCommand::List(list) => {
            let tenant = &list.tenant.tenant;
            let access = Access::open(config, tenant).await?;
            let query = waiting(COLUMNS, &list.wanted.which(), None, list.limit as usize);
            output::rows(&ask(&access, tenant, &query).await?, list.format)?;
        }
        QuarantineCommand::Show(show) => self::show(show, config).await?,
        QuarantineCommand::Redrive(again) => drive(again, config).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(command: &Show, config: Config) -> Result<()> {
    let tenant = &command.tenant.tenant;
    let access = Access::open(config, tenant).await?;
    let which = Which { records: vec![command.record.clone()], ..Which::default() };
    let columns = format!("{COLUMNS}, arrow_cast(raw, 'Utf8') AS raw");
    let query = waiting(&columns, &which, None, 2);
    // Bytes that are no text are shown as the digits they are.
    let found = match ask_json(&access, tenant, &query).await {
        Ok(found) => found,
        Err(_) => {
            let columns = format!("{COLUMNS}, raw");
            ask_json(&access, tenant, &waiting(&columns, &which, None, 2)).await?
        }
    };
    let [record] = found.as_slice() else {
        bail!("{} records wait that {:?} names", if found.is_empty() { "no" } else { "several" }, command.record);
    };
    if command.format != Format::Table {
        return output::json_lines(std::slice::from_ref(record));
    }
    let mut text = String::new();
    for (name, value) in record.as_object().into_iter().flatten().filter(|(name, _)| *name != "raw") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("{name:>12}  {value}\n"));
    }
    text.push_str(&format!("\n{}\n", record["raw"].as_str().unwrap_or_default()));
    output::print(&text)
}

async fn drive(command: &Again, config: Config) -> Result<()> {
    let tenant = &command.tenant.tenant;
    let request = Redrive { which: command.wanted.which(), dry_run: command.dry_run };
    let done: Redriven = match Client::connect(&config.data.folder.join(SOCKET), tenant).await? {
        Some(client) => {
            let answer = client.post("/operator/quarantine/redrive", serde_json::to_vec(&request)?).await?;
            serde_json::from_slice(&answer.body).context("the server's answer is not what was expected")?
        }
        None => {
            let node = Node::open_existing(config, Clock::system()).await?;
            let done = redrive(&node, &operator(tenant), &request).await?;
            leave(&node).await?;
            done
        }
    };
    match command.format {
        Format::Table => output::print(&told(&done, command.dry_run)),
        Format::Json | Format::Csv => output::json_lines(&[serde_json::to_value(&done)?]),
    }
}

fn told(done: &Redriven, dry: bool) -> String {
    let Redriven { moved, noise, duplicates, events, stay } = done;
    let verb = if dry { "would leave" } else { "left" };
    let mut text = format!(
        "{moved} records {verb} quarantine: {events} events, {noise} noise, {duplicates} duplicates; {} stay\n",
        stay.len()
    );
    for stays in stay.iter().take(SHOWN_MAX) {
        text.push_str(&format!("  {}: {} {}\n", stays.place, stays.reason, stays.detail));
    }
    if stay.len() > SHOWN_MAX {
        text.push_str(&format!("  and {} more\n", stay.len() - SHOWN_MAX));
    }
    text
}
