//! The fault harness: every way in which a system that is called can fail, for every kind of switch that calls one.
//!
//! A member is a configuration that calls `address` and the answers by which its system says yes. For each member and each
//! fault, put before each of its calls: the order is never lost and never said to be executed before it is, a fault that passes
//! is got over, what was given up is said and told, and a target that can tell is asked for the same thing, never for two.
//! A new switch is one line in [`members`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use respond::Config;
use respond::config::{Hidden, System};
use respond::order::State;
use serde_json::Value;

use crate::signals::{claims, transmitting};
use crate::stub::{Answer, Stub};
use crate::world::{START, World, acting, calling};

pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) config: fn(&str) -> Config,
    /// The answers to the calls of one stop, in order.
    pub(crate) yes: &'static [&'static str],
}

pub(crate) const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 25\r\nconnection: close\r\n\r\n{\"access_token\":\"t-1234\"}";
const CLIENT: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 31\r\nconnection: close\r\n\r\n[{\"id\":\"c-1\",\"enabled\": false}]";
const SESSIONS: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 28\r\nconnection: close\r\n\r\n[{\"id\":\"s 1\"}, {\"id\":\"s/2\"}]";

pub(crate) fn members() -> Vec<Member> {
    vec![
        Member { name: "webhook", config: calling, yes: &[NO_CONTENT] },
        Member { name: "rfc7009", config: rfc7009, yes: &[OK] },
        Member { name: "caep", config: caep, yes: &[ACCEPTED, ACCEPTED] },
        Member {
            name: "keycloak",
            config: keycloak,
            yes: &[TOKEN, CLIENT, NO_CONTENT, SESSIONS, NO_CONTENT, NO_CONTENT, TOKEN, CLIENT],
        },
    ]
}

fn system(address: &str, kind: &str, parameters: &[(&str, &str)], secret: &str) -> Config {
    let mut config = acting();
    config.policies[0].switches = vec!["idp".into()];
    config.private_addresses_allowed = true;
    let own = |text: &str| text.replace("ADDRESS", address);
    config.systems.push(System {
        name: "idp".into(),
        kind: kind.into(),
        parameters: parameters.iter().map(|(name, value)| ((*name).into(), own(value))).collect(),
        secrets: [(secret.to_owned(), Hidden::new("s3cret&="))].into(),
        timeout_ms: 200,
        ..System::default()
    });
    config
}

pub(crate) fn keycloak(address: &str) -> Config {
    let parameters = [("base_url", "http://ADDRESS/"), ("realm", "acme"), ("admin_client_id", "muster")];
    system(address, "keycloak", &parameters, "admin_client_secret")
}

pub(crate) fn rfc7009(address: &str) -> Config {
    // Written once: tests side by side read it.
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("muster-rfc7009-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("billing"), "refresh-token-1\n").expect("a file");
        folder
    });
    let folder = folder.to_string_lossy();
    let parameters = [
        ("revocation_url", "http://ADDRESS/revoke"),
        ("client_id", "billing"),
        ("token_type_hint", "refresh_token"),
        ("tokens_folder", folder.as_ref()),
    ];
    system(address, "rfc7009", &parameters, "client_secret")
}

fn caep(address: &str) -> Config {
    transmitting(Some(format!("http://{address}/events")))
}

/// Faults that pass: the same call succeeds when it is repeated.
fn passing() -> Vec<(&'static str, Answer)> {
    vec![
        ("closed before it was read", Answer::Slam),
        ("no answer in time", Answer::Silence),
        ("half an answer", Answer::Text("HTTP/1.1 20")),
        ("garbage", Answer::Text("no protocol of this world\r\n\r\n")),
        ("500", Answer::Text("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")),
        ("503", Answer::Text("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")),
        (
            "429 with Retry-After",
            Answer::Text(
                "HTTP/1.1 429 Too Many Requests\r\nretry-after: 90\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
        ),
    ]
}

fn lasting() -> Vec<(&'static str, Answer)> {
    vec![
        ("400", Answer::Text("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")),
        (
            "302",
            Answer::Text(
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
        ),
    ]
}

/// Calls that stop: without those that read back.
fn stops(member: &Member) -> usize {
    if member.name == "keycloak" { 6 } else { member.yes.len() }
}

async fn drive(world: &World) {
    for _ in 0..40 {
        let Some(due) = world.responder.next_due() else { return };
        world.clock.set(due.max(world.clock.now_micros()));
        world.responder.due(due).await.expect("the logs work");
    }
    panic!("calls never end");
}

#[tokio::test]
async fn a_fault_that_passes_is_got_over_whichever_call_it_meets() {
    for member in members() {
        for place in 0..stops(&member) {
            for (fault, answer) in passing() {
                let when = format!("{} {fault} at call {place}", member.name);
                let before = member.yes[..place].iter().copied().map(Answer::Text);
                let again = member.yes.iter().copied().map(Answer::Text);
                let stub = Stub::new(before.chain([answer]).chain(again)).await;
                let world = World::new((member.config)(&stub.address));
                let order_id = world.acted("billing").await;
                world.responder.due(START).await.expect("the logs work");
                assert_eq!(world.state(&order_id), State::Executing, "not executed yet, {when}");
                drive(&world).await;
                let order = world.responder.order(&order_id).expect("never lost");
                assert!(matches!(order.state, State::Executed | State::Verified), "{when} {order:?}");
                assert_eq!(order.calls[0].attempt, 2, "{when}");
                let waited = order.calls[0].asked_at + if fault.starts_with("429") { 90 } else { 1 } * 1_000_000;
                assert!(world.clock.now_micros() >= waited, "{when}");
                let said = world
                    .mirrored()
                    .await
                    .iter()
                    .filter(|row| row.detail.as_deref().is_some_and(|detail| detail.starts_with("again in")))
                    .count();
                assert_eq!(said, 1, "the failure is in the lake, {when}");
                same_thing(&stub, &when);
            }
        }
    }
}

/// A target that can tell is asked for one thing: the same id, the same body.
fn same_thing(stub: &Stub, when: &str) {
    let got = stub.got();
    let ids: BTreeSet<&String> = got.iter().filter_map(|got| got.headers.get("webhook-id")).collect();
    assert!(ids.len() <= 1, "{when} {ids:?}");
    let mut bodies: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    bodies.extend(got.iter().map(|got| (got.method.as_str(), got.path.as_str(), got.body.as_str())));
    // Tokens go to one place, each with an id of its own.
    let token = |body: &str| body.starts_with("ey").then(|| claims(body).1["jti"].to_string());
    let places: BTreeSet<(&str, &str, Option<String>)> =
        bodies.iter().map(|(method, path, body)| (*method, *path, token(body))).collect();
    assert_eq!(bodies.len(), places.len(), "a repeat asks for the same thing, {when} {bodies:?}");
}

#[tokio::test]
async fn what_cannot_succeed_is_given_up_and_told() {
    for member in members() {
        for (fault, answer) in lasting() {
            let when = format!("{} {fault}", member.name);
            let stub = Stub::new([answer]).await;
            let pager = Stub::new(std::iter::repeat_n(Answer::Text(NO_CONTENT), 9)).await;
            let mut config = (member.config)(&stub.address);
            let mut webhook = calling(&pager.address).webhooks.remove(0);
            webhook.name = "pager".into();
            config.webhooks.push(webhook);
            config.tell = vec!["pager".into()];
            let world = World::new(config);
            let order_id = world.acted("billing").await;
            drive(&world).await;
            assert_eq!((world.state(&order_id), world.denied("billing")), (State::Partial, true), "{when}");
            let told: Value = serde_json::from_str(&pager.got()[0].body).expect("is JSON");
            assert_eq!(told["type"], "killswitch.partial", "{when}");
            assert!(world.states().await.iter().all(|state| state != "executed"), "{when}");
        }
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again_by_every_switch() {
    for member in members() {
        let mut config = (member.config)("does-not-exist.invalid");
        for webhook in &mut config.webhooks {
            webhook.url = "https://does-not-exist.invalid/".into();
        }
        let world = World::new(config);
        let order_id = world.acted("billing").await;
        world.responder.due(START).await.expect("the logs work");
        let order = world.responder.order(&order_id).expect("never lost");
        assert_eq!((order.state, order.calls[0].done), (State::Executing, false), "{}", member.name);
        assert!(order.calls[0].next_at.is_some(), "{} {order:?}", member.name);
    }
}

/// Between intent and attempt, and between attempt and outcome: what was under way is made again, and asks for the same.
#[tokio::test]
async fn a_restart_at_any_moment_loses_nothing() {
    for member in members() {
        for at in ["before the attempt", "before the outcome"] {
            let when = format!("{} {at}", member.name);
            let lost = (at == "before the outcome").then_some(Answer::Silence);
            let stub = Stub::new(lost.into_iter().chain(member.yes.iter().copied().map(Answer::Text))).await;
            let world = World::new((member.config)(&stub.address));
            let order_id = world.acted("billing").await;
            if at == "before the outcome" {
                // Cut off while it waits for the answer: what was called is not known.
                let cut = tokio::time::timeout(std::time::Duration::from_millis(50), world.responder.due(START)).await;
                assert!(cut.is_err(), "{when}");
            }
            let world = world.restart();
            assert!(world.denied("billing"), "{when}");
            drive(&world).await;
            assert!(matches!(world.state(&order_id), State::Executed | State::Verified), "{when}");
            same_thing(&stub, &when);
        }
    }
}

#[tokio::test]
async fn keycloak_is_asked_for_what_its_documentation_says() {
    let member = members().remove(3);
    let answers = member.yes.iter().chain(&[TOKEN, CLIENT, NO_CONTENT]).copied().map(Answer::Text);
    let stub = Stub::new(answers).await;
    let world = World::new((member.config)(&stub.address));
    let order_id = world.acted("billing").await;
    drive(&world).await;
    assert_eq!(world.state(&order_id), State::Verified, "it was read back");
    world.responder.release(&order_id, "ann", "false alarm").await.expect("released");
    drive(&world).await;
    let lines: Vec<String> = stub.got().iter().map(|got| format!("{} {}", got.method, got.path)).collect();
    let admin = "/admin/realms/acme";
    let expected = [
        "POST /realms/acme/protocol/openid-connect/token".to_owned(),
        format!("GET {admin}/clients?clientId=billing"),
        format!("PUT {admin}/clients/c-1"),
        format!("GET {admin}/clients/c-1/user-sessions?max=1000"),
        format!("DELETE {admin}/sessions/s%201"),
        format!("DELETE {admin}/sessions/s%2F2"),
        "POST /realms/acme/protocol/openid-connect/token".to_owned(),
        format!("GET {admin}/clients?clientId=billing"),
        "POST /realms/acme/protocol/openid-connect/token".to_owned(),
        format!("GET {admin}/clients?clientId=billing"),
        format!("PUT {admin}/clients/c-1"),
    ];
    assert_eq!(lines, expected);
    let got = stub.got();
    assert!(got[0].body.contains("client_secret=s3cret%26%3D"), "{}", got[0].body);
    assert_eq!(got[2].headers["authorization"], "Bearer t-1234");
    let body: Value = serde_json::from_str(&got[2].body).expect("is JSON");
    assert_eq!(body, serde_json::json!({"clientId": "billing", "enabled": false, "notBefore": START / 1_000_000}));
    let back: Value = serde_json::from_str(&got[10].body).expect("is JSON");
    assert_eq!(back, serde_json::json!({"clientId": "billing", "enabled": true}));
    let secret = world.mirrored().await.iter().any(|row| row.detail.as_deref().is_some_and(|d| d.contains("s3cret")));
    assert!(!secret, "no secret is written down");
}

#[tokio::test]
async fn a_system_that_reads_back_otherwise_violates() {
    let enabled =
        "HTTP/1.1 200 OK\r\ncontent-length: 30\r\nconnection: close\r\n\r\n[{\"id\":\"c-1\",\"enabled\": true}]";
    let member = members().remove(3);
    let answers = member.yes[..7].iter().copied().chain([enabled]).map(Answer::Text);
    let stub = Stub::new(answers).await;
    let world = World::new((member.config)(&stub.address));
    let order_id = world.acted("billing").await;
    drive(&world).await;
    assert_eq!((world.state(&order_id), world.denied("billing")), (State::Violated, true));
}

/// Expiry undoes the deny list and what can be undone, and says what cannot.
#[tokio::test]
async fn expiry_releases_exactly_what_is_reversible() {
    let stub = Stub::new([OK, NO_CONTENT, NO_CONTENT].map(Answer::Text)).await;
    let mut config = rfc7009(&stub.address);
    config.webhooks = calling(&stub.address).webhooks;
    config.policies[0].switches.push("soc".into());
    let world = World::new(config);
    let order_id = world.acted("billing").await;
    drive(&world).await;
    let now = world.pass(3600);
    world.responder.tick(now).await.expect("expired");
    drive(&world).await;
    assert_eq!((world.state(&order_id), world.denied("billing")), (State::Expired, false));
    let got = stub.got();
    assert_eq!(got.iter().filter(|got| got.path == "/revoke").count(), 1, "a revocation is not undone");
    assert!(got.iter().any(|got| got.body.contains("killswitch.expired")), "the webhook is");
    assert!(got.iter().any(|got| got.body.contains("token=refresh-token-1&token_type_hint=refresh_token")));
    let rows = world.mirrored().await;
    let expired = rows.iter().find(|row| row.state == "expired").and_then(|row| row.detail.clone()).expect("says what");
    assert!(expired.contains("cannot be undone: idp"), "{expired}");
}
