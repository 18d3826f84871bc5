//! Verdicts in SQL: an alert's last one counts, and precision is a share of what was judged.

use lake::log::Group;
use query::QueryConfig;
use schemas::alert::{self, AlertRow};
use schemas::verdict::{self, VerdictRow};

use crate::world::{NOW, World};

fn raised(id: &str, tenant: &str, detector: &str, days_ago: i64) -> AlertRow {
    let time = NOW - days_ago * 86_400_000_000;
    AlertRow {
        alert_id: id.into(),
        time,
        received_at: time,
        event_day: schemas::id::day(time),
        tenant: tenant.into(),
        detector: detector.into(),
        event_ids: vec![id.into()],
        ..AlertRow::default()
    }
}

fn judged(id: &str, tenant: &str, verdict: &str, why: &str) -> VerdictRow {
    VerdictRow {
        time: NOW,
        event_day: schemas::id::day(NOW),
        tenant: tenant.into(),
        alert_id: id.into(),
        verdict: verdict.into(),
        judged_by: "ann".into(),
        why: why.into(),
        ..VerdictRow::default()
    }
}

#[tokio::test]
async fn alerts_beyond_the_budget_are_listed_only_when_asked_for() {
    let world = World::new(QueryConfig::default()).await;
    let marked = |id, over_budget| AlertRow { over_budget, ..raised(id, "acme", "rate", 0) };
    let alerts = [marked("fact", None), marked("told", Some(false)), marked("beyond", Some(true))];
    world.log.append(Group { alerts: Some(alert::batch(&alerts)), ..Group::default() }).await.unwrap();
    let mut counts = Vec::new();
    for all in [false, true] {
        counts.push(world.query.alerts("acme", 10, all).await.unwrap().len());
    }
    assert_eq!(counts, [2, 3]);
}

#[tokio::test]
async fn the_last_verdict_counts_and_precision_is_by_week() {
    let world = World::new(QueryConfig::default()).await;
    let alerts = [
        raised("a", "acme", "first_action", 0),
        raised("b", "acme", "first_action", 0),
        raised("c", "acme", "first_action", 0),
        raised("d", "acme", "first_action", 8),
        raised("e", "acme", "rate", 0),
        raised("a", "globex", "first_action", 0),
    ];
    // The log drops an alert whose id came before, whoever's it is.
    let alerts = alerts.map(|alert| AlertRow { alert_id: format!("{}-{}", alert.tenant, alert.alert_id), ..alert });
    world.log.append(Group { alerts: Some(alert::batch(&alerts)), ..Group::default() }).await.unwrap();
    for row in [
        judged("acme-a", "acme", "confirmed", "first thought"),
        judged("acme-a", "acme", "dismissed", "second thought"),
        judged("acme-b", "acme", "confirmed", "sure"),
        judged("acme-d", "acme", "confirmed", "sure"),
        judged("globex-a", "globex", "confirmed", "sure"),
    ] {
        world.log.append(Group { verdicts: Some(verdict::batch(&[row])), ..Group::default() }).await.unwrap();
        world.lake.flush().await.unwrap();
    }
    let why = "SELECT alert_id, verdict, why FROM judged_alerts WHERE alert_id IN ('acme-a', 'acme-c') ORDER BY 1";
    let expected = [
        r#"{"alert_id":"acme-a","verdict":"dismissed","why":"second thought"}"#,
        r#"{"alert_id":"acme-c","verdict":null,"why":null}"#,
    ];
    assert_eq!(world.lines("acme", why).await, expected);
    let precision = "SELECT detector, week, alerts, judged, confirmed, dismissed, precision FROM detector_precision \
                     ORDER BY detector, week";
    let expected = [
        r#"{"detector":"first_action","week":"2024-09-23","alerts":1,"judged":1,"confirmed":1,"dismissed":0,"precision":1.0}"#,
        r#"{"detector":"first_action","week":"2024-09-30","alerts":3,"judged":2,"confirmed":1,"dismissed":1,"precision":0.5}"#,
        r#"{"detector":"rate","week":"2024-09-30","alerts":1,"judged":0,"confirmed":0,"dismissed":0,"precision":null}"#,
    ];
    assert_eq!(world.lines("acme", precision).await, expected);
}
