//! Inventory from the command line: polls run through a server and without one, the review, and grants on a user.

use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::Uri;
use serde_json::{Value, json};

use crate::server::{MUSTER, Server, envoy_record};

/// An Okta with one app, its secret and two grants.
async fn okta() -> String {
    let answer = |uri: Uri| async move {
        let body = match uri.path() {
            "/api/v1/apps" => json!([
                {"id": "0oa1", "label": "test app", "status": "ACTIVE", "created": "2020-01-01T00:00:00Z", "signOnMode": "OPENID_CONNECT",
                    "credentials": {"oauthClient": {"client_id": "0oa1", "token_endpoint_auth_method": "client_secret_basic"}}},
            ]),
            "/api/v1/apps/0oa1/credentials/secrets" => {
                json!([{"id": "ocs1", "created": "2020-01-01T00:00:00Z", "status": "ACTIVE", "client_secret": "s3cret"}])
            }
            "/api/v1/apps/0oa1/grants" => {
                json!([{"id": "oag1", "clientId": "0oa1", "scopeId": "okta.users.manage", "createdBy": {"id": "00uAdmin"}}])
            }
            "/api/v1/apps/0oa1/tokens" => {
                json!([{"id": "oar1", "clientId": "0oa1", "userId": "00uAnn", "scopes": ["orders.read"], "status": "ACTIVE"}])
            }
            _ => json!([]),
        };
        body.to_string()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

fn configured(folder: &Path, url: &str) -> std::path::PathBuf {
    let token = folder.join("okta.token");
    std::fs::write(&token, "t0ken").unwrap();
    let poll = |name: &str, file: &Path| {
        format!(
            "[[inventory.polls]]\nname = {name:?}\nprovider = \"okta\"\nbase_url = {url:?}\ntoken_file = {file:?}\n"
        )
    };
    let text = format!("[data]\nfolder = {:?}\n{}", folder.join("data"), poll("staff", &token))
        + &poll("broken", &folder.join("nothing"));
    let path = folder.join("muster.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// What a command prints, and whether it succeeded.
async fn muster(config: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(MUSTER);
    command.arg("--config").arg(config).args(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("t0ken") && !text.contains("s3cret"), "{text}");
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_fill_the_review() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), &okta().await);
    let (fine, text) = muster(&config, &["inventory", "run", "--poll", "staff"]).await;
    assert!(
        fine && text.starts_with("staff (okta, tenant default): 4 items (1 client, 1 credential, 2 grant)"),
        "{text}"
    );
    let (fine, text) = muster(&config, &["inventory", "run", "--poll", "nobody"]).await;
    assert!(!fine && text.contains("there is no poll `nobody`"), "{text}");

    // An agent that no inventory lists.
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let token = server.token.clone().unwrap();
    let record = envoy_record("r1", "shadow", "/orders");
    assert_eq!(server.post("/v1/ingest/envoy", &token, record).await.0, 200);
    drop(server);
    let (fine, text) = muster(&config, &["inventory", "run"]).await;
    assert!(!fine && text.contains("broken (okta, tenant default): FAILED, nothing is changed: cannot read"), "{text}");

    let (fine, text) = muster(&config, &["agents", "report"]).await;
    assert!(fine, "{text}");
    for expected in [
        "2 agents: 1 seen in the logs, 1 only in an inventory, 1 in the logs and no inventory",
        "inventory staff (okta): last complete 20",
        "inventory broken (okta): last complete never, 0 items; FAILED 20",
        "UNOWNED: 0; of 2 more nothing tells",
        "test app (0oa1): 1 credentials without an expiry, says okta credential ocs1",
        "test app (0oa1): oldest credential in force made 2020-01-01",
        "test app (0oa1): its name is test app",
        "test app (0oa1): was granted okta.users.manage",
        "IN NO INVENTORY: 1\n",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    let (_, text) = muster(&config, &["agents", "report", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["sections"].as_array().unwrap().len(), 10);
    let (_, text) = muster(&config, &["agents", "report", "--format", "markdown"]).await;
    assert!(text.contains("| Generic names | 1 | 1 |"), "{text}");

    let (_, text) = muster(&config, &["agents", "grants", "--user", "00uAnn", "--format", "json"]).await;
    let grant: Value = serde_json::from_str(&text).unwrap();
    let said = ["agent_id", "basis", "granted_by", "scopes"].map(|name| grant[name].as_str().unwrap_or("-"));
    assert_eq!(said, ["0oa1", "granted", "00uAnn", "orders.read"]);
    let (_, text) = muster(&config, &["agents", "grants", "--user", "ada@example.com", "--format", "json"]).await;
    assert!(text.contains("acted, no grant listed") && text.contains("shadow"), "{text}");
    let (_, text) = muster(&config, &["status"]).await;
    assert!(text.contains("inventory staff (okta): last complete"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_polls_by_itself_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), &okta().await);
    let data = folder.path().join("data");
    let server = Server::start_with(&data, &[("MUSTER__INVENTORY__POLLS", &polls(&config))]);
    let token = server.token.clone().unwrap();
    // Through the server: it waits for the run that the start began.
    let (_, text) = muster(&config, &["inventory", "run"]).await;
    assert!(text.contains("staff (okta, tenant default): 4 items"), "{text}");
    let runs = server
        .sql(&token, "SELECT poll, outcome, count(*) AS n FROM inventory WHERE kind = 'run' GROUP BY 1, 2 ORDER BY 1")
        .await;
    let runs: Vec<_> = runs.iter().map(|run| (run["poll"].as_str(), run["outcome"].as_str())).collect();
    assert_eq!(runs, [(Some("broken"), Some("failed")), (Some("staff"), Some("complete"))]);
    // Counters follow the log: a moment after a run is durable they show it.
    let counted = [("staff", "complete"), ("broken", "failed")]
        .map(|(poll, outcome)| format!(r#"muster_inventory_runs_total{{poll="{poll}",outcome="{outcome}"}}"#));
    let mut metrics = Value::Null;
    for _ in 0..1000 {
        metrics = server.get("/metrics", &token).await.1;
        if counted.iter().all(|line| metrics.as_str().is_some_and(|text| text.contains(line.as_str()))) {
            return;
        }
    }
    panic!("{counted:?} are missing in {metrics}");
}

/// The polls of a configuration file as one value of the environment.
fn polls(config: &Path) -> String {
    let table: toml::Table = std::fs::read_to_string(config).unwrap().parse().unwrap();
    let polls = table["inventory"]["polls"].as_array().unwrap();
    let inline = |poll: &toml::Value| {
        let pairs = poll.as_table().unwrap().iter().map(|(key, value)| format!("{key} = {value}"));
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    };
    format!("[{}]", polls.iter().map(inline).collect::<Vec<_>>().join(", "))
}
