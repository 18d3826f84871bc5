//! Mapping speed of every source, with the parse floor beside it.
//!
//! `cargo bench --profile dev --bench sources` runs over each source's fixtures that become events, repeated, each filled up
//! to about 1 KB with fields that its mapping does not read; `-- --source okta FILES…` over the records of files as they are.
//! Processor time of one thread, bytes to record batch, in pieces as bodies are admitted; the fastest of several rounds. A
//! text line's floor is the same bytes looked through for line ends, since there is no JSON to parse. The table is Markdown,
//! slowest first.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use benches::measure::{lines, parse, thread_time};
use clap::Parser;
use ingest::{Carrier, Context, Limits, Mapping, Outcome, Sources, normalize};

/// Mapping speed, records a second a core.
#[derive(Parser)]
struct Options {
    /// Only this source
    #[arg(long)]
    source: Option<String>,
    /// Rounds, of which the fastest counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Files of records, one a line, instead of the fixtures
    files: Vec<PathBuf>,
}

const BODY_BYTES: usize = 2 << 20;
/// Shorter fixtures are filled up to this.
const RECORD_BYTES: usize = 1000;
/// The clock of a thread ticks in milliseconds.
const REPEATS: u32 = 8;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let mut out = std::io::stdout();
    let mut rows: Vec<(f64, String)> = Vec::new();
    for mapping in sources.iter().filter(|m| options.source.as_deref().is_none_or(|name| name == m.name())) {
        let mut records: Vec<Vec<u8>> = Vec::new();
        for file in &options.files {
            records.extend(lines(&std::fs::read(file)?).map(<[u8]>::to_vec));
        }
        let records = if options.files.is_empty() { fixtures(mapping) } else { records };
        if records.is_empty() {
            continue;
        }
        let once: usize = records.iter().map(|r| r.len() + 1).sum();
        let rounds = (BODY_BYTES / once).max(1);
        let mut body = Vec::new();
        for record in std::iter::repeat_n(&records, rounds).flatten() {
            body.extend_from_slice(record);
            body.push(b'\n');
        }
        let [mapped, floor] =
            [fastest(options.rounds, || map(mapping, &body)), fastest(options.rounds, || _ = parse(&body))];
        let count = (records.len() * rounds) as f64;
        let (rate, floor) = (count / mapped.as_secs_f64(), count / floor.as_secs_f64());
        let megabytes = body.len() as f64 / mapped.as_secs_f64() / 1e6;
        let (name, length) = (mapping.name(), once / records.len());
        let count = records.len();
        rows.push((rate, format!("| {name} | {count} | {length} | {rate:.0} | {megabytes:.0} | {floor:.0} |")));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    writeln!(
        out,
        "| source | records | bytes each | records a second a core | MB a second | floor, records a second |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
    rows.iter().try_for_each(|(_, row)| writeln!(out, "{row}"))
}

fn fastest(rounds: usize, mut f: impl FnMut()) -> Duration {
    let timed = (0..rounds.max(1)).map(|_| {
        let start = thread_time();
        (0..REPEATS).for_each(|_| f());
        thread_time().saturating_sub(start) / REPEATS
    });
    timed.min().unwrap_or_default()
}

/// The source's fixtures that are one line and become events, each filled up to [`RECORD_BYTES`].
fn fixtures(mapping: &Mapping) -> Vec<Vec<u8>> {
    let records = ingest::fixtures::records(mapping.name());
    let mapped = |record: &String| {
        let found = normalize(mapping, record.as_bytes(), &context(), &Limits::default());
        found.outcomes.len() == 1 && matches!(found.outcomes[0], Outcome::Mapped { .. })
    };
    let one_line = |record: String| record.trim_end().replace(['\n', '\r'], " ");
    let records = records.into_iter().map(one_line).filter(mapped);
    let filled = |record: String| filled(&record).into_iter().find(mapped).unwrap_or(record);
    records.map(filled).map(String::into_bytes).collect()
}

/// Ways to fill a record up: a member that no mapping reads; in a text line a longer query of its request, further pairs, a
/// longer last text.
fn filled(record: &str) -> Vec<String> {
    let room = RECORD_BYTES.saturating_sub(record.len());
    let fill = |open: &str, pair: fn(usize) -> String, close: &str| {
        let mut text = open.to_owned();
        for number in (0..).take_while(|_| room > 0) {
            if text.len() >= room {
                break;
            }
            text.push_str(&pair(number));
        }
        text + close
    };
    let members = fill(",\"x_first\":0", |n| format!(",\"x_label_{n:02}\":\"some text {n:04}\""), "}");
    let pairs = fill("", |n| format!(" x_label_{n:02}=\"some text {n:04}\""), "");
    let words = fill("", |n| format!(" word{n:03}"), "");
    let quoted = |at: usize| format!("{}{words}{}", &record[..at], &record[at..]);
    let object = record.strip_suffix('}').filter(|_| record.starts_with('{')).map(|open| format!("{open}{members}"));
    let query = fill("?x=1", |n| format!("&x_label_{n:02}=some+text+{n:04}"), "");
    let path = record.find(" /").map(|at| at + 2 + record[at + 2..].find([' ', '"', '?']).unwrap_or(0));
    let longer = path.map(|at| format!("{}{query}{}", &record[..at], &record[at..]));
    let line = longer.into_iter().chain([format!("{record}{pairs}")]).chain(record.rfind('"').map(quoted));
    object.into_iter().chain(line).collect()
}

fn context() -> Context<'static> {
    static CARRIER: std::sync::LazyLock<Carrier> =
        std::sync::LazyLock::new(|| Carrier::Request { token: "bench".to_owned() });
    Context {
        tenant: "default",
        instance: "",
        door: "http",
        live: true,
        received_at: 1_767_225_600_000_000,
        carrier: &CARRIER,
        partitions: 64,
        secret_key: &[7; 32],
    }
}

fn map(mapping: &Mapping, body: &[u8]) {
    std::hint::black_box(normalize(mapping, body, &context(), &Limits::default()));
}
