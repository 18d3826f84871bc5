//! What the inventory adds: agents that no log shows, flags that rest on what a provider says, grants; and that only
//! complete snapshots count.

use query::QueryConfig;
use query::roster::{Agent, Known};
use schemas::InventoryRow;

use crate::world::{NOW, World, row};

const DAY: i64 = 86_400_000_000;

/// A row of the snapshot `poll` of one poll.
pub(crate) fn listed(tenant: &str, poll: &str, kind: &str, item: &str) -> InventoryRow {
    InventoryRow {
        snapshot_id: format!("{tenant}-{poll}-1"),
        seen_at: NOW - DAY,
        event_day: schemas::id::day(NOW - DAY),
        tenant: tenant.into(),
        poll: poll.into(),
        provider: "okta".into(),
        kind: kind.into(),
        item_id: item.into(),
        agent_id: Some(item.into()).filter(|_| kind != "run"),
        ..InventoryRow::default()
    }
}

fn run(outcome: &str) -> InventoryRow {
    InventoryRow { outcome: Some(outcome.into()), ..listed("acme", "idp", "run", "run") }
}

/// The same rows as a later snapshot.
fn later(rows: Vec<InventoryRow>, number: i64) -> Vec<InventoryRow> {
    let snapshot_id = format!("acme-idp-{number}");
    rows.into_iter()
        .map(|row| InventoryRow { snapshot_id: snapshot_id.clone(), seen_at: row.seen_at + number, ..row })
        .collect()
}

fn credential(id: &str, agent: &str) -> InventoryRow {
    InventoryRow {
        agent_id: Some(agent.into()),
        credential_id: Some(id.into()),
        ..listed("acme", "idp", "credential", id)
    }
}

fn first() -> Vec<InventoryRow> {
    let item = |kind: &str, id: &str| listed("acme", "idp", kind, id);
    let active = InventoryRow { owner: Some("ann@acme".into()), ..item("client", "active") };
    let ghost = InventoryRow {
        agent_name: Some("test-client 2".into()),
        flags: vec!["no_owner".into()],
        ..item("client", "ghost")
    };
    let old = InventoryRow {
        created_at: Some(NOW - 800 * DAY),
        flags: vec!["never_used".into(), "no_expiry".into()],
        ..credential("k-old", "ghost")
    };
    let young = InventoryRow {
        created_at: Some(NOW - 10 * DAY),
        expires_at: Some(NOW + 10 * DAY),
        last_used_at: Some(NOW - 100 * DAY),
        agent_name: Some("Ledger sync".into()),
        ..credential("k-young", "dormant")
    };
    let disabled = InventoryRow {
        created_at: Some(NOW - 900 * DAY),
        flags: vec!["no_expiry".into()],
        enabled: Some(false),
        ..credential("k-off", "dormant")
    };
    let grant = InventoryRow {
        agent_id: Some("ghost".into()),
        user_id: Some("u1".into()),
        granted_by: Some("u1".into()),
        scopes: vec!["Directory.ReadWrite.All".into(), "read".into()],
        ..item("grant", "g1")
    };
    let everyone =
        InventoryRow { agent_id: Some("active".into()), flags: vec!["all_users".into()], ..item("grant", "g2") };
    vec![active, ghost, old, young, disabled, grant, everyone, run("complete")]
}

async fn agents(world: &World) -> Vec<Agent> {
    world.query.agents("acme").await.unwrap()
}

fn flags(agents: &[Agent], id: &str) -> Vec<(&'static str, Known, String)> {
    let agent = agents.iter().find(|agent| agent.agent_id == id).unwrap();
    agent.flags().map(|(name, known, fact)| (name, known, fact.to_owned())).to_vec()
}

#[tokio::test]
async fn the_roster_knows_what_no_log_shows() {
    let world = World::new(QueryConfig::default()).await;
    world.append(&[row("e1", "acme", "active"), row("e2", "acme", "shadow")]).await;
    world.append_inventory(&first()).await;
    world.lake.flush().await.unwrap();
    let agents = agents(&world).await;
    let ids: Vec<_> = agents.iter().map(|agent| (agent.agent_id.as_str(), agent.events)).collect();
    assert_eq!(ids, [("active", 1), ("shadow", 1), ("dormant", 0), ("ghost", 0)]);
    let ghost = agents.iter().find(|agent| agent.agent_id == "ghost").unwrap();
    assert_eq!(
        (ghost.first_seen.as_deref(), ghost.credentials_listed, ghost.grants, ghost.grant_users),
        (None, 1, 1, 1)
    );
    assert_eq!(ghost.listed_in.as_deref(), Some(&["idp".to_owned()][..]));
    use Known::{No, Unknown, Yes};
    let known = |id: &str| flags(&agents, id).into_iter().map(|(_, known, _)| known).collect::<Vec<_>>();
    // No owner, never expires, shared, unused scopes, no user, unused, long-lived, generic name, overprivileged.
    assert_eq!(known("ghost"), [Yes, Yes, Unknown, Unknown, Unknown, Yes, Yes, Yes, Yes]);
    assert_eq!(known("dormant"), [Unknown, No, Unknown, Unknown, Unknown, Yes, No, No, Unknown]);
    assert_eq!(known("active"), [No, Unknown, Unknown, Unknown, Yes, No, Unknown, Unknown, Unknown]);
    assert_eq!(known("shadow"), [Unknown, Unknown, Unknown, Unknown, Yes, No, Unknown, Unknown, Unknown]);
    let facts: Vec<String> = flags(&agents, "ghost").into_iter().map(|(_, _, fact)| fact).collect();
    for expected in [
        "no owner, says okta client ghost",
        "1 credentials without an expiry, says okta credential k-old",
        "never used, says okta credential k-old",
        "its name is test-client 2",
        "was granted Directory.ReadWrite.All",
    ] {
        assert!(facts.iter().any(|fact| fact == expected), "{expected}: {facts:?}");
    }
    assert!(facts.iter().any(|fact| fact.starts_with("oldest credential in force made 2022-")), "{facts:?}");
    let owner = &flags(&agents, "active")[0].2;
    assert_eq!(owner, "owner ann@acme, says okta client active");
    let one = world.lines("acme", "SELECT agent_name, events FROM agents WHERE agent_id = 'ghost'").await;
    assert_eq!(one, [r#"{"agent_name":"test-client 2","events":0}"#]);
}

#[tokio::test]
async fn only_a_complete_snapshot_counts() {
    let world = World::new(QueryConfig::default()).await;
    world.append_inventory(&first()).await;
    let ids = "SELECT agent_id FROM agents ORDER BY agent_id";
    let all = world.lines("acme", ids).await;
    assert_eq!(all.len(), 3);
    // A run that failed, and one whose process died before the end.
    world.append_inventory(&later(vec![run("failed")], 2)).await;
    world.append_inventory(&later(vec![listed("acme", "idp", "client", "half")], 3)).await;
    assert_eq!(world.lines("acme", ids).await, all);
    // A later complete one without the ghost: now it is gone from the roster, and the evidence stays.
    let without = first().into_iter().filter(|row| row.agent_id.as_deref() != Some("ghost")).collect();
    world.append_inventory(&later(without, 4)).await;
    assert_eq!(world.lines("acme", ids).await, [r#"{"agent_id":"active"}"#, r#"{"agent_id":"dormant"}"#]);
    let evidence = "SELECT count(*) AS n FROM inventory WHERE agent_id = 'ghost'";
    assert_eq!(world.lines("acme", evidence).await, [r#"{"n":3}"#]);
}

#[tokio::test]
async fn credentials_and_grants_are_views() {
    let world = World::new(QueryConfig::default()).await;
    let mut used = row("e1", "acme", "ghost");
    used.credential_id = Some("k-old".into());
    world.append(&[used]).await;
    let activity = InventoryRow {
        credential_id: Some("k-young".into()),
        last_used_at: Some(NOW - DAY),
        ..listed("acme", "idp", "activity", "a1")
    };
    let mut rows = first();
    rows.insert(0, activity);
    world.append_inventory(&rows).await;
    let credentials = world
        .lines("acme", "SELECT credential_id, never_used, never_expires, events FROM credentials ORDER BY 1")
        .await;
    assert_eq!(
        credentials,
        [
            r#"{"credential_id":"k-off","never_used":"unknown","never_expires":"yes","events":0}"#,
            r#"{"credential_id":"k-old","never_used":"no","never_expires":"yes","events":1}"#,
            r#"{"credential_id":"k-young","never_used":"no","never_expires":"no","events":0}"#,
        ]
    );
    let on = "SELECT agent_id, granted_by, scopes, all_users FROM grants WHERE user_id = 'u1' OR all_users ORDER BY 1";
    let grants = world.lines("acme", on).await;
    assert_eq!(grants[0], r#"{"agent_id":"active","granted_by":null,"scopes":null,"all_users":true}"#);
    assert!(grants[1].contains(r#""granted_by":"u1","scopes":["Directory.ReadWrite.All","read"]"#), "{grants:?}");
}

#[tokio::test]
async fn a_name_is_generic_when_every_word_could_be_anybodys() {
    let world = World::new(QueryConfig::default()).await;
    let names = [
        ("test", true),
        ("My App", true),
        ("service-account_01", true),
        ("Client (dev) 3", true),
        ("billing-agent", false),
        ("invoice bot", false),
        ("testify", false),
        ("apple", false),
    ];
    let mut rows: Vec<InventoryRow> = names
        .iter()
        .map(|(name, _)| InventoryRow {
            agent_name: Some((*name).into()),
            ..listed("acme", "idp", "client", &format!("id-of-{name}"))
        })
        .collect();
    rows.push(run("complete"));
    world.append_inventory(&rows).await;
    let agents = agents(&world).await;
    for (name, generic) in names {
        let agent = agents.iter().find(|agent| agent.agent_name.as_deref() == Some(name)).unwrap();
        assert_eq!(agent.generic_name, if generic { Known::Yes } else { Known::No }, "{name}");
    }
}
