//! The fleet as an observer sees it: only records, read back from the bodies.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::*;

const NOW: i64 = 1_772_442_900_000_000; // 2026-03-02T09:15:00Z, a Monday
const MINUTE: i64 = 60_000_000;

fn records(batches: impl IntoIterator<Item = Batch>) -> Vec<(&'static str, Source, Value)> {
    let mut records = Vec::new();
    for batch in batches {
        let text = String::from_utf8(batch.body).unwrap();
        assert_eq!(text.lines().count(), batch.records);
        let parsed = text.lines().map(|line| (batch.tenant, batch.source, serde_json::from_str(line).unwrap()));
        records.extend(parsed);
    }
    records
}

fn time_of(record: &Value) -> i64 {
    if let Some(millis) = record["started_at"].as_i64() {
        return millis * 1_000;
    }
    let text = record["start_time"].as_str().or(record["published"].as_str()).unwrap();
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

fn actions(records: &[(&str, Source, Value)]) -> Vec<String> {
    let action = |r: &Value| format!("{} {}", r["method"].as_str().unwrap(), r["path"].as_str().unwrap());
    records.iter().filter(|(_, source, _)| *source == Source::Envoy).map(|(_, _, r)| action(r)).collect()
}

#[test]
fn a_week_is_believable_and_ends_now() {
    let fleet = Fleet::new(1, NOW);
    let all = records(fleet.week());
    assert!((40_000..60_000).contains(&all.len()), "{} records", all.len());
    let (mut agents, mut granted, mut chains) = (HashMap::<String, &str>::new(), HashSet::new(), 0);
    for (tenant, source, record) in &all {
        let time = time_of(record);
        assert!((NOW - 7 * 24 * 60 * MINUTE - 1_000..=NOW).contains(&time));
        let agent = match source {
            Source::Okta if record["actor"]["type"] == "User" => continue,
            Source::Okta => {
                let token = record["target"].as_array().unwrap().last().unwrap();
                granted.insert(token["id"].as_str().unwrap().to_owned());
                &record["actor"]["id"]
            }
            Source::Envoy => &record["jwt_payload"]["azp"],
            _ => &record["consumer"]["custom_id"],
        };
        chains += usize::from(record["jwt_payload"]["act"]["act"]["sub"].is_string());
        let tenant_before = agents.insert(agent.as_str().unwrap().to_owned(), tenant);
        assert!(tenant_before.is_none_or(|before| before == *tenant), "an agent at two tenants");
        let token = record["jwt_payload"]["jti"].as_str();
        let kept = record["jwt_payload"]["exp"].is_null();
        assert!(token.is_none_or(|token| kept || time < NOW - 6 * 24 * 60 * MINUTE || granted.contains(token)));
    }
    assert_eq!(fleet.agents(), 200);
    assert!(agents.len() >= 195, "{} agents seen", agents.len());
    assert_eq!(fleet.members.iter().filter(|member| member.tenant == 0).count(), 160);
    assert!(chains > 500, "{chains} delegated calls");
}

#[test]
fn the_same_seed_gives_the_same_week_and_volume_scales_it() {
    let week = |seed| Fleet::new(seed, NOW).volume(0.1).week().collect::<Vec<_>>();
    assert!(week(3) == week(3));
    assert!(week(3) != week(4));
    let records: usize = week(3).iter().map(|batch| batch.records).sum();
    assert!((3_000..9_000).contains(&records), "{records} records");
}

#[test]
fn the_hijacked_agent_never_did_before_what_it_does_now() {
    let fleet = Fleet::new(1, NOW);
    let Facts { hijack, .. } = fleet.facts();
    let week = records(fleet.week());
    let own = |all: Vec<(&'static str, Source, Value)>| -> Vec<(&'static str, Source, Value)> {
        all.into_iter().filter(|(_, _, r)| r["jwt_payload"]["azp"] == hijack.agent.id.as_str()).collect()
    };
    let before = own(week);
    assert!(before.len() > 200, "{} calls in the week", before.len());
    let story = fleet.hijack(NOW);
    assert_eq!(story.iter().map(|batch| batch.source).collect::<Vec<_>>()[1..], [Source::Envoy; 3]);
    let story = records(story);
    assert!(story.iter().all(|(tenant, _, r)| *tenant == "acme" && (NOW - MINUTE..=NOW).contains(&time_of(r))));
    assert!(story.is_sorted_by_key(|(_, _, r)| time_of(r)));
    let now = own(story);
    let tokens: HashSet<_> = now.iter().map(|(_, _, r)| r["jwt_payload"]["jti"].to_string()).collect();
    assert_eq!(tokens.len(), 1);
    assert!(actions(&now).ends_with(&hijack.stray_calls));
    let habits: HashSet<String> = actions(&before).into_iter().collect();
    assert!(hijack.stray_calls.iter().all(|stray| !habits.contains(stray)));
    assert!(now[0].2["agent_owner"].as_str() == hijack.agent.owner.as_deref());
    assert_eq!(
        (hijack.agent.name.as_str(), hijack.peers_reading_secrets, hijack.peers_exporting),
        ("invoice-reconciler", 6, 2)
    );
}

#[test]
fn one_key_goes_round_only_in_its_story() {
    let fleet = Fleet::new(1, NOW);
    let Facts { shared, .. } = fleet.facts();
    let users_of = |all: Vec<(&'static str, Source, Value)>| {
        let (mut consumers, mut hosts) = (HashSet::new(), HashSet::new());
        for (_, _, r) in all {
            if r["authenticated_entity"]["id"] == shared.credential_id.as_str() {
                consumers.insert(r["consumer"]["custom_id"].as_str().unwrap().to_owned());
                hosts.insert(r["client_ip"].as_str().unwrap().to_owned());
            }
        }
        (consumers, hosts)
    };
    let (consumers, hosts) = users_of(records(fleet.week()));
    assert_eq!(consumers, HashSet::from([shared.agent.id.clone()]));
    assert!(hosts.len() <= 2 && shared.hosts.iter().all(|host| !hosts.contains(host)));
    let (consumers, hosts) = users_of(records(fleet.shared_credential(NOW)));
    assert_eq!(consumers, HashSet::from([shared.agent.id.clone(), shared.other_agent.id.clone()]));
    assert!(shared.hosts.iter().all(|host| hosts.contains(host)) && hosts.len() == 6);
}

#[test]
fn one_agent_is_ownerless_with_a_token_for_ever() {
    let fleet = Fleet::new(1, NOW);
    let Facts { never_expires, .. } = fleet.facts();
    let mut found = HashSet::new();
    for (_, source, record) in records(fleet.week().chain(fleet.never_expires(NOW))) {
        if source == Source::Envoy && (record["jwt_payload"]["exp"].is_null() || record["agent_owner"] == "-") {
            let claims = &record["jwt_payload"];
            assert!(claims["exp"].is_null() && record["agent_owner"] == "-");
            found.insert((claims["azp"].to_string(), claims["jti"].to_string(), claims["iat"].as_i64().unwrap()));
        }
    }
    let NeverExpires { agent, token_id, issued_secs } = never_expires;
    assert_eq!(found, HashSet::from([(format!("{:?}", agent.id), format!("{token_id:?}"), issued_secs)]));
    assert_eq!((NOW / 1_000_000 - issued_secs) / 86_400, 400);
}
