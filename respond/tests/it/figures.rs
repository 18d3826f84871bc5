//! How long a gateway waits for an answer, beside a handler that does nothing: by hand, since a busy machine says nothing.
//!
//! `cargo test --test it -- --ignored --nocapture figures` prints the times. Both handlers stand in one server, and are asked in
//! turn over the same kind of connection while the list holds 100,000 entries.

use std::time::{Duration, Instant};

use axum::routing::any;
use axum::{Extension, Router};
use respond::order::Target;
use respond::{Config, Request};
use schemas::{Holder, Principal, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, acting, person};

const ENTRIES: usize = 99_999;
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
    let world = World::new(Config { approvals: 0, ..acting() });
    for i in 0..ENTRIES {
        let target = Target::Agent { agent: format!("agent-{i}") };
        let (switches, switches_next, reason, key) = (Vec::new(), Vec::new(), "load".into(), i.to_string());
        let request = Request { target, switches, switches_next, stands_secs: 3600, reason, key };
        world.responder.request(&person("ann"), &request).await.expect("stands");
    }
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
