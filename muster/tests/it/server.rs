//! A real `muster serve` process for tests: started on a free port, spoken to over HTTP, killed when dropped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

pub(crate) const MUSTER: &str = env!("CARGO_BIN_EXE_muster");

/// One running process and how to reach it.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// The token shown at the first start of a data folder.
    pub(crate) token: Option<String>,
    pub(crate) http: reqwest::Client,
}

impl Server {
    /// Starts `muster serve` on `folder` and waits until it says that it listens.
    pub(crate) fn start(folder: &Path) -> Server {
        Server::start_with(folder, &[])
    }

    pub(crate) fn start_with(folder: &Path, environment: &[(&str, &str)]) -> Server {
        let mut command = Command::new(MUSTER);
        command.arg("--data").arg(folder).args(["--log", "error", "serve", "--listen", "127.0.0.1:0"]);
        command.envs(environment.iter().copied()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("muster starts");
        let mut lines = BufReader::new(child.stderr.take().expect("is piped")).lines();
        let (mut token, mut seen) = (None, String::new());
        let url = loop {
            let Some(Ok(line)) = lines.next() else { panic!("muster ended before it listened:\n{seen}") };
            if line.trim().starts_with("muster_") {
                token = Some(line.trim().to_owned());
            }
            if let Some((_, rest)) = line.split_once("listens on ") {
                break rest.split(' ').next().expect("an address").to_owned();
            }
            seen.push_str(&line);
            seen.push('\n');
        };
        // What else it says goes to the test's own output.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("muster: {line}")));
        Server { child, url, token, http: reqwest::Client::new() }
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(token).body(body);
        answer(request).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.url)).bearer_auth(token)).await
    }

    /// The rows of a query, as JSON objects.
    pub(crate) async fn sql(&self, token: &str, sql: &str) -> Vec<Value> {
        let body = json!({"sql": sql, "format": "ndjson"}).to_string();
        let request = self.http.post(format!("{}/v1/sql", self.url)).bearer_auth(token);
        let response = request.header("content-type", "application/json").body(body).send().await.expect("answers");
        let (status, text) = (response.status(), response.text().await.expect("is text"));
        assert!(status.is_success(), "{sql}: {text}");
        text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
    }

    /// Tells the process to end, and waits until it has.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        self.child.wait().expect("it ends")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("SIGKILL reaches it");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let text = response.text().await.expect("the answer is text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// One record of Envoy's JSON access log.
pub(crate) fn envoy_record(id: &str, agent: &str, path: &str) -> String {
    json!({
        "start_time": "2026-05-04T08:30:00.123Z", "request_id": id, "method": "GET", "path": path, "protocol": "HTTP/1.1",
        "response_code": 200, "response_flags": "-", "bytes_received": 0, "bytes_sent": 512, "duration": 12,
        "authority": "billing.example", "user_agent": "agent/1.0", "downstream_remote_address": "10.1.2.3:4711",
        "jwt_payload": {"iss": "https://id.example", "azp": agent, "sub": "ada@example.com", "jti": "t-1", "scope": "read"},
    })
    .to_string()
}
