//! The routes: who may ask, what is answered, and that a tenant sees only its own.

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use respond::Handled;
use schemas::{Holder, Principal, Verb};
use serde_json::Value;
use tower::ServiceExt;

use crate::world::{START, World, acting, alert};

async fn ask(world: &World, tenant: &str, verb: Verb, request: Request<Body>) -> (StatusCode, Option<String>, Value) {
    let principal = Principal { name: "t".into(), tenant: tenant.into(), holder: Holder::Machine, verbs: vec![verb] };
    let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
    let response = routes.oneshot(request).await.expect("routes do not fail");
    let tag = response.headers().get("etag").map(|tag| tag.to_str().expect("is text").to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.expect("the body is there").to_bytes();
    (status, tag, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("is a request")
}

fn release(order_id: &str, body: &'static str) -> Request<Body> {
    let request = Request::post(format!("/v1/orders/{order_id}/release")).header("content-type", "application/json");
    request.body(Body::from(body)).expect("is a request")
}

async fn acted() -> (World, String) {
    let world = World::new(acting());
    let Handled::Acting(order_id) = world.responder.handle_alert(&alert("billing", START)).await.expect("handled")
    else {
        panic!("it acts")
    };
    (world, order_id)
}

#[tokio::test]
async fn the_list_has_a_tag_that_changes_with_it() {
    let (world, order_id) = acted().await;
    let (status, tag, body) = ask(&world, "acme", Verb::Deny, get("/v1/deny")).await;
    assert_eq!((status, body["entries"][0]["id"].as_str()), (StatusCode::OK, Some("billing")));
    assert_eq!(
        (&body["entries"][0]["kind"], &body["entries"][0]["order_id"]),
        (&"agent".into(), &order_id.clone().into())
    );
    let tag = tag.expect("has a tag");
    let mut again = get("/v1/deny");
    again.headers_mut().insert("if-none-match", tag.parse().expect("is text"));
    assert_eq!(ask(&world, "acme", Verb::Query, again).await.0, StatusCode::NOT_MODIFIED);
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    let mut again = get("/v1/deny");
    again.headers_mut().insert("if-none-match", tag.parse().expect("is text"));
    let (status, _, body) = ask(&world, "acme", Verb::Deny, again).await;
    assert_eq!((status, body["entries"].as_array().map(Vec::len)), (StatusCode::OK, Some(0)));
}

/// A gateway knows the agent by a name of its own.
#[tokio::test]
async fn an_agent_is_stopped_by_any_of_its_names() {
    let (world, _) = acted().await;
    let before = ask(&world, "acme", Verb::Deny, get("/v1/deny")).await.1;
    let text = "[[agents]]\nid = \"billing\"\naliases = [{ source = \"kong\", id = \"consumer-7\" }, { id = \"0oa1\" }]\n\
                [[agents]]\nid = \"other\"\naliases = [{ id = \"consumer-8\" }]\n";
    world.responder.deny().know(schemas::Registry::parse("agents.toml", text, &["kong"]).expect("is right"));
    let check = async |tenant: &str, agent: &str| {
        ask(&world, tenant, Verb::Deny, get(&format!("/v1/deny/check?agent={agent}"))).await.0
    };
    for agent in ["billing", "consumer-7", "0oa1"] {
        assert_eq!(check("acme", agent).await, StatusCode::FORBIDDEN, "{agent}");
    }
    assert_eq!(check("acme", "consumer-8").await, StatusCode::OK);
    assert_eq!(check("globex", "consumer-7").await, StatusCode::OK);
    world.responder.handle_alert(&alert("other", START)).await.expect("handled");
    let (_, tag, body) = ask(&world, "acme", Verb::Deny, get("/v1/deny")).await;
    assert_eq!(body["entries"][0]["aliases"], serde_json::json!(["consumer-7", "0oa1"]), "{body}");
    assert_ne!(before, tag, "a list with other names has another tag");
}

#[tokio::test]
async fn a_gateway_asks_about_one_request() {
    let (world, _) = acted().await;
    let answer = async |tenant, path| ask(&world, tenant, Verb::Deny, get(path)).await.0;
    assert_eq!(answer("acme", "/v1/deny/check?agent=billing&user=bob").await, StatusCode::FORBIDDEN);
    assert_eq!(answer("acme", "/v1/deny/check?agent=other").await, StatusCode::OK);
    assert_eq!(answer("globex", "/v1/deny/check?agent=billing").await, StatusCode::OK);
    assert_eq!(answer("acme", "/v1/deny/check?user=bob").await, StatusCode::BAD_REQUEST);
    assert_eq!(answer("acme", "/v1/deny/check?agnet=billing").await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn orders_are_shown_and_released_within_their_tenant() {
    let (world, order_id) = acted().await;
    let path = format!("/v1/orders/{order_id}");
    let (status, _, body) = ask(&world, "acme", Verb::Query, get(&path)).await;
    assert_eq!((status, body["state"].as_str()), (StatusCode::OK, Some("executed")));
    let (_, _, body) = ask(&world, "acme", Verb::Query, get("/v1/orders?limit=5")).await;
    assert_eq!(body["orders"][0]["order_id"], order_id.as_str());
    let (status, _, problem) = ask(&world, "globex", Verb::Query, get(&path)).await;
    assert_eq!((status, problem["status"].as_u64()), (StatusCode::NOT_FOUND, Some(404)));
    let why = r#"{"reason": "false alarm"}"#;
    assert_eq!(ask(&world, "globex", Verb::Order, release(&order_id, why)).await.0, StatusCode::NOT_FOUND);
    assert!(world.denied("billing"));
    assert_eq!(
        ask(&world, "acme", Verb::Order, release(&order_id, r#"{"reason": " "}"#)).await.0,
        StatusCode::BAD_REQUEST
    );
    let (status, _, body) = ask(&world, "acme", Verb::Order, release(&order_id, why)).await;
    assert_eq!((status, body["state"].as_str()), (StatusCode::OK, Some("released")));
    assert!(!world.denied("billing"));
    assert_eq!(ask(&world, "acme", Verb::Order, release(&order_id, why)).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn the_beginning_of_an_id_is_enough_where_only_one_begins_so() {
    let (world, order_id) = acted().await;
    let why = r#"{"reason": "false alarm"}"#;
    let ask = async |tenant, id: &str| ask(&world, tenant, Verb::Order, release(id, why)).await.0;
    assert_eq!(ask("acme", &order_id[..7]).await, StatusCode::NOT_FOUND, "too short");
    assert_eq!(ask("globex", &order_id[..12]).await, StatusCode::NOT_FOUND, "another tenant's");
    assert_eq!(ask("acme", &format!("{}zz", &order_id[..12])).await, StatusCode::NOT_FOUND);
    assert_eq!(ask("acme", &order_id[..8]).await, StatusCode::OK);
    assert_eq!(ask("acme", &order_id[..12]).await, StatusCode::CONFLICT, "released already");
    assert!(!world.denied("billing"));
}

#[tokio::test]
async fn verbs_are_needed() {
    let (world, order_id) = acted().await;
    for (verb, request) in [
        (Verb::Ingest, get("/v1/deny")),
        (Verb::Order, get("/v1/deny/check?agent=a")),
        (Verb::Deny, get("/v1/orders")),
        (Verb::Query, release(&order_id, "{}")),
    ] {
        let (status, _, problem) = ask(&world, "acme", verb, request).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{verb:?}");
        assert!(problem["detail"].as_str().expect("says why").contains("lacks the verb"));
    }
}
