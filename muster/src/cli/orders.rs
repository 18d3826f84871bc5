//! `muster orders`: kill-switch orders, what persons do with them, and their steps.
//!
//! Who acts is the operator of this machine, or the holder of the token in `--token-file`: an approval needs another person
//! than the asker. What an order would touch is asked of the lake here; what it would do is said by the responder.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::sql::{Tenant, ask, ask_json, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, read once")]
pub(crate) enum OrdersCommand {
    /// Every order with its last step
    List(List),
    /// Every step of one order
    Show(One),
    /// Ask for an order, or see with --dry-run what it would do and whom it would touch
    Request(Request),
    /// Approve the plan of an order that another person asked for
    Approve(Approve),
    /// Take back the reversible steps of an order, or withdraw one that waits
    Release(Release),
    /// Rehearse: stop a canary agent, measure, and let it go again
    Drill(Drill),
    /// What drills measured
    Report(List),
    /// Let nothing act without a person in this tenant
    Disarm(Change),
    /// Let alerts act unattended again
    Arm(Change),
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
    who: Who,
}

/// For whom, and as whom.
#[derive(Args)]
pub(crate) struct Who {
    #[command(flatten)]
    tenant: Tenant,
    /// File with the token of the person who acts [default: the operator of this machine]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Exactly one kind of target.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Whom {
    /// The agent; with --instance or --user only that part of it
    #[arg(long, conflicts_with_all = ["credential", "token", "client", "grant", "everything"])]
    agent: Option<String>,
    /// One run or deployment of the agent
    #[arg(long, requires = "agent", conflicts_with = "user")]
    instance: Option<String>,
    /// The agent only where it acts for this user
    #[arg(long, requires = "agent")]
    user: Option<String>,
    /// A credential, by its id in events
    #[arg(long, conflicts_with_all = ["token", "client", "grant", "everything"])]
    credential: Option<String>,
    /// A token, by its `jti`
    #[arg(long, conflicts_with_all = ["client", "grant", "everything"])]
    token: Option<String>,
    /// An OAuth client
    #[arg(long, conflicts_with_all = ["grant", "everything"])]
    client: Option<String>,
    /// Everything that acts under this grant, or with this principal in its delegation
    #[arg(long, conflicts_with = "everything")]
    grant: Option<String>,
    /// Every agent of the tenant but the protected
    #[arg(long)]
    everything: bool,
}

#[derive(Args)]
pub(crate) struct Request {
    #[command(flatten)]
    whom: Whom,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// A switch to call besides the deny list; may be given several times
    #[arg(long = "switch", value_name = "NAME")]
    switches: Vec<String>,
    /// A switch to call where the target is let through all the same
    #[arg(long = "switch-next", value_name = "NAME")]
    switches_next: Vec<String>,
    /// How long it stands, in seconds [default: the configuration's `deny_secs`]
    #[arg(long, value_name = "SECONDS")]
    stands_secs: Option<u64>,
    /// Only print what would be done and whom it would touch
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Args)]
pub(crate) struct Approve {
    /// Id of the order; its first digits are enough
    id: String,
    /// Digest of the plan, as the request printed it
    #[arg(long, value_name = "DIGEST")]
    plan: String,
    #[command(flatten)]
    who: Who,
}

#[derive(Args)]
pub(crate) struct Drill {
    /// Name of the drill in the configuration [default: the first; without any, the deny list itself]
    name: Option<String>,
    #[command(flatten)]
    who: Who,
}

#[derive(Args)]
pub(crate) struct Change {
    /// Why, for the record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    who: Who,
}

impl OrdersCommand {
    fn who(&self) -> (&Tenant, Option<&PathBuf>) {
        let who = match self {
            OrdersCommand::List(list) | OrdersCommand::Report(list) => return (&list.tenant, None),
            OrdersCommand::Drill(drill) => &drill.who,
            OrdersCommand::Show(one) => return (&one.tenant, None),
            OrdersCommand::Request(request) => &request.who,
            OrdersCommand::Approve(approve) => &approve.who,
            OrdersCommand::Release(release) => &release.who,
            OrdersCommand::Disarm(change) | OrdersCommand::Arm(change) => &change.who,
        };
        (&who.tenant, who.token_file.as_ref())
    }
}

pub(crate) async fn run(command: &OrdersCommand, config: Config) -> Result<ExitCode> {
    let (tenant, token_file) = command.who();
    let mut access = Access::open(config, &tenant.tenant).await?;
    if let (Some(file), Access::Server(client)) = (token_file, &mut access) {
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        client.act_as(token.trim());
    }
    act(command, &access, &tenant.tenant).await
}

/// What is changed is refused or recorded by the responder, which runs in the server alone.
async fn tell(access: &Access, path: &str, body: Value) -> Result<Value> {
    let Access::Server(client) = access else {
        bail!("no server runs on this data folder: start `muster serve`, orders live there")
    };
    let reply = client.post(path, serde_json::to_vec(&body)?).await?;
    serde_json::from_slice(&reply.body).context("the server's answer is not JSON")
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
        OrdersCommand::Request(request) => ask_for(request, access, tenant).await?,
        OrdersCommand::Approve(approve) => {
            let path = format!("/v1/orders/{}/approve", approve.id);
            let order = tell(access, &path, json!({"plan": approve.plan})).await?;
            output::print(&format!("{} is {}\n", approve.id, plain(&order["state"])))?;
        }
        OrdersCommand::Release(release) => {
            tell(access, &format!("/v1/orders/{}/release", release.id), json!({"reason": release.reason})).await?;
            output::print(&format!("released {}\n", release.id))?;
        }
        OrdersCommand::Drill(drill) => {
            let report = tell(access, "/v1/orders/drill", json!({"name": drill.name})).await?;
            output::print(&told(&report))?;
            if report["stopped"] != true || report["released"] != true {
                return Ok(ExitCode::FAILURE);
            }
        }
        OrdersCommand::Report(list) => {
            let number = |name: &str| format!("CAST(detail->>'{name}' AS DOUBLE) AS {name}");
            let text = |name: &str| format!("detail->>'{name}' AS {name}");
            let query = format!(
                "SELECT time, {}, {}, {}, {}, {}, {}, {}, {} FROM orders \
                 WHERE mode = 'drill' AND starts_with(detail, '{{') ORDER BY time DESC",
                text("drill"),
                text("agent"),
                text("stopped"),
                text("released"),
                number("last_allowed_ms"),
                number("first_refused_ms"),
                number("back_ms"),
                text("path")
            );
            output::rows(&ask(access, tenant, &query).await?, list.format)?;
        }
        OrdersCommand::Disarm(change) => {
            tell(access, "/v1/orders/disarm", json!({"reason": change.reason})).await?;
            output::print(&format!("tenant {tenant} is disarmed: nothing acts without a person\n"))?;
        }
        OrdersCommand::Arm(change) => {
            tell(access, "/v1/orders/arm", json!({"reason": change.reason})).await?;
            output::print(&format!("tenant {tenant} is armed\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask_for(request: &Request, access: &Access, tenant: &str) -> Result<()> {
    let body = json!({
        "target": request.whom.target(),
        "reason": request.reason,
        "switches": request.switches,
        "switches_next": request.switches_next,
        "stands_secs": request.stands_secs,
    });
    let path = format!("/v1/orders?dry_run={}", request.dry_run);
    let answer = tell(access, &path, body).await?;
    output::print(&steps(&answer["plan"]))?;
    if request.dry_run {
        output::print(&touched(access, tenant, &request.whom).await?)?;
        return output::print("dry run: nothing was written, nothing is done\n");
    }
    let order = &answer["order"];
    let (id, state) = (plain(&order["order_id"]), plain(&order["state"]));
    let waits = match order["approve_until"].as_str() {
        Some(until) => format!(
            "; until {until} {} must approve: muster orders approve {} --plan {}",
            order["approvals_needed"],
            &id[..id.len().min(12)],
            plain(&order["plan"])
        ),
        None => String::new(),
    };
    output::print(&format!("order {id} is {state}{waits}\n"))
}

impl Whom {
    /// As the server reads it.
    fn target(&self) -> Value {
        match self {
            Whom { agent: Some(agent), instance: Some(instance), .. } => {
                json!({"kind": "instance", "agent": agent, "instance": instance})
            }
            Whom { agent: Some(agent), user: Some(user), .. } => {
                json!({"kind": "agent_user", "agent": agent, "user": user})
            }
            Whom { agent: Some(agent), .. } => json!({"kind": "agent", "agent": agent}),
            Whom { credential: Some(id), .. } => json!({"kind": "credential", "credential": id}),
            Whom { token: Some(id), .. } => json!({"kind": "token", "token": id}),
            Whom { client: Some(id), .. } => json!({"kind": "client", "client": id}),
            Whom { grant: Some(id), .. } => json!({"kind": "delegation", "grant": id}),
            _ => json!({"kind": "tenant"}),
        }
    }

    /// The events that it would have stopped, as a condition on table `events`.
    fn condition(&self) -> String {
        let equal = |column: &str, id: &Option<String>| id.as_ref().map(|id| format!("{column} = {}", quoted(id)));
        let client = self.client.as_ref().map(|id| format!("{0} IN (agent_id, agent_alias)", quoted(id)));
        let grant = |id| format!("(grant_id = {0} OR chain_contains(delegation, {0}))", quoted(id));
        let all = [
            equal("agent_id", &self.agent),
            equal("agent_instance", &self.instance),
            equal("user_id", &self.user),
            equal("credential_id", &self.credential),
            equal("token_id", &self.token),
            client,
            self.grant.as_deref().map(grant),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        if all.is_empty() { "agent_id IS NOT NULL".into() } else { all.join(" AND ") }
    }
}

/// A drill's report in words.
fn told(report: &Value) -> String {
    let ms = |name: &str| format!("{:.1} ms", report[name].as_f64().unwrap_or(0.0));
    let text = |name: &str| plain(&report[name]);
    let (stopped, released) = (report["stopped"] == true, report["released"] == true);
    let stop =
        if stopped { format!("refused {} after the decision", ms("first_refused_ms")) } else { "NOT STOPPED".into() };
    let back = if released { format!("let through {} after the release", ms("back_ms")) } else { "NOT LET GO".into() };
    format!(
        "drill {}: canary {} on {}\n  {stop}; last allowed call {} after it, {} calls\n  {back}\n  order {}\n",
        text("drill"),
        text("agent"),
        text("path"),
        ms("last_allowed_ms"),
        report["calls"],
        text("order_id")
    )
}

/// The plan, a line a call.
fn steps(plan: &Value) -> String {
    let mut text = format!("plan {} (stands {} s)\n", plain(&plan["digest"]), plan["stands_secs"]);
    for step in plan["steps"].as_array().into_iter().flatten() {
        let only = if step["only_if_violated"] == true { ", only if it is let through" } else { "" };
        let undo = if step["reversible"] == true { "can be undone" } else { "cannot be undone" };
        text += &format!("  {} ({undo}{only})\n", plain(&step["system"]));
        for call in step["calls"].as_array().into_iter().flatten() {
            text += &format!("    {}\n", plain(call));
        }
        text += &format!("    stays alive: {}\n", plain(&step["stays_alive"]));
    }
    text
}

/// Whom it would touch, by what was seen in the last day.
async fn touched(access: &Access, tenant: &str, whom: &Whom) -> Result<String> {
    let query = format!(
        "SELECT count(*) AS calls, count(DISTINCT agent_id) AS agents, count(DISTINCT user_id) AS users, \
         count(DISTINCT session_id) AS sessions, coalesce(sum(bytes_out), 0) AS bytes, \
         count(DISTINCT token_id) FILTER (WHERE token_expires_at > now()) AS tokens, \
         CAST(max(token_expires_at) AS VARCHAR) AS good_until, \
         count(DISTINCT credential_id) FILTER (WHERE token_expires_at IS NULL) AS unknown \
         FROM events WHERE time > now() - INTERVAL '1 day' AND {}",
        whom.condition()
    );
    let rows = ask_json(access, tenant, &query).await?;
    let Some(row) = rows.first() else { return Ok(String::new()) };
    let good_until = row["good_until"].as_str().unwrap_or("unknown: no event told an expiry");
    Ok(format!(
        "in the last day it touches: {} agents, {} users, {} sessions, {} calls, {} bytes sent\n\
         issued tokens: {} seen that are still good, the last until {good_until}; {} credentials of unknown expiry\n",
        row["agents"], row["users"], row["sessions"], row["calls"], row["bytes"], row["tokens"], row["unknown"]
    ))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
