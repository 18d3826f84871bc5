//! `muster tokens`: who may call the server.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use schemas::{Holder, Verb};

use crate::config::Config;
use crate::node::make_private;
use crate::output;
use crate::tokens::Tokens;

#[derive(Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token; it is shown once
    Create(Create),
    /// Names, tenants and verbs of all tokens
    List,
    /// Make a token stop working, at once
    Revoke {
        /// Name of the token
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// Name: letters, digits, `-` and `.`
    name: String,
    /// Tenant that the token belongs to
    #[arg(long, default_value = "default")]
    tenant: String,
    /// What it may do: ingest (send records), act (with ingest: records that are live, and may start an unattended order),
    /// query (read), deny (the deny list, for gateways), order (ask for orders and release them), approve, admin (see the
    /// state of the whole process)
    #[arg(long = "verb", value_parser = verb, required = true, value_name = "VERB")]
    verbs: Vec<Verb>,
    /// The holder is a person (only persons approve orders), not a program
    #[arg(long)]
    person: bool,
}

/// A verb by its name in configuration and files.
fn verb(name: &str) -> Result<Verb, String> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|error| error.to_string())
}

pub(crate) fn run(command: &TokensCommand, config: &Config) -> Result<ExitCode> {
    let folder = &config.data.folder;
    if matches!(command, TokensCommand::Create(_)) {
        make_private(folder)?;
    }
    let tokens = Tokens::open(folder)?;
    match command {
        TokensCommand::Create(create) => {
            let holder = if create.person { Holder::Person } else { Holder::Machine };
            let verbs = create.verbs.clone();
            let token = tokens.create(&create.name, &create.tenant, holder, verbs)?;
            output::print(&format!("{token}\n"))?;
        }
        TokensCommand::List => {
            for token in tokens.list() {
                let verbs: Vec<String> = token.verbs.iter().map(|v| format!("{v:?}").to_lowercase()).collect();
                let holder = format!("{:?}", token.holder).to_lowercase();
                output::print(&format!("{:20} {:16} {holder:8} {}\n", token.name, token.tenant, verbs.join(" ")))?;
            }
        }
        TokensCommand::Revoke { name } => tokens.revoke(name)?,
    }
    Ok(ExitCode::SUCCESS)
}
