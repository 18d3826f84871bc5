//! `muster bench`: the workload generator.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::workload::{Generator, Source, Spec};
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Write vendor-shaped records of realistic size and skew; the same seed writes the same bytes
    Gen(Gen),
}

#[derive(Args)]
pub(crate) struct Gen {
    /// Number of records
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Number of agents
    #[arg(long, default_value_t = 1_000)]
    agents: u32,
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Whose records: okta, aws_cloudtrail, envoy, kong
    #[arg(long, default_value = "envoy", value_parser = named)]
    source: Source,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    let BenchCommand::Gen(command) = command;
    let out: Box<dyn Write> = match &command.out {
        Some(path) => Box::new(std::fs::File::create(path).with_context(|| format!("cannot make {}", path.display()))?),
        None => Box::new(crate::output::Output::lock()),
    };
    let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
    let spec = Spec {
        events: command.events,
        agents: command.agents,
        seed: command.seed,
        source: command.source,
        ..Spec::default()
    };
    let mut generator = Generator::new(spec);
    let mut record = Vec::new();
    while generator.write_record(&mut record) {
        out.write_all(&record)?;
        record.clear();
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> Result<Source, String> {
    let known: Vec<&str> = Source::ALL.iter().map(|source| source.name()).collect();
    Source::named(name).ok_or_else(|| format!("one of {}", known.join(", ")))
}
