//! Envoy's question over gRPC, byte for byte: the same answers as the HTTP door's.

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt;
use respond::Config;
use respond::gateway::Gateway;
use schemas::{Holder, Principal, Verb};

use crate::world::{World, acting};

/// A field of a protobuf message that holds bytes: text, a message or an entry of a map.
fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// Envoy's `CheckRequest` about a request with this `authorization`, as it sends it, with fields that nobody reads.
fn question(authorization: &str) -> Vec<u8> {
    let header = |name: &str, value: &str| field(3, [field(1, name), field(2, value)].concat());
    let http = [field(1, "id-1"), field(2, "GET"), header(":path", "/x"), header("authorization", authorization)];
    about(&http.concat())
}

/// The same where Envoy is told to pass headers on as they came (`encode_raw_headers`).
fn raw_question(authorization: &str) -> Vec<u8> {
    let header = field(1, [field(1, "authorization"), field(3, authorization)].concat());
    about(&field(13, header))
}

fn about(http: &[u8]) -> Vec<u8> {
    let attributes = [field(1, field(4, "spiffe://x")), field(4, field(2, http)), field(10, field(1, "k"))].concat();
    field(1, attributes)
}

fn bearer(agent: &str) -> String {
    format!("Bearer e30.{}.c2ln", BASE64URL_NOPAD.encode(format!(r#"{{"azp":"{agent}","sub":"ann"}}"#).as_bytes()))
}

/// The gRPC status, and the message of the answer.
async fn check(world: &World, verb: Verb, gateway: Option<&str>, question: Vec<u8>) -> (String, Vec<u8>) {
    let principal = Principal { name: "gw".into(), tenant: "acme".into(), holder: Holder::Machine, verbs: vec![verb] };
    let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
    let mut request = Request::post("/envoy.service.auth.v3.Authorization/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(gateway) = gateway {
        request = request.header("muster-gateway", gateway);
    }
    let frame = [&[0], (question.len() as u32).to_be_bytes().as_slice(), &question].concat();
    let request = request.body(Body::from(frame)).expect("a request");
    let response = tower::ServiceExt::oneshot(routes, request).await.expect("answers");
    let status =
        |headers: &HeaderMap| headers.get("grpc-status").map(|text| text.to_str().expect("is text").to_owned());
    let early = status(response.headers());
    let body = response.into_body().collect().await.expect("a body");
    let late = body.trailers().and_then(status);
    let bytes = body.to_bytes();
    (early.or(late).expect("a status"), bytes.get(5..).unwrap_or_default().to_vec())
}

/// `CheckResponse` that lets through: status {code: 0}, an empty message.
const LET_THROUGH: &[u8] = &[0x0a, 0];

#[tokio::test]
async fn the_answer_is_the_list_s() {
    let world = World::new(acting());
    let order_id = world.acted("billing").await;
    for ask in [question, raw_question] {
        let (status, said) = check(&world, Verb::Deny, None, ask(&bearer("billing"))).await;
        assert_eq!(status, "0");
        let order = field(2, field(1, [field(1, "muster-order"), field(2, &order_id)].concat()));
        let body = field(3, format!(r#"{{"denied":true,"order_id":"{order_id}"}}"#));
        // PERMISSION_DENIED, and 403 for who made the request.
        let expected = [vec![0x0a, 2, 8, 7], field(2, [vec![0x0a, 3, 8, 0x93, 3], order, body].concat())].concat();
        assert_eq!(said, expected);
        assert_eq!(check(&world, Verb::Deny, None, ask(&bearer("other"))).await, ("0".into(), LET_THROUGH.to_vec()));
    }
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    let (_, said) = check(&world, Verb::Deny, None, question(&bearer("billing"))).await;
    assert_eq!(said, LET_THROUGH);
}

#[tokio::test]
async fn another_rule_and_other_tokens() {
    let strict = Gateway { name: "strict".into(), refuse_unknown: true, ..Gateway::default() };
    let world = World::new(Config { gateways: vec![strict], ..acting() });
    let (_, said) = check(&world, Verb::Deny, Some("strict"), question("Basic x")).await;
    assert_eq!(said[..4], [0x0a, 2, 8, 7], "a request that says nothing by this rule is refused");
    assert_eq!(check(&world, Verb::Deny, Some("nobody"), question("")).await.0, "5", "no such rule");
    assert_eq!(check(&world, Verb::Ingest, None, question("")).await.0, "7", "the token may not ask");
    assert_eq!(check(&world, Verb::Deny, None, Vec::new()).await, ("0".into(), LET_THROUGH.to_vec()));
    assert_eq!(check(&world, Verb::Deny, None, vec![0xff; 9]).await.0, "13", "no message");
    let long = check(&world, Verb::Deny, None, question(&"x".repeat(300 << 10))).await;
    assert_eq!(long.0, "11", "longer than any request's headers");
}
