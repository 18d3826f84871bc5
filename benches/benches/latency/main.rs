//! How long others wait for Muster, each beside its own measure, in the same run and on the same machine:
//!
//! | part | what waits | beside |
//! | --- | --- | --- |
//! | `acknowledge` | a sender, for the answer that its records are durable | the disk's fsync |
//! | `react` | a webhook's receiver, from the acknowledgement of an event that starts an order | the disk's fsync |
//! | | a gateway that follows the deny list, from the order | 50 ms |
//! | `deny` | a gateway, for the deny list's answer | an empty handler of the same server |
//! | `overload` | a sender, once others have offered twice what the server takes for a minute | the same before |
//!
//! `cargo build && cargo bench --profile dev --bench latency -- [PART]`. Each starts a real `muster serve` on a new folder. Whoever
//! sends or asks keeps to a schedule, and what is late because an answer before it was late counts as waiting.
#![allow(clippy::print_stdout)]

mod acknowledge;
mod deny;
mod disk;
mod load;
mod overload;
mod react;
#[path = "../shared/server.rs"]
mod server;
mod times;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Parser;

const PARTS: [&str; 4] = ["acknowledge", "react", "deny", "overload"];

#[derive(Parser)]
pub(crate) struct Arguments {
    /// What to measure: `acknowledge`, `react`, `deny`, `overload`; all of them where none is named
    parts: Vec<String>,
    /// Seconds that each part is measured
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    secs: u32,
    /// Events a second while `acknowledge` is measured
    #[arg(long, default_value_t = 20_000)]
    events: u32,
    /// Events that start an order while `react` is measured
    #[arg(long, default_value_t = 400)]
    orders: u32,
    /// Questions a second while `deny` is measured, to one handler after the other
    #[arg(long, default_value_t = 20_000)]
    questions: u32,
    /// Entries of the deny list
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// The program to measure, instead of the one that `cargo build` put beside this bench
    #[arg(long)]
    muster: Option<PathBuf>,
    /// Cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let program = arguments.muster.clone().map_or_else(server::built, Ok)?;
    let wanted = |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|name| name == part);
    ensure!(arguments.parts.iter().all(|part| PARTS.contains(&part.as_str())), "the parts are {}", PARTS.join(", "));
    // In the target folder and not in the system's temporary one, which may be memory: fsync must reach a disk.
    let folder = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    if wanted("acknowledge") {
        acknowledge::run(&arguments, &program, folder()?.path()).await?;
    }
    if wanted("react") {
        react::run(&arguments, &program, folder()?.path()).await?;
    }
    if wanted("deny") {
        deny::run(&arguments, &program, folder()?.path()).await?;
    }
    if wanted("overload") {
        overload::run(&program, folder()?.path()).await?;
    }
    Ok(())
}
