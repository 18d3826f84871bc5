//! The measured process: started on a free port, asked over HTTP, its costs read from `/proc`; killed when dropped.
#![allow(dead_code, reason = "no bench needs all of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The kernel's clock ticks a second in `/proc/PID/stat`: 100 on every Linux of x86 and ARM.
const TICKS_A_SECOND: f64 = 100.0;
/// How often the positions are looked at; the answer is a few gauges.
const LOOK: Duration = Duration::from_millis(250);

pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
}

/// Where records go, and how.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

/// The program that `cargo build` made: this bench lies in `target/debug/deps`, the program two steps up.
pub(crate) fn built() -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let program = bench.ancestors().nth(2).context("the bench lies in target/debug/deps")?.join("muster");
    ensure!(program.exists(), "there is no {}; run `cargo build` first, or name one with --muster", program.display());
    Ok(program)
}

impl Server {
    /// Starts on `data` below `folder`, with `config` as the text of its configuration.
    pub(crate) fn start(program: &Path, folder: &Path, config: &str) -> Result<Server> {
        let file = folder.join("muster.toml");
        std::fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let token_file = folder.join("token");
        let folder = folder.join("data");
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).arg("--data").arg(&folder);
        command.args(["--log", "error", "serve", "--listen", "127.0.0.1:0"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let mut said = BufReader::new(child.stderr.take().context("its messages are piped")?).lines();
        let (mut token, mut url) = (None, None);
        while url.is_none() {
            let Some(line) = said.next().transpose()? else { bail!("muster ended before it listened") };
            if line.trim().starts_with("muster_") {
                token = Some(line.trim().to_owned());
            }
            url = line.split_once("listens on ").and_then(|(_, rest)| rest.split(' ').next().map(str::to_owned));
        }
        std::thread::spawn(move || said.map_while(Result::ok).for_each(|line| println!("muster: {line}")));
        // A new folder shows its first token once; a later start on it knows the token from before.
        if let Some(token) = &token {
            std::fs::write(&token_file, token)?;
        }
        let (url, token) = (url.context("an address")?, std::fs::read_to_string(&token_file)?);
        Ok(Server { child, folder, url, token, http: reqwest::Client::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn door(&self, source: &str) -> Door {
        let url = format!("{}/v1/ingest/{source}", self.url);
        Door { http: self.http.clone(), url, token: self.token.clone() }
    }

    /// Tells the process to end, and waits until it has.
    pub(crate) fn end(mut self) -> Result<()> {
        let told = Command::new("kill").arg(self.pid().to_string()).status()?;
        ensure!(told.success(), "the process cannot be told to end");
        self.child.wait()?;
        Ok(())
    }

    /// Processor time of the process so far, its own and the kernel's on its behalf.
    pub(crate) fn processor_secs(&self) -> Result<f64> {
        let text = self.proc("stat")?;
        // The second field is the program's name in brackets; utime and stime are fields 14 and 15.
        let (_, rest) = text.rsplit_once(") ").context("a name in brackets")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_A_SECOND)
    }

    pub(crate) fn memory_bytes_peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, what: &str) -> Result<u64> {
        let text = self.proc("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix(what)).with_context(|| format!("a line {what}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// Bytes of the files below a part of the data folder.
    pub(crate) fn bytes(&self, part: &str) -> u64 {
        bytes_below(&self.folder.join(part))
    }

    /// One past the last frame of the log.
    pub(crate) async fn log_end(&self) -> Result<u64> {
        gauge(&self.metrics().await?, "muster_log_end ")
    }

    /// Waits until lake, detectors and responder have passed everything below `end`.
    pub(crate) async fn passed(&self, end: u64) -> Result<()> {
        loop {
            let metrics = self.metrics().await?;
            let now = gauge(&metrics, "muster_log_end ")?;
            let mut waiting = false;
            for role in ["lake", "detect", "respond"] {
                let behind = gauge(&metrics, &format!("muster_frames_behind{{role=\"{role}\"}} "))?;
                waiting |= now.saturating_sub(behind) < end;
            }
            if !waiting {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn metrics(&self) -> Result<String> {
        let request = self.http.get(format!("{}/metrics", self.url)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    /// Events that SQL counts.
    pub(crate) async fn count(&self) -> Result<u64> {
        let body = r#"{"sql": "SELECT count(*) AS events FROM events", "format": "ndjson"}"#;
        let request = self.http.post(format!("{}/v1/sql", self.url)).bearer_auth(&self.token);
        let response = request.header("content-type", "application/json").body(body).send().await?;
        let row: serde_json::Value = serde_json::from_str(response.error_for_status()?.text().await?.trim())?;
        row["events"].as_u64().context("a count")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gauge(metrics: &str, name: &str) -> Result<u64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(value.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}

fn bytes_below(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
