//! What an installation may set about detection: limits, warm-up, thresholds.
//!
//! The defaults are what was measured to work; a change is part of an alert's `rules_digest`, so that an alert always
//! says under which rules it was raised. Sizes of one agent's tables are constants beside them, not settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use schemas::Catalogue;
use serde::{Deserialize, Serialize};

/// Detection: how much history an agent needs, from which score on an alert is raised, how much is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Agents remembered, a 64th of them in each partition of the log. Past it an eighth of a partition's makes room:
    /// those without enough history are forgotten, then the longest idle are packed.
    pub agents_max: usize,
    /// Agents with history for which there was no room, packed until they act again: some 1 KB each. Past it an eighth is
    /// forgotten, the longest idle first.
    pub cold_agents_max: usize,
    /// Cohorts (owners, else sources) remembered, all tenants together; an agent of a later one is compared with its tenant only.
    pub cohorts_max: usize,
    /// Names of actions kept for explanations; past it a name is not shown, nothing else changes.
    pub names_max: usize,
    /// Calls of ended sessions that wait for the next tick to join cohort and tenant history; past it they do not join.
    pub pending_calls_max: usize,
    /// A session ends after this long without a call.
    pub session_idle_mins: i64,
    /// Sessions an agent needs before its own history can raise an alert.
    pub history_sessions_min: u32,
    /// Days between an agent's first call and the first alert its own history can raise.
    pub history_days_min: i64,
    /// Sessions a cohort needs before it can raise an alert about an agent that has no history yet.
    pub cohort_sessions_min: u32,
    /// Agents a cohort or tenant needs before it is compared with: below, it says little beyond the agent itself.
    pub cohort_agents_min: u32,
    /// Score from which an unusual combination is an alert, in bits, until a tenant's own scores say more.
    pub combination_bits: f64,
    /// The same for an action that an agent never did: one of a combination's three terms.
    pub first_action_bits: f64,
    /// The same for another new fact about an agent: a scope, an organization, a way to be called by other agents.
    pub fact_bits: f64,
    /// So long after a kill order took effect its target may still be seen: clocks differ and gateways ask now and then.
    pub after_kill_secs: i64,
    /// File with entries of your own for the catalogue of actions: see `docs/catalogue.md`. Read at start.
    pub catalogue_file: Option<PathBuf>,
    /// The same for an unusual amount of calls, failures, data or cost.
    pub rate_bits: f64,
    /// The same for an agent or credential that awakes from a long silence.
    pub dormant_bits: f64,
    /// Silence is long from so many days on, and from five times the longest one before.
    pub dormant_days: u32,
    /// The same as `rate_bits` for a token older than the agent's tokens ever were.
    pub token_age_bits: f64,
    /// A token is old from so many hours on, and from four times the oldest one before.
    pub token_age_hours: u32,
    /// The same as `rate_bits` for a token that is used from two places in turn.
    pub moved_token_bits: f64,
    /// Calls a minute beyond which an agent is over the limit, whatever is usual for it.
    pub agent_calls_min_max: u32,
    /// The same for what a person does by hand.
    pub user_calls_min_max: u32,
    /// Score from which a grave call is odd: its session is held back instead of learned.
    pub odd_bits: f64,
    /// An odd session that nobody judged is learned after this long, unless others did the same odd thing meanwhile.
    pub quarantine_hours: i64,
    /// Odd calls remembered a tenant, for seven days, to see the same in several hands.
    pub campaigns_max: usize,
    /// A threshold calibrates itself upwards, never past this, so that an attacker cannot raise it out of reach.
    pub bits_max: f64,
    /// Sessions of a tenant before its threshold calibrates itself.
    pub calibration_sessions_min: u32,
    /// Sessions to one alert, a detector and tenant, that the threshold aims at.
    pub sessions_per_alert: u32,
    /// One alert an agent, detector and action in this time.
    pub repeat_hours: i64,
    /// A call is live when it is received within this time of happening.
    pub live_secs_max: i64,
    /// Key of the hashes in the state, so that nobody can craft names that collide: made once an installation, no setting.
    #[serde(skip)]
    pub hash_key: [u64; 2],
    /// What is known of actions: the built-in catalogue, and the file's entries before it.
    #[serde(skip)]
    pub catalogue: Catalogue,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            agents_max: 131_072,
            cold_agents_max: 262_144,
            cohorts_max: 4_096,
            names_max: 65_536,
            pending_calls_max: 1 << 20,
            session_idle_mins: 15,
            history_sessions_min: 8,
            history_days_min: 3,
            cohort_sessions_min: 200,
            cohort_agents_min: 3,
            combination_bits: 20.0,
            first_action_bits: 12.0,
            fact_bits: 12.0,
            after_kill_secs: 30,
            catalogue_file: None,
            rate_bits: 16.0,
            dormant_bits: 12.0,
            dormant_days: 14,
            token_age_bits: 12.0,
            token_age_hours: 24,
            moved_token_bits: 12.0,
            agent_calls_min_max: 6_000,
            user_calls_min_max: 600,
            odd_bits: 10.0,
            quarantine_hours: 168,
            campaigns_max: 16_384,
            bits_max: 40.0,
            calibration_sessions_min: 1_000,
            sessions_per_alert: 1_000,
            repeat_hours: 24,
            live_secs_max: 60,
            hash_key: [0; 2],
            catalogue: Catalogue::default(),
        }
    }
}
