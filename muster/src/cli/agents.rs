//! `muster agents`: the roster.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::sql::{Tenant, ask, ask_json, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};

#[derive(Args)]
pub(crate) struct Agents {
    /// One agent, with everything that is known of it
    agent: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

/// What fits a terminal; `--format json` and `muster agents ID` have every column.
const SHORT: &str = "SELECT agent_id, agent_name, agent_owner AS owner, last_seen, events, users_count AS users, concat_ws(', ', \
     CASE WHEN no_owner = 'yes' THEN 'no owner' END, CASE WHEN never_expires = 'yes' THEN 'never expires' END, \
     CASE WHEN shared_credential = 'yes' THEN 'shared credential' END, CASE WHEN unused_scopes = 'yes' THEN 'unused scopes' END, \
     CASE WHEN no_user_attribution = 'yes' THEN 'no user attribution' END) AS hygiene FROM agents ORDER BY events DESC, agent_id";

pub(crate) async fn run(command: &Agents, config: Config) -> Result<ExitCode> {
    let access = Access::open(config, &command.tenant.tenant).await?;
    show(command, &access).await
}

async fn show(command: &Agents, access: &Access) -> Result<ExitCode> {
    let tenant = &command.tenant.tenant;
    let Some(agent) = &command.agent else {
        let query = if command.format == Format::Table { SHORT } else { "SELECT * FROM agents ORDER BY agent_id" };
        output::rows(&ask(access, tenant, query).await?, command.format)?;
        return Ok(ExitCode::SUCCESS);
    };
    let query = format!("SELECT * FROM agents WHERE agent_id = {0} OR agent_name = {0}", quoted(agent));
    if command.format != Format::Table {
        output::rows(&ask(access, tenant, &query).await?, command.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = ask_json(access, tenant, &query).await?;
    if found.is_empty() {
        bail!("no agent with the id or name `{agent}` was seen in tenant `{tenant}`");
    }
    for agent in &found {
        output::print(&card(agent))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One row a column: `name  value`.
pub(crate) fn card(row: &Value) -> String {
    let mut text = String::new();
    for (name, value) in row.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => continue,
            Value::String(value) => value.clone(),
            Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        text.push_str(&format!("{name:>20}  {value}\n"));
    }
    text.push('\n');
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
