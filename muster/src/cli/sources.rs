//! `muster sources`: the log formats that Muster reads.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use ingest::{Sources, fixtures};

use super::ingest::load_sources;
use crate::config::Config;
use crate::output;

#[derive(Subcommand)]
pub(crate) enum SourcesCommand {
    /// Every source, built in or from the configured folder
    List,
    /// What a source makes of a record: who is the agent, who the user, which columns come from where
    Show {
        /// Name of the source
        name: String,
    },
    /// Run the fixtures of every source, or of the mapping files of a folder
    Test {
        /// Folder of mapping files, each with its fixtures beside it
        folder: Option<PathBuf>,
    },
}

pub(crate) fn run(command: &SourcesCommand, config: &Config) -> Result<ExitCode> {
    match command {
        SourcesCommand::List => {
            for mapping in load_sources(config)?.iter() {
                output::print(&format!("{:20} {}\n", mapping.name(), mapping.title()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        SourcesCommand::Show { name } => {
            let sources = load_sources(config)?;
            let mapping =
                sources.get(name).with_context(|| format!("there is no source `{name}`{}", sources.nearest(name)))?;
            output::print(&mapping.describe())?;
            Ok(ExitCode::SUCCESS)
        }
        SourcesCommand::Test { folder } => {
            test(folder.clone().or_else(|| config.ingest.sources_folder.clone()), config)
        }
    }
}

/// Fails where a fixture fails, or where a folder's mapping has none.
fn test(folder: Option<PathBuf>, config: &Config) -> Result<ExitCode> {
    let mut config = config.clone();
    config.ingest.sources_folder = folder.clone();
    let sources: Sources = load_sources(&config)?;
    let mut failed = false;
    for mapping in sources.iter() {
        let own = folder.as_ref().filter(|folder| folder.join(format!("{}.toml", mapping.name())).exists());
        let report = match own {
            Some(folder) => fixtures::run(mapping, folder),
            None => fixtures::run_built_in(mapping, &sources),
        };
        output::print(&format!("{:20} {} passed, {} failed\n", mapping.name(), report.passed, report.failures.len()))?;
        for failure in &report.failures {
            output::print(&format!("    {failure}\n"))?;
        }
        failed |= !report.failures.is_empty();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
