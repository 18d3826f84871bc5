//! `muster tokens`: who may call the server.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
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
    /// What it may do
    #[arg(long = "verb", value_enum, required = true)]
    verbs: Vec<VerbName>,
    /// The holder is a person (only persons approve orders), not a program
    #[arg(long)]
    person: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum VerbName {
    /// Send records
    Ingest,
    /// Send records that are live: they may start an unattended order
    Act,
    /// Read events, alerts, orders and the roster
    Query,
    /// Read the deny list: for gateways
    Deny,
    /// Ask for an order, or release one
    Order,
    /// Approve an order that another person asked for
    Approve,
    /// See the state of the process
    Admin,
}

impl From<VerbName> for Verb {
    fn from(name: VerbName) -> Verb {
        match name {
            VerbName::Ingest => Verb::Ingest,
            VerbName::Act => Verb::Act,
            VerbName::Query => Verb::Query,
            VerbName::Deny => Verb::Deny,
            VerbName::Order => Verb::Order,
            VerbName::Approve => Verb::Approve,
            VerbName::Admin => Verb::Admin,
        }
    }
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
            let verbs = create.verbs.iter().map(|name| Verb::from(*name)).collect();
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
