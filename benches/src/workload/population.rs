//! Who there is and what there is to call, derived from the generator's seed.

use std::net::Ipv4Addr;

use fastrand::Rng;

use crate::records::{Agent, User, Uuid, short_id};

pub(super) const ISSUER: &str = "https://acme.okta.example/oauth2/default";

/// Scopes that are granted together.
pub(super) const SCOPES: &[&str] = &[
    "invoices.read ledger.write",
    "tickets.read tickets.comment kb.read",
    "crm.read crm.write",
    "reports.read reports.export warehouse.query",
    "catalog.read prices.write",
    "deployments.write registry.read",
    "orders.read shipments.write",
];

/// A route: the path before the id, and what follows the id where there is one.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) before: &'static str,
    pub(super) after: Option<&'static str>,
}

const fn route(
    service: &'static str,
    method: &'static str,
    before: &'static str,
    after: Option<&'static str>,
) -> Route {
    Route { service, method, before, after }
}

pub(super) const ROUTES: &[Route] = &[
    route("billing", "GET", "/v1/invoices?status=open&page_size=50", None),
    route("billing", "GET", "/v1/invoices/", Some("")),
    route("billing", "GET", "/v1/invoices/", Some("/items")),
    route("ledger", "POST", "/v1/ledger/notes", None),
    route("support", "GET", "/v1/tickets?state=new", None),
    route("support", "GET", "/v1/tickets/", Some("")),
    route("support", "POST", "/v1/tickets/", Some("/comments")),
    route("knowledge", "GET", "/v1/articles/search?q=refund+policy", None),
    route("crm", "GET", "/v1/contacts/", Some("")),
    route("crm", "PATCH", "/v1/contacts/", Some("")),
    route("crm", "GET", "/v1/accounts/", Some("/contacts")),
    route("warehouse", "POST", "/v1/queries", None),
    route("warehouse", "GET", "/v1/queries/", Some("/result")),
    route("catalog", "GET", "/v1/products/", Some("")),
    route("catalog", "PUT", "/v1/products/", Some("/price")),
    route("orders", "GET", "/v1/orders/", Some("")),
    route("orders", "POST", "/v1/orders/", Some("/shipments")),
    route("deploy", "POST", "/v1/deployments", None),
    route("deploy", "GET", "/v1/deployments/", Some("/status")),
];

const JOBS: &[&str] = &["reconciler", "triage", "enricher", "reporter", "pricer", "deployer", "shipper"];
const FIRST: &[&str] = &["Ada", "Ben", "Cleo", "Dana", "Elif", "Finn", "Gita", "Hugo", "Ines", "Jan", "Kofi", "Lena"];
const LAST: &[&str] = &["Adler", "Brandt", "Costa", "Diaz", "Engel", "Fox", "Grau", "Hahn", "Ito", "Jung", "Kaya"];
const CLIENTS: &[&str] = &[
    "python-httpx/0.28.1",
    "agent-runtime/2.4.0 (linux; x86_64)",
    "langgraph/0.6.7 python/3.12",
    "node-fetch/3.3.2",
    "Go-http-client/2.0",
];

/// An address inside the prefix of private networks.
fn address(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(10, rng.u8(16..64), rng.u8(..), rng.u8(1..255))
}

pub(super) fn users(rng: &mut Rng, count: u32) -> Vec<User> {
    let user = |i: usize| {
        let (first, last) = (FIRST[i % FIRST.len()], LAST[i / FIRST.len() % LAST.len()]);
        let mail = format!("{}.{}{i}@acme.example", first.to_lowercase(), last.to_lowercase());
        User { id: short_id(rng, "00u", 20), mail, name: format!("{first} {last}"), address: address(rng) }
    };
    (0..count as usize).map(user).collect()
}

pub(super) fn agents(rng: &mut Rng, count: u32, users: &[User]) -> Vec<Agent> {
    let agent = |i: usize| Agent {
        id: short_id(rng, "0oa", 20),
        name: format!("{}-{i:05}", JOBS[i % JOBS.len()]),
        owner: (i % 20 != 19).then(|| users[i % users.len()].mail.clone()),
        user_agent: CLIENTS[i % CLIENTS.len()].to_owned(),
        address: address(rng),
        consumer: Uuid::random(rng),
        key: Uuid::random(rng),
    };
    (0..count as usize).map(agent).collect()
}
