//! `muster demo`: the whole job on a simulated SaaS, told as a story.
//!
//! Everything is real: a server on a free port, vendor records posted through its HTTP door, the log, the lake, the
//! detectors, an order, and a webhook that a receiver of ours verifies. Only the company is made up (`benches::fleet`).

mod receiver;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use benches::fleet::{Batch, Fleet, TENANTS};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lake::clock::Clock;
use lake::log::Group;
use respond::config::{Mode, Policy, Severity, TargetKind, Webhook};
use schemas::{Holder, Verb};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::serve::told_to_stop;
use crate::client::SOCKET;
use crate::config::Config;
use crate::node::{Node, make_private};
use crate::output::{complain, print};
use crate::server;
use crate::tokens::Tokens;
use receiver::Receiver;
use story::Story;

/// How long the alert and the webhook may take before the demo says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
const SEED: u64 = 7;

#[derive(Args)]
pub(crate) struct Demo {
    /// Leave it serving afterwards, to look around
    #[arg(long)]
    keep: bool,
    /// How busy the simulated company is, as a multiple
    #[arg(long, default_value_t = 1.0)]
    volume: f64,
    /// Fresh folder for the data [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// The tokens of one tenant: its history is imported under one, its gateways send live records under the other.
struct TenantTokens {
    history: String,
    gateway: String,
}

pub(crate) async fn run(command: &Demo, mut config: Config) -> Result<ExitCode> {
    let began = Instant::now();
    let temporary = tempfile::Builder::new().prefix("muster-demo-").tempdir().context("no temporary folder")?;
    let folder = command.into.clone().unwrap_or_else(|| temporary.path().join("data"));
    ensure!(!folder.exists(), "{} exists already: the demo wants a fresh folder", folder.display());
    make_private(&folder)?;
    let receiver = Receiver::start().await?;
    configure(&mut config, &folder, &receiver);

    let tokens = Tokens::open(&folder)?;
    let tenants = [make_tokens(&tokens, TENANTS[0])?, make_tokens(&tokens, TENANTS[1])?];
    let node = Node::open(config, Clock::system()).await?;
    let tcp = TcpListener::bind(node.config.server.listen_address).await?;
    let url = format!("http://{}", tcp.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(server::serve(node.clone(), tokens.clone(), tcp, folder.join(SOCKET), stopped));

    let told = tokio::select! {
        told = tell(command, &node, &url, &tenants, receiver, began) => told,
        reason = node.failed() => Err(anyhow::anyhow!("muster stopped: {reason}")),
        signal = told_to_stop() => Err(anyhow::anyhow!("{} received", signal?)),
    };
    let told = match told {
        Ok(()) if command.keep => tokio::select! {
            kept = keep(&tokens, &url, &folder) => kept,
            reason = node.failed() => Err(anyhow::anyhow!("muster stopped: {reason}")),
        },
        told => told,
    };
    stop.send_replace(true);
    server.await.context("the server panicked")??;
    node.shut_down().await?;
    told?;
    Ok(ExitCode::SUCCESS)
}

/// The demo's own settings over the user's: a fresh folder, a free port, and a policy that acts.
fn configure(config: &mut Config, folder: &std::path::Path, receiver: &Receiver) {
    config.data.folder = folder.to_owned();
    config.server.listen_address = ([127, 0, 0, 1], 0).into();
    config.respond = respond::Config {
        policies: vec![Policy {
            detector: "*".into(),
            severity_min: Severity::High,
            mode: Mode::Act,
            target: TargetKind::Agent,
            switches: vec!["demo-receiver".into()],
            ..Policy::default()
        }],
        webhooks: vec![Webhook {
            name: "demo-receiver".into(),
            url: receiver.url.clone(),
            secret: Some(receiver.secret.clone()),
            ..Webhook::default()
        }],
        // The receiver of the demo is on this machine.
        private_addresses_allowed: true,
        ..respond::Config::default()
    };
}

fn make_tokens(tokens: &Tokens, tenant: &str) -> Result<TenantTokens> {
    let make = |use_: &str, verbs| tokens.create(&format!("{tenant}-{use_}"), tenant, Holder::Machine, verbs);
    Ok(TenantTokens {
        history: make("history", vec![Verb::Ingest])?,
        gateway: make("gateway", vec![Verb::Ingest, Verb::Act])?,
    })
}

async fn tell(
    command: &Demo,
    node: &Arc<Node>,
    url: &str,
    tenants: &[TenantTokens; 2],
    mut receiver: Receiver,
    began: Instant,
) -> Result<()> {
    let story = Story { node, began };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let fleet = Fleet::new(SEED, node.clock.now_micros()).volume(command.volume);
    story.opening(&fleet, url)?;

    let week: Vec<Batch> = fleet.week().collect();
    let (posted, took) = post_week(&http, url, tenants, &week).await?;
    // History is learned when a tick has passed over it: the demo does not wait for the second to end.
    node.log.append(Group { tick: Some(node.clock.now_micros()), ..Group::default() }).await?;
    node.settle().await?;
    story.week(posted, took).await?;

    let now = node.clock.now_micros();
    for batch in fleet.shared_credential(now).iter().chain(&fleet.never_expires(now)) {
        post(&http, url, &tenant_of(tenants, batch).gateway, batch).await?;
    }
    let mut acknowledged = Vec::new();
    for batch in fleet.hijack(node.clock.now_micros()) {
        post(&http, url, &tenant_of(tenants, &batch).gateway, &batch).await?;
        acknowledged.push(node.clock.now_micros());
    }
    let agent = fleet.facts().hijack.agent.id;
    let call = tokio::time::timeout(PATIENCE, receiver.next(&agent)).await;
    let Ok(Some(call)) = call else { bail!("no webhook about {agent} arrived within {PATIENCE:?}") };
    node.settle().await?;
    story.hijack(&fleet, &acknowledged, &call).await?;
    story.hygiene(&fleet).await?;
    story.questions(&fleet).await?;
    story.closing().await
}

fn tenant_of<'a>(tenants: &'a [TenantTokens; 2], batch: &Batch) -> &'a TenantTokens {
    let place = TENANTS.iter().position(|tenant| *tenant == batch.tenant);
    &tenants[place.expect("the fleet has these tenants only")]
}

/// Posts the week as fast as the server takes it; returns records and time.
async fn post_week(
    http: &reqwest::Client,
    url: &str,
    tenants: &[TenantTokens; 2],
    week: &[Batch],
) -> Result<(usize, Duration)> {
    let total: usize = week.iter().map(|batch| batch.records).sum();
    let bar = ProgressBar::new(total as u64);
    bar.set_style(ProgressStyle::with_template("  {bar:40} {human_pos} of {human_len} records")?);
    let began = Instant::now();
    for batch in week {
        post(http, url, &tenant_of(tenants, batch).history, batch).await?;
        bar.inc(batch.records as u64);
    }
    bar.finish_and_clear();
    Ok((total, began.elapsed()))
}

async fn post(http: &reqwest::Client, url: &str, token: &str, batch: &Batch) -> Result<()> {
    let door = format!("{url}/v1/ingest/{}", batch.source.name());
    let response = http.post(door).bearer_auth(token).body(batch.body.clone()).send().await?;
    let status = response.status();
    let receipt: serde_json::Value = response.json().await?;
    ensure!(status.is_success(), "the door answered {status}: {receipt}");
    let mapped = receipt["mapped"].as_u64().unwrap_or(0) as usize;
    ensure!(
        mapped == batch.records,
        "only {mapped} of {} {} records became events: {receipt}",
        batch.records,
        batch.source.name()
    );
    Ok(())
}

/// Serves until interrupted, with a token to look around.
async fn keep(tokens: &Tokens, url: &str, folder: &std::path::Path) -> Result<()> {
    let verbs = vec![Verb::Query, Verb::Deny, Verb::Order];
    let token = tokens.create("visitor", TENANTS[0], Holder::Person, verbs)?;
    print(&format!(
        "\nstill serving on {url} (Ctrl-C ends it). In another terminal:\n\n\
         \x20 muster --data {folder} sql --tenant {tenant} \"SELECT * FROM events ORDER BY time DESC LIMIT 5\"\n\
         \x20 muster --data {folder} alerts list --tenant {tenant}\n\
         \x20 curl -H 'authorization: Bearer {token}' {url}/v1/deny\n",
        folder = folder.display(),
        tenant = TENANTS[0],
    ))?;
    complain(&format!("{} received: ending", told_to_stop().await?));
    Ok(())
}
