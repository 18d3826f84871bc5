//! Whom an order stops, and who is asking: the two sides that the deny list and the evidence match.
//!
//! Whatever asks (a gateway's question, an event of the log) becomes an [`Asker`], and an asker says which targets would stop
//! it. So the deny list and verification cannot disagree about whom an order means. A client is looked for among the agent's
//! names too: in most logs the agent is the OAuth client.

use arrow::array::Array;
use schemas::table::{has, hops_at};
use schemas::{AlertRow, Events};
use serde::{Deserialize, Serialize};

use crate::config::TargetKind;

/// Whom an order stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    Agent {
        agent: String,
    },
    /// One run or deployment of an agent.
    Instance {
        agent: String,
        instance: String,
    },
    Credential {
        credential: String,
    },
    /// One token, by its `jti`.
    Token {
        token: String,
    },
    AgentUser {
        agent: String,
        user: String,
    },
    /// An OAuth client, whichever agent uses it.
    Client {
        client: String,
    },
    /// Everything that acts under this grant: by the grant's id, or with this principal in its chain of delegation.
    Delegation {
        grant: String,
    },
    /// Every agent of the tenant but the protected.
    Tenant,
}

/// An id longer than this names nothing.
const ID_BYTES_MAX: usize = 1000;

impl Target {
    /// What `alert` says about this kind of target; `None` where it says nothing.
    pub fn of(kind: TargetKind, alert: &AlertRow) -> Option<Target> {
        let agent = alert.agent_id.clone();
        match kind {
            TargetKind::Agent => agent.map(|agent| Target::Agent { agent }),
            TargetKind::Credential => alert.credential_id.clone().map(|credential| Target::Credential { credential }),
            TargetKind::AgentUser => {
                agent.zip(alert.user_id.clone()).map(|(agent, user)| Target::AgentUser { agent, user })
            }
        }
    }

    pub fn kind(&self) -> &'static str {
        self.parts().0
    }

    /// As table `orders` writes it.
    pub fn id(&self) -> String {
        let (_, first, second) = self.parts();
        if second.is_empty() { first.to_owned() } else { format!("{first} {second}") }
    }

    /// Kind and each name apart: an id with a space in it must not run into another pair.
    pub(crate) fn parts(&self) -> (&'static str, &str, &str) {
        match self {
            Target::Agent { agent } => ("agent", agent, ""),
            Target::Instance { agent, instance } => ("instance", agent, instance),
            Target::Credential { credential } => ("credential", credential, ""),
            Target::Token { token } => ("token", token, ""),
            Target::AgentUser { agent, user } => ("agent_user", agent, user),
            Target::Client { client } => ("client", client, ""),
            Target::Delegation { grant } => ("delegation", grant, ""),
            Target::Tenant => ("tenant", "", ""),
        }
    }

    /// The agent, where the target is one or a part of one.
    pub fn agent(&self) -> Option<&str> {
        match self {
            Target::Agent { agent } | Target::Instance { agent, .. } | Target::AgentUser { agent, .. } => Some(agent),
            _ => None,
        }
    }

    /// Whether it stops more than one agent, or nobody can say how many: two persons decide about that.
    pub fn is_wide(&self) -> bool {
        matches!(self, Target::Delegation { .. } | Target::Tenant)
    }

    /// What is wrong with it as a person wrote it.
    pub(crate) fn problem(&self) -> Option<String> {
        let (kind, first, second) = self.parts();
        let two = matches!(self, Target::Instance { .. } | Target::AgentUser { .. });
        let empty = (*self != Target::Tenant && first.is_empty()) || (two && second.is_empty());
        if empty {
            return Some(format!("a target of kind `{kind}` needs its id"));
        }
        (first.len().max(second.len()) > ID_BYTES_MAX).then(|| format!("an id is longer than {ID_BYTES_MAX} bytes"))
    }
}

/// Who asks to be let through, as far as the question says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    pub agent: Option<String>,
    pub instance: Option<String>,
    pub credential: Option<String>,
    pub token: Option<String>,
    pub user: Option<String>,
    pub client: Option<String>,
    /// The grant that it acts under, and the principals of its chain of delegation.
    pub grants: Vec<String>,
}

/// Grants looked at of one question: a longer chain is cut at its root's side last.
pub(crate) const GRANTS_MAX: usize = 16;

impl Asker {
    /// Who did the event at `row`.
    pub(crate) fn of(events: &Events<'_>, row: usize) -> Asker {
        let text = |column: &arrow::array::StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        let hops = if events.delegation.is_valid(row) { hops_at(events.delegation, row) } else { Vec::new() };
        let grant = text(events.grant_id);
        Asker {
            agent: text(events.agent_id),
            instance: text(events.agent_instance),
            credential: text(events.credential_id),
            token: text(events.token_id),
            user: text(events.user_id),
            client: text(events.agent_alias),
            grants: grant.into_iter().chain(hops.into_iter().map(|hop| hop.id)).take(GRANTS_MAX).collect(),
        }
    }

    /// Every target that would stop it, where `names` are the names that its agent has.
    pub(crate) fn targets<'a>(&'a self, names: &'a [&'a str]) -> impl Iterator<Item = Target> + 'a {
        let names = || names.iter().map(|name| (*name).to_owned());
        let of_agent = names().flat_map(move |agent| {
            let instance = self.instance.clone().map(|instance| Target::Instance { agent: agent.clone(), instance });
            let pair = self.user.clone().map(|user| Target::AgentUser { agent: agent.clone(), user });
            [Some(Target::Agent { agent }), instance, pair].into_iter().flatten()
        });
        let credential = self.credential.clone().map(|credential| Target::Credential { credential });
        let token = self.token.clone().map(|token| Target::Token { token });
        let clients = self.client.iter().cloned().chain(names());
        let grants = self.grants.iter().take(GRANTS_MAX).map(|grant| Target::Delegation { grant: grant.clone() });
        of_agent
            .chain(credential)
            .chain(token)
            .chain(clients.map(|client| Target::Client { client }))
            .chain(grants)
            .chain([Target::Tenant])
    }

    /// Whether it says anything at all about who it is.
    pub(crate) fn is_nobody(&self) -> bool {
        let Asker { agent, instance: _, credential, token, user: _, client, grants } = self;
        agent.is_none() && credential.is_none() && token.is_none() && client.is_none() && grants.is_empty()
    }
}

/// What the log itself says of an event: whether it came in late or by a door that may not act.
pub(crate) fn is_live(events: &Events<'_>, row: usize) -> bool {
    !has(events.flags, row, "backfill")
}
