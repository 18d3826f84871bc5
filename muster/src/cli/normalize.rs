//! `muster normalize`: what a file's records become, without storing anything.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ingest::{Carrier, Limits, Sources, chunks};
use lake::clock::Clock;

use crate::config::Config;
use crate::node::{installation_key, key_path};
use crate::output::Format;

#[derive(Args)]
pub(crate) struct Normalize {
    /// File of records; `-` for standard input
    file: PathBuf,
    /// Name of the source [default: recognised from the first records]
    #[arg(long)]
    source: Option<String>,
    /// Tenant to write into the events
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Only `json` for now: one object a line, the event's columns and `record`, the number of the input record
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
}
