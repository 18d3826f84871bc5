//! `muster sources`: the log formats that Muster reads.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use ingest::{Mapping, Sources, fixtures};
use serde_json::{Value, json};

use super::ingest::load_sources;
use crate::client::{Client, SOCKET};
use crate::config::Config;
use crate::output;

#[derive(Subcommand)]
pub(crate) enum SourcesCommand {
    /// Every source with the version in force: at the running server, else as the configured folder has it
    List {
        #[arg(long, value_enum, default_value_t)]
        format: TextOrJson,
    },
    /// What a source makes of a record: who is the agent, who the user, which columns come from where
    Show {
        /// Name of the source
        name: String,
    },
    /// Run the fixtures of every source, or of the mapping files of a folder
    Test {
        /// Folder of mapping files, each with its fixtures beside it
        folder: Option<PathBuf>,
        /// As json: one object a source, each problem with file, line, key and message
        #[arg(long, value_enum, default_value_t)]
        format: TextOrJson,
    },
    /// Draft a mapping and a fixture from sample records: what is plain is mapped, what is not is left to you
    New(super::draft::New),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum TextOrJson {
    #[default]
    Text,
    Json,
}

pub(crate) fn run(command: &SourcesCommand, config: &Config) -> Result<ExitCode> {
    match command {
        SourcesCommand::List { .. } => unreachable!("asks the running server first"),
        SourcesCommand::Show { name } => {
            let sources = load_sources(config)?;
            let mapping =
                sources.get(name).with_context(|| format!("there is no source `{name}`{}", sources.nearest(name)))?;
            output::print(&mapping.describe())?;
            Ok(ExitCode::SUCCESS)
        }
        SourcesCommand::Test { folder, format } => {
            test(folder.clone().or_else(|| config.ingest.sources_folder.clone()), *format)
        }
        SourcesCommand::New(command) => super::draft::run(command, config),
    }
}

/// A mapping as `sources list` and the status show it.
pub(crate) fn described(mapping: &Mapping) -> Value {
    let (name, title) = (mapping.name(), mapping.title());
    let (version, file, built_in) = (mapping.version(), mapping.file(), mapping.is_built_in());
    json!({"source": name, "title": title, "version": version, "built_in": built_in, "file": file})
}

/// The mappings in force at the running server, else those that would be.
pub(crate) async fn list(format: TextOrJson, config: &Config) -> Result<ExitCode> {
    let (listed, broken) = match Client::connect(&config.data.folder.join(SOCKET), "default").await? {
        Some(client) => {
            let mut answer = client.get("/operator/sources").await?;
            let part = |value: Value| value.as_array().cloned().unwrap_or_default();
            (part(answer["in_force"].take()), part(answer["broken"].take()))
        }
        None => (load_sources(config)?.iter().map(|mapping| described(mapping)).collect(), Vec::new()),
    };
    match format {
        TextOrJson::Json => output::json_lines(&listed)?,
        TextOrJson::Text => {
            for source in &listed {
                let text = |key: &str| source[key].as_str().unwrap_or("").to_owned();
                let place = if source["built_in"] == true { "built in".to_owned() } else { text("file") };
                output::print(&format!("{:20} {} {:40} {place}\n", text("source"), text("version"), text("title")))?;
            }
        }
    }
    for problem in &broken {
        let text = |key: &str| problem[key].as_str().unwrap_or("").to_owned();
        let place = format!("{}:{}: {}", text("file"), problem["line"], text("key"));
        output::complain(&format!("not in force: {place}: {}", text("message")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails where a mapping or a fixture is wrong, or where a folder's mapping has no fixtures.
fn test(folder: Option<PathBuf>, format: TextOrJson) -> Result<ExitCode> {
    let (sources, broken) = Sources::load_good(folder.as_deref(), &Sources::default());
    let mut failed = !broken.is_empty();
    let mut lines = Vec::new();
    for mapping in sources.iter() {
        let own = folder.as_ref().filter(|_| !mapping.is_built_in());
        let report = match own {
            Some(folder) => fixtures::run(mapping, folder),
            None => fixtures::run_built_in(mapping, &sources),
        };
        failed |= !report.failures.is_empty();
        lines.push((mapping.name().to_owned(), report.passed, report.failures));
    }
    for problem in broken {
        let name = Path::new(&problem.file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        match lines.iter_mut().find(|(of, ..)| *of == name) {
            Some((_, _, problems)) => problems.push(problem),
            None => lines.push((name, 0, vec![problem])),
        }
    }
    for (source, passed, problems) in lines {
        match format {
            TextOrJson::Json => {
                output::json_lines(&[json!({"source": source, "passed": passed, "problems": problems})])?;
            }
            TextOrJson::Text => {
                output::print(&format!("{source:20} {passed} passed, {} failed\n", problems.len()))?;
                for problem in &problems {
                    output::print(&format!("    {problem}\n"))?;
                }
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
