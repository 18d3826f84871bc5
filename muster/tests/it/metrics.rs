//! What `/metrics` tells of the deny list, and the way to Muster with nothing behind it.

use crate::server::Server;

#[tokio::test]
async fn answers_to_gateways_are_counted_and_a_ping_needs_a_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let token = server.token.clone().expect("the first start shows a token");
    assert_eq!(server.get("/v1/deny/ask/kong", &token).await.0, 200);
    assert_eq!(server.get("/v1/ping", &token).await.0, 204);
    assert_eq!(server.get("/v1/ping", "muster_nobody_00").await.0, 401);
    let (_, metrics) = server.get("/metrics", &token).await;
    let metrics = metrics.as_str().expect("is text");
    for line in ["muster_deny_answers_total{result=\"allowed\"} 1", "muster_deny_entries 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
    }
}
