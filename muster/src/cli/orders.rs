//! `muster orders`: kill-switch orders and their steps.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::sql::{Tenant, ask, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};

#[derive(Subcommand)]
pub(crate) enum OrdersCommand {
    /// Every order with its last step
    List(List),
    /// Every step of one order
    Show(One),
    /// Take back the reversible steps of an order
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
pub(crate) struct One {
    /// Id of the order; its first digits are enough
    id: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Args)]
pub(crate) struct Release {
    /// Id of the order; its first digits are enough
    id: String,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    tenant: Tenant,
}

pub(crate) async fn run(command: &OrdersCommand, config: Config) -> Result<ExitCode> {
    let tenant = match command {
        OrdersCommand::List(list) => &list.tenant.tenant,
        OrdersCommand::Show(one) => &one.tenant.tenant,
        OrdersCommand::Release(release) => &release.tenant.tenant,
    };
    let access = Access::open(config, tenant).await?;
    act(command, &access, tenant).await
}

async fn act(command: &OrdersCommand, access: &Access, tenant: &str) -> Result<ExitCode> {
    match command {
        OrdersCommand::List(list) => {
            let columns = match list.format {
                Format::Table => {
                    "substr(order_id, 1, 12) AS \"order\", time, state, mode, target_kind, target_id, reason"
                }
                Format::Json | Format::Csv => "* EXCLUDE (back)",
            };
            let query = format!(
                "SELECT {columns} FROM \
                 (SELECT *, row_number() OVER (PARTITION BY order_id ORDER BY step DESC) AS back FROM orders) \
                 WHERE back = 1 ORDER BY time DESC"
            );
            output::rows(&ask(access, tenant, &query).await?, list.format)?;
        }
        OrdersCommand::Show(one) => {
            let query = format!(
                "SELECT step, time, state, mode, target_kind, target_id, switch, attempt, detail, requested_by, reason \
                 FROM orders WHERE starts_with(order_id, {}) ORDER BY order_id, step",
                quoted(&one.id)
            );
            let steps = ask(access, tenant, &query).await?;
            if steps.iter().all(|batch| batch.num_rows() == 0) {
                bail!("no order of tenant `{tenant}` has an id that starts with `{}`", one.id);
            }
            output::rows(&steps, one.format)?;
        }
        OrdersCommand::Release(release) => {
            // The release itself is refused or recorded by the responder, wherever it runs.
            match access {
                Access::Server(client) => {
                    let body = serde_json::to_vec(&json!({"reason": release.reason}))?;
                    client.post(&format!("/v1/orders/{}/release", release.id), body).await?;
                }
                Access::Folder(_) => {
                    bail!("no server runs on this data folder: start `muster serve` and release the order there")
                }
            }
            output::print(&format!("released {}\n", release.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
