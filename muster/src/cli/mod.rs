//! The command line: one file a command. Tables for people, `--format json|csv` for programs; an exit code of 1 where the
//! command failed, 2 where it was called wrongly.

mod agents;
mod alerts;
mod bench;
mod config;
mod demo;
mod docs;
mod draft;
mod erase;
mod hold;
pub(crate) mod ingest;
pub(crate) mod inventory;
mod learn;
mod normalize;
mod orders;
mod profile;
mod quarantine;
mod report;
mod serve;
pub(crate) mod sources;
pub(crate) mod sql;
mod status;
mod tokens;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::sources::SourcesCommand;
use crate::config::{Config, load};

/// Audit, anomaly detection and kill switch for AI agents.
#[derive(Parser)]
#[command(name = "muster", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// Configuration file [default: muster.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder, instead of the configuration's `data.folder`
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// How much to log to standard error: error, warn, info, debug, or a filter such as `lake=debug`
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, read once")]
enum Command {
    /// See Muster do its whole job on a simulated SaaS, in under a minute
    Demo(demo::Demo),
    /// Run the server: doors, log, lake, detectors, kill switch, SQL
    Serve(serve::Serve),
    /// Read log files into the lake (through the running server, else into the folder itself)
    Ingest(ingest::IngestFiles),
    /// Print the events that a file's records become, without storing anything
    Normalize(normalize::Normalize),
    /// The log formats that Muster reads
    #[command(subcommand)]
    Sources(SourcesCommand),
    /// Ask the lake and its hot tail in SQL
    Sql(sql::Sql),
    /// The roster: each agent with owner, credentials, scopes, users, volumes and hygiene
    Agents(agents::Agents),
    /// What identity providers and gateways hold: clients, credentials, grants
    #[command(subcommand)]
    Inventory(inventory::InventoryCommand),
    /// What the detectors raised
    #[command(subcommand)]
    Alerts(alerts::AlertsCommand),
    /// Kill-switch orders
    #[command(subcommand)]
    Orders(orders::OrdersCommand),
    /// Build what the detectors know anew from the lake, where the log no longer holds the history
    Learn(learn::Learn),
    /// What was received and where it went; how far each role is
    Status(status::Status),
    /// Reconcile log, ledger and tables: every record accounted for exactly once, or what is missing
    Verify(verify::Verify),
    /// Records that could not become events: see why, drive them again
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Keep the tables in order now: merge small files, delete what is too old, clear away what is replaced
    Keep(verify::Keep),
    /// Legal holds: rows that neither retention nor erasure touches
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Erase a user from everything that names them
    #[command(subcommand)]
    Erase(erase::EraseCommand),
    /// Bearer tokens: who may call the server
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    /// The configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Workload generator
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Write the generated reference pages and schemas
    #[command(hide = true)]
    Docs(docs::Docs),
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli);
    match run(cli) {
        Ok(code) => code,
        Err(error) if crate::output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::complain(&format!("muster: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start_logging(cli: &Cli) {
    let level = match &cli.command {
        Command::Serve(_) => "info,datafusion=warn,delta=warn,deltalake=warn,buoyant_kernel=warn",
        _ => "error",
    };
    let filter = tracing_subscriber::EnvFilter::new(cli.log.as_deref().unwrap_or(level));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        // These do without a configuration, or show what is wrong with it.
        Command::Bench(command) => return bench::run(&command),
        Command::Docs(command) => return docs::run(&command),
        Command::Config(command) => return config::run(&command, read_config(cli.config, cli.data)),
        _ => {}
    }
    let config = read_config(cli.config, cli.data)?;
    match cli.command {
        Command::Sources(ref command) if !matches!(command, SourcesCommand::List { .. }) => {
            return sources::run(command, &config);
        }
        Command::Normalize(command) => return normalize::run(&command, &config),
        Command::Tokens(command) => return tokens::run(&command, &config),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match cli.command {
            Command::Demo(command) => demo::run(&command, config).await,
            Command::Serve(command) => serve::run(&command, config).await,
            Command::Ingest(command) => ingest::run(&command, config).await,
            Command::Sources(SourcesCommand::List { format }) => sources::list(format, &config).await,
            Command::Sql(command) => sql::run(&command, config).await,
            Command::Agents(command) => agents::run(&command, config).await,
            Command::Inventory(command) => inventory::run(&command, config).await,
            Command::Alerts(command) => alerts::run(&command, config).await,
            Command::Orders(command) => orders::run(&command, config).await,
            Command::Learn(command) => learn::run(&command, config).await,
            Command::Status(command) => status::run(&command, config).await,
            Command::Verify(command) => verify::run(&command, config).await,
            Command::Quarantine(command) => quarantine::run(&command, config).await,
            Command::Keep(command) => verify::keep(&command, config).await,
            Command::Hold(command) => hold::run(&command, config).await,
            Command::Erase(command) => erase::run(&command, config).await,
            _ => unreachable!("handled above"),
        }
    });
    // After an error a role may still wait on its log: the process ends all the same.
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
    done
}

fn read_config(path: Option<PathBuf>, data: Option<PathBuf>) -> Result<Config> {
    let default = PathBuf::from("muster.toml");
    let path = path.or_else(|| default.exists().then_some(default));
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let environment: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| name.starts_with("MUSTER__")).collect();
    let mut config = load(path.as_deref(), &environment)?;
    if let Some(folder) = data {
        config.data.folder = folder;
    }
    Ok(config)
}

/// `docs/command-line.md`, from the commands' own help texts.
pub(crate) fn reference() -> String {
    let mut page = String::from("# Command line\n\nGenerated from the code; do not edit (`muster docs` writes it).\n");
    let mut command = <Cli as clap::CommandFactory>::command().term_width(100);
    command.build();
    describe(&mut page, &mut command, "");
    page
}

fn describe(page: &mut String, command: &mut clap::Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name()).trim().to_owned();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}```\n", command.render_help()));
    for inner in command.get_subcommands_mut().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
        describe(page, inner, &name);
    }
}
