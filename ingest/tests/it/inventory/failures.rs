//! What can go wrong with a poll: nothing of it ever counts as a snapshot, and nothing goes anywhere else.

use ingest::inventory::provider::{List, Paging, Provider, Rows};
use ingest::inventory::{Config, OAuth, Poll};
use serde_json::{Value, json};

use super::{World, limits};

/// A provider with one list of bots.
fn bots(world: &World, paging: Paging) -> Poll {
    let columns: Value = json!({"item_id": "id", "agent_id": "id"});
    let rows = Rows { kind: "client".into(), columns: serde_json::from_value(columns).unwrap(), ..Rows::default() };
    let list = List {
        name: "bots".into(),
        path: "/bots?size=2".into(),
        items: "bots".into(),
        paging,
        rows: vec![rows],
        ..List::default()
    };
    Poll { generic: Some(Provider { lists: vec![list], ..Provider::default() }), ..world.poll("generic") }
}

fn next() -> Paging {
    Paging::Next { path: "next".into() }
}

fn first(more: Value) -> Value {
    let mut body = json!({"bots": [{"id": "a"}, {"id": "b"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"request": "/bots?size=2", "body": body})
}

/// Runs, expects a failure that says `expected`, and that nothing but it is kept.
async fn fails(answers: &[Value], paging: Paging, config: Config, expected: &str) -> World {
    let world = World::new(answers).await;
    let error = world.run(bots(&world, paging), config).await.expect_err("must fail").to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("t0ken") && !error.contains("cursor="), "{error}");
    let rows = world.rows();
    assert_eq!(rows.len(), 1, "only the failed run is noted");
    assert_eq!((rows[0].kind.as_str(), rows[0].outcome.as_deref(), rows[0].items), ("run", Some("failed"), None));
    assert_eq!(rows[0].reason.as_deref(), Some(error.as_str()));
    world
}

#[tokio::test]
async fn a_failing_page_leaves_no_snapshot() {
    let answers = [first(json!({"next": "/bots?cursor=x"})), json!({"request": "/bots?cursor=x", "status": 500})];
    let world = fails(&answers, next(), limits(), "/bots: answered 500").await;
    assert_eq!(world.requests().len(), 4, "one page, and three tries of the other");
    let gone = [first(json!({"next": "/bots?cursor=x"}))];
    fails(&gone, next(), limits(), "answered 404").await;
    fails(&[], next(), limits(), "answered 404").await;
    fails(&[json!({"request": "/bots?size=2", "status": 403})], next(), limits(), "answered 403").await;
    fails(&[json!({"request": "/bots?size=2", "text": "<html>"})], next(), limits(), "is not JSON").await;
    let other = [json!({"request": "/bots?size=2", "body": {"robots": []}})];
    fails(&other, next(), limits(), "does not hold the items").await;
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_when_it_says() {
    let busy = |headers: Value| json!({"request": "/bots?size=2", "status": 429, "headers": headers});
    let answers = [busy(json!({"retry-after": "0"})), busy(json!({"x-rate-limit-reset": "1"})), first(json!({}))];
    let world = World::new(&answers).await;
    let snapshot = world.run(bots(&world, next()), limits()).await.unwrap();
    assert_eq!((snapshot.items, snapshot.requests), (2, 3));
    let patience = [busy(json!({"retry-after": "3600"}))];
    fails(&patience, next(), limits(), "asks to wait 3600 s").await;
    let world = fails(&[busy(json!({"retry-after": "0"}))], next(), limits(), "answered 429").await;
    assert_eq!(world.requests().len(), 3);
}

#[tokio::test]
async fn the_token_goes_to_no_other_host() {
    let other = World::new(&[]).await;
    let next_there = [first(json!({"next": format!("{}/bots", other.base)}))];
    fails(&next_there, next(), limits(), "not the host that was configured").await;
    for to in [format!("{}/bots?size=2", other.base), "/elsewhere".to_owned()] {
        let redirect = [json!({"request": "/bots?size=2", "status": 302, "headers": {"location": to}})];
        fails(&redirect, next(), limits(), "redirects are not followed").await;
    }
    let link = [json!({"request": "/bots?size=2", "body": {"bots": []},
        "headers": {"link": format!("<{}/bots>; rel=\"next\"", other.base)}})];
    fails(&link, Paging::Link, limits(), "not the host that was configured").await;
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn every_limit_holds() {
    let large = [json!({"request": "/bots?size=2", "text": "x".repeat(5000)})];
    fails(&large, next(), Config { page_bytes_max: 4096, ..limits() }, "larger than page_bytes_max (4096 bytes)").await;
    let endless: Vec<Value> = (0..9)
        .map(|i| json!({"request": format!("/bots?n={i}"), "body": {"bots": [{"id": i}], "next": format!("/bots?n={}", i + 1)}}))
        .collect();
    let endless: Vec<Value> = std::iter::once(first(json!({"next": "/bots?n=0"}))).chain(endless).collect();
    fails(&endless, next(), Config { requests_max: 3, ..limits() }, "more than requests_max (3)").await;
    fails(&endless, next(), Config { items_max: 3, ..limits() }, "more than items_max (3)").await;
    let small = Config { page_bytes_max: 1024, run_bytes_max: 1024, ..limits() };
    let wide = [json!({"request": "/bots?size=2", "body": {"bots": [{"id": "x".repeat(600)}]}})];
    fails(&wide, next(), small, "more than run_bytes_max (1024)").await;
    let itself = [first(json!({"next": "/bots?size=2"}))];
    fails(&itself, next(), limits(), "is the page itself").await;
}

#[tokio::test]
async fn counted_pages_end_at_the_total_or_at_an_empty_page() {
    let page = |number: u32, ids: &[&str], total: Option<u32>| {
        let bots: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        json!({"request": format!("/bots?size=2&page={number}"), "body": {"bots": bots, "total": total}})
    };
    let paging =
        |total: Option<&str>| Paging::Page { parameter: "page".into(), first: 1, total: total.map(str::to_owned) };
    let pages = [page(1, &["a", "b"], Some(3)), page(2, &["c"], Some(3))];
    let world = World::new(&pages).await;
    assert_eq!(world.run(bots(&world, paging(Some("total"))), limits()).await.unwrap().items, 3);
    // A page that is shorter than was asked for is not the last one.
    let pages = [page(1, &["a"], None), page(2, &["b"], None), page(3, &[], None)];
    let world = World::new(&pages).await;
    assert_eq!(world.run(bots(&world, paging(None)), limits()).await.unwrap().requests, 3);
    let short = [page(1, &["a"], Some(3)), page(2, &[], Some(3))];
    fails(&short, paging(Some("total")), limits(), "3 items were announced, 1 came").await;
}

#[tokio::test]
async fn a_token_is_fetched_and_renewed() {
    let token = |text: &str| json!({"request": "/token", "body": {"access_token": text}});
    let late = json!({"request": "/bots?size=2", "status": 401});
    let world = World::new(&[token("one"), token("two"), late, first(json!({}))]).await;
    let mut poll = bots(&world, next());
    poll.token_file = None;
    poll.oauth = Some(OAuth {
        token_url: format!("{}/token", world.base),
        client_id: "muster".into(),
        client_secret_file: world.secret.path().to_owned(),
        scope: Some("read:all".into()),
        audience: None,
    });
    assert_eq!(world.run(poll, limits()).await.unwrap().items, 2);
    let requests = world.recorded.requests.lock().unwrap();
    let form = "grant_type=client_credentials&client_id=muster&client_secret=t0ken-of-the-test&scope=read%3Aall";
    assert_eq!(requests[0].2, form);
    let shown: Vec<_> = requests.iter().filter_map(|(_, headers, _)| headers.get("authorization")).collect();
    assert_eq!(shown, ["Bearer one", "Bearer two"]);
}

#[tokio::test]
async fn a_missing_token_is_told_without_a_call() {
    let world = World::new(&[]).await;
    let poll = Poll { token_file: Some("/nowhere/token".into()), ..bots(&world, next()) };
    let error = world.run(poll, limits()).await.expect_err("must fail").to_string();
    assert!(error.contains("cannot read /nowhere/token"), "{error}");
    assert!(world.requests().is_empty());
}
