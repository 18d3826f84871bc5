//! `muster sources new`: drafts a mapping from sample records.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ingest::Sources;
use ingest::draft::{Draft, draft};

use crate::config::Config;
use crate::output;

/// So much of a sample is read.
const SAMPLE_BYTES_MAX: u64 = 16 << 20;
/// So much of it is looked at for a source that recognises it.
const DETECT_BYTES_MAX: usize = 64 << 10;
/// A longer name is no name.
const NAME_BYTES_MAX: usize = 64;

#[derive(Args)]
pub(crate) struct New {
    /// Name of the source: letters, digits and _
    name: String,
    /// File of sample records, the more the better (the first 16 MiB are read)
    #[arg(long, value_name = "FILE")]
    sample: PathBuf,
    /// Folder to write NAME.toml and NAME.fixtures.toml to [default: the configuration's ingest.sources_folder, else here]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(crate) fn run(command: &New, config: &Config) -> Result<ExitCode> {
    let New { name, sample, out } = command;
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        bail!("the name `{name}` must have 1 to {NAME_BYTES_MAX} of a-z, 0-9 and _");
    }
    let folder = out.clone().or_else(|| config.ingest.sources_folder.clone()).unwrap_or_else(|| ".".into());
    let files = [format!("{name}.toml"), format!("{name}.fixtures.toml")].map(|file| folder.join(file));
    if let Some(there) = files.iter().find(|file| file.exists()) {
        bail!("{} is there already; nothing was written", there.display());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(sample).with_context(|| format!("cannot open {}", sample.display()))?;
    file.take(SAMPLE_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut drafted = draft(name, &bytes).map_err(|problem| anyhow::anyhow!("{}: {problem}", sample.display()))?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (file, text) in files.iter().zip([&drafted.mapping, &drafted.fixtures]) {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    // What is wrong with other files of the folder is for `sources test` to say.
    let sources = Sources::load(None).unwrap_or_default();
    if sources.get(name).is_some() {
        drafted.checks.push(format!("the name `{name}` is that of a built-in source, which this one replaces"));
    }
    if let Some(known) = sources.detect(&bytes[..bytes.len().min(DETECT_BYTES_MAX)]).one() {
        let known = known.name();
        drafted.checks.push(format!("the built-in source `{known}` recognises these records: is another one needed?"));
    }
    output::print(&said(&drafted, &folder, &files))?;
    Ok(ExitCode::SUCCESS)
}

fn said(drafted: &Draft, folder: &Path, files: &[PathBuf; 2]) -> String {
    let Draft { records, columns, unused, checks, .. } = drafted;
    let mut text = format!("{records} records; {} columns mapped, {unused} paths not used\n", columns.len());
    columns.iter().for_each(|(column, term)| text.push_str(&format!("  {column:18} {term}\n")));
    text.push_str("\nto check:\n");
    checks.iter().for_each(|check| text.push_str(&format!("  {check}\n")));
    text.push_str(&format!("\nwrote {}\n      {}\n", files[0].display(), files[1].display()));
    text.push_str(&format!("it compiles and its fixture passes: muster sources test {}\n", folder.display()));
    text
}
