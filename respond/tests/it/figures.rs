//! How long a gateway waits for an answer, beside a handler that does nothing: by hand, since a busy machine says nothing.
//!
//! `cargo test --test it -- --ignored --nocapture figures` prints the times. Both handlers stand in one server, and are asked in
//! turn over the same kind of connection while the list holds 100,000 entries.

use std::time::{Duration, Instant};

use axum::routing::any;
use axum::{Extension, Router};
use lake::log::Group;
use respond::order::Target;
use schemas::{Holder, Principal, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, acting};

const ENTRIES: usize = 100_000;
const CHUNK: usize = 100;
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 20;
const QUESTIONS: usize = 250;

/// Asks one connection's share of a round, and returns how long each answer took.
async fn ask(address: std::net::SocketAddr, path: &'static str) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("is a socket");
    let request = format!("GET {path} HTTP/1.1\r\nhost: m\r\nx-consumer-username: never\r\n\r\n");
    let (mut took, mut answer) = (Vec::with_capacity(QUESTIONS), [0; 4096]);
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.expect("is written");
        let read = stream.read(&mut answer).await.expect("answers");
        took.push(began.elapsed());
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run by hand on an idle machine"]
#[allow(clippy::print_stdout, reason = "its output is what it is for")]
async fn a_deny_answer_beside_an_empty_handler() {
    let world = World::new(acting());
    let order_id = world.acted("agent-0").await;
    let like = world.responder.order(&order_id).expect("it stands");
    // Noted as the control log notes them, a hundred a frame: an order at a time would take minutes.
    for chunk in 0..ENTRIES / CHUNK {
        let order = |i: usize| {
            let target = Target::Agent { agent: format!("agent-{}", chunk * CHUNK + i + 1) };
            respond::order::Order { order_id: format!("{:032x}", chunk * CHUNK + i), target, ..like.clone() }
        };
        let control = Some(serde_json::json!({"orders": (0..CHUNK).map(order).collect::<Vec<_>>()}));
        world.control.append(Group { control, ..Group::default() }).await.expect("is noted");
    }
    let world = world.restart();
    assert!(world.responder.deny().len("acme") > ENTRIES);
    let principal =
        Principal { name: "gw".into(), tenant: "acme".into(), holder: Holder::Machine, verbs: vec![Verb::Deny] };
    let routes = respond::http::routes(world.responder.clone()).layer(Extension(principal));
    let routes = Router::new().route("/empty", any(async || ())).merge(routes);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let paths = ["/empty", "/v1/deny/ask/kong"];
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (path, all) in paths.into_iter().zip(&mut all) {
            let askers: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(ask(address, path))).collect();
            for asker in askers {
                all.extend(asker.await.expect("no panic"));
            }
        }
    }
    server.abort();
    let figures = all.map(|mut took| {
        took.sort();
        (took[took.len() / 2], took[took.len() * 99 / 100])
    });
    for (path, (p50, p99)) in paths.into_iter().zip(figures) {
        println!("{path}: p50 {p50:?}, p99 {p99:?} ({} answers, {ENTRIES} entries)", ROUNDS * CONNECTIONS * QUESTIONS);
    }
    let ratio = figures[1].1.as_secs_f64() / figures[0].1.as_secs_f64();
    assert!(ratio <= 1.5, "p99 is {ratio:.2} × that of an empty handler");
}
