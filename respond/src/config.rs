//! What the operator may say about orders: policies, limits, and where the webhooks are.
//!
//! Everything is checked by [`Config::problems`] before anything runs. Secrets are not part of the text: a webhook names a file
//! or an environment variable, and the binary hands the resolved [`Secret`] in. Approvals by persons (mode `ask`) come later:
//! until then the word is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::webhook::Secret;

/// Orders against agents: when to ask for one, and what carries it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The first policy that matches an alert decides; an alert that none matches asks for nothing.
    pub policies: Vec<Policy>,
    /// Ids of agents and credentials that are never stopped, beside the agents that the registry protects. Names do not
    /// count: an agent can claim one.
    pub protected: Vec<String>,
    /// Orders a tenant's alerts may start in any 60 s; beyond that they are refused and somebody has to look.
    pub orders_per_minute_max: u32,
    /// Largest share of a tenant's active agents (seen in the last day or two) that may be stopped at once; one always may.
    /// 1: all of them.
    pub active_agents_share_max: f64,
    /// After this time an order expires and what can be undone is undone. At least 60.
    pub deny_secs: u64,
    /// Attempts at one switch before it is given up, at 0, 1, 2, 5, 10, 30 s and then every minute.
    pub attempts_max: u32,
    /// Receivers of signed webhooks; a policy names them in `switches`.
    pub webhooks: Vec<Webhook>,
    /// Hosts that may be called. Empty: those that the webhooks name.
    pub hosts_allowed: Vec<String>,
    /// Whether a host may resolve to a private or loopback address; only then may a URL be plain `http`.
    pub private_addresses_allowed: bool,
}

/// Which alert leads to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Name of the detector, or `*` for any.
    pub detector: String,
    /// Least severity of the alert.
    pub severity_min: Severity,
    pub mode: Mode,
    /// What is stopped.
    pub target: TargetKind,
    /// Switches called besides the deny list, by name.
    pub switches: Vec<String>,
}

/// How bad an alert would be, as `severity_id` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Informational = 1,
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Records what would be done, and does nothing.
    Observe,
    /// Does it.
    Act,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    Agent,
    Credential,
    /// One agent acting for one user.
    AgentUser,
}

/// A receiver of Standard Webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    pub name: String,
    /// `https`, or `http` where private addresses are allowed.
    pub url: String,
    /// File that holds the secret (`whsec_` and 24 to 64 bytes in base64).
    pub secret_file: Option<String>,
    /// Environment variable that holds the secret.
    pub secret_env: Option<String>,
    /// How long one call may take, in milliseconds, from 1 to 60,000.
    pub timeout_ms: u64,
    /// The secret itself, resolved by the binary; never read from or written to configuration.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            policies: vec![Policy::default()],
            protected: Vec::new(),
            orders_per_minute_max: 10,
            active_agents_share_max: 0.05,
            deny_secs: 3600,
            attempts_max: 30,
            webhooks: Vec::new(),
            hosts_allowed: Vec::new(),
            private_addresses_allowed: false,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            detector: "*".into(),
            severity_min: Severity::Medium,
            mode: Mode::Observe,
            target: TargetKind::Agent,
            switches: Vec::new(),
        }
    }
}

impl Default for Webhook {
    fn default() -> Self {
        let (name, url) = (String::new(), String::new());
        Webhook { name, url, secret_file: None, secret_env: None, timeout_ms: 15_000, secret: None }
    }
}

impl Config {
    /// All that is wrong, each with the path of the key; empty when it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(60..=31_536_000).contains(&self.deny_secs) {
            problems.push("deny_secs: must be between 60 and 31536000".into());
        }
        if !(0.0..=1.0).contains(&self.active_agents_share_max) {
            problems.push("active_agents_share_max: must be between 0 and 1".into());
        }
        if !(1..=1000).contains(&self.attempts_max) {
            problems.push("attempts_max: must be between 1 and 1000".into());
        }
        if self.orders_per_minute_max > 6000 {
            problems.push("orders_per_minute_max: must be at most 6000".into());
        }
        for (i, policy) in self.policies.iter().enumerate() {
            for name in &policy.switches {
                if !self.webhooks.iter().any(|webhook| webhook.name == *name) {
                    problems.push(format!("policies[{i}].switches: no switch is named `{name}`"));
                }
            }
        }
        for (i, webhook) in self.webhooks.iter().enumerate() {
            if self.webhooks[..i].iter().any(|earlier| earlier.name == webhook.name) {
                problems.push(format!("webhooks[{i}].name: `{}` is taken", webhook.name));
            }
            problems.extend(self.webhook_problems(webhook).into_iter().map(|text| format!("webhooks[{i}].{text}")));
        }
        problems
    }

    fn webhook_problems(&self, webhook: &Webhook) -> Vec<String> {
        let mut problems = Vec::new();
        if webhook.name.is_empty() {
            problems.push("name: is missing".into());
        }
        match Url::parse(&webhook.url) {
            Ok(url) => problems.extend(crate::outbound::url_problem(self, &url).map(|text| format!("url: {text}"))),
            Err(error) => problems.push(format!("url: {error}")),
        }
        if webhook.secret_file.is_some() == webhook.secret_env.is_some() && webhook.secret.is_none() {
            problems.push("secret_file: exactly one of `secret_file` and `secret_env` is needed".into());
        }
        if !(1..=60_000).contains(&webhook.timeout_ms) {
            problems.push("timeout_ms: must be between 1 and 60000".into());
        }
        problems
    }

    /// The policy that decides about an alert of this detector and severity.
    pub(crate) fn policy(&self, detector: &str, severity_id: i32) -> Option<&Policy> {
        let matches = |policy: &&Policy| {
            (policy.detector == "*" || policy.detector == detector) && severity_id >= policy.severity_min as i32
        };
        self.policies.iter().find(matches)
    }
}
