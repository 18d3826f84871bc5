//! `muster docs`: writes what is generated from the code's own lists. A test and `.ci/run` compare it with what is committed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::output;

#[derive(Args)]
pub(crate) struct Docs {
    /// Root of the repository
    #[arg(default_value = ".")]
    root: PathBuf,
    /// Write nothing; fail where a committed file differs
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(command: &Docs) -> Result<ExitCode> {
    let mut stale = Vec::new();
    for (path, text) in pages() {
        let path = command.root.join(path);
        if std::fs::read_to_string(&path).ok().as_deref() == Some(&text) {
            continue;
        }
        if !command.check {
            write(&path, &text)?;
        }
        stale.push(path);
    }
    for path in &stale {
        let word = if command.check { "stale" } else { "wrote" };
        output::print(&format!("{word} {}\n", path.display()))?;
    }
    let failed = command.check && !stale.is_empty();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a page lies in a folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Every generated file: path from the root, and text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    for table in schemas::TABLES {
        let name = table.name;
        let schema = serde_json::to_string_pretty(&schemas::docs::json_schema(table)).expect("a schema is JSON");
        let page = schemas::docs::markdown(table);
        // The inventory's page says first how it is filled.
        let page = if name == "inventory" { super::inventory::reference(&page) } else { page };
        pages.push((format!("docs/{name}.md").into(), page));
        let singular = name.strip_suffix('s').unwrap_or(name);
        pages.push((format!("schemas/json/{singular}.schema.json").into(), schema + "\n"));
    }
    let sources = ingest::Sources::load(None).expect("the built-in mappings are right");
    pages.push(("docs/sources/README.md".into(), sources_table(&sources)));
    for mapping in sources.iter() {
        let page = mapping.describe() + &ingest::fixtures::page(mapping);
        pages.push((format!("docs/sources/{}.md", mapping.name()).into(), page));
    }
    pages.push(("docs/catalogue.md".into(), schemas::docs::catalogue(&schemas::Catalogue::default())));
    pages.push(("docs/configuration.md".into(), crate::config::reference()));
    pages.push(("docs/command-line.md".into(), super::reference()));
    pages.push(("docs/metrics.md".into(), crate::metrics::Metrics::reference()));
    pages
}

/// All sources: whose records they read, and against what that was checked.
fn sources_table(sources: &ingest::Sources) -> String {
    let mut table = "# Sources\n\nGenerated from `schemas/sources/`; do not edit (`muster docs` writes it).\n\n\
                     | source | reads | also | checked against |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for mapping in sources.iter() {
        let (name, title) = (mapping.name(), mapping.title());
        let verified = mapping.verified().unwrap_or("unverified");
        table.push_str(&format!(
            "| [`{name}`]({name}.md) | {title} | {} | {verified} |\n",
            mapping.systems().join(", ")
        ));
    }
    table
}
