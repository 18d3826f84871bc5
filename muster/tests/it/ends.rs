//! How the process ends: at once where it cannot start, in order where it is told to, and questions never hold a folder.

use std::process::{Command, Output};

use crate::server::{MUSTER, Server, envoy_record};

fn muster(folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(MUSTER).arg("--data").arg(folder).args(arguments).output().expect("muster runs")
}

#[test]
fn a_port_in_use_ends_it_with_a_clear_error() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    let address = taken.local_addr().expect("has an address").to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = muster(folder.path(), &["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_ends_well_and_the_folder_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::start(folder.path());
    let token = server.token.take().expect("a first start shows a token");
    assert_eq!(server.post("/v1/ingest/envoy", &token, envoy_record("1", "a", "/x")).await.0, 200);

    let held = muster(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(held.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&held.stderr).contains("another muster process"), "{held:?}");
    let count = ["sql", "--format", "csv", "SELECT count(*) AS n FROM events"];
    assert_eq!(String::from_utf8_lossy(&muster(folder.path(), &count).stdout), "n\n1\n", "through the server");

    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&muster(folder.path(), &count).stdout), "n\n1\n", "on the folder itself");
    let status = muster(folder.path(), &["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("is JSON");
    assert_eq!(status["ledger"][0]["mapped"].as_i64(), Some(1));
    assert_eq!(status["roles"]["lake"]["behind"].as_u64(), Some(0), "all was written before it ended: {status}");
}
