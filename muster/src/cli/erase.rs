//! `muster erase user`: a user's name out of everything that names them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use lake::clock::Clock;

use super::sql::Tenant;
use super::verify::answered;
use crate::client::{Client, SOCKET};
use crate::config::Config;
use crate::keeping::{self, Erase, Erased};
use crate::node::Node;
use crate::output::{self, Format, grouped};
use crate::server::operator;

#[derive(Subcommand)]
pub(crate) enum EraseCommand {
    /// Write every row that names the user again without the name, the raw record included; what an agent did stays
    User(User),
}

#[derive(Args)]
pub(crate) struct User {
    /// The user's ids and names in all systems: what columns and raw records call them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Only count what names the user
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the log to let the segments go that may name the user
    #[arg(long, value_name = "SECS", default_value_t = 150)]
    wait: u64,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &EraseCommand, config: Config) -> Result<ExitCode> {
    let EraseCommand::User(user) = command;
    let tenant = &user.tenant.tenant;
    let request = Erase { ids: user.ids.clone(), dry_run: user.dry_run, wait_secs: user.wait };
    let erased: Erased = match Client::connect(&config.data.folder.join(SOCKET), tenant).await? {
        Some(client) => answered(client.post("/operator/erase", serde_json::to_vec(&request)?).await?)?,
        None => {
            let node = Node::open_existing(config, Clock::system()).await?;
            let erased = keeping::erase(&node, &operator(tenant), &request).await?;
            node.shut_down().await?;
            erased
        }
    };
    match user.format {
        Format::Table => output::print(&told(&erased))?,
        Format::Json | Format::Csv => output::json_lines(&[serde_json::to_value(&erased)?])?,
    }
    Ok(ExitCode::SUCCESS)
}

fn told(erased: &Erased) -> String {
    let verb = if erased.dry_run { "name the user" } else { "named the user and no longer do" };
    let mut text = format!("{} rows {verb}\n", grouped(erased.erasure.rows() as i64));
    for named in erased.erasure.tables.iter().filter(|named| named.rows > 0) {
        text.push_str(&format!(
            "  {:14} {:>10} rows in {} files\n",
            named.table,
            grouped(named.rows as i64),
            named.files
        ));
    }
    if !erased.dry_run {
        text.push_str(&format!("{} files deleted\n", erased.erasure.files_deleted));
    }
    text.push_str("not reached:\n");
    erased.not_reached.iter().for_each(|place| text.push_str(&format!("  {place}\n")));
    text
}
