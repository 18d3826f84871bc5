//! One agent's names joined by the registry, and what an issuance said carried to records that hold only the token's id.

use std::collections::HashSet;

use ingest::config::TokenConfig;
use ingest::{Context, Joins, Limits, Mapping, Sources, Tokens, event_objects, normalize_joined};
use proptest::prelude::*;
use schemas::{Registry, id};
use serde_json::{Map, Value, json};

use crate::support::{RECEIVED_AT, context, file};

const REGISTRY: &str = r#"
[[agents]]
id = "invoice-bot"
name = "Invoice bot"
owner = "finance@acme.example"
aliases = [
  { source = "kong", id = "consumer-7" },
  { source = "okta", id = "0oaInvoice" },
  { id = "AKIAINVOICE" },
]

[[agents]]
id = "other-bot"
tenant = "globex"
aliases = [{ source = "kong", id = "consumer-8" }]
"#;
const JTI: &str = "9f2c1d7e-30b4-4c8a-9d5e-6a7b8c9d0e1f";
/// An issuer's log: who got which token; and what gateways know of calls.
const ISSUER: &str = r#"
classify = [["token.*", "auth", 3002, 1]]
[columns]
time = "at"
action = "did"
agent_id = "client"
user_id = "user"
token_id = "token"
credential_id = "credential"
scopes = "scope | split ' '"
token_expires_at = "exp"
outcome = "'success'"
[delegation]
claims = "claims"
[flags]
no_expiry = { "token" = true, "exp" = false }
"#;

fn registry() -> Registry {
    Registry::parse("agents.toml", REGISTRY, &["kong", "okta"]).expect("the registry is right")
}

fn mapping(name: &str) -> Mapping {
    Mapping::parse(name, "x.toml", ISSUER).expect("the mapping is right")
}

fn tokens() -> Tokens {
    Tokens::new(&TokenConfig::default()).expect("the memory is on")
}

fn events(mapping: &Mapping, tenant: &str, body: &Value, joins: Joins<'_>) -> Map<String, Value> {
    let carrier = file();
    let context = Context { tenant, ..context(&carrier) };
    let text = body.to_string();
    let piece = ingest::split::split(text.as_bytes(), mapping.array_keys());
    let found = normalize_joined(mapping, &piece, 0, None, &context, &Limits::default(), joins);
    event_objects(&found.events.expect("an event")).remove(0)
}

fn issued(token: &str, client: &str, user: &str) -> Value {
    json!({"at": 1_767_225_600, "did": "token.issued", "client": client, "user": user, "token": token,
        "scope": "read pay", "exp": 1_767_229_200,
        "claims": {"sub": user, "act": {"sub": client}}})
}

fn used(token: &str) -> Value {
    json!({"at": 1_767_225_700, "did": "GET /invoices", "token": token})
}

fn flags(event: &Map<String, Value>) -> Vec<&str> {
    event.get("flags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn a_vendors_name_becomes_the_registrys_and_is_kept_beside_it() {
    let (registry, kong) = (registry(), mapping("kong"));
    let joins = Joins { registry: Some(&registry), tokens: None };
    let call = json!({"at": 1_767_225_600, "did": "GET /x", "client": "consumer-7"});
    let event = events(&kong, "acme", &call, joins);
    for (column, value) in [
        ("agent_id", "invoice-bot"),
        ("agent_alias", "consumer-7"),
        ("agent_name", "Invoice bot"),
        ("agent_owner", "finance@acme.example"),
    ] {
        assert_eq!(event[column], value, "{column}");
    }
    assert!(flags(&event).contains(&"registry"), "what is not the record's is flagged: {event:?}");
    assert_eq!(event["log_partition"], id::partition("acme", Some("invoice-bot"), None, 64));

    let other_source = events(&mapping("okta"), "acme", &call, joins);
    assert_eq!(other_source["agent_id"], "consumer-7", "an alias counts in its source only");
    let call = json!({"at": 1_767_225_600, "did": "GET /x", "client": "consumer-8"});
    assert_eq!(events(&kong, "acme", &call, joins)["agent_id"], "consumer-8", "another tenant's agent");
    assert_eq!(events(&kong, "globex", &call, joins)["agent_id"], "other-bot");
    let own = json!({"at": 1_767_225_600, "did": "GET /x", "client": "0oaInvoice", "user": "AKIAINVOICE"});
    let own = events(&mapping("okta"), "acme", &own, joins);
    assert_eq!(own["attribution"], "agent_only", "a user that is one of the agent's own names is no user");
    let plain = events(&kong, "acme", &json!({"at": 1_767_225_600, "did": "x", "client": "unknown"}), joins);
    assert!(plain.get("agent_alias").is_none() && !flags(&plain).contains(&"registry"));
}

#[test]
fn mistakes_in_the_registry_name_line_and_key() {
    let problems = |text: &str| {
        let found = Registry::parse("agents.toml", text, &["kong", "okta"]).expect_err("the registry is wrong");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let two = "[[agents]]\nid = \"a\"\naliases = [{ source = \"kong\", id = \"x\" }]\n[[agents]]\nid = \"b\"\naliases = [\n  { id = \"x\" },\n]\n";
    assert_eq!(
        problems(two),
        "agents.toml:7: agents[1].aliases[0].id: the agent `a` has this alias already, in line 3"
    );
    let circle =
        "[[agents]]\nid = \"a\"\naliases = [{ id = \"b\" }]\n[[agents]]\nid = \"b\"\naliases = [{ id = \"a\" }]\n";
    assert!(
        problems(circle).contains("agents.toml:5: agents[1].id: `b` is an alias of the agent `a`"),
        "{}",
        problems(circle)
    );
    assert!(problems(circle).contains("names would lead from one to the other"));
    let unknown =
        "[[agents]]\nid = \"a\"\nownr = \"x\"\naliases = [{ source = \"kongo\", id = \"x\" }, { source = \"okta\" }]\n";
    let found = problems(unknown);
    assert!(found.contains("agents.toml:3: agents[0].ownr: unknown key; did you mean `owner`?"), "{found}");
    assert!(
        found.contains("agents.toml:4: agents[0].aliases[0].source: there is no source `kongo`; did you mean `kong`?")
    );
    assert!(found.contains("agents[0].aliases[1].id: an alias needs an id"), "{found}");
    assert!(problems("[[agents]]\nid = \"a\"\n[[agents]]\nid = \"a\"\n").contains("declared already, in line 2"));
    assert!(problems("[[agents]]\nid = 7\n").contains("agents.toml:2: agents[0].id: expected a text"));
    assert!(problems("[[agents]\n").starts_with("agents.toml:1: "));
    // The same name in two tenants, or in two sources, is two names.
    let apart = "[[agents]]\nid = \"a\"\ntenant = \"t\"\naliases = [{ id = \"x\" }]\n[[agents]]\nid = \"a\"\ntenant = \"u\"\naliases = [{ id = \"x\" }]\n[[agents]]\nid = \"c\"\ntenant = \"v\"\naliases = [{ source = \"kong\", id = \"x\" }]\n[[agents]]\nid = \"d\"\ntenant = \"v\"\naliases = [{ source = \"okta\", id = \"x\" }]\n";
    Registry::parse("agents.toml", apart, &["kong", "okta"]).expect("names are told apart");
}

const DECLARED: &str = r#"
[[agents]]
id = "invoice-bot"
purpose = "pays invoices"
expires = 2026-01-01
protected = true
intended = ["GET /invoices/*", "POST /payments on payee-*"]
aliases = [{ id = "consumer-7" }]
"#;

#[test]
fn declared_intent_is_flagged_and_nothing_else() {
    let registry = Registry::parse("agents.toml", DECLARED, &["kong"]).expect("the registry is right");
    let columns = ISSUER.replace("outcome =", "resource_id = \"on\"\npurpose = \"why\"\noutcome =");
    let kong = Mapping::parse("kong", "x.toml", &columns).expect("the mapping is right");
    let joins = Joins { registry: Some(&registry), tokens: None };
    let call = |did: &str, on: Option<&str>| {
        let mut call = json!({"at": 1_767_225_600, "did": did, "client": "consumer-7"});
        if let Some(on) = on {
            call["on"] = on.into();
        }
        call
    };
    for (did, on, intended) in [
        ("GET /invoices/7", None, true),
        ("GET /invoices/7", Some("anything"), true),
        ("DELETE /invoices/7", None, false),
        ("POST /payments", Some("payee-4"), true),
        ("POST /payments", Some("payee-4,mule-1"), false),
        ("POST /payments", None, false),
    ] {
        let event = events(&kong, "acme", &call(did, on), joins);
        assert_eq!(flags(&event).contains(&"in_intent"), intended, "{did} {on:?}");
        assert_eq!(event["purpose"], "pays invoices");
        assert!(flags(&event).contains(&"registry"), "{event:?}");
        assert!(!flags(&event).contains(&"agent_expired"), "its last day is not over: {event:?}");
    }
    let mut own = call("GET /invoices/7", None);
    own["why"] = "an audit".into();
    own["at"] = (1_767_225_600 + 86_400).into();
    let event = events(&kong, "acme", &own, joins);
    assert_eq!(event["purpose"], "an audit", "what the record says stays");
    assert!(!flags(&event).contains(&"registry") && flags(&event).contains(&"agent_expired"), "{event:?}");
    let other = json!({"at": 1_767_225_600, "did": "GET /invoices/7", "client": "other"});
    assert!(
        !flags(&events(&kong, "acme", &other, joins)).contains(&"in_intent"),
        "another agent's intent is not its own"
    );
}

#[test]
fn mistakes_in_declared_intent_name_line_and_key() {
    let problems = |text: &str| {
        let text = format!("[[agents]]\nid = \"a\"\n{text}\n");
        let found = Registry::parse("agents.toml", &text, &["kong"]).expect_err("the registry is wrong");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for wrong in ["\"2026-01-01\"", "2026-01-01T00:00:00Z", "7"] {
        let found = problems(&format!("expires = {wrong}"));
        assert!(found.contains("agents.toml:3: agents[0].expires: expected a date"), "{found}");
    }
    assert!(problems("expires = 2026-02-30").starts_with("agents.toml:3: "));
    assert_eq!(problems("protected = \"yes\""), "agents.toml:3: agents[0].protected: expected true or false");
    assert_eq!(problems("intended = \"x\""), "agents.toml:3: agents[0].intended: expected a list of texts");
    let found = problems("intended = [\n  \"read\",\n  \"read on \",\n]");
    assert_eq!(found, "agents.toml:5: agents[0].intended[1]: expected `ACTION` or `ACTION on RESOURCE`");
    let many = vec!["\"x\""; 101].join(",");
    assert!(problems(&format!("intended = [{many}]")).contains("agents[0].intended: at most 100 patterns"));
    assert!(problems("intend = []").contains("did you mean `intended`?"));
}

#[test]
fn an_issuance_fills_what_a_later_record_does_not_say() {
    let (issuer, gateway, tokens, registry) = (mapping("okta"), mapping("gateway"), tokens(), registry());
    let joins = Joins { registry: Some(&registry), tokens: Some(&tokens) };
    let before = events(&gateway, "acme", &used(JTI), joins);
    assert_eq!(before["attribution"], "none");
    assert!(flags(&before).contains(&"no_expiry"));
    let grant = events(&issuer, "acme", &issued(JTI, "0oaInvoice", "ann"), joins);
    assert!(flags(&grant).contains(&"token_issued") && !flags(&grant).contains(&"token_join"), "{grant:?}");
    assert_eq!((&grant["agent_id"], &grant["agent_alias"]), (&"invoice-bot".into(), &"0oaInvoice".into()));

    for held in [used(JTI), json!({"at": 1_767_225_700, "did": "GET /invoices", "credential": JTI})] {
        let event = events(&gateway, "acme", &held, joins);
        for (column, value) in [
            ("agent_id", json!("invoice-bot")),
            ("agent_alias", json!("0oaInvoice")),
            ("agent_owner", json!("finance@acme.example")),
            ("user_id", json!("ann")),
            ("attribution", json!("both")),
            ("actor_kind", json!("agent")),
            ("scopes", json!(["read", "pay"])),
            ("token_expires_at", json!("2026-01-01T01:00:00.000000Z")),
            ("delegation_depth", json!(2)),
            ("log_partition", json!(id::partition("acme", Some("invoice-bot"), None, 64))),
        ] {
            assert_eq!(event[column], value, "{column} of {event:?}");
        }
        assert!(flags(&event).contains(&"token_join"), "{event:?}");
        assert!(!flags(&event).contains(&"no_expiry"), "the expiry is known: {event:?}");
    }
    assert_eq!(events(&gateway, "globex", &used(JTI), joins)["attribution"], "none", "another tenant's token");
    assert_eq!(tokens.counts().joined, 2);
    // What the record says itself stays.
    let mut own = used(JTI);
    own["scope"] = "write".into();
    assert_eq!(events(&gateway, "acme", &own, joins)["scopes"], json!(["write"]));
}

#[test]
fn conflicts_are_not_joined_and_seen() {
    let (issuer, gateway, tokens) = (mapping("okta"), mapping("gateway"), tokens());
    let joins = Joins { registry: None, tokens: Some(&tokens) };
    events(&issuer, "acme", &issued(JTI, "one", "ann"), joins);
    let mut stolen = used(JTI);
    stolen["client"] = "two".into();
    let stolen = events(&gateway, "acme", &stolen, joins);
    assert!(flags(&stolen).contains(&"token_conflict") && stolen.get("scopes").is_none(), "{stolen:?}");
    assert_eq!(events(&gateway, "acme", &used(JTI), joins)["agent_id"], "one", "one odd record takes nothing away");
    let second = events(&issuer, "acme", &issued(JTI, "two", "ann"), joins);
    assert!(flags(&second).contains(&"token_conflict"), "{second:?}");
    let after = events(&gateway, "acme", &used(JTI), joins);
    assert!(after.get("agent_id").is_none() && flags(&after).contains(&"token_conflict"), "{after:?}");
    assert_eq!(tokens.counts().conflicts, 3);
}

#[test]
fn a_plain_id_is_a_token_of_its_source_only() {
    let (issuer, gateway, tokens) = (mapping("okta"), mapping("gateway"), tokens());
    let joins = Joins { registry: None, tokens: Some(&tokens) };
    events(&issuer, "acme", &issued("4711", "one", "ann"), joins);
    assert_eq!(events(&gateway, "acme", &used("4711"), joins)["attribution"], "none");
    assert_eq!(events(&issuer, "acme", &used("4711"), joins)["agent_id"], "one");
}

#[test]
fn only_issuances_teach() {
    let tokens = tokens();
    let joins = Joins { registry: None, tokens: Some(&tokens) };
    let gateway = mapping("gateway");
    for did in ["GET /x", "token.introspected"] {
        let mut call = issued(JTI, "one", "ann");
        call["did"] = did.into();
        assert!(!flags(&events(&gateway, "acme", &call, joins)).contains(&"token_issued"), "{did}");
    }
    assert_eq!(events(&gateway, "acme", &used(JTI), joins)["attribution"], "none");
    let declared = format!("issuance = {{ \"did\" = \"*introspected\" }}\n{ISSUER}");
    let declared = Mapping::parse("declared", "x.toml", &declared).expect("the mapping is right");
    let mut call = issued(JTI, "one", "ann");
    call["did"] = "token.introspected".into();
    assert!(flags(&events(&declared, "acme", &call, joins)).contains(&"token_issued"));
    assert_eq!(events(&gateway, "acme", &used(JTI), joins)["agent_id"], "one");
}

#[test]
fn the_memory_is_learned_again_from_rows() {
    let (issuer, gateway, tokens) = (mapping("okta"), mapping("gateway"), tokens());
    let body = issued(JTI, "0oaInvoice", "ann").to_string();
    let piece = ingest::split::split(body.as_bytes(), &[]);
    let joins = Joins { registry: None, tokens: Some(&tokens) };
    let carrier = file();
    let rows = normalize_joined(&issuer, &piece, 0, None, &context(&carrier), &Limits::default(), joins);
    let rows = rows.events.expect("an event");
    let (again, registry) = (self::tokens(), registry());
    assert_eq!(again.learn_rows(&rows, Some(&registry), RECEIVED_AT).expect("rows of events"), 1);
    let joins = Joins { registry: Some(&registry), tokens: Some(&again) };
    let event = events(&gateway, "acme", &used(JTI), joins);
    let told = (&event["agent_id"], &event["agent_alias"], &event["user_id"]);
    assert_eq!(told, (&"invoice-bot".into(), &"0oaInvoice".into(), &"ann".into()), "what the registry says now");
    let late = self::tokens();
    let days = 4 * 86_400_000_000;
    assert_eq!(late.learn_rows(&rows, None, RECEIVED_AT + days).expect("rows of events"), 0, "older than its hours");
}

#[test]
fn a_built_in_issuance_reaches_another_sources_record() {
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let (okta, kong) = (sources.get("okta").expect("is built in"), sources.get("kong").expect("is built in"));
    let tokens = tokens();
    let joins = Joins { registry: None, tokens: Some(&tokens) };
    let grant = json!({"uuid": "g-1", "published": "2025-12-31T23:00:00Z", "eventType": "app.oauth2.token.grant.access_token",
        "displayMessage": "grant", "severity": "INFO", "outcome": {"result": "SUCCESS"},
        "actor": {"id": "0oaInvoice", "type": "PublicClientApp", "displayName": "Invoices"},
        "target": [{"type": "User", "id": "00uAnn"},
            {"type": "access_token", "id": "AT.x8hB3qZ1m0Kd7WpTzYfRcE", "detailEntry": {"expires": "2026-01-01T00:00:00Z"}}]});
    assert!(flags(&events(okta, "acme", &grant, joins)).contains(&"token_issued"));
    let call = json!({"started_at": 1_767_225_600_000_i64, "client_ip": "203.0.113.9",
        "request": {"method": "GET", "uri": "/x", "headers": {}}, "response": {"status": 200},
        "authenticated_entity": {"id": "AT.x8hB3qZ1m0Kd7WpTzYfRcE"}});
    let event = events(kong, "acme", &call, joins);
    assert_eq!((&event["agent_id"], &event["user_id"]), (&"0oaInvoice".into(), &"00uAnn".into()), "{event:?}");
}

/// Agents with aliases in a few sources, none claimed twice.
fn fleets() -> impl Strategy<Value = Vec<Vec<(Option<usize>, String)>>> {
    let alias = (proptest::option::of(0_usize..3), "[a-f]{1,3}");
    proptest::collection::vec(proptest::collection::vec(alias, 0..5), 1..6).prop_map(|fleet| {
        let mut taken = HashSet::new();
        fleet
            .into_iter()
            .map(|aliases| aliases.into_iter().filter(|(_, id)| taken.insert(id.clone())).collect())
            .collect()
    })
}

const SOURCES: [&str; 3] = ["kong", "okta", "envoy"];

proptest! {
    /// Whatever an agent is called, in whatever order aliases are declared and records of several tenants come: it has one id
    /// and one partition a tenant.
    #[test]
    fn one_agent_has_one_partition(fleet in fleets(), order in any::<u64>(), tenants in proptest::collection::vec(0_usize..3, 40)) {
        let mut declared: Vec<String> = fleet.iter().enumerate().map(|(n, aliases)| {
            let mut aliases: Vec<String> = aliases.iter().map(|(source, id)| match source {
                Some(source) => format!("{{ source = \"{}\", id = \"{id}\" }}", SOURCES[*source]),
                None => format!("{{ id = \"{id}\" }}"),
            }).collect();
            if order >> n & 1 == 1 { aliases.reverse(); }
            format!("[[agents]]\nid = \"agent-{n}\"\naliases = [{}]\n", aliases.join(", "))
        }).collect();
        if order % 2 == 1 { declared.reverse(); }
        let registry = Registry::parse("agents.toml", &declared.join("\n"), &SOURCES).expect("no alias is claimed twice");
        let mappings: Vec<Mapping> = SOURCES.iter().map(|name| mapping(name)).collect();
        let joins = Joins { registry: Some(&registry), tokens: None };
        let mut calls: Vec<(usize, usize, &str)> = fleet.iter().enumerate()
            .flat_map(|(n, aliases)| aliases.iter().map(move |(source, id)| (n, source.unwrap_or(n % 3), id.as_str())))
            .collect();
        if !calls.is_empty() { let turn = order as usize % calls.len(); calls.rotate_left(turn); }
        for (i, (agent, source, name)) in calls.into_iter().enumerate() {
            let tenant = ["acme", "globex", "initech"][tenants[i % tenants.len()]];
            let event = events(&mappings[source], tenant, &json!({"at": 1_767_225_600, "did": "x", "client": name}), joins);
            let id = format!("agent-{agent}");
            prop_assert_eq!(&event["agent_id"], id.as_str());
            prop_assert_eq!(&event["log_partition"], id::partition(tenant, Some(&id), None, 64));
        }
    }
}

/// The same name in two tenants is two agents, though one set of buffers serves both.
#[test]
fn a_tenants_partitions_are_its_own() {
    let kong = mapping("kong");
    for tenant in ["acme", "globex", "initech", "acme"] {
        let event = events(&kong, tenant, &json!({"at": 1_767_225_600, "did": "x", "client": "bot"}), Joins::default());
        assert_eq!(event["log_partition"], id::partition(tenant, Some("bot"), None, 64), "{tenant}");
    }
}
