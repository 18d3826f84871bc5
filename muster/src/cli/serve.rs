//! `muster serve`: every role in one process, or some of them, until it is told to stop.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use lake::clock::Clock;
use schemas::{Holder, Verb};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::SOCKET;
use crate::config::Config;
use crate::node::Node;
use crate::output::complain;
use crate::role::Role;
use crate::server;
use crate::tokens::Tokens;

#[derive(Args)]
pub(crate) struct Serve {
    /// Address and port, instead of the configuration's `server.listen_address`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// What this process does, instead of the configuration's `server.roles`; the others are other processes'
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',')]
    roles: Vec<Role>,
}

pub(crate) async fn run(command: &Serve, mut config: Config) -> Result<ExitCode> {
    if let Some(address) = command.listen {
        config.server.listen_address = address;
    }
    if !command.roles.is_empty() {
        config.server.roles.clone_from(&command.roles);
        let problems = config.problems();
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    }
    let folder = config.data.folder.clone();
    let address = config.server.listen_address;
    let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = tcp.local_addr()?;
    let node = Node::open(config, Clock::system()).await?;
    if node.config.server.has(Role::Respond) {
        node.poll_inventory().await;
    }
    if node.config.server.has(Role::Ingest) {
        node.read_kafka().await?;
    }
    let tokens = Tokens::open(&folder)?;
    if tokens.is_empty() {
        let verbs = vec![Verb::Ingest, Verb::Act, Verb::Query, Verb::Deny, Verb::Order, Verb::Approve, Verb::Admin];
        let token = tokens.create("first", "default", Holder::Person, verbs)?;
        complain(&format!(
            "first start: this token is shown once and may do everything in tenant `default`:\n\n  {token}\n"
        ));
    }
    complain(&format!("muster listens on http://{address} and keeps its data in {}", folder.display()));

    let (stop, stopped) = watch::channel(false);
    let server = server::serve(node.clone(), tokens, tcp, folder.join(SOCKET), stopped);
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => ended?,
        reason = node.failed() => {
            // What was acknowledged is in the log; the next start recovers from it.
            complain(&format!("muster stops: {reason}"));
            return Ok(ExitCode::FAILURE);
        }
        signal = told_to_stop() => {
            complain(&format!("{} received: finishing (once more: stop at once)", signal?));
            stop.send_replace(true);
            tokio::select! {
                ended = &mut server => ended?,
                // What was acknowledged is in the log; the next start recovers from it.
                _ = told_to_stop() => return Ok(ExitCode::FAILURE),
            }
        }
    }
    node.shut_down().await?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves with the name of the signal that tells the process to end.
pub(crate) async fn told_to_stop() -> Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}
