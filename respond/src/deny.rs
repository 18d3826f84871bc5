//! The deny list: who is stopped, answered from memory. A gateway asks it in its hot path.
//!
//! It is a view of the orders that stand; the control log makes it again at start. `version` is a position in that log, so that
//! it grows with every change and across restarts, and an `ETag` never names two lists. A tenant sees its own entries only.
//! A gateway knows an agent by a name of its own: where the registry joins names, any of them finds the entry, and the list
//! tells them all. A name that two agents have in two sources stops the request if either is stopped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::body::Bytes;
use schemas::Registry;
use schemas::registry::Agent;
use serde::Serialize;

use crate::order::{Order, Target};

/// One reason why a target is denied; a target may have several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub kind: &'static str,
    pub id: String,
    /// Of an agent-user pair, each part alone: an id may hold a space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub order_id: String,
    pub since: String,
    pub expires_at: String,
    pub reason: String,
}

#[derive(Default)]
struct List {
    version: u64,
    entries: HashMap<Target, Vec<Arc<Entry>>>,
    /// The list as JSON, made when it is first asked for after a change.
    body: OnceLock<Bytes>,
}

#[derive(Default)]
pub struct DenyList {
    lists: RwLock<HashMap<String, List>>,
    /// No list has a lower version: where the control log ended at start.
    version_min: AtomicU64,
    registry: OnceLock<Registry>,
}

#[derive(Serialize)]
struct Body<'a> {
    version: u64,
    generated_at: String,
    entries: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// Other names of the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
}

impl DenyList {
    /// Makes the list say what `order` says as of the control log's position `version`.
    pub(crate) fn apply(&self, order: &Order, version: u64) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let listed = |list: &List| {
            let entries = list.entries.get(&order.target);
            entries.is_some_and(|entries| entries.iter().any(|entry| entry.order_id == order.order_id))
        };
        if lists.get(&order.tenant).is_some_and(listed) == order.denies() {
            return;
        }
        let list = lists.entry(order.tenant.clone()).or_default();
        if order.denies() {
            list.entries.entry(order.target.clone()).or_default().push(Arc::new(entry(order)));
        } else if let Some(entries) = list.entries.get_mut(&order.target) {
            entries.retain(|entry| entry.order_id != order.order_id);
            if entries.is_empty() {
                list.entries.remove(&order.target);
            }
        }
        list.version = version;
        list.body = OnceLock::new();
    }

    /// From now on agents are also found by their other names.
    pub fn know(&self, registry: Registry) {
        // Told once, at start, before anybody asks.
        let _ = self.registry.set(registry);
    }

    /// Version of the names that the list tells, for its tag; empty where there is no registry.
    pub(crate) fn names_version(&self) -> &str {
        self.registry.get().map_or("", Registry::version)
    }

    /// Whether the registry protects an agent that any source calls `name`.
    pub(crate) fn protects(&self, tenant: &str, name: &str) -> bool {
        self.registry.get().is_some_and(|registry| registry.named(tenant, name).any(|agent| agent.protected))
    }

    /// Whether the registry protects any agent of the tenant.
    pub(crate) fn protects_any(&self, tenant: &str) -> bool {
        let here = |agent: &Agent| agent.protected && agent.tenant.as_deref().is_none_or(|of| of == tenant);
        self.registry.get().is_some_and(|registry| registry.agents().iter().any(here))
    }

    pub(crate) fn raise(&self, version_min: u64) {
        self.version_min.store(version_min, Ordering::SeqCst);
    }

    /// The entry that stops a request of `tenant` with these names, if one does.
    pub fn check(
        &self,
        tenant: &str,
        agent: Option<&str>,
        credential: Option<&str>,
        user: Option<&str>,
    ) -> Option<Arc<Entry>> {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let entries = &lists.get(tenant)?.entries;
        let find = |target: Target| entries.get(&target).and_then(|entries| entries.first()).cloned();
        let own = |text: &str| text.to_owned();
        let known = agent.and_then(|name| Some(self.registry.get()?.named(tenant, name))).into_iter().flatten();
        let names = || agent.into_iter().chain(known.clone().map(|known| known.id.as_str()));
        let agent = names().find_map(|name| find(Target::Agent { agent: own(name) }));
        agent
            .or_else(|| credential.and_then(|credential| find(Target::Credential { credential: own(credential) })))
            .or_else(|| names().find_map(|name| find(Target::AgentUser { agent: own(name), user: own(user?) })))
    }

    /// Other names of an agent.
    fn aliases<'a>(&'a self, tenant: &'a str, agent: &str) -> Vec<&'a str> {
        let known = self.registry.get().into_iter().flat_map(|registry| registry.named(tenant, agent));
        let known = known.filter(|known| known.id == agent);
        known.flat_map(|known| known.aliases.iter().map(|alias| alias.id.as_str())).collect()
    }

    /// Targets of `tenant` that are denied.
    pub fn len(&self, tenant: &str) -> usize {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists.get(tenant).map_or(0, |list| list.entries.len())
    }

    /// The version of the tenant's list; it grows with every change.
    pub fn version(&self, tenant: &str) -> u64 {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        self.version_of(lists.get(tenant))
    }

    fn version_of(&self, list: Option<&List>) -> u64 {
        list.map_or(0, |list| list.version).max(self.version_min.load(Ordering::SeqCst))
    }

    /// The tenant's list as JSON, with its version.
    pub fn body(&self, tenant: &str, now: i64) -> (u64, Bytes) {
        let (version, entries) = {
            let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
            let list = lists.get(tenant);
            let version = self.version_of(list);
            if let Some(body) = list.and_then(|list| list.body.get()) {
                return (version, body.clone());
            }
            (version, list.map(|list| list.entries.values().flatten().cloned().collect()).unwrap_or_default())
        };
        // Not under the lock: a long list must not hold up the next order.
        let body = render(version, now, entries, &|agent| self.aliases(tenant, agent));
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(tenant).filter(|list| self.version_of(Some(list)) == version) {
            return (version, list.body.get_or_init(|| body).clone());
        }
        (version, body)
    }
}

fn render<'a>(version: u64, now: i64, mut entries: Vec<Arc<Entry>>, aliases: &dyn Fn(&str) -> Vec<&'a str>) -> Bytes {
    entries.sort_by(|a, b| (a.kind, &a.id, &a.order_id).cmp(&(b.kind, &b.id, &b.order_id)));
    let listed = |entry: &'_ Arc<Entry>| {
        let agent = entry.agent.as_deref().or((entry.kind == "agent").then_some(&entry.id));
        agent.map_or_else(Vec::new, aliases)
    };
    let entries = entries.iter().map(|entry| Listed { entry, aliases: listed(entry) }).collect();
    let body = Body { version, generated_at: rfc3339(now), entries };
    Bytes::from(serde_json::to_vec(&body).expect("texts and numbers are JSON"))
}

fn entry(order: &Order) -> Entry {
    let (agent, user) = match &order.target {
        Target::AgentUser { agent, user } => (Some(agent.clone()), Some(user.clone())),
        _ => (None, None),
    };
    Entry {
        kind: order.target.kind(),
        id: order.target.id(),
        agent,
        user,
        order_id: order.order_id.clone(),
        since: rfc3339(order.requested_at),
        expires_at: rfc3339(order.expires_at),
        reason: order.reason.clone(),
    }
}

/// A time as people and other programs read it.
pub(crate) fn rfc3339(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
