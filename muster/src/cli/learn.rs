//! `muster learn`: what the detectors know, built anew from the lake, for when the log no longer holds the history.
//!
//! Needs the data folder for itself: a running server would go on from what it knows. The next `muster serve` restores what
//! was learned and goes on where the log ended.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::Date32Type;
use clap::Args;
use lake::clock::Clock;

use crate::config::Config;
use crate::learning;
use crate::node::Store;
use crate::output::{self, Format, grouped};

#[derive(Args)]
pub(crate) struct Learn {
    /// First day to learn from, UTC [default: the first there is]
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<i32>,
    /// Last day to learn from, UTC [default: the last there is]
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<i32>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn day(text: &str) -> Result<i32, String> {
    let day = Some(text).filter(|text| text.len() == 10).and_then(Date32Type::parse);
    day.ok_or_else(|| "expected a day, such as 2026-05-04".to_owned())
}

pub(crate) async fn run(command: &Learn, config: Config) -> Result<ExitCode> {
    let folder = &config.data.folder;
    if !folder.exists() {
        bail!("there is no data folder {} yet: `muster serve` or `muster ingest` makes it", folder.display());
    }
    if command.from.zip(command.to).is_some_and(|(from, to)| from > to) {
        bail!("--from is after --to");
    }
    let store = Store::open(config, Clock::system()).await.context("learning needs the data folder for itself")?;
    let (agents, learned) = learning::run(&store, command.from, command.to).await?;
    let (events, controls, alerts) = (learned.events, learned.controls, learned.alerts);
    let text = match command.format {
        Format::Table => format!(
            "learned {} agents from {} events and {controls} verdicts and orders; it raised {alerts} alerts on the way, which are not written again\n\
             the next `muster serve` goes on from here\n",
            grouped(agents as i64),
            grouped(events as i64),
        ),
        Format::Json | Format::Csv => {
            let told = serde_json::json!({"agents": agents, "events": events, "controls": controls, "alerts": alerts});
            format!("{told}\n")
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
