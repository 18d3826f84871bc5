//! What the operator says about inventory polls. Everything is checked by [`Config::problems`] before anything runs; secrets
//! are read from their files at each run, so that a changed one counts without a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::plan::Plan;
use super::provider::{self, Provider};
use crate::mapping::nearest;

/// Polls of what identity providers and gateways hold: clients, credentials, grants. See [inventory.md](inventory.md).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is polled.
    pub polls: Vec<Poll>,
    /// A larger answer fails the run.
    pub page_bytes_max: usize,
    /// Requests of one run; one that needs more fails.
    pub requests_max: u64,
    /// Items of one run; one that finds more fails.
    pub items_max: usize,
    /// Bytes of all items of one run, which are in memory until the last is there. One poll runs at a time.
    pub run_bytes_max: usize,
    /// Longest time for one answer.
    pub request_secs: u64,
    /// Longest time for one run.
    pub run_secs: u64,
    /// How often a request is repeated after 429, 5xx or no answer.
    pub retries_max: u32,
    /// Pause before the first repeat where the provider names none; each further one is twice as long.
    pub retry_pause_ms: u64,
    /// A provider that asks for a longer pause (`Retry-After`) fails the run.
    pub retry_after_secs_max: u64,
    /// A failed run is tried again after this time, or after the poll's interval where that is shorter.
    pub failed_retry_secs: u64,
}

/// One provider's account, realm or gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// Name of the poll; its snapshots carry it, so keep it.
    pub name: String,
    /// `auth0`, `aws`, `entra`, `keycloak`, `kong`, `okta`, or `generic`.
    pub provider: String,
    /// Tenant that the rows belong to.
    pub tenant: String,
    /// URL before all paths. Only its host is called, over `https` (`http` on loopback only).
    pub base_url: String,
    /// File that holds the token; for `aws` one in the form of `~/.aws/credentials`.
    pub token_file: Option<PathBuf>,
    /// Where a token is fetched for each run, by OAuth 2.0 client credentials.
    pub oauth: Option<OAuth>,
    /// Values for `{name}` in the provider's paths, such as Keycloak's `realm`.
    pub parameters: BTreeMap<String, String>,
    /// Only these lists of the provider, and those that they need. Empty: all.
    pub only: Vec<String>,
    /// How often, in `muster serve`; 0 counts as a day.
    pub interval_secs: u64,
    /// The provider itself, declared here, where `provider` is `generic`.
    pub generic: Option<Provider>,
}

/// An OAuth 2.0 token endpoint (RFC 6749 section 4.4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth {
    /// `https`; `http` on loopback only.
    pub token_url: String,
    pub client_id: String,
    /// File that holds the client's secret.
    pub client_secret_file: PathBuf,
    /// Scope asked for, where the provider wants one.
    pub scope: Option<String>,
    /// Audience asked for, where the provider wants one.
    pub audience: Option<String>,
}

const DAY_SECS: u64 = 86_400;
const INTERVAL_SECS_MIN: u64 = 60;

impl Default for Config {
    fn default() -> Self {
        Config {
            polls: Vec::new(),
            page_bytes_max: 16 << 20,
            requests_max: 20_000,
            items_max: 500_000,
            run_bytes_max: 256 << 20,
            request_secs: 60,
            run_secs: 3600,
            retries_max: 5,
            retry_pause_ms: 1000,
            retry_after_secs_max: 300,
            failed_retry_secs: 600,
        }
    }
}

impl Config {
    /// All that is wrong, each with the path of the key; empty when it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (fine, problem) in [
            (self.page_bytes_max >= 1 << 10, "page_bytes_max: must be at least 1 KiB"),
            (self.run_bytes_max >= self.page_bytes_max, "run_bytes_max: must be at least page_bytes_max"),
            (self.requests_max >= 1, "requests_max: must be at least 1"),
            (self.items_max >= 1, "items_max: must be at least 1"),
            (self.request_secs >= 1, "request_secs: must be at least 1"),
            (self.run_secs >= self.request_secs, "run_secs: must be at least request_secs"),
            (self.retries_max <= 20, "retries_max: must be at most 20"),
            (self.failed_retry_secs >= 1, "failed_retry_secs: must be at least 1"),
        ] {
            if !fine {
                problems.push(problem.to_owned());
            }
        }
        for (i, poll) in self.polls.iter().enumerate() {
            let same = |earlier: &Poll| earlier.name == poll.name && earlier.tenant() == poll.tenant();
            if self.polls[..i].iter().any(same) {
                problems.push(format!("polls[{i}].name: `{}` is taken", poll.name));
            }
            problems.extend(poll.problems().into_iter().map(|problem| format!("polls[{i}].{problem}")));
        }
        problems
    }
}

impl Poll {
    pub fn tenant(&self) -> &str {
        if self.tenant.is_empty() { "default" } else { &self.tenant }
    }

    pub fn interval_secs(&self) -> u64 {
        if self.interval_secs == 0 { DAY_SECS } else { self.interval_secs }
    }

    /// The provider's declaration.
    pub fn declaration(&self) -> Result<Provider, String> {
        match (&self.generic, self.provider.as_str()) {
            (Some(generic), "generic") => Ok(generic.clone()),
            (None, "generic") => Err("generic: the provider is not declared".into()),
            (Some(_), _) => Err("generic: only where `provider` is `generic`".into()),
            (None, name) => provider::built_in(name).ok_or_else(|| {
                format!("provider: there is no `{name}`{}", nearest(name, provider::names().chain(["generic"])))
            }),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.name.is_empty() {
            problems.push("name: is missing".into());
        }
        problems.extend(url_problem(&self.base_url).map(|problem| format!("base_url: {problem}")));
        if self.interval_secs() < INTERVAL_SECS_MIN {
            problems.push(format!("interval_secs: must be at least {INTERVAL_SECS_MIN}"));
        }
        if self.token_file.is_some() && self.oauth.is_some() {
            problems.push("token_file: only one of `token_file` and `oauth` can be used".into());
        }
        if let Some(oauth) = &self.oauth {
            problems.extend(url_problem(&oauth.token_url).map(|problem| format!("oauth.token_url: {problem}")));
            if oauth.client_id.is_empty() || oauth.client_secret_file.as_os_str().is_empty() {
                problems.push("oauth: `client_id` and `client_secret_file` are needed".into());
            }
        }
        match self.declaration() {
            Err(problem) => problems.push(problem),
            Ok(provider) => {
                if provider.auth.sign.is_some() && self.token_file.is_none() {
                    problems.push("token_file: is needed to sign requests".into());
                }
                let missing = provider.parameters.iter().filter(|name| !self.parameters.contains_key(*name));
                problems.extend(missing.map(|name| format!("parameters.{name}: is missing")));
                problems.extend(Plan::new(&provider, &self.only).err().unwrap_or_default());
            }
        }
        problems
    }
}

/// What is wrong with a URL that tokens are sent to.
fn url_problem(text: &str) -> Option<String> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(error.to_string()),
    };
    let loopback = match url.host() {
        None => return Some("has no host".into()),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Some(format!("`{}` is not allowed: use https (http on loopback only)", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must not hold a user name or password".into());
    }
    (url.query().is_some() || url.fragment().is_some()).then(|| "must not have a query or fragment".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_with_a_poll_is_named() {
        let poll = Poll { provider: "octa".into(), base_url: "http://idp.example".into(), ..Poll::default() };
        let problems = Config { polls: vec![poll], ..Config::default() }.problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[1].contains("use https"), "{problems:?}");
        assert!(problems[2].contains("`okta`"), "{problems:?}");
        for (url, fine) in [
            ("https://idp.example/auth", true),
            ("http://127.0.0.1:8001", true),
            ("http://[::1]:8001", true),
            ("http://127.0.0.1.example", false),
            ("https://a:b@idp.example", false),
            ("ftp://localhost", false),
            ("/x", false),
        ] {
            assert_eq!(url_problem(url).is_none(), fine, "{url}");
        }
    }

    #[test]
    fn a_provider_can_be_declared_in_configuration() {
        let text = r#"
            [[polls]]
            name = "own"
            provider = "generic"
            base_url = "https://api.example"
            [[polls.generic.lists]]
            name = "bots"
            path = "/bots"
            items = "data.bots"
            paging = { kind = "cursor", path = "data.next", parameter = "cursor" }
            [[polls.generic.lists.rows]]
            kind = "client"
            columns = { item_id = "id", agent_id = "id", owner = { take = "owner.mail", empty = "no_owner" } }
        "#;
        let config: Config = toml::from_str(text).expect("is read");
        assert_eq!(config.problems(), Vec::<String>::new());
        assert_eq!((config.polls[0].tenant(), config.polls[0].interval_secs()), ("default", 86_400));
    }
}
