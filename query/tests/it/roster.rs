//! The roster's facts, and the routes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use query::QueryConfig;
use query::roster::{Agent, Known};
use schemas::{Holder, Principal, Verb};
use tower::ServiceExt;

use crate::world::{NOW, World, row};

const HOUR: i64 = 3_600_000_000;

fn agent<'a>(agents: &'a [Agent], id: &str) -> &'a Agent {
    agents.iter().find(|a| a.agent_id == id).unwrap_or_else(|| panic!("no agent {id}"))
}

async fn world() -> World {
    let world = World::new(QueryConfig::default()).await;
    let mut tidy = row("t1", "acme", "tidy");
    tidy.agent_name = Some("Tidy".into());
    tidy.agent_owner = Some("ann@acme".into());
    tidy.user_id = Some("u1".into());
    tidy.attribution = "both".into();
    tidy.credential_id = Some("k1".into());
    tidy.credential_kind = Some("client_secret".into());
    tidy.scopes = vec!["read".into(), "write".into()];
    tidy.scopes_used = vec!["read".into(), "write".into()];
    tidy.token_expires_at = Some(NOW + HOUR);
    let mut untidy = row("u1", "acme", "untidy");
    untidy.time = NOW - 48 * HOUR;
    untidy.event_day = schemas::id::day(untidy.time);
    untidy.flags = vec!["no_owner".into(), "no_expiry".into()];
    untidy.credential_id = Some("k2".into());
    untidy.scopes = vec!["admin".into(), "read".into()];
    untidy.scopes_used = vec!["read".into()];
    untidy.effect = "delete".into();
    untidy.outcome = "denied".into();
    let mut sharer = row("s1", "acme", "sharer");
    sharer.credential_id = Some("k2".into());
    sharer.token_expires_at = Some(NOW + 400 * 24 * HOUR);
    let mut spread: Vec<_> = (0..3).map(|i| row(&format!("p{i}"), "acme", "spread")).collect();
    for (i, row) in spread.iter_mut().enumerate() {
        row.credential_id = Some("k3".into());
        row.user_agent = Some(format!("client/{i}"));
        row.src_ip = Some(format!("10.0.0.{i}"));
    }
    world.append(&[tidy, untidy]).await;
    world.lake.flush().await.unwrap();
    world.append(&[sharer, row("b1", "acme", "blank")]).await;
    world.append(&spread).await;
    world
}

#[tokio::test]
async fn every_flag_rests_on_a_fact() {
    let world = world().await;
    let agents = world.query.agents("acme").await.unwrap();
    assert_eq!(agents.len(), 5);
    let answers = |id: &str| agent(&agents, id).flags().map(|(_, known, _)| known);
    use Known::{No, Unknown, Yes};
    assert_eq!(answers("tidy"), [No, No, No, No, No, No, Unknown, No, No]);
    assert_eq!(answers("untidy"), [Yes, Yes, Yes, Yes, Yes, No, Unknown, Unknown, Yes]);
    assert_eq!(answers("sharer"), [Unknown, Yes, Yes, Unknown, Yes, No, Unknown, Unknown, Unknown]);
    assert_eq!(answers("spread"), [Unknown, Unknown, Yes, Unknown, Yes, No, Unknown, Unknown, Unknown]);
    assert_eq!(answers("blank"), [Unknown, Unknown, Unknown, Unknown, Yes, No, Unknown, Unknown, Unknown]);
    let untidy = agent(&agents, "untidy");
    assert_eq!(untidy.no_owner_fact, "1 events with an empty owner field, last u1");
    assert_eq!(untidy.shared_credential_fact, "credential k2 was used by 2 agents");
    assert_eq!(untidy.unused_scopes_fact, "granted and never used: admin");
    assert_eq!((untidy.events, untidy.writes, untidy.denied, untidy.events_24h), (1, 1, 1, 0));
    let tidy = agent(&agents, "tidy");
    assert_eq!((tidy.agent_name.as_deref(), tidy.agent_owner.as_deref()), (Some("Tidy"), Some("ann@acme")));
    assert_eq!(tidy.users.as_deref(), Some(&["u1".to_owned()][..]));
    assert_eq!(tidy.events_24h, 1);
    assert!(world.query.agents("blue").await.unwrap().is_empty());
}

async fn call(world: &World, principal: &Principal, request: Request<Body>) -> (StatusCode, String, String) {
    let routes = query::http::routes(Arc::clone(&world.query)).layer(axum::Extension(principal.clone()));
    let response = routes.oneshot(request).await.unwrap();
    let status = response.status();
    let content = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, content, String::from_utf8(body.to_vec()).unwrap())
}

fn post(body: &str) -> Request<Body> {
    let request = Request::post("/v1/sql").header("content-type", "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn routes_answer_and_refuse() {
    let world = world().await;
    let verbs = vec![Verb::Query];
    let principal = Principal { name: "ann".into(), tenant: "acme".into(), holder: Holder::Person, verbs };
    let (status, content, body) = call(&world, &principal, post(r#"{"sql":"SELECT count(*) AS n FROM events"}"#)).await;
    assert_eq!((status.as_u16(), content.as_str()), (200, "application/json"));
    assert_eq!(body, r#"{"columns":[{"name":"n","type":"Int64"}],"truncated":false,"rows":[{"n":7}]}"#);
    let (_, content, body) =
        call(&world, &principal, post(r#"{"sql":"SELECT 1 AS a WHERE false","format":"csv"}"#)).await;
    assert_eq!((content.as_str(), body.as_str()), ("text/csv; charset=utf-8", "a\n"));
    let (status, content, body) = call(&world, &principal, post(r#"{"sql":"DROP TABLE events"}"#)).await;
    assert_eq!((status.as_u16(), content.as_str()), (400, "application/problem+json"));
    assert!(body.contains("urn:muster:problem:read-only"), "{body}");
    let (status, _, body) = call(&world, &principal, post(r#"{"sq":"SELECT 1"}"#)).await;
    assert!(status.is_client_error() && body.contains("unknown field"), "{body}");
    let (status, _, body) = call(&world, &principal, get("/v1/agents")).await;
    assert!(status.is_success() && body.contains(r#""agent_id":"untidy""#), "{body}");
    let (status, _, body) = call(&world, &principal, get("/v1/alerts?limit=5")).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"alerts":[]}"#));
    let (status, _, _) = call(&world, &principal, get("/v1/alerts?limit=100000")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _, body) = call(&world, &principal, get("/v1/alerts/x'y")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    let (_, _, failed) = call(&world, &principal, post(r#"{"sql":"SELECT cast(agent_id AS int) FROM events"}"#)).await;
    assert!(failed.contains(r#""status":400"#) && failed.contains("try_cast"), "{failed}");
    let untyped = Request::post("/v1/sql").body(Body::from("SELECT 1")).unwrap();
    for (request, expected) in [(get("/v1/sql"), 405), (untyped, 415), (post("{"), 400), (get("/v1/alerts/%FF"), 400)] {
        let (status, content, body) = call(&world, &principal, request).await;
        assert_eq!((status.as_u16(), content.as_str()), (expected, "application/problem+json"), "{body}");
    }
    let machine = Principal { verbs: vec![Verb::Ingest], holder: Holder::Machine, ..principal };
    for request in [post(r#"{"sql":"SELECT 1"}"#), get("/v1/agents"), get("/v1/alerts"), get("/v1/alerts/x")] {
        assert_eq!(call(&world, &machine, request).await.0, StatusCode::FORBIDDEN);
    }
}
