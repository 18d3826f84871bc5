//! Snapshots: the whole state as bytes, and back.
//!
//! `MUSTERDT`, version (u16), blake3 of the rest, then postcard. Equal states give equal bytes: maps are written in order
//! of their keys. The caller stores the log position beside the snapshot. A snapshot that is damaged, of another version or
//! made under another hash key is refused; the state is then rebuilt from the log. A detector that is new since starts
//! with the default threshold and an empty memory, one that is gone is dropped: each
//! detector's memory is a column of its own, under its name and version.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::alert::tag;
use crate::barrier::Shards;
use crate::cold::Cold;
use crate::detectors::{About, Columns, DETECTORS, Notes, Shared, States};
use crate::engine::SHARDS;
use crate::hash::{Keyed, Map, Of, map};
use crate::shard::Shard;
use crate::symbol::Symbols;
use crate::tail::Tail;
use crate::tenant::{Campaign, Peers, Pending, Tenant};
use crate::{Config, Engine};

const MAGIC: &[u8; 8] = b"MUSTERDT";
const VERSION: u16 = 3;
const HEADER_BYTES: usize = 8 + 2 + 32;

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub enum RestoreError {
    /// Not a snapshot, or damaged.
    Damaged(String),
    /// Written by a version that this one does not read.
    Version(u16),
    /// Made under another `hash_key`: its fingerprints mean nothing here.
    OtherKey,
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RestoreError::Damaged(reason) => write!(f, "the detection snapshot is damaged: {reason}"),
            RestoreError::Version(version) => write!(f, "the detection snapshot has version {version}, not {VERSION}"),
            RestoreError::OtherKey => write!(f, "the detection snapshot was made under another hash key"),
        }
    }
}

impl std::error::Error for RestoreError {}

#[derive(Serialize, Deserialize)]
struct State {
    /// A fingerprint of a known text: equal under the same key only.
    key_check: u64,
    detectors: Vec<u32>,
    shards: Vec<ShardState>,
    tenants: Vec<(u64, TenantState)>,
    /// What each detector remembers: of the agents and tenants, in the order above, and the notes that wait.
    states: Columns,
    shared: Columns,
    notes: Columns,
}

#[derive(Default, Serialize, Deserialize)]
struct ShardState {
    symbols: Vec<(u64, String)>,
    agents: Vec<(u64, Agent)>,
    pending: Vec<(u64, Pending)>,
    holding: Vec<u64>,
    swept: i64,
    cold: Cold,
}

#[derive(Serialize, Deserialize)]
struct TenantState {
    all: Peers,
    cohorts: Vec<(u64, Peers)>,
    jobs: Vec<(u64, Peers)>,
    campaigns: Vec<(u64, Campaign)>,
    tails: Vec<Tail>,
}

impl Engine {
    /// The state as bytes, the same for the same state.
    pub fn snapshot(&self) -> Vec<u8> {
        self.snapshot_of(Shards::ALL, true)
    }

    /// A snapshot in which the other shards, or the tenants, are as in a new engine.
    pub fn snapshot_of(&self, shards: Shards, with_tenants: bool) -> Vec<u8> {
        let tenant = |tenant: &Tenant| TenantState {
            all: tenant.all.clone(),
            cohorts: sorted(&tenant.cohorts, Peers::clone),
            jobs: sorted(&tenant.jobs, Peers::clone),
            campaigns: sorted(&tenant.campaigns, Campaign::clone),
            tails: tenant.tails.clone(),
        };
        let shard = |shard: &Shard| ShardState {
            symbols: shard.symbols.rows(),
            agents: sorted(&shard.agents, |agent| Agent::clone(agent)),
            pending: waiting(&shard.pending),
            holding: shard.holding.clone(),
            swept: shard.swept,
            cold: shard.cold.clone(),
        };
        let of = |(number, one)| if shards.has(number) { shard(one) } else { ShardState::default() };
        let (shards, tenants): (Vec<ShardState>, _) = (
            self.shards.iter().enumerate().map(of).collect(),
            if with_tenants { sorted(&self.tenants, tenant) } else { Vec::new() },
        );
        let agents = shards.iter().flat_map(|shard| &shard.agents).map(|(_, agent)| &agent.states);
        let states = States::pack(&agents.collect::<Vec<_>>());
        let shared = tenants.iter().filter_map(|(key, _)| self.tenants.get(key)).map(|tenant| &tenant.shared);
        let shared = Shared::pack(&shared.collect::<Vec<_>>());
        let pending = shards.iter().flat_map(|shard| &shard.pending).map(|(_, pending)| &pending.notes);
        let notes = Notes::pack(&pending.collect::<Vec<_>>());
        let key_check = key_check(self.keyed);
        let state = State { key_check, detectors: detector_tags(), shards, tenants, states, shared, notes };
        let body = postcard::to_allocvec(&state).expect("the state is plain data");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&body).as_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// The engine as it was when `bytes` were made, under a configuration that may have changed since.
    pub fn restore(config: &Config, bytes: &[u8]) -> Result<Engine, RestoreError> {
        let damaged = |reason: &str| RestoreError::Damaged(reason.to_owned());
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if &header[..8] != MAGIC {
            return Err(damaged("it is something else"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        if blake3::hash(body).as_bytes()[..] != header[10..] {
            return Err(damaged("its checksum is wrong"));
        }
        let state: State = postcard::from_bytes(body).map_err(|e| RestoreError::Damaged(e.to_string()))?;
        let mut engine = Engine::new(config);
        if state.key_check != key_check(engine.keyed) {
            return Err(RestoreError::OtherKey);
        }
        if !state.is_sound() {
            return Err(damaged("its parts do not fit together"));
        }
        engine.fill(state);
        Ok(engine)
    }

    /// Takes these shards as they are in `other`.
    pub fn take_over(&mut self, shards: Shards, other: Engine) {
        let theirs = other.shards.into_iter().enumerate().zip(&mut self.shards);
        theirs.filter(|((number, _), _)| shards.has(*number)).for_each(|((_, theirs), mine)| *mine = theirs);
    }

    fn fill(&mut self, state: State) {
        let here = detector_tags();
        let was: Vec<Option<usize>> = here.iter().map(|tag| state.detectors.iter().position(|t| t == tag)).collect();
        let (same, config) = (here == state.detectors, &self.config);
        let tags = |columns: &Columns| columns.iter().map(|(tag, _)| *tag).collect::<Vec<_>>();
        let same_memory = tags(&state.states) == tags(&States::pack(&[]));
        let tail = |tails: &[Tail], (about, at): (&About, &Option<usize>)| {
            at.map_or_else(|| Tail::new((about.floor_bits)(config)), |at| tails[at].clone())
        };
        let agents = state.shards.iter().map(|shard| shard.agents.len()).sum();
        let pendings = state.shards.iter().map(|shard| shard.pending.len()).sum();
        let mut states = States::unpack(&state.states, agents).into_iter();
        let mut shared = Shared::unpack(&state.shared, state.tenants.len()).into_iter();
        let mut notes = Notes::unpack(&state.notes, pendings).into_iter();
        for (shard, saved) in self.shards.iter_mut().zip(state.shards) {
            shard.symbols = Symbols::restore(config.names_max.div_ceil(SHARDS), saved.symbols);
            shard.holding = saved.holding;
            shard.swept = saved.swept;
            // What was packed by other detectors cannot be read.
            shard.cold = if same && same_memory { saved.cold } else { Cold::new() };
            shard.agents = into_map(saved.agents, |mut agent: Agent| {
                agent.states = states.next().unwrap_or_default();
                if !same {
                    agent.open.iter_mut().for_each(|session| session.best = Default::default());
                }
                Box::new(agent)
            });
            shard.expect_ends(config);
            shard.pending = into_map(saved.pending, |mut pending: Pending| {
                pending.notes = notes.next().unwrap_or_default();
                if same { pending } else { pending.without_scores() }
            });
        }
        let tenants = state.tenants.into_iter().map(|(key, saved)| {
            let mut tenant = Tenant::new("", config);
            tenant.all = saved.all;
            tenant.cohorts = into_map(saved.cohorts, |peers| peers);
            tenant.jobs = into_map(saved.jobs, |peers| peers);
            tenant.campaigns = into_map(saved.campaigns, |campaign| campaign);
            tenant.tails = DETECTORS.iter().zip(&was).map(|new| tail(&saved.tails, new)).collect();
            tenant.shared = shared.next().unwrap_or_default();
            (key, tenant)
        });
        self.tenants = map();
        self.tenants.extend(tenants);
    }
}

impl State {
    /// Whether it can be used without a panic; the checksum already says that it is as it was written.
    fn is_sound(&self) -> bool {
        let detectors = self.detectors.len();
        let peers = |peers: &Peers| peers.habits.table.is_sound();
        self.shards.len() == SHARDS
            && self.shards.iter().all(|shard| {
                shard.agents.iter().all(|(_, agent)| agent.is_sound())
                    && shard.pending.iter().all(|(_, pending)| pending.is_sound(detectors))
            })
            && self.tenants.iter().all(|(_, tenant)| {
                tenant.tails.len() == detectors
                    && tenant.tails.iter().all(Tail::is_sound)
                    && peers(&tenant.all)
                    && tenant.cohorts.iter().chain(&tenant.jobs).all(|(_, group)| peers(group))
            })
    }
}

pub(crate) fn key_check(keyed: Keyed) -> u64 {
    keyed.of(Of::Tenant, 0, "muster snapshot")
}

pub(crate) fn detector_tags() -> Vec<u32> {
    DETECTORS.iter().map(|detector| tag(detector.name)).collect()
}

fn sorted<V, T>(map: &Map<V>, copy: impl Fn(&V) -> T) -> Vec<(u64, T)> {
    let mut rows: Vec<(u64, T)> = map.iter().map(|(key, value)| (*key, copy(value))).collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}

fn waiting(all: &Map<Pending>) -> Vec<(u64, Pending)> {
    let mut rows = sorted(all, Pending::clone);
    rows.retain(|(_, pending)| !pending.is_empty());
    rows
}

fn into_map<V, T>(rows: Vec<(u64, T)>, mut convert: impl FnMut(T) -> V) -> Map<V> {
    let mut all = map();
    all.extend(rows.into_iter().map(|(key, value)| (key, convert(value))));
    all
}
