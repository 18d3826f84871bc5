//! The whole path, measured: a real `muster serve` on a new folder is sent records over HTTP until its log, lake, detectors
//! and responder have passed them all.
//!
//! `cargo build && cargo bench --profile dev -p benches --bench end_to_end -- [--events N] [--source S | --records FILE]`.
//! It sends what a gateway would (batches over a few connections on the loopback), generated or out of a file of agent
//! events (`benches/workload/` has their mapping), reports what the server process alone took, and puts the parse floor
//! (simd-json over the same bytes) beside it. The result goes to `benches/results/` as JSON too.
//! It is no test of latency: the sender sends as fast as it is answered.
#![allow(clippy::print_stdout)]

mod records;
mod report;
mod send;
#[path = "../shared/server.rs"]
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::measure::{parse, thread_time};
use benches::workload::{Source, Spec};
use clap::Parser;

use records::Records;
use report::Report;
use server::Server;

/// The run is given up after this long.
const PATIENCE: Duration = Duration::from_secs(900);
/// So many records tell the parse floor.
const FLOOR_RECORDS: u64 = 100_000;
/// The source of a file's records, and the folder with its mapping.
const FILE_SOURCE: &str = "agent_events";
const FILE_MAPPING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/workload");

#[derive(Parser)]
struct Arguments {
    /// Records to send
    #[arg(long, default_value_t = 400_000)]
    events: u64,
    /// Agents that make them
    #[arg(long, default_value_t = 10_000)]
    agents: u32,
    /// `envoy`, `okta`, `kong` or `aws_cloudtrail`
    #[arg(long, default_value = "envoy")]
    source: String,
    /// Agent events of this file, one a line, instead of generated records
    #[arg(long, conflicts_with_all = ["source", "agents"])]
    records: Option<PathBuf>,
    /// Records in one request
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Connections that send at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// The program to measure, instead of the one that `cargo build` put beside this bench
    #[arg(long)]
    muster: Option<PathBuf>,
    /// Waits this long before sending, so that a profiler can attach
    #[arg(long, default_value_t = 0)]
    wait_secs: u64,
    /// Cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn source(&self) -> &str {
        if self.records.is_some() { FILE_SOURCE } else { &self.source }
    }

    /// The first `count` records.
    fn records(&self, count: u64) -> Result<Records> {
        if let Some(file) = &self.records {
            return Records::of_file(file, count);
        }
        let source = Source::named(&self.source).with_context(|| format!("no source {}", self.source))?;
        Ok(Records::generated(Spec { source, events: count, agents: self.agents, ..Spec::default() }))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let floor_secs = floor(&arguments)?;
    let program = arguments.muster.clone().map_or_else(server::built, Ok)?;
    let built_into = program.parent().and_then(|folder| folder.file_name()).unwrap_or_default();
    let built_into = built_into.to_string_lossy().into_owned();
    // In the target folder and not in the system's temporary one, which may be memory: fsync must reach a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mapping = arguments.records.as_ref().map(|_| format!("ingest.sources_folder = {FILE_MAPPING:?}"));
    let server = Server::start(&program, folder.path(), &mapping.unwrap_or_default())?;
    println!("server {} on {}", server.pid(), folder.path().display());
    tokio::time::sleep(Duration::from_secs(arguments.wait_secs)).await;
    let report = tokio::time::timeout(PATIENCE, measure(&arguments, floor_secs, built_into, &server)).await;
    let report = report.context("the server did not pass all records in time")??;
    report.print();
    report.save()
}

async fn measure(arguments: &Arguments, parse_secs: f64, built_into: String, server: &Server) -> Result<Report> {
    let records = arguments.records(arguments.events)?;
    let (before, start) = (server.processor_secs()?, Instant::now());
    let bytes_sent =
        send::all(&server.door(arguments.source()), records, arguments.batch, arguments.connections).await?;
    let (acknowledged_secs, processor_secs_acknowledged) =
        (start.elapsed().as_secs_f64(), server.processor_secs()? - before);
    server.passed(server.log_end().await?).await?;
    let (wall_secs, processor_secs) = (start.elapsed().as_secs_f64(), server.processor_secs()? - before);
    let memory_bytes_peak = server.memory_bytes_peak()?;
    let found = server.count().await?;
    ensure!(found == arguments.events, "SQL counts {found} events of {} sent", arguments.events);
    Ok(Report {
        source: arguments.source().to_owned(),
        records: arguments.events,
        built_into,
        batch: arguments.batch,
        connections: arguments.connections,
        bytes_sent,
        acknowledged_secs,
        wall_secs,
        processor_secs_acknowledged,
        processor_secs,
        parse_secs,
        memory_bytes_peak,
        lake_bytes: server.bytes("lake"),
        log_bytes: server.bytes("log"),
    })
}

/// Processor seconds that parsing alone takes for a record.
fn floor(arguments: &Arguments) -> Result<f64> {
    let count = arguments.events.min(FLOOR_RECORDS);
    let body = arguments.records(count)?.body(count)?;
    let start = thread_time();
    ensure!(parse(&body) == 0, "the records are not JSON");
    Ok((thread_time() - start).as_secs_f64() / count as f64)
}
