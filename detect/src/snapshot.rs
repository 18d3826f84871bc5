//! Snapshots: the whole state as bytes, and back.
//!
//! `MUSTERDT`, version (u16), blake3 of the rest, then postcard. Equal states give equal bytes: maps are written in order
//! of their keys. The caller stores the log position beside the snapshot. A snapshot that is damaged, of another version or
//! made under another hash key is refused; the state is then rebuilt from the log. A detector that is new since starts
//! with the default threshold, one that is gone is dropped: the names are in it.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::alert::tag;
use crate::detectors::{DETECTORS, Detector};
use crate::hash::{Keyed, Map, Of, map};
use crate::symbol::{Symbol, Symbols};
use crate::tail::Tail;
use crate::tenant::{Peers, Pending, Tenant};
use crate::{Config, Engine};

const MAGIC: &[u8; 8] = b"MUSTERDT";
const VERSION: u16 = 1;
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
    symbols: Vec<(u64, Symbol)>,
    agents: Vec<(u64, Agent)>,
    tenants: Vec<(u64, TenantState)>,
}

#[derive(Serialize, Deserialize)]
struct TenantState {
    all: Peers,
    cohorts: Vec<(u64, Peers)>,
    tails: Vec<Tail>,
    pending: Pending,
}

impl Engine {
    /// The state as bytes, the same for the same state.
    pub fn snapshot(&self) -> Vec<u8> {
        let tenant = |tenant: &Tenant| TenantState {
            all: tenant.all.clone(),
            cohorts: sorted(&tenant.cohorts, Peers::clone),
            tails: tenant.tails.clone(),
            pending: tenant.pending.clone(),
        };
        let state = State {
            key_check: key_check(self.keyed),
            detectors: detector_tags(),
            symbols: self.symbols.rows(),
            agents: sorted(&self.agents, Agent::clone),
            tenants: sorted(&self.tenants, tenant),
        };
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

    fn fill(&mut self, state: State) {
        self.symbols = Symbols::restore(self.config.names_max, state.symbols);
        self.agents = into_map(state.agents, |agent| agent);
        let here = detector_tags();
        let was: Vec<Option<usize>> = here.iter().map(|tag| state.detectors.iter().position(|t| t == tag)).collect();
        let (same, config) = (here == state.detectors, &self.config);
        let tail = |tails: &[Tail], (detector, at): (&&dyn Detector, &Option<usize>)| {
            at.map_or_else(|| Tail::new(detector.floor_bits(config)), |at| tails[at].clone())
        };
        self.tenants = into_map(state.tenants, |tenant| Tenant {
            all: tenant.all,
            cohorts: into_map(tenant.cohorts, |peers| peers),
            tails: DETECTORS.iter().zip(&was).map(|new| tail(&tenant.tails, new)).collect(),
            pending: if same { tenant.pending } else { tenant.pending.without_scores() },
        });
        if !same {
            let open = self.agents.values_mut().flat_map(|agent| &mut agent.open);
            open.for_each(|session| session.best = vec![0.0; here.len()]);
        }
    }
}

impl State {
    /// Whether it can be used without a panic; the checksum already says that it is as it was written.
    fn is_sound(&self) -> bool {
        let detectors = self.detectors.len();
        let peers = |peers: &Peers| peers.habits.table.is_sound();
        self.agents.iter().all(|(_, agent)| agent.is_sound(detectors))
            && self.tenants.iter().all(|(_, tenant)| {
                tenant.tails.len() == detectors
                    && tenant.tails.iter().all(Tail::is_sound)
                    && tenant.pending.is_sound(detectors)
                    && peers(&tenant.all)
                    && tenant.cohorts.iter().all(|(_, cohort)| peers(cohort))
            })
            && self
                .agents
                .iter()
                .all(|(_, agent)| self.tenants.binary_search_by_key(&agent.tenant, |(key, _)| *key).is_ok())
    }
}

fn key_check(keyed: Keyed) -> u64 {
    keyed.of(Of::Tenant, 0, "muster snapshot")
}

fn detector_tags() -> Vec<u32> {
    DETECTORS.iter().map(|detector| tag(detector.name())).collect()
}

fn sorted<V, T>(map: &Map<V>, copy: impl Fn(&V) -> T) -> Vec<(u64, T)> {
    let mut rows: Vec<(u64, T)> = map.iter().map(|(key, value)| (*key, copy(value))).collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows
}

fn into_map<V, T>(rows: Vec<(u64, T)>, convert: impl Fn(T) -> V) -> Map<V> {
    let mut all = map();
    all.extend(rows.into_iter().map(|(key, value)| (key, convert(value))));
    all
}
