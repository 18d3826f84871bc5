//! Who is asking, derived from a request's headers by a declared rule: the same that the gateway's log will say did it.
//!
//! A rule is, for each fact, a list of places; the first that holds something decides.
//!
//! | place | reads |
//! | --- | --- |
//! | `header:NAME` | a header |
//! | `jwt:CLAIM` | a claim of the bearer token in `authorization`; `a.b` is a claim within a claim |
//! | `payload:HEADER:CLAIM` | a claim of a token's payload that the gateway passes on in a header, in base64 |
//! | `xfcc:KEY` | a part (`URI`, `Hash`) of `x-forwarded-client-cert` |
//!
//! Nothing here is verified: the gateway checks the token before it asks, as it does for its own log. A name that the gateway
//! does not vouch for (a header that a client may set) must not stand in a rule.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::target::{Asker, GRANTS_MAX};

/// How a gateway's requests tell who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// The last part of the door's path. `envoy`, `nginx`, `kong` and `opa` are there without being configured.
    pub name: String,
    /// Places of the agent's id, the first that holds something decides: `header:NAME`, `jwt:CLAIM`, `payload:HEADER:CLAIM`,
    /// `xfcc:KEY`.
    pub agent: Vec<String>,
    pub instance: Vec<String>,
    pub credential: Vec<String>,
    pub token: Vec<String>,
    pub user: Vec<String>,
    pub client: Vec<String>,
    /// Places whose claims are the grant; the chain of `act` of a token that is read adds to it.
    pub grant: Vec<String>,
    /// Whether a request that says nothing of who asks is refused.
    pub refuse_unknown: bool,
}

/// A token is not read beyond this, nor deeper than so many actors.
const TOKEN_BYTES_MAX: usize = 16_384;

fn places(places: &[&str]) -> Vec<String> {
    places.iter().map(|place| (*place).to_owned()).collect()
}

impl Gateway {
    /// The rules that are there without being configured; each is the rule of the gateway's mapping file.
    pub fn built_in() -> Vec<Gateway> {
        let clients = ["jwt:azp", "jwt:client_id", "jwt:appid", "jwt:cid"];
        let with = |name: &str, before: &[&str], clients: &[&str], after: &[&str]| Gateway {
            name: name.into(),
            agent: places(&[before, clients, after].concat()),
            token: places(&["jwt:jti"]),
            user: places(&["header:x-authenticated-userid", "jwt:sub"]),
            client: places(clients),
            grant: places(&["jwt:grant_id"]),
            ..Gateway::default()
        };
        let consumer = ["header:x-consumer-custom-id", "header:x-consumer-username", "header:x-consumer-id"];
        let credential = places(&["header:x-credential-identifier"]);
        let after = ["header:x-client-id"];
        let nginx = ["jwt:azp", "jwt:client_id", "jwt:cid", "jwt:appid"];
        vec![
            Gateway { user: places(&["jwt:sub"]), ..with("envoy", &[], &clients, &["xfcc:URI"]) },
            Gateway { user: places(&["jwt:sub"]), ..with("nginx", &[], &nginx, &[]) },
            Gateway { credential: credential.clone(), ..with("kong", &consumer, &clients, &after) },
            Gateway { credential, ..with("opa", &consumer, &clients, &after) },
        ]
    }

    /// What is wrong with the rule.
    pub(crate) fn problem(&self) -> Option<String> {
        let Gateway { name, agent, instance, credential, token, user, client, grant, .. } = self;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Some("name: needs letters, digits, `-` and `_` only".into());
        }
        let all = [agent, instance, credential, token, user, client, grant];
        let bad = |place: &&String| match place.split_once(':') {
            Some(("header" | "jwt" | "xfcc", name)) => name.is_empty(),
            Some(("payload", rest)) => {
                rest.split_once(':').is_none_or(|(header, claim)| header.is_empty() || claim.is_empty())
            }
            _ => true,
        };
        let found = all.into_iter().flatten().find(bad);
        found.map(|place| format!("`{place}` is no place: header:NAME, jwt:CLAIM, payload:HEADER:CLAIM or xfcc:KEY"))
    }

    /// Who asks, by these headers.
    pub fn asker(&self, headers: &HeaderMap) -> Asker {
        // Read once: most places of a rule are claims of one token.
        let token = bearer(headers).and_then(|token| payload(token.split('.').nth(1)?));
        let first = |places: &[String]| places.iter().find_map(|place| read(place, headers, token.as_ref()));
        let agent = first(&self.agent);
        // A token of the client's own has the client as its subject: that is no user.
        let user = first(&self.user).filter(|user| Some(user) != agent.as_ref());
        let grant = first(&self.grant);
        let chain = token.iter().flat_map(actors);
        Asker {
            agent,
            instance: first(&self.instance),
            credential: first(&self.credential),
            token: first(&self.token),
            user,
            client: first(&self.client),
            grants: grant.into_iter().chain(chain).take(GRANTS_MAX).collect(),
        }
    }

    /// Who asks, by OPA's input: the facts themselves, or the headers that Kong's and Envoy's plugins pass on.
    pub fn asker_of_input(&self, input: &Value) -> Asker {
        let headers = ["/request/http/headers", "/attributes/request/http/headers"];
        let Some(headers) = headers.iter().find_map(|pointer| input.pointer(pointer)?.as_object()) else {
            return facts(input);
        };
        let text = |value: &Value| value.as_str().or_else(|| value.get(0)?.as_str()).map(str::to_owned);
        let pair = |(name, value): (&String, &Value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(&text(value)?).ok()?))
        };
        let asker = self.asker(&headers.iter().filter_map(pair).collect());
        let consumer = ["custom_id", "username", "id"].iter().find_map(|name| text(&input["consumer"][name]));
        Asker { agent: consumer.or(asker.agent.clone()), ..asker }
    }
}

/// Each fact by itself: what else the input holds, or holds in another form, must not hide who asks.
fn facts(input: &Value) -> Asker {
    let grants = input["grants"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Asker {
        agent: claim(input, "agent"),
        instance: claim(input, "instance"),
        credential: claim(input, "credential"),
        token: claim(input, "token"),
        user: claim(input, "user"),
        client: claim(input, "client"),
        grants: grants.take(GRANTS_MAX).map(str::to_owned).collect(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty() && *text != "-")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = header(headers, "authorization")?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_BYTES_MAX).then(|| token.trim())
}

fn payload(text: &str) -> Option<Value> {
    let text = text.trim_end_matches('=').as_bytes();
    let bytes = BASE64URL_NOPAD.decode(text).or_else(|_| BASE64_NOPAD.decode(text)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn claim(payload: &Value, name: &str) -> Option<String> {
    // A claim's name may hold dots itself: `https://example.com/agent`.
    let found = payload.get(name).or_else(|| name.split('.').try_fold(payload, |value, part| value.get(part)))?;
    match found {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Root first: the subject, then the nested actors from the innermost out.
fn actors(payload: &Value) -> Vec<String> {
    let mut chain = Vec::new();
    let mut actor = payload.get("act");
    while let Some(act) = actor.filter(|_| chain.len() < GRANTS_MAX) {
        chain.extend(claim(act, "sub").or_else(|| claim(act, "client_id")));
        actor = act.get("act");
    }
    chain.reverse();
    claim(payload, "sub").into_iter().chain(chain).collect()
}

/// What a place holds; `token` is the bearer token's payload.
fn read(place: &str, headers: &HeaderMap, token: Option<&Value>) -> Option<String> {
    let (kind, name) = place.split_once(':')?;
    match kind {
        "header" => header(headers, name).map(str::to_owned),
        "jwt" => claim(token?, name),
        "payload" => {
            let (from, name) = name.split_once(':')?;
            claim(&payload(header(headers, from).filter(|text| text.len() <= TOKEN_BYTES_MAX)?)?, name)
        }
        "xfcc" => {
            let first = header(headers, "x-forwarded-client-cert")?.split(',').next()?;
            let parts = first.split(';').filter_map(|part| part.split_once('='));
            let mut of_key = parts.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            of_key.next().map(|(_, value)| value.trim_matches('"').to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn token(payload: &str) -> String {
        format!("Bearer e30.{}.sig", BASE64URL_NOPAD.encode(payload.as_bytes()))
    }

    fn rule(name: &str) -> Gateway {
        Gateway::built_in().into_iter().find(|rule| rule.name == name).expect("it is built in")
    }

    #[test]
    fn a_token_tells_agent_user_and_chain() {
        let authorization =
            token(r#"{"azp":"billing","sub":"ann","jti":"j1","act":{"sub":"billing","act":{"sub":"planner"}}}"#);
        let asker = rule("envoy").asker(&headers(&[("authorization", &authorization)]));
        assert_eq!(
            (asker.agent.as_deref(), asker.user.as_deref(), asker.token.as_deref()),
            (Some("billing"), Some("ann"), Some("j1"))
        );
        assert_eq!(asker.grants, ["ann", "planner", "billing"]);
        let own =
            rule("envoy").asker(&headers(&[("authorization", &token(r#"{"client_id":"billing","sub":"billing"}"#))]));
        assert_eq!((own.agent.as_deref(), own.user), (Some("billing"), None));
    }

    #[test]
    fn the_first_place_that_holds_something_decides() {
        let both = headers(&[
            ("x-consumer-username", "billing"),
            ("x-consumer-custom-id", "0oa1"),
            ("authorization", "Basic x"),
        ]);
        assert_eq!(rule("kong").asker(&both).agent.as_deref(), Some("0oa1"));
        let certificate = headers(&[("x-forwarded-client-cert", "By=a;Hash=00;URI=spiffe://acme/billing,URI=other")]);
        assert_eq!(rule("envoy").asker(&certificate).agent.as_deref(), Some("spiffe://acme/billing"));
        assert!(rule("envoy").asker(&headers(&[("authorization", "Bearer nonsense")])).is_nobody());
    }

    #[test]
    fn what_else_an_input_holds_does_not_hide_who_asks() {
        let input = serde_json::json!({"agent": "billing", "method": "GET", "user": {"id": "ann"}, "grants": ["g", 1]});
        let asker = rule("opa").asker_of_input(&input);
        assert_eq!((asker.agent.as_deref(), asker.user, asker.grants), (Some("billing"), None, vec!["g".to_owned()]));
    }

    #[test]
    fn a_rule_that_reads_nowhere_is_named() {
        assert!(Gateway::built_in().iter().all(|rule| rule.problem().is_none()));
        let bad = Gateway { name: "x".into(), agent: vec!["cookie:a".into()], ..Gateway::default() };
        assert!(bad.problem().expect("is wrong").contains("cookie:a"));
    }
}
