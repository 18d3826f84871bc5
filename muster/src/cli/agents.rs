//! `muster agents`: the roster; one agent's profile (`show`) and the review (`report`) have files of their own.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::sql::{Tenant, ask, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Agents {
    #[command(subcommand)]
    command: Option<Sub>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

#[derive(Subcommand)]
enum Sub {
    /// One agent in plain words: who it is, what is usual for it, its alerts
    Show(super::profile::Show),
    /// The review of all agents: unowned, unused, never expiring, long-lived, generic names, overprivileged, shared
    Report(super::report::ReportArgs),
    /// Which agents hold grants on a user, and who granted them
    Grants(Grants),
}

#[derive(Args)]
struct Grants {
    /// The user: an id or a name
    #[arg(long)]
    user: String,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

/// What fits a terminal; `--format json` and `muster agents show ID` have every column.
const SHORT: &str = "SELECT agent_id, agent_name, agent_owner AS owner, last_seen, events, users_count AS users, concat_ws(', ', \
     CASE WHEN no_owner = 'yes' THEN 'no owner' END, CASE WHEN never_expires = 'yes' THEN 'never expires' END, \
     CASE WHEN shared_credential = 'yes' THEN 'shared credential' END, CASE WHEN unused_scopes = 'yes' THEN 'unused scopes' END, \
     CASE WHEN no_user_attribution = 'yes' THEN 'no user attribution' END, CASE WHEN unused = 'yes' THEN 'unused' END, \
     CASE WHEN long_lived = 'yes' THEN 'long-lived credential' END, CASE WHEN generic_name = 'yes' THEN 'generic name' END, \
     CASE WHEN overprivileged = 'yes' THEN 'overprivileged' END) AS hygiene FROM agents ORDER BY events DESC, agent_id";

pub(crate) async fn run(command: &Agents, config: Config) -> Result<ExitCode> {
    match &command.command {
        Some(Sub::Show(show)) => return super::profile::run(show, config).await,
        Some(Sub::Report(report)) => return super::report::run(report, config).await,
        Some(Sub::Grants(grants)) => return grants_on(grants, config).await,
        None => {}
    }
    let access = Access::open(config, &command.tenant.tenant).await?;
    let query = if command.format == Format::Table { SHORT } else { "SELECT * FROM agents ORDER BY agent_id" };
    output::rows(&ask(&access, &command.tenant.tenant, query).await?, command.format)?;
    Ok(ExitCode::SUCCESS)
}

/// Grants on a user, those on every user, and agents that acted for the user without a grant that any inventory lists.
async fn grants_on(command: &Grants, config: Config) -> Result<ExitCode> {
    let tenant = &command.tenant.tenant;
    let access = Access::open(config, tenant).await?;
    output::rows(&ask(&access, tenant, &grants_query(&command.user)).await?, command.format)?;
    Ok(ExitCode::SUCCESS)
}

fn grants_query(user: &str) -> String {
    let user = quoted(user);
    format!(
        "WITH held AS (SELECT * FROM grants WHERE user_id = {user} OR user_name = {user} OR all_users), \
         acted AS (SELECT agent_id, user_id, last_value(agent_name ORDER BY time) AS agent_name, max(time) AS last_acted, \
             count(*) AS events FROM events WHERE (user_id = {user} OR user_name = {user}) AND agent_id IS NOT NULL \
             GROUP BY agent_id, user_id) \
         SELECT coalesce(held.agent_id, acted.agent_id) AS agent_id, coalesce(held.agent_name, acted.agent_name) AS agent_name, \
             CASE WHEN held.all_users THEN 'granted for all users' WHEN held.agent_id IS NOT NULL THEN 'granted' \
                 ELSE 'acted, no grant listed' END AS basis, \
             held.granted_by, held.resource, array_to_string(held.scopes, ' ') AS scopes, held.created_at AS granted_at, \
             held.expires_at, held.enabled, acted.last_acted, coalesce(acted.events, 0) AS events, held.provider, held.grant_id \
         FROM held FULL OUTER JOIN acted ON acted.agent_id = held.agent_id ORDER BY agent_id, resource, held.grant_id"
    )
}
