//! Shared signals: tokens pushed and fetched, signed with the published key, and held until they are taken.

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt;
use respond::Config;
use respond::config::{Hidden, Receiver};
use respond::order::State;
use schemas::{Holder, Principal, Verb};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::stub::{Answer, Stub};
use crate::world::{START, World, acting};

pub(crate) const ACCEPTED: Answer = Answer::Text(crate::faults::ACCEPTED);

pub(crate) fn transmitting(url: Option<String>) -> Config {
    let mut config = acting();
    config.policies[0].switches = vec!["idp".into()];
    config.private_addresses_allowed = true;
    config.issuer = "https://muster.example".into();
    let (name, audience) = ("idp".into(), "https://idp.example".into());
    let authorization = Some(Hidden::new("Bearer r-1"));
    config.receivers.push(Receiver { name, url, audience, authorization, timeout_ms: 200, ..Receiver::default() });
    config
}

pub(crate) fn claims(token: &str) -> (Value, Value) {
    let part = |i: usize| {
        let bytes =
            BASE64URL_NOPAD.decode(token.split('.').nth(i).expect("three parts").as_bytes()).expect("is base64");
        serde_json::from_slice::<Value>(&bytes).expect("is JSON")
    };
    (part(0), part(1))
}

pub(crate) const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type";

#[tokio::test]
async fn a_stop_is_pushed_as_two_tokens_and_a_release_as_one() {
    let receiver = Stub::new([ACCEPTED, ACCEPTED, ACCEPTED]).await;
    let world = World::new(transmitting(Some(format!("http://{}/events", receiver.address))));
    let order_id = world.acted("billing").await;
    world.responder.due(START).await.expect("pushed");
    assert_eq!(world.state(&order_id), State::Executed);
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    world.responder.due(START).await.expect("pushed");
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    for one in &got {
        assert_eq!(
            (one.headers["content-type"].as_str(), one.headers["authorization"].as_str()),
            ("application/secevent+jwt", "Bearer r-1")
        );
        let (header, claims) = claims(&one.body);
        assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("secevent+jwt"), Some("RS256")));
        assert_eq!(
            (&claims["iss"], &claims["aud"], &claims["txn"]),
            (&json!("https://muster.example"), &json!("https://idp.example"), &json!(order_id))
        );
        assert_eq!(
            claims["sub_id"],
            json!({"format": "complex", "tenant": {"format": "opaque", "id": "acme"}, "application": {"format": "opaque", "id": "billing"}})
        );
        assert_eq!(claims["events"].as_object().map(serde_json::Map::len), Some(1), "one event a token");
    }
    let event = |i: usize, name: &str| claims(&got[i].body).1["events"][format!("{CAEP}/{name}")].clone();
    assert_eq!(event(0, "session-revoked")["event_timestamp"], START / 1_000_000, "seconds");
    assert_eq!(event(1, "risk-level-change")["current_level"], "HIGH");
    assert_eq!(event(2, "risk-level-change")["current_level"], "LOW");
}

#[tokio::test]
async fn a_failed_push_is_repeated_with_the_same_tokens() {
    let receiver = Stub::new([ACCEPTED, Answer::Silence, ACCEPTED, ACCEPTED]).await;
    let world = World::new(transmitting(Some(format!("http://{}/events", receiver.address))));
    let order_id = world.acted("billing").await;
    world.responder.due(START).await.expect("half pushed");
    assert_eq!(world.state(&order_id), State::Executing);
    let now = world.pass(1);
    world.responder.due(now).await.expect("pushed");
    assert_eq!(world.state(&order_id), State::Executed);
    let ids: Vec<Value> = receiver.got().iter().map(|got| claims(&got.body).1["jti"].clone()).collect();
    assert_eq!((&ids[0], &ids[1]), (&ids[2], &ids[3]), "a receiver that remembers ids does nothing twice");
}

#[tokio::test]
async fn tokens_are_held_until_they_are_fetched_and_acknowledged() {
    let world = World::new(transmitting(None));
    let order_id = world.acted("billing").await;
    let poll = async |world: &World, tenant: &str, body: Value| {
        let verbs = vec![Verb::Deny];
        let principal = Principal { name: "idp".into(), tenant: tenant.into(), holder: Holder::Machine, verbs };
        let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
        let request = Request::post("/v1/ssf/poll/idp").header("content-type", "application/json");
        let response =
            routes.oneshot(request.body(Body::from(body.to_string())).expect("a request")).await.expect("answers");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice::<Value>(&body).expect("is JSON"))
    };
    let (status, first) = poll(&world, "acme", json!({"maxEvents": 1, "returnImmediately": true})).await;
    assert_eq!(
        (status, first["sets"].as_object().map(serde_json::Map::len), &first["moreAvailable"]),
        (StatusCode::OK, Some(1), &json!(true))
    );
    assert_eq!(poll(&world, "globex", json!({})).await.1["sets"], json!({}), "another tenant's are not there");
    let acks: Vec<String> = first["sets"].as_object().expect("an object").keys().cloned().collect();
    let (_, second) = poll(&world, "acme", json!({"ack": acks})).await;
    let rest: Vec<String> = second["sets"].as_object().expect("an object").keys().cloned().collect();
    assert_eq!((rest.len(), &second["moreAvailable"]), (1, &json!(false)));
    assert_eq!(world.state(&order_id), State::Executing, "one is missing");
    let (_, third) = poll(&world, "acme", json!({"ack": rest})).await;
    assert_eq!((&third["sets"], world.state(&order_id)), (&json!({}), State::Executed));
    // What the receiver refuses is given up, and said.
    let order_id = world.acted("other").await;
    let (_, sets) = poll(&world, "acme", json!({})).await;
    let id = sets["sets"].as_object().expect("an object").keys().next().expect("one").clone();
    poll(&world, "acme", json!({"setErrs": {id: {"err": "invalid_audience", "description": "not us"}}})).await;
    assert_eq!(world.state(&order_id), State::Partial);
}

#[tokio::test]
async fn a_receiver_reads_who_transmits() {
    let world = World::new(transmitting(None));
    let routes = respond::http::open_routes(world.responder.clone());
    let request = Request::get("/.well-known/ssf-configuration").body(Body::empty()).expect("a request");
    let response = routes.oneshot(request).await.expect("answers");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let metadata: Value = serde_json::from_slice(&body).expect("is JSON");
    assert_eq!(
        (&metadata["issuer"], &metadata["jwks_uri"]),
        (&json!("https://muster.example"), &json!("https://muster.example/v1/keys"))
    );
    let problems = Config { issuer: String::new(), ..transmitting(None) }.problems().join(" ");
    assert!(problems.contains("issuer"), "{problems}");
}
