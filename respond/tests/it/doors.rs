//! The doors that gateways ask: who is let through, under which tag, and how fast a change arrives.

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use respond::Config;
use respond::counts::Fate;
use respond::gateway::Gateway;
use schemas::{Holder, Principal, Verb};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::{START, World, acting, alert};

async fn respond(world: &World, tenant: &str, request: Request<Body>) -> axum::response::Response {
    let verbs = vec![Verb::Deny];
    let principal = Principal { name: "gw".into(), tenant: tenant.into(), holder: Holder::Machine, verbs };
    let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
    let routes = routes.merge(respond::http::open_routes(world.responder.clone()));
    routes.oneshot(request).await.expect("routes do not fail")
}

async fn bytes(response: axum::response::Response) -> Vec<u8> {
    response.into_body().collect().await.expect("the body is there").to_bytes().to_vec()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::empty()).expect("is a request")
}

fn bearer(claims: &Value) -> String {
    let payload = data_encoding::BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    format!("Bearer e30.{payload}.c2ln")
}

#[tokio::test]
async fn gateways_ask_with_what_they_have() {
    let world = World::new(acting());
    world.acted("billing").await;
    let billing = bearer(&json!({"azp": "billing", "sub": "ann"}));
    let other = bearer(&json!({"azp": "other", "sub": "ann"}));
    for (path, header, denied, free) in [
        // Envoy passes method and path of the request on, behind its prefix.
        ("/v1/deny/ask/envoy/api/v1/invoices", "authorization", billing.as_str(), other.as_str()),
        ("/v1/deny/ask/nginx", "authorization", &billing, &other),
        ("/v1/deny/ask/kong", "x-consumer-username", "billing", "other"),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = async |tenant, value| respond(&world, tenant, request(method, path, &[(header, value)])).await;
            assert_eq!(answer("acme", denied).await.status(), StatusCode::FORBIDDEN, "{method} {path}");
            assert_eq!(answer("acme", free).await.status(), StatusCode::OK, "{method} {path}");
            assert_eq!(answer("globex", denied).await.status(), StatusCode::OK, "{method} {path}");
        }
    }
    let response = respond(&world, "acme", request("GET", "/v1/deny/ask/nobody", &[])).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_gateway_of_ones_own_may_refuse_the_unknown() {
    let own = |refuse_unknown| Gateway {
        name: "mesh".into(),
        agent: vec!["header:x-spiffe-id".into()],
        refuse_unknown,
        ..Gateway::default()
    };
    for (refuse, status) in [(true, StatusCode::FORBIDDEN), (false, StatusCode::OK)] {
        let world = World::new(Config { gateways: vec![own(refuse)], ..acting() });
        world.acted("billing").await;
        let ask = async |headers: &[(&str, &str)]| {
            respond(&world, "acme", request("GET", "/v1/deny/ask/mesh", headers)).await.status()
        };
        assert_eq!(ask(&[]).await, status);
        assert_eq!(ask(&[("x-spiffe-id", "billing")]).await, StatusCode::FORBIDDEN);
        assert_eq!(ask(&[("x-spiffe-id", "other")]).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_data_api_answers_as_opa_does() {
    let world = World::new(acting());
    let order_id = world.acted("billing").await;
    let post = async |path: &str, input: Value| {
        let body = json!({"input": input}).to_string();
        let request = Request::post(path).header("content-type", "application/json").body(Body::from(body));
        let response = respond(&world, "acme", request.expect("is a request")).await;
        serde_json::from_slice::<Value>(&bytes(response).await).expect("is JSON")
    };
    for (input, allow) in [
        (json!({"agent": "billing"}), false),
        (json!({"agent": "other"}), true),
        (json!({"request": {"http": {"headers": {"x-consumer-username": "billing"}}}}), false),
        (json!({"request": {"http": {"headers": {}}}, "consumer": {"username": "billing"}}), false),
        (
            json!({"attributes": {"request": {"http": {"headers": {"authorization": bearer(&json!({"azp": "billing"}))}}}}}),
            false,
        ),
        (json!({}), true),
    ] {
        assert_eq!(post("/v1/data/muster/allow", input.clone()).await, json!({"result": allow}), "{input}");
    }
    let whole = post("/v1/data/muster", json!({"agent": "billing"})).await;
    assert_eq!(whole, json!({"result": {"allow": false, "orders": [order_id]}}));
}

#[tokio::test]
async fn the_bundle_and_the_signed_list_have_a_tag() {
    let world = World::new(acting());
    world.acted("billing").await;
    for path in ["/v1/deny/bundle.tar.gz", "/v1/deny/signed"] {
        let response = respond(&world, "acme", request("GET", path, &[])).await;
        let tag = response.headers()["etag"].to_str().expect("is text").to_owned();
        assert_eq!(response.status(), StatusCode::OK);
        let same = respond(&world, "acme", request("GET", path, &[("if-none-match", &tag)])).await;
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED, "{path}");
        world.responder.handle_alert(&alert(path, START)).await.expect("handled");
        let changed = respond(&world, "acme", request("GET", path, &[("if-none-match", &tag)])).await;
        assert_eq!(changed.status(), StatusCode::OK, "{path}");
    }
    let text = String::from_utf8(bytes(respond(&world, "acme", request("GET", "/v1/deny/signed", &[])).await).await);
    let text = text.expect("is text");
    let payload = text.split('.').nth(1).expect("three parts");
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).expect("is base64");
    let list: Value = serde_json::from_slice(&payload).expect("is JSON");
    assert_eq!(list["entries"].as_array().map(Vec::len), Some(3));
    let keys = bytes(respond(&world, "acme", request("GET", "/v1/keys", &[])).await).await;
    let keys: Value = serde_json::from_slice(&keys).expect("is JSON");
    assert_eq!((keys["keys"][0]["kty"].as_str(), keys["keys"].as_array().map(Vec::len)), (Some("RSA"), Some(1)));
}

#[tokio::test]
async fn a_follower_gets_the_list_and_then_each_change_within_50_ms() {
    let world = World::new(acting());
    world.acted("billing").await;
    let response = respond(&world, "acme", request("GET", "/v1/deny/stream", &[])).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    let mut next =
        async || String::from_utf8(events.next().await.expect("goes on").expect("no error").to_vec()).expect("text");
    let first = next().await;
    assert!(first.starts_with("event: list") && first.contains("\"billing\""), "{first}");
    // Another tenant's change is not seen, its own is.
    let mut foreign = alert("spy", START);
    foreign.tenant = "globex".into();
    world.responder.handle_alert(&foreign).await.expect("handled");
    let began = std::time::Instant::now();
    let order_id = world.acted("other").await;
    let change = next().await;
    assert!(began.elapsed().as_millis() < 50, "{:?}", began.elapsed());
    assert!(change.starts_with("event: deny") && change.contains("\"other\"") && change.contains("id: "), "{change}");
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    let change = next().await;
    assert!(change.starts_with("event: allow") && change.contains(&order_id), "{change}");
    world.responder.deny().stop_following();
    assert!(events.next().await.is_none(), "the process ends, and the stream with it");
    let late = respond(&world, "acme", request("GET", "/v1/deny/stream", &[])).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Asked by many at once while entries change: nobody waits, and nobody is let through who stands in the list.
#[tokio::test(flavor = "multi_thread")]
async fn asked_under_load_while_entries_change() {
    let world = World::new(Config { orders_per_minute_max: 6000, orders_standing_max: 100_000, ..acting() });
    world.acted("always").await;
    let routes = respond::http::routes(world.responder.clone());
    let verbs = vec![Verb::Deny];
    let principal = Principal { name: "gw".into(), tenant: "acme".into(), holder: Holder::Machine, verbs };
    let routes = routes.layer(Extension(principal));
    let ask = |agent: &'static str| {
        let routes = routes.clone();
        async move {
            let mut refused = 0;
            for _ in 0..500 {
                let request = request("GET", "/v1/deny/ask/kong", &[("x-consumer-username", agent)]);
                let response = routes.clone().oneshot(request).await.expect("routes do not fail");
                refused += usize::from(response.status() == StatusCode::FORBIDDEN);
            }
            refused
        }
    };
    let askers: Vec<_> = (0..8).map(|i| tokio::spawn(ask(if i % 2 == 0 { "always" } else { "never" }))).collect();
    for i in 0..200 {
        let order_id = world.acted(&format!("agent-{i}")).await;
        world.responder.release(&order_id, "ann", "next").await.expect("released");
    }
    for (i, asker) in askers.into_iter().enumerate() {
        assert_eq!(asker.await.expect("no panic"), if i % 2 == 0 { 500 } else { 0 });
    }
    let answers = ["denied", "allowed", "unknown"].map(|result| Fate { result });
    let answers = answers.map(|fate| world.responder.counts().answers.get_or_create(&fate).get());
    assert_eq!(answers, [2000, 2000, 0]);
}
