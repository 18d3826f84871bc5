//! Each built-in provider against answers in the form that its documentation shows: `<provider>.json` holds the answers,
//! and the rows that they become.

use serde_json::Value;

use super::{World, limits, said};

async fn check(provider: &str, text: &str, token: Option<&str>, parameters: &[(&str, &str)], header: (&str, &str)) {
    let file: Value = serde_json::from_str(text).unwrap();
    let world = World::new(file["answers"].as_array().unwrap()).await;
    if let Some(token) = token {
        std::fs::write(world.secret.path(), token).unwrap();
    }
    let mut poll = world.poll(provider);
    poll.parameters = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let snapshot = world.run(poll, limits()).await.unwrap_or_else(|error| panic!("{error}: {:#?}", world.requests()));
    let rows = world.rows();
    let (run, items) = rows.split_last().unwrap();
    let found: Vec<Value> = items.iter().map(said).collect();
    let expected = file["rows"].as_array().unwrap();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "\n{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{}", serde_json::to_string_pretty(&found).unwrap());
    assert_eq!(
        (run.kind.as_str(), run.outcome.as_deref(), run.items),
        ("run", Some("complete"), Some(items.len() as i64))
    );
    assert_eq!(snapshot.items, items.len());
    for row in &rows {
        assert_eq!((row.tenant.as_str(), &row.snapshot_id), ("acme", &snapshot.snapshot_id));
        let raw = row.raw.as_deref().unwrap_or("");
        assert!(!raw.contains("s3cret"), "{raw}");
    }
    assert_eq!(snapshot.masked, file["masked"].as_u64().unwrap());
    let requests = world.recorded.requests.lock().unwrap();
    for (request, headers, _) in requests.iter() {
        let value = headers.get(header.0).unwrap_or_else(|| panic!("{request} has no {}", header.0)).to_str().unwrap();
        assert!(value.starts_with(header.1), "{value}");
    }
}

#[tokio::test]
async fn auth0() {
    let file = include_str!("auth0.json");
    check("auth0", file, None, &[], ("authorization", "Bearer t0ken-of-the-test")).await;
}

#[tokio::test]
async fn okta() {
    check("okta", include_str!("okta.json"), None, &[], ("authorization", "SSWS t0ken-of-the-test")).await;
}

#[tokio::test]
async fn entra() {
    check("entra", include_str!("entra.json"), None, &[], ("authorization", "Bearer t0ken-of-the-test")).await;
}

#[tokio::test]
async fn keycloak() {
    let realm = [("realm", "acme")];
    check("keycloak", include_str!("keycloak.json"), None, &realm, ("authorization", "Bearer ")).await;
}

#[tokio::test]
async fn kong() {
    check("kong", include_str!("kong.json"), None, &[], ("kong-admin-token", "t0ken-of-the-test")).await;
}

#[tokio::test]
async fn aws() {
    let key =
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cret\naws_session_token = session\n";
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260504/us-east-1/iam/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=";
    check("aws", include_str!("aws.json"), Some(key), &[], ("authorization", signed)).await;
}
