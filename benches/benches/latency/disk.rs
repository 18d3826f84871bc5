//! The disk's own fsync: a small file beside the measured process's, appended to and synced as the log does it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::times::Times;

const BYTES: usize = 4096;
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Disk {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Vec<Duration>>>,
}

impl Disk {
    /// Begins to sync again and again.
    pub(crate) fn probe(folder: &Path) -> Result<Disk> {
        let mut file = File::create(folder.join("probe"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
                let began = Instant::now();
                file.write_all(&[0; BYTES])?;
                file.sync_data()?;
                times.push(began.elapsed());
            }
            Ok(times)
        });
        Ok(Disk { stop, thread })
    }

    pub(crate) fn times(self) -> Result<Times> {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.thread.join().ok().context("the probe panicked")??;
        Times::new(times)
    }
}
