//! The configuration: one file, `muster.toml`, every key optional. Each section is declared beside the code that obeys it;
//! here they are only put together.

mod load;
mod reference;
mod secrets;

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::role::Role;

pub(crate) use load::load;
pub(crate) use secrets::{bucket, resolve as resolve_secrets, resolve_kafka};

/// All sections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data: DataConfig,
    pub(crate) server: ServerConfig,
    pub(crate) ingest: ingest::Config,
    pub(crate) inventory: ingest::inventory::Config,
    pub(crate) registry: RegistryConfig,
    pub(crate) log: lake::log::LogConfig,
    pub(crate) lake: lake::tables::LakeConfig,
    pub(crate) detect: detect::Config,
    pub(crate) respond: respond::Config,
    pub(crate) query: query::QueryConfig,
}

/// Where Muster keeps what it must not lose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Folder of the log, keys and tokens, and unless `lake.url` says otherwise of the lake and the detectors' snapshots. Made
    /// if it does not exist.
    pub(crate) folder: PathBuf,
    /// So much of the disk is kept free, so that a full disk never keeps the tables from being written, which is what makes
    /// room in the log. 0: none.
    pub(crate) reserve_bytes: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { folder: "muster-data".into(), reserve_bytes: 16 << 20 }
    }
}

/// The agents that you declare: see `docs/registry.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegistryConfig {
    /// File that declares agents with their names in several systems, owner and name. Read at start.
    pub(crate) file: Option<PathBuf>,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// Address and port to listen on. Put a TLS proxy in front before listening on anything but loopback.
    pub(crate) listen_address: SocketAddr,
    /// Requests served at the same time; one more is answered 503.
    pub(crate) requests_max: usize,
    /// Longest time a request may take before it is answered 504.
    pub(crate) request_secs: u64,
    /// What the process does; `--roles` says otherwise. Fewer than all where several share `log.kafka` and `lake.url`: see
    /// `docs/roles.md`.
    pub(crate) roles: Vec<Role>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen_address: SocketAddr::from(([127, 0, 0, 1], 7171)),
            requests_max: 512,
            request_secs: 60,
            roles: Role::ALL.to_vec(),
        }
    }
}

impl ServerConfig {
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether other processes have the roles that this one does not.
    fn is_part(&self) -> bool {
        Role::ALL.into_iter().any(|role| !self.has(role))
    }
}

impl Config {
    /// Takes one section of `read`, which was read alone.
    fn take(&mut self, section: &str, read: Config) {
        match section {
            "data" => self.data = read.data,
            "server" => self.server = read.server,
            "ingest" => self.ingest = read.ingest,
            "inventory" => self.inventory = read.inventory,
            "registry" => self.registry = read.registry,
            "log" => self.log = read.log,
            "lake" => self.lake = read.lake,
            "detect" => self.detect = read.detect,
            "respond" => self.respond = read.respond,
            "query" => self.query = read.query,
            other => unreachable!("`{other}` was checked against the known sections"),
        }
    }

    /// What is wrong although every key is known and of its type.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let ServerConfig { requests_max, request_secs, .. } = self.server;
        let part = self.server.is_part();
        for (fine, problem) in [
            (requests_max >= 1, "server.requests_max: must be at least 1"),
            (request_secs >= 1, "server.request_secs: must be at least 1"),
            (!self.server.roles.is_empty(), "server.roles: at least one is needed"),
            (!part || self.log.kafka.is_some(), "server.roles: fewer than all need the log in Kafka, `[log.kafka]`"),
            (!part || self.lake.url.is_some(), "server.roles: fewer than all need the lake in a bucket, `lake.url`"),
            (self.ingest.body_bytes_max >= 1 << 10, "ingest.body_bytes_max: must be at least 1 KiB"),
            (self.ingest.limits.record_bytes_max >= 1, "ingest.limits.record_bytes_max: must be at least 1"),
            (self.ingest.tokens.bytes_max >= 1 << 20, "ingest.tokens.bytes_max: must be at least 1 MiB"),
            (self.ingest.tokens.ttl_hours >= 1, "ingest.tokens.ttl_hours: must be at least 1"),
            (self.detect.agents_max >= 1, "detect.agents_max: must be at least 1"),
        ] {
            if !fine {
                problems.push(problem.to_owned());
            }
        }
        for (section, found) in [
            ("respond", self.respond.problems()),
            ("ingest", self.ingest.problems()),
            ("inventory", self.inventory.problems()),
            ("lake", self.lake.problems()),
            ("log", self.log.problems()),
            ("query", self.query.problems()),
        ] {
            problems.extend(found.into_iter().map(|problem| format!("{section}.{problem}")));
        }
        problems
    }
}

/// `docs/configuration.md`, from the sections' own documentation and defaults.
pub(crate) fn reference() -> String {
    reference::markdown(&schemars::schema_for!(Config), &serde_json::to_value(Config::default()).unwrap_or_default())
}
