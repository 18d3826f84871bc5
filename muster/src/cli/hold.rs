//! `muster hold`: what must stay although it is old or somebody asks for its erasure.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use lake::clock::Clock;
use lake::tables::Hold;
use serde_json::Value;

use super::sql::Tenant;
use super::verify::answered;
use crate::client::{Access, Client, SOCKET};
use crate::config::Config;
use crate::keeping;
use crate::node::Node;
use crate::output::{self, Format};
use crate::server::operator;

#[derive(Subcommand)]
pub(crate) enum HoldCommand {
    /// The tenant's holds
    List(List),
    /// Hold rows: neither retention nor erasure touches them from then on
    Set(Set),
    /// Let a hold go
    Release(Release),
}

#[derive(Args)]
pub(crate) struct List {
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Set {
    /// Name of the hold; one of this name is changed
    name: String,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// Only rows that name this agent, user, credential …; may be given several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only rows of this day (UTC) and later: YYYY-MM-DD
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<i64>,
    /// Only rows before this day (UTC)
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<i64>,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Release {
    /// Name of the hold
    name: String,
    #[command(flatten)]
    tenant: Tenant,
}

/// The first microsecond of a day.
fn day(text: &str) -> Result<i64, String> {
    let scalar = arrow::compute::kernels::cast_utils::string_to_datetime(&arrow_utc(), text);
    scalar.map(|time| time.timestamp_micros()).map_err(|error| error.to_string())
}

fn arrow_utc() -> arrow::array::timezone::Tz {
    "+00:00".parse().expect("is an offset")
}

pub(crate) async fn run(command: &HoldCommand, config: Config) -> Result<ExitCode> {
    match command {
        HoldCommand::List(list) => {
            let holds: Vec<Hold> = match &Access::open(config, &list.tenant.tenant).await? {
                Access::Server(client) => serde_json::from_value(client.get("/operator/holds").await?)?,
                Access::Folder(store) => keeping::holds(&store.lake, &list.tenant.tenant),
            };
            show(&holds, list.format)?;
        }
        HoldCommand::Set(set) => {
            let hold = Hold {
                name: set.name.clone(),
                ids: set.ids.clone(),
                from: set.from,
                to: set.to,
                reason: set.reason.clone(),
                ..Hold::default()
            };
            let tenant = &set.tenant.tenant;
            let set: Hold = match Client::connect(&config.data.folder.join(SOCKET), tenant).await? {
                Some(client) => answered(client.post("/operator/holds", serde_json::to_vec(&hold)?).await?)?,
                None => {
                    let node = Node::open_existing(config, Clock::system()).await?;
                    let set = keeping::hold(&node, &operator(tenant), hold).await?;
                    node.shut_down().await?;
                    set
                }
            };
            output::print(&format!("hold {} is set\n", set.name))?;
        }
        HoldCommand::Release(release) => {
            let (tenant, name) = (&release.tenant.tenant, &release.name);
            match Client::connect(&config.data.folder.join(SOCKET), tenant).await? {
                Some(client) => {
                    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
                    client
                        .post(&format!("/operator/holds/{name}/release"), Vec::new())
                        .await
                        .context("not released")?;
                }
                None => {
                    let node = Node::open_existing(config, Clock::system()).await?;
                    keeping::release(&node, &operator(tenant), name).await?;
                    node.shut_down().await?;
                }
            }
            output::print(&format!("hold {name} is released\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(holds: &[Hold], format: Format) -> Result<()> {
    if format != Format::Table {
        return output::json_lines(&holds.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?);
    }
    let mut text = String::new();
    for hold in holds {
        let ids = if hold.ids.is_empty() { "everything".to_owned() } else { hold.ids.join(", ") };
        text.push_str(&format!("{:20} {ids}; set by {}: {}\n", hold.name, hold.set_by, hold.reason));
    }
    output::print(if text.is_empty() { "no holds\n" } else { &text })
}
