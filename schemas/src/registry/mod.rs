//! The registry: the agents that somebody declared, and the names that one agent has in several systems.
//!
//! A name leads to at most one agent of a tenant and source, since a file in which two agents claim one is refused
//! ([`Registry::parse`]). So the order of agents and aliases in the file means nothing, one look finds the agent, and an
//! alias never leads to another alias. Beside names the file says what an agent is for: intent that was declared beforehand.

mod intent;
mod read;

use std::collections::HashMap;

pub use intent::Intent;

use crate::problem::Problem;

/// So many digits of the file's digest tell its versions apart.
const VERSION_DIGITS: usize = 12;

/// One declared agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// What events call it, whatever a vendor calls it.
    pub id: String,
    pub name: Option<String>,
    /// The person or team accountable for it.
    pub owner: Option<String>,
    /// The tenant that it belongs to; none: it is known in every tenant.
    pub tenant: Option<String>,
    /// What it is for; events say it where the record does not.
    pub purpose: Option<String>,
    /// The last UTC day on which it is meant to act: days since 1970-01-01.
    pub expires: Option<i32>,
    /// No order may stop it unattended.
    pub protected: bool,
    /// The work that it is meant to do.
    pub intended: Vec<Intent>,
    pub aliases: Vec<Alias>,
}

impl Agent {
    /// Whether the call is work that it is meant to do; `resources` is empty where the record names none.
    pub fn intends(&self, action: &str, resources: &str) -> bool {
        self.intended.iter().any(|intent| intent.covers(action, resources))
    }

    /// Whether it should have stopped acting before this time (µs UTC).
    pub fn is_expired(&self, time: i64) -> bool {
        self.expires.is_some_and(|last| crate::id::day(time) > last)
    }
}

/// A name that a system has for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The source in whose records it is a name of the agent; none: in every source.
    pub source: Option<String>,
    pub id: String,
}

/// All declared agents, by every name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    version: String,
    agents: Vec<Agent>,
    names: HashMap<String, Vec<Claim>>,
}

/// An agent's claim on a name.
#[derive(Clone, Debug)]
struct Claim {
    agent: usize,
    source: Option<String>,
    /// Whether the name is the agent's own id.
    own: bool,
    line: usize,
}

impl Registry {
    /// Reads a registry file; `file` names it in problems, `sources` are the sources that there are.
    pub fn parse(file: &str, text: &str, sources: &[&str]) -> Result<Registry, Vec<Problem>> {
        let version = crate::id::digest([text.as_bytes()])[..VERSION_DIGITS].to_owned();
        read::read(file, text, sources).map(|registry| Registry { version, ..registry })
    }

    /// Digest of the file's text.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The agent that records of `source` call `name`.
    pub fn find(&self, tenant: &str, source: &str, name: &str) -> Option<&Agent> {
        let claims = self.names.get(name)?;
        let here = |claim: &&Claim| claim.source.as_deref().is_none_or(|of| of == source) && self.knows(claim, tenant);
        claims.iter().find(here).map(|claim| &self.agents[claim.agent])
    }

    /// The agents that any source calls `name`.
    pub fn named<'a>(&'a self, tenant: &'a str, name: &str) -> impl Iterator<Item = &'a Agent> + Clone + use<'a> {
        let claims = self.names.get(name).map_or(&[][..], Vec::as_slice);
        claims.iter().filter(move |claim| self.knows(claim, tenant)).map(|claim| &self.agents[claim.agent])
    }

    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    fn knows(&self, claim: &Claim, tenant: &str) -> bool {
        self.agents[claim.agent].tenant.as_deref().is_none_or(|of| of == tenant)
    }

    /// Adds an agent's claim on a name, or says who has it already.
    fn claim(&mut self, name: &str, claim: Claim) -> Result<(), Claim> {
        let meets = |a: Option<&str>, b: Option<&str>| a.is_none() || b.is_none() || a == b;
        let claims = self.names.entry(name.to_owned()).or_default();
        let other = claims.iter().find(|other| {
            let (own, its) = (&self.agents[claim.agent], &self.agents[other.agent]);
            other.agent != claim.agent
                && meets(own.tenant.as_deref(), its.tenant.as_deref())
                && meets(claim.source.as_deref(), other.source.as_deref())
        });
        match other {
            Some(other) => Err(other.clone()),
            None => {
                claims.push(claim);
                Ok(())
            }
        }
    }
}
