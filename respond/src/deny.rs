//! The deny list: who is stopped, answered from memory. A gateway asks it in its hot path.
//!
//! It is a view of the orders that stand; the control log makes it again at start. `version` is a position in that log, so that
//! it grows with every change and across restarts, and an `ETag` never names two lists. A tenant sees its own entries only.
//! A gateway knows an agent by a name of its own: where the registry joins names, any of them finds the entry, and the list
//! tells them all. A name that two agents have in two sources stops the request if either is stopped. A protected agent is
//! never stopped, whatever the entry is about. Every change goes to those who follow the list, in order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::body::Bytes;
use schemas::Registry;
use schemas::registry::Agent;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::order::{Order, Target};
use crate::target::Asker;

/// Changes that a follower may be behind before it is sent the whole list again.
const CHANGES_MAX: usize = 1024;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    pub order_id: String,
    pub since: String,
    pub expires_at: String,
    pub reason: String,
    /// Since when nothing should get through.
    #[serde(skip)]
    pub(crate) effective_at: i64,
}

/// A change of one tenant's list.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) tenant: String,
    pub(crate) version: u64,
    pub(crate) entry: Arc<Entry>,
    /// Added, or taken off.
    pub(crate) added: bool,
}

#[derive(Default)]
struct List {
    version: u64,
    entries: HashMap<Target, Vec<Arc<Entry>>>,
    /// The list as JSON, made when it is first asked for after a change.
    body: OnceLock<Bytes>,
}

pub struct DenyList {
    protected: HashSet<String>,
    /// `None` once followers are to go home.
    changes: RwLock<Option<broadcast::Sender<Change>>>,
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
    /// Ids that are let through whatever the entries say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    protected: Vec<&'a str>,
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
    /// An empty list that never stops the agents of these ids.
    pub(crate) fn protecting(protected: &[String]) -> DenyList {
        DenyList {
            protected: protected.iter().cloned().collect(),
            changes: RwLock::new(Some(broadcast::channel(CHANGES_MAX).0)),
            lists: RwLock::default(),
            version_min: AtomicU64::new(0),
            registry: OnceLock::new(),
        }
    }

    /// Makes the list say what `order` says as of the control log's position `version`.
    pub(crate) fn apply(&self, order: &Order, version: u64) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let list = lists.entry(order.tenant.clone()).or_default();
        let entries = list.entries.entry(order.target.clone()).or_default();
        let at = entries.iter().position(|entry| entry.order_id == order.order_id);
        let (entry, added) = match (at, order.denies()) {
            // The next layer begins to count anew.
            (Some(at), true) => {
                if order.effective_at.is_some_and(|effective_at| effective_at != entries[at].effective_at) {
                    entries[at] = Arc::new(entry(order));
                }
                return;
            }
            (None, true) => {
                entries.push(Arc::new(entry(order)));
                (entries[entries.len() - 1].clone(), true)
            }
            (Some(at), false) => (entries.remove(at), false),
            (None, false) => {
                if entries.is_empty() {
                    list.entries.remove(&order.target);
                }
                return;
            }
        };
        if entries.is_empty() {
            list.entries.remove(&order.target);
        }
        list.version = version;
        list.body = OnceLock::new();
        if let Some(changes) = self.changes.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Nobody following is no failure.
            let _ = changes.send(Change { tenant: order.tenant.clone(), version, entry, added });
        }
    }

    /// Every change from now on, of every tenant; `None` where nobody may follow any more.
    pub(crate) fn follow(&self) -> Option<broadcast::Receiver<Change>> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(broadcast::Sender::subscribe)
    }

    /// Sends every follower home: the process is about to end.
    pub fn stop_following(&self) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether `name` is a name of an agent that configuration or the registry protects, or a protected id of another kind.
    pub(crate) fn protects(&self, tenant: &str, name: &str) -> bool {
        let listed = |id: &str| self.protected.contains(id);
        let mut names = self.registry.get().into_iter().flat_map(|registry| registry.named(tenant, name));
        listed(name)
            || names.any(|agent| {
                agent.protected || listed(&agent.id) || agent.aliases.iter().any(|alias| listed(&alias.id))
            })
    }

    /// Whether any agent of the tenant is protected.
    pub(crate) fn protects_any(&self, tenant: &str) -> bool {
        !self.protected.is_empty() || self.protected_agents(tenant).next().is_some()
    }

    /// Agents of the tenant that the registry protects.
    fn protected_agents(&self, tenant: &str) -> impl Iterator<Item = &Agent> {
        let here = move |agent: &&Agent| agent.protected && agent.tenant.as_deref().is_none_or(|of| of == tenant);
        self.registry.get().into_iter().flat_map(|registry| registry.agents()).filter(here)
    }

    /// The names that the sources have for what `name` names: source and name.
    pub(crate) fn names(&self, tenant: &str, name: &str) -> Vec<(String, String)> {
        let known = self.registry.get().into_iter().flat_map(|registry| registry.named(tenant, name));
        let aliases = known.flat_map(|agent| &agent.aliases);
        aliases.filter_map(|alias| Some((alias.source.clone()?, alias.id.clone()))).collect()
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

    pub(crate) fn raise(&self, version_min: u64) {
        self.version_min.store(version_min, Ordering::SeqCst);
    }

    /// An entry that stops this asker of `tenant`, if one does.
    pub fn check(&self, tenant: &str, asker: &Asker) -> Option<Arc<Entry>> {
        self.find(tenant, asker, |entries| entries.first().cloned().into_iter().collect(), true).into_iter().next()
    }

    /// Every entry that stops this asker.
    pub(crate) fn matches(&self, tenant: &str, asker: &Asker) -> Vec<Arc<Entry>> {
        self.find(tenant, asker, <[_]>::to_vec, false)
    }

    fn find(
        &self,
        tenant: &str,
        asker: &Asker,
        take: impl Fn(&[Arc<Entry>]) -> Vec<Arc<Entry>>,
        first: bool,
    ) -> Vec<Arc<Entry>> {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = lists.get(tenant).filter(|list| !list.entries.is_empty()) else { return Vec::new() };
        let agent = asker.agent.as_deref();
        if agent.is_some_and(|agent| self.protects(tenant, agent)) {
            return Vec::new();
        }
        let known = agent.and_then(|name| Some(self.registry.get()?.named(tenant, name))).into_iter().flatten();
        let names: Vec<&str> = agent.into_iter().chain(known.map(|known| known.id.as_str())).collect();
        let mut found: Vec<Arc<Entry>> = Vec::new();
        for target in asker.targets(&names) {
            for entry in list.entries.get(&target).map(|entries| take(entries)).into_iter().flatten() {
                if found.iter().all(|other| other.order_id != entry.order_id) {
                    found.push(entry);
                }
            }
            if first && !found.is_empty() {
                break;
            }
        }
        found
    }

    /// Targets of all tenants that are denied.
    pub fn targets(&self) -> usize {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists.values().map(|list| list.entries.len()).sum()
    }

    /// Whether no tenant has an entry.
    pub(crate) fn is_empty(&self) -> bool {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        lists.values().all(|list| list.entries.is_empty())
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
        let listed = self.protected.iter().map(String::as_str);
        let mut protected: Vec<&str> = listed.chain(self.protected_agents(tenant).map(|agent| &*agent.id)).collect();
        protected.sort_unstable();
        protected.dedup();
        let body = render(version, now, entries, protected, &|agent| self.aliases(tenant, agent));
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(tenant).filter(|list| self.version_of(Some(list)) == version) {
            return (version, list.body.get_or_init(|| body).clone());
        }
        (version, body)
    }
}

fn render<'a>(
    version: u64,
    now: i64,
    mut entries: Vec<Arc<Entry>>,
    protected: Vec<&'a str>,
    aliases: &dyn Fn(&str) -> Vec<&'a str>,
) -> Bytes {
    entries.sort_by(|a, b| (a.kind, &a.id, &a.order_id).cmp(&(b.kind, &b.id, &b.order_id)));
    let listed = |entry: &'_ Arc<Entry>| {
        let agent = entry.agent.as_deref().or((entry.kind == "agent").then_some(&entry.id));
        agent.map_or_else(Vec::new, aliases)
    };
    let entries = entries.iter().map(|entry| Listed { entry, aliases: listed(entry) }).collect();
    let body = Body { version, generated_at: rfc3339(now), entries, protected };
    Bytes::from(serde_json::to_vec(&body).expect("texts and numbers are JSON"))
}

fn entry(order: &Order) -> Entry {
    let (agent, user, instance) = match &order.target {
        Target::AgentUser { agent, user } => (Some(agent.clone()), Some(user.clone()), None),
        Target::Instance { agent, instance } => (Some(agent.clone()), None, Some(instance.clone())),
        _ => (None, None, None),
    };
    Entry {
        kind: order.target.kind(),
        id: order.target.id(),
        agent,
        user,
        instance,
        order_id: order.order_id.clone(),
        since: rfc3339(order.requested_at),
        expires_at: rfc3339(order.expires_at),
        reason: order.reason.clone(),
        effective_at: order.effective_at.unwrap_or(order.requested_at),
    }
}

/// A time as people and other programs read it.
pub(crate) fn rfc3339(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
