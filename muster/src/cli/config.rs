//! `muster config`: check it, show it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::ingest::{load_catalogue, load_registry, load_sources};
use crate::config::{Config, resolve_kafka, resolve_secrets};
use crate::output::{self, complain};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report every problem of the configuration at once
    Check,
    /// The configuration in force, defaults included; secrets are shown as ***
    Show,
}

pub(crate) fn run(command: &ConfigCommand, config: Result<Config>) -> Result<ExitCode> {
    let config = match config {
        Ok(config) => config,
        Err(problems) => {
            complain(&format!("{problems:#}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    match command {
        ConfigCommand::Check => {
            // What the files that it names say is part of it.
            let sources = load_sources(&config);
            let registry = sources.as_ref().ok().and_then(|sources| load_registry(&config, sources).err());
            let catalogue = load_catalogue(&config).err();
            let kafka = config.log.kafka.clone().and_then(|mut kafka| resolve_kafka(&mut kafka.client).err());
            let found = [sources.err(), registry, catalogue, resolve_secrets(&config.respond).err(), kafka];
            let problems: Vec<_> = found.into_iter().flatten().collect();
            for problem in &problems {
                complain(&format!("{problem:#}"));
            }
            if !problems.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            output::print("the configuration is right\n")?;
        }
        ConfigCommand::Show => output::print(&toml::to_string(&config)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
