//! `muster ingest`: reads log files into the lake, through the running server, else into the folder itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ingest::{Admission, Carrier, Chunks, Mapping, Sources};
use lake::clock::Clock;
use schemas::problem::Problem;
use schemas::{Catalogue, Registry};
use serde_json::{Value, json};

use super::sql::Tenant;
use super::status::ledger;
use super::verify::{answered, leave, tell_waiting};
use crate::client::{Client, SOCKET};
use crate::config::Config;
use crate::node::Node;
use crate::operator::Settled;
use crate::output::{self, Format, complain};

/// A file is sent a piece at a time.
const PIECE_BYTES_MAX: usize = 4 << 20;
/// So much of a file is looked at to recognise its source.
const SAMPLE_BYTES_MAX: usize = 64 << 10;
const CATALOGUE_BYTES_MAX: u64 = 1 << 20;
/// A larger registry is no file that people wrote.
const REGISTRY_BYTES_MAX: u64 = 16 << 20;
/// Records in quarantine that are shown one by one.
const SHOWN_MAX: usize = 10;

#[derive(Args)]
pub(crate) struct IngestFiles {
    /// Log files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Name of the source [default: recognised from each file's first records]
    #[arg(long)]
    source: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

/// Where the records go.
enum Way {
    Server(Client),
    Folder(Arc<Node>),
}

pub(crate) async fn run(command: &IngestFiles, config: Config) -> Result<ExitCode> {
    let sources = load_sources(&config)?;
    // A mistake in one file's name is found before anything of the others is stored.
    let files: Vec<_> = command.files.iter().map(|path| open(path, command, &sources)).collect::<Result<_>>()?;
    let body_bytes_max = config.ingest.body_bytes_max;
    let tenant = &command.tenant.tenant;
    let way = match Client::connect(&config.data.folder.join(SOCKET), tenant).await? {
        Some(client) => Way::Server(client),
        None => Way::Folder(Node::open(config, Clock::system()).await?),
    };
    let mut totals = Vec::new();
    let mut done = Ok(());
    for (path, file, mapping) in files {
        let mut total = json!({"door": "file", "source": mapping.name(), "file": path});
        let sent = send(&way, tenant, &path, file, mapping, body_bytes_max, &mut total).await;
        totals.push(total);
        if let Err(error) = sent {
            done =
                Err(error.context(format!("{}: stopped here, what was acknowledged is counted above", path.display())));
            break;
        }
    }
    match command.format {
        Format::Table => output::print(&ledger(&totals))?,
        Format::Json | Format::Csv => output::json_lines(&totals)?,
    }
    match way {
        Way::Server(client) => {
            let settled: Settled = answered(client.post("/operator/settle", Vec::new()).await?)?;
            tell_waiting(settled.rows_waiting);
        }
        Way::Folder(node) => leave(&node).await?,
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

fn listed(problems: &[Problem]) -> anyhow::Error {
    anyhow::anyhow!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The declared agents, or every mistake in the file that declares them.
pub(crate) fn load_registry(config: &Config, sources: &Sources) -> Result<Option<Registry>> {
    let Some(path) = &config.registry.file else { return Ok(None) };
    let file = path.display().to_string();
    let bytes = std::fs::metadata(path).with_context(|| format!("cannot read the registry {file}"))?.len();
    if bytes > REGISTRY_BYTES_MAX {
        bail!("the registry {file} has {bytes} bytes, the limit is {REGISTRY_BYTES_MAX}");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the registry {file}"))?;
    Registry::parse(&file, &text, &sources.names()).map(Some).map_err(|problems| listed(&problems))
}

/// The built-in catalogue of actions with one's own entries before it, or every mistake in them.
pub(crate) fn load_catalogue(config: &Config) -> Result<Catalogue> {
    let Some(path) = &config.detect.catalogue_file else { return Ok(Catalogue::default()) };
    let file = path.display().to_string();
    let bytes = std::fs::metadata(path).with_context(|| format!("cannot read the catalogue {file}"))?.len();
    if bytes > CATALOGUE_BYTES_MAX {
        bail!("the catalogue {file} has {bytes} bytes, the limit is {CATALOGUE_BYTES_MAX}");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the catalogue {file}"))?;
    let own = Catalogue::parse(&file, &text).map_err(|problems| listed(&problems))?;
    Ok(own.before(&Catalogue::default()))
}

/// All sources, or every mistake in the user's own mapping files.
pub(crate) fn load_sources(config: &Config) -> Result<Sources> {
    Sources::load(config.ingest.sources_folder.as_deref()).map_err(|problems| listed(&problems))
}

/// The mapping that was asked for, or the one that recognises the file's first bytes.
pub(crate) fn choose<'a>(sources: &'a Sources, name: Option<&str>, path: &Path) -> Result<&'a Mapping> {
    if let Some(name) = name {
        let found = sources.get(name).map(|mapping| &**mapping);
        return found.with_context(|| format!("there is no source `{name}`{}", sources.nearest(name)));
    }
    let mut sample = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, SAMPLE_BYTES_MAX as u64), &mut sample)?;
    let found = sources.detect(&sample);
    match found.one() {
        Some(mapping) => Ok(mapping),
        None => bail!("{}: {found} with --source (`muster sources list`)", path.display()),
    }
}

fn open<'a>(path: &Path, command: &IngestFiles, sources: &'a Sources) -> Result<(PathBuf, File, &'a Mapping)> {
    let mapping = choose(sources, command.source.as_deref(), path)?;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // The place of a record is its identity where the vendor gives none: the same file must have the same name.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok((path, file, mapping))
}

/// Sends one file, and adds to `total` what was acknowledged.
async fn send(
    way: &Way,
    tenant: &str,
    path: &Path,
    file: File,
    mapping: &Mapping,
    body_bytes_max: usize,
    total: &mut Value,
) -> Result<()> {
    let bar = ProgressBar::new(file.metadata()?.len());
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {binary_bytes} of {binary_total_bytes} {eta}")?);
    bar.set_message(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    // A piece and one record more always fit a body.
    let piece_bytes_max = PIECE_BYTES_MAX.min(body_bytes_max / 2);
    let record_bytes_max = body_bytes_max - piece_bytes_max - 2;
    let mut chunks = Chunks::new(file, mapping.array_keys(), record_bytes_max, piece_bytes_max);
    let mut first = 0;
    let mut shown = 0;
    while let Some(piece) = chunks.next_piece()? {
        let offset = piece.records.first().map_or(0, |record| record.offset);
        bar.set_position(piece.records.last().map_or(offset, |record| record.offset + record.size));
        let records = piece.records.len() as i64;
        let receipt = post(way, tenant, mapping.name(), path, offset, piece.data.into_owned()).await?;
        for count in ["received", "mapped", "noise", "quarantined", "duplicates", "events", "masked"] {
            total[count] = (total[count].as_i64().unwrap_or(0) + receipt[count].as_i64().unwrap_or(0)).into();
        }
        for result in receipt["results"].as_array().into_iter().flatten().filter(|r| r["result"] == "quarantined") {
            shown += 1;
            if shown <= SHOWN_MAX {
                bar.suspend(|| complain(&in_quarantine(path, first, result)));
            }
        }
        first += records;
    }
    bar.finish_and_clear();
    if shown > SHOWN_MAX {
        complain(&format!("{}: {} more in quarantine (SELECT * FROM quarantine)", path.display(), shown - SHOWN_MAX));
    }
    Ok(())
}

fn in_quarantine(path: &Path, first: i64, result: &Value) -> String {
    let record = first + result["record"].as_i64().unwrap_or(0);
    let text = |name: &str| result[name].as_str().unwrap_or("").to_owned();
    format!(
        "{}: record {record} is in quarantine: {} {} {}",
        path.display(),
        text("reason"),
        text("field"),
        text("detail")
    )
}

async fn post(way: &Way, tenant: &str, source: &str, path: &Path, offset: u64, body: Vec<u8>) -> Result<Value> {
    let name = path.to_string_lossy().into_owned();
    match way {
        Way::Server(client) => {
            let query = form(&[("file", &name), ("offset", &offset.to_string())]);
            let answer = client.post(&format!("/operator/ingest/{source}?{query}"), body).await?;
            serde_json::from_slice(&answer.body).context("the receipt is not JSON")
        }
        Way::Folder(node) => {
            let carrier = Carrier::File { name, offset };
            let instance = String::new();
            let admission = Admission { tenant: tenant.to_owned(), door: "file", live: false, instance, carrier };
            Ok(serde_json::to_value(node.ingest.admit(source, admission, body.into()).await?)?)
        }
    }
}

/// `application/x-www-form-urlencoded`.
fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
