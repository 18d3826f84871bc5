//! `muster sources`: the log formats that Muster reads.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use ingest::Sources;

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
    /// Run the fixtures of built-in sources, or of the mapping files of a folder
    Test {
        /// Folder of mapping files, each with its fixtures beside it
        folder: Option<PathBuf>,
    },
}
