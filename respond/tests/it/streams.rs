//! Stream management: a receiver makes its stream, what it says holds over restarts, and nobody else can touch it.

use axum::Extension;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use respond::Config;
use respond::config::Receiver;
use respond::order::State;
use schemas::{Holder, Principal, Verb};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::signals::{ACCEPTED, CAEP, claims};
use crate::stub::{Answer, Stub};
use crate::world::{START, World, acting};

const PUSH: &str = "urn:ietf:rfc:8935";
const POLL: &str = "urn:ietf:rfc:8936";

fn managed() -> World {
    let mut config = acting();
    config.policies[0].switches = vec!["idp".into()];
    config.private_addresses_allowed = true;
    config.issuer = "https://muster.example/".into();
    config.hosts_allowed = vec!["127.0.0.1".into()];
    let (name, audience) = ("idp".into(), "https://idp.example".into());
    config.receivers.push(Receiver { name, audience, managed: true, timeout_ms: 200, ..Receiver::default() });
    World::new(config)
}

async fn ask_as(world: &World, who: (&str, &str), method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let (name, tenant, verbs) = (who.0.into(), who.1.into(), vec![Verb::Deny]);
    let principal = Principal { name, tenant, holder: Holder::Machine, verbs };
    let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = routes.oneshot(request.body(body).expect("a request")).await.expect("answers");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn ask(world: &World, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    ask_as(world, ("idp", "acme"), method, path, body).await
}

const STREAMS: &str = "/v1/ssf/streams";

async fn create(world: &World, body: Value) -> String {
    let (status, told) = ask(world, Method::POST, STREAMS, body).await;
    assert_eq!(status, StatusCode::CREATED, "{told}");
    told["stream_id"].as_str().expect("has an id").to_owned()
}

async fn poll(world: &World, body: Value) -> serde_json::Map<String, Value> {
    let (status, told) = ask(world, Method::POST, "/v1/ssf/poll/idp", body).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    told["sets"].as_object().expect("an object").clone()
}

#[tokio::test]
async fn a_stream_is_made_read_changed_and_taken_away() {
    let world = managed();
    assert_eq!(ask(&world, Method::GET, STREAMS, Value::Null).await, (StatusCode::OK, json!([])));
    let revoked = format!("{CAEP}/session-revoked");
    let wanted = json!({"events_requested": [revoked, "urn:example:unknown"], "description": "ours"});
    let id = create(&world, wanted.clone()).await;
    assert_eq!(ask(&world, Method::POST, STREAMS, wanted).await.0, StatusCode::CONFLICT, "one is all");
    let at = format!("{STREAMS}?stream_id={id}");
    let (_, told) = ask(&world, Method::GET, &at, Value::Null).await;
    let poll_url = json!({"method": POLL, "endpoint_url": "https://muster.example/v1/ssf/poll/idp"});
    assert_eq!((&told["iss"], &told["aud"]), (&json!("https://muster.example/"), &json!("https://idp.example")));
    assert_eq!((&told["delivery"], &told["events_delivered"]), (&poll_url, &json!([revoked])));
    assert_eq!(ask(&world, Method::GET, STREAMS, Value::Null).await.1, json!([told]));

    // What Muster supplies may be said, but must be right.
    let patch = |extra: Value| {
        let mut body = json!({"stream_id": id, "description": "theirs"});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        body
    };
    for wrong in [
        json!({"aud": "https://other.example"}),
        json!({"events_delivered": []}),
        json!({"events_requested": []}),
        json!({"delivery": {"method": POLL, "endpoint_url": "https://other.example"}}),
        json!({"delivery": {"method": PUSH, "endpoint_url": "https://other.example/events"}}),
        json!({"delivery": {"method": PUSH, "endpoint_url": "http://127.0.0.1/", "authorization_header": "a\nb"}}),
    ] {
        let (status, why) = ask(&world, Method::PATCH, STREAMS, patch(wrong.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {why}");
    }
    let (status, told) = ask(&world, Method::PATCH, STREAMS, patch(json!({"aud": "https://idp.example"}))).await;
    assert_eq!(
        (status, &told["description"], &told["events_delivered"]),
        (StatusCode::OK, &json!("theirs"), &json!([revoked]))
    );
    let delivery =
        json!({"method": PUSH, "endpoint_url": "http://127.0.0.1/events", "authorization_header": "Bearer s"});
    let (status, told) = ask(&world, Method::PUT, STREAMS, json!({"stream_id": id, "delivery": delivery})).await;
    assert_eq!((status, told.get("description"), told.get("events_requested")), (StatusCode::OK, None, None));
    assert_eq!(
        told["delivery"],
        json!({"method": PUSH, "endpoint_url": "http://127.0.0.1/events"}),
        "the secret is not told"
    );

    // It is the receiver's alone, and stays over a restart.
    let world = world.restart();
    assert_eq!(ask(&world, Method::GET, &at, Value::Null).await.1, told);
    for (who, expected) in [(("gw", "acme"), StatusCode::FORBIDDEN), (("idp", "globex"), StatusCode::NOT_FOUND)] {
        assert_eq!(ask_as(&world, who, Method::GET, &at, Value::Null).await.0, expected, "{who:?}");
        assert_eq!(ask_as(&world, who, Method::DELETE, &at, Value::Null).await.0, expected, "{who:?}");
        assert_eq!(ask_as(&world, who, Method::PATCH, STREAMS, json!({"stream_id": id})).await.0, expected, "{who:?}");
    }
    assert_eq!(ask(&world, Method::DELETE, &at, Value::Null).await.0, StatusCode::NO_CONTENT);
    let world = world.restart();
    assert_eq!(ask(&world, Method::GET, &at, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tokens_go_where_the_receiver_said_and_a_failed_push_goes_on_after_a_restart() {
    let receiver = Stub::new([Answer::Silence, ACCEPTED]).await;
    let world = managed();
    let order_id = world.acted("billing").await;
    world.responder.due(START).await.expect("tried");
    assert_eq!(world.state(&order_id), State::Executing, "there is no stream yet");
    let url = format!("http://{}/events", receiver.address);
    let delivery = json!({"method": PUSH, "endpoint_url": url, "authorization_header": "Bearer s"});
    create(&world, json!({"delivery": delivery, "events_requested": [format!("{CAEP}/session-revoked")]})).await;
    let now = world.pass(60);
    world.responder.due(now).await.expect("tried");
    assert_eq!(world.state(&order_id), State::Executing, "no answer");
    let world = world.restart();
    let now = world.pass(60);
    assert_eq!(world.responder.due(now).await.expect("tried"), 1);
    assert_eq!(world.state(&order_id), State::Executed);
    let world = world.restart();
    let now = world.pass(600);
    assert_eq!(world.responder.due(now).await.expect("nothing"), 0, "what was taken is not sent again");
    let got = receiver.got();
    assert_eq!(got.len(), 2, "the one event that was asked for, twice");
    assert!(got.iter().all(|got| got.headers["authorization"] == "Bearer s"));
    let ids: Vec<Value> = got.iter().map(|got| claims(&got.body).1["jti"].clone()).collect();
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn what_was_acknowledged_is_not_handed_out_after_a_restart_and_the_rest_is() {
    let world = managed();
    create(&world, json!({})).await;
    let order_id = world.acted("billing").await;
    let sets = poll(&world, json!({})).await;
    let ids: Vec<String> = sets.keys().cloned().collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(poll(&world, json!({"ack": [ids[0]]})).await.keys().collect::<Vec<_>>(), [&ids[1]]);
    let world = world.restart();
    assert_eq!(poll(&world, json!({})).await.keys().collect::<Vec<_>>(), [&ids[1]]);
    assert!(poll(&world, json!({"ack": [ids[1]]})).await.is_empty());
    let world = world.restart();
    assert!(poll(&world, json!({})).await.is_empty());
    assert_eq!(world.state(&order_id), State::Executed);
}

#[tokio::test]
async fn only_the_receiver_s_own_token_fetches() {
    let world = managed();
    create(&world, json!({})).await;
    let (status, _) = ask_as(&world, ("gw", "acme"), Method::POST, "/v1/ssf/poll/idp", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_paused_stream_holds_and_a_disabled_one_gives_up() {
    let world = managed();
    let id = create(&world, json!({})).await;
    let set = async |status: &str| {
        let body = json!({"stream_id": id, "status": status, "reason": "maintenance"});
        ask(&world, Method::POST, "/v1/ssf/status", body).await
    };
    assert_eq!(
        set("paused").await,
        (StatusCode::OK, json!({"stream_id": id, "status": "paused", "reason": "maintenance"}))
    );
    assert_eq!(set("asleep").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let first = world.acted("billing").await;
    world.responder.due(START).await.expect("held");
    assert!(poll(&world, json!({})).await.is_empty());
    assert_eq!(world.state(&first), State::Executing);
    set("enabled").await;
    let ids: Vec<String> = poll(&world, json!({})).await.keys().cloned().collect();
    poll(&world, json!({"ack": ids})).await;
    assert_eq!(world.state(&first), State::Executed);
    set("disabled").await;
    let second = world.acted("other").await;
    world.responder.due(START).await.expect("given up");
    assert_eq!(world.state(&second), State::Partial);
    let told = ask(&world, Method::GET, &format!("/v1/ssf/status?stream_id={id}"), Value::Null).await;
    assert_eq!((told.0, &told.1["status"]), (StatusCode::OK, &json!("disabled")));
}

#[tokio::test]
async fn a_receiver_has_its_stream_verified() {
    let receiver =
        Stub::new([Answer::Text("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), ACCEPTED])
            .await;
    let world = managed();
    let id = create(&world, json!({})).await;
    let verify = async |world: &World, state: &str| {
        ask(world, Method::POST, "/v1/ssf/verify", json!({"stream_id": id, "state": state})).await.0
    };
    assert_eq!(verify(&world, "s-1").await, StatusCode::NO_CONTENT);
    assert_eq!(verify(&world, "s-2").await, StatusCode::TOO_MANY_REQUESTS);
    let world = world.restart();
    let sets = poll(&world, json!({})).await;
    let (jti, token) = sets.iter().next().expect("a token");
    let (_, said) = claims(token.as_str().expect("is text"));
    let event = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    assert_eq!((&said["sub_id"]["id"], &said["events"][event]["state"]), (&json!(id), &json!("s-1")));
    assert!(poll(&world, json!({"ack": [jti]})).await.is_empty());
    let world = world.restart();
    assert!(poll(&world, json!({})).await.is_empty());

    let delivery = json!({"method": PUSH, "endpoint_url": format!("http://{}/events", receiver.address)});
    ask(&world, Method::PATCH, STREAMS, json!({"stream_id": id, "delivery": delivery})).await;
    let now = world.pass(60);
    assert_eq!(verify(&world, "s-3").await, StatusCode::NO_CONTENT);
    assert_eq!(world.responder.verify_due(now).await.expect("tried"), 1);
    assert_eq!(world.responder.verify_due(now).await.expect("not yet"), 0);
    let world = world.restart();
    let now = world.pass(1);
    assert_eq!(world.responder.verify_due(now).await.expect("tried"), 1);
    let now = world.pass(600);
    assert_eq!(world.responder.verify_due(now).await.expect("nothing"), 0);
    let states: Vec<Value> =
        receiver.got().iter().map(|got| claims(&got.body).1["events"][event]["state"].clone()).collect();
    assert_eq!(states, ["s-3", "s-3"]);
}

#[test]
fn a_managed_receiver_says_itself_where_tokens_go() {
    let receiver = Receiver {
        name: "idp".into(),
        audience: "a".into(),
        managed: true,
        url: Some("https://idp.example/".into()),
        ..Receiver::default()
    };
    let config = Config { issuer: "https://muster.example".into(), receivers: vec![receiver], ..Config::default() };
    assert!(config.problems().join(" ").contains("managed"));
}
