//! The figures of a run: a table for people, JSON for later comparison.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// What a million records may take of a core.
const TARGET_PROCESSOR_SECS: [(&str, f64); 2] = [("envoy", 25.0), ("agent_events", 12.0)];

pub(crate) struct Report {
    pub(crate) source: String,
    pub(crate) records: u64,
    /// The folder that the measured program was built into: `debug` or `release`.
    pub(crate) built_into: String,
    pub(crate) batch: u64,
    pub(crate) connections: u32,
    pub(crate) bytes_sent: u64,
    /// Until the last answer.
    pub(crate) acknowledged_secs: f64,
    /// Until every role had passed the last record.
    pub(crate) wall_secs: f64,
    pub(crate) processor_secs_acknowledged: f64,
    pub(crate) processor_secs: f64,
    /// Of the parse floor, for one record.
    pub(crate) parse_secs: f64,
    pub(crate) memory_bytes_peak: u64,
    pub(crate) lake_bytes: u64,
    pub(crate) log_bytes: u64,
}

impl Report {
    fn a_record(&self, amount: f64) -> f64 {
        amount / self.records as f64
    }

    fn a_core(&self) -> f64 {
        self.records as f64 / self.processor_secs
    }

    pub(crate) fn print(&self) {
        let Report { source, records, built_into, batch, connections, .. } = self;
        println!("{records} {source} records, {batch} a request, {connections} connections, built into {built_into}\n");
        let row = |what: &str, value: String| println!("{what:52} {value:>12}");
        row("bytes a record sent", format!("{:.0}", self.a_record(self.bytes_sent as f64)));
        row("server CPU-seconds a million records", format!("{:.1}", self.a_record(self.processor_secs) * 1e6));
        if let Some((_, target)) = TARGET_PROCESSOR_SECS.iter().find(|(name, _)| name == source) {
            row("  target", format!("{target:.1}"));
        }
        row(
            "  of these until the last answer",
            format!("{:.1}", self.a_record(self.processor_secs_acknowledged) * 1e6),
        );
        row("  parse floor, simd-json alone", format!("{:.2}", self.parse_secs * 1e6));
        row("records a second a core", format!("{:.0}", self.a_core()));
        row("wall seconds until the last answer", format!("{:.1}", self.acknowledged_secs));
        row("wall seconds until all is in the lake and judged", format!("{:.1}", self.wall_secs));
        row("peak memory, MiB", format!("{:.0}", self.memory_bytes_peak as f64 / f64::from(1 << 20)));
        row("bytes a record in the lake", format!("{:.0}", self.a_record(self.lake_bytes as f64)));
        row("bytes a record in the log (segments still kept)", format!("{:.0}", self.a_record(self.log_bytes as f64)));
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("results/end_to_end.{}.json", self.source));
        let value = json!({
            "source": self.source,
            "records": self.records,
            "records_a_request": self.batch,
            "connections": self.connections,
            "built_into": self.built_into,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "cpu_secs_a_million": self.a_record(self.processor_secs) * 1e6,
            "cpu_secs_a_million_until_acknowledged": self.a_record(self.processor_secs_acknowledged) * 1e6,
            "parse_floor_cpu_secs_a_million": self.parse_secs * 1e6,
            "records_a_second_a_core": self.a_core(),
            "acknowledged_secs": self.acknowledged_secs,
            "wall_secs": self.wall_secs,
            "memory_bytes_peak": self.memory_bytes_peak,
            "bytes_a_record": {
                "sent": self.a_record(self.bytes_sent as f64),
                "lake": self.a_record(self.lake_bytes as f64),
                "log": self.a_record(self.log_bytes as f64),
            },
        });
        let text = format!("{value:#}\n");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
