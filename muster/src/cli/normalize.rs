//! `muster normalize`: what a file's records become, without storing anything.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ingest::{Carrier, Chunks, Context as Admitted, Joins, normalize_joined, normalize_json};
use lake::clock::Clock;

use super::ingest::{choose, load_registry, load_sources};
use crate::config::Config;
use crate::node::{key_path, read_key};

const PIECE_BYTES_MAX: usize = 1 << 20;

#[derive(Args)]
pub(crate) struct Normalize {
    /// File of records
    file: PathBuf,
    /// Name of the source [default: recognised from the first records]
    #[arg(long)]
    source: Option<String>,
    /// Tenant to write into the events
    #[arg(long, default_value = "default")]
    tenant: String,
    /// One JSON object a line: the event's columns and `record`, the 0-based number of the input record
    #[arg(long, value_enum, default_value_t)]
    format: JsonOnly,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum JsonOnly {
    #[default]
    Json,
}

pub(crate) fn run(command: &Normalize, config: &Config) -> Result<ExitCode> {
    let JsonOnly::Json = command.format;
    let sources = load_sources(config)?;
    let registry = load_registry(config, &sources)?;
    // Each record by itself: what earlier ones said of tokens is not carried.
    let joins = Joins { registry: registry.as_ref(), tokens: None };
    let mapping = choose(&sources, command.source.as_deref(), &command.file)?;
    // The installation's own key gives the credential ids of the lake; without one, ids that mean nothing elsewhere.
    let key = if key_path(&config.data.folder).exists() { read_key(&config.data.folder)? } else { [0; 32] };
    let carrier = Carrier::File { name: command.file.to_string_lossy().into_owned(), offset: 0 };
    let context = Admitted {
        tenant: &command.tenant,
        instance: "",
        door: "file",
        live: false,
        received_at: Clock::system().now_micros(),
        carrier: &carrier,
        partitions: ingest::worker::PARTITIONS,
        secret_key: &key,
    };
    let file = File::open(&command.file).with_context(|| format!("cannot open {}", command.file.display()))?;
    let limits = &config.ingest.limits;
    let mut chunks = Chunks::new(file, mapping.array_keys(), limits.record_bytes_max, PIECE_BYTES_MAX);
    let mut out = std::io::BufWriter::new(crate::output::Output::lock());
    let mut first = 0;
    while let Some(piece) = chunks.next_piece()? {
        let normalized = normalize_joined(mapping, &piece, first, None, &context, limits, joins);
        normalize_json(&normalized, first, &mut out)?;
        first += normalized.outcomes.len() as u32;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
