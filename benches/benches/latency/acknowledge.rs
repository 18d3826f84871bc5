//! How long a sender waits until its records are durable.

use std::path::Path;

use anyhow::Result;

use crate::Arguments;
use crate::disk::Disk;
use crate::load;
use crate::react::now_micros;
use crate::server::Server;
use crate::times::{Times, compare};

const WARM_SECS: u32 = 2;

pub(crate) async fn run(arguments: &Arguments, program: &Path, folder: &Path) -> Result<()> {
    let server = Server::start(program, folder, "")?;
    load::send(&server, arguments.events, WARM_SECS, now_micros()).await?;
    let disk = Disk::probe(folder)?;
    let times = load::send(&server, arguments.events, arguments.secs, now_micros()).await?;
    let (fsync, answers) = (disk.times()?, Times::new(times)?);
    println!("acknowledge: {} events a second, {} a request, {} s", arguments.events, load::BATCH, arguments.secs);
    fsync.print("the disk's fsync of 4 KiB");
    answers.print("request sent → records durable, answered");
    compare("p99, of 3 fsync + 5 ms", answers.p99_ms(), 3.0 * fsync.p99_ms() + 5.0);
    Ok(())
}
