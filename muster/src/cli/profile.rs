//! `muster agents show`: one agent in plain words: who it is, what is usual for it, with whom it is compared, its alerts.
//!
//! Counted by SQL over its events of the days before its last one, so that an agent that fell silent still shows its ways.
//! Sessions are cut as the detectors cut them: by session, conversation or token, and by a pause. The detectors' own memory
//! is not looked at: it is bounded, holds no names, and leaves out what is held back.

mod text;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sql::{Tenant, ask_json, quoted};
use crate::client::Access;
use crate::config::Config;
use crate::output::{self, Format};

const ACTIONS_MAX: usize = 15;
const RESOURCES_MAX: usize = 10;
const FOLLOWS_MAX: usize = 10;
const ALERTS_MAX: usize = 10;
/// Days of the chart, and the numbers by which SQL counts them back.
const CHART_DAYS: &str = "[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]";

#[derive(Args)]
pub(crate) struct Show {
    /// The agent: an id or a name
    agent: String,
    /// What was usual is counted over so many days before its last event
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    tenant: Tenant,
}

/// Everything that is told of an agent.
#[derive(Serialize)]
struct Profile {
    /// Its row of the roster.
    roster: Value,
    window_days: u16,
    history: Option<History>,
    actions: Vec<Action>,
    resources: Vec<Resource>,
    follows: Vec<Follow>,
    /// Calls in each hour of the day, UTC.
    hours: Vec<u64>,
    days: Vec<Day>,
    cohort: Option<Cohort>,
    alerts: Vec<Alert>,
    verdicts: Verdicts,
}

/// How much is known of it.
#[derive(Serialize, Deserialize)]
struct History {
    events: u64,
    /// In the window.
    sessions: u64,
    actions: u64,
    /// Between its first and its last event ever.
    #[serde(default)]
    known_days: i64,
    #[serde(default)]
    sessions_min: u32,
    #[serde(default)]
    days_min: i64,
    /// Whether that is enough to judge it by its own habits.
    #[serde(default)]
    may_be_judged: bool,
}

#[derive(Serialize, Deserialize)]
struct Action {
    action: String,
    effect: String,
    calls: u64,
    sessions: u64,
    last: String,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    resource: String,
    calls: u64,
}

/// A call that came right after another one of the same session.
#[derive(Serialize, Deserialize)]
struct Follow {
    previous: String,
    action: String,
    calls: u64,
    /// Of all calls right after `previous`.
    share: f64,
}

#[derive(Serialize, Deserialize)]
struct Hour {
    hour: usize,
    events: u64,
}

#[derive(Serialize, Deserialize)]
struct Day {
    day: String,
    events: u64,
}

/// The agents with which it is compared: those of its owner, else of its source.
#[derive(Serialize, Deserialize)]
struct Cohort {
    label: String,
    /// Others, beside the agent.
    agents: u64,
    /// Its actions that no other agent of the cohort did.
    only_here: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Alert {
    alert_id: String,
    time: String,
    detector: String,
    title: String,
    verdict: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Verdicts {
    open: u64,
    confirmed: u64,
    dismissed: u64,
}

pub(crate) async fn run(command: &Show, config: Config) -> Result<ExitCode> {
    let detect = config.detect.clone();
    let access = Access::open(config, &command.tenant.tenant).await?;
    let asking = Asking { access: &access, tenant: &command.tenant.tenant };
    let profile = asking.profile(&command.agent, command.days, &detect).await?;
    match command.format {
        Format::Table => output::print(&text::page(&profile))?,
        Format::Json | Format::Csv => output::json_lines(&[serde_json::to_value(&profile)?])?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the answers come from.
struct Asking<'a> {
    access: &'a Access,
    tenant: &'a str,
}

impl Asking<'_> {
    async fn all<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>> {
        let rows = ask_json(self.access, self.tenant, query).await?;
        rows.into_iter().map(|row| serde_json::from_value(row).context("an answer has another form")).collect()
    }

    async fn one<T: DeserializeOwned>(&self, query: &str) -> Result<Option<T>> {
        Ok(self.all(query).await?.into_iter().next())
    }

    async fn profile(&self, agent: &str, window_days: u16, detect: &detect::Config) -> Result<Profile> {
        let roster = self.roster(agent).await?;
        let id = roster["agent_id"].as_str().unwrap_or(agent).to_owned();
        let alerts = format!(
            "SELECT alert_id, time, detector, title, verdict FROM judged_alerts WHERE agent_id = {} \
             ORDER BY time DESC, alert_id LIMIT {ALERTS_MAX}",
            quoted(&id)
        );
        let verdicts = format!(
            "SELECT count(*) FILTER (WHERE verdict IS NULL) AS open, count(*) FILTER (WHERE verdict = 'confirmed') AS confirmed, \
             count(*) FILTER (WHERE verdict = 'dismissed') AS dismissed FROM judged_alerts WHERE agent_id = {}",
            quoted(&id)
        );
        let mut profile = Profile {
            window_days,
            history: None,
            actions: Vec::new(),
            resources: Vec::new(),
            follows: Vec::new(),
            hours: vec![0; 24],
            days: Vec::new(),
            cohort: None,
            alerts: self.all(&alerts).await?,
            verdicts: self.one(&verdicts).await?.unwrap_or_default(),
            roster,
        };
        // An agent that only an inventory lists never did anything.
        if let Some(last) = profile.roster["last_seen"].as_str().map(str::to_owned) {
            let calls = Calls::new(&id, &last, window_days, detect.session_idle_mins);
            self.fill(&mut profile, &calls, detect).await?;
        }
        Ok(profile)
    }

    /// The agent's row of the roster, with the days between its first and its last event.
    async fn roster(&self, agent: &str) -> Result<Value> {
        let query = format!(
            "SELECT *, (arrow_cast(last_seen, 'Int64') - arrow_cast(first_seen, 'Int64')) / 86400000000 AS known_days \
             FROM agents WHERE agent_id = {0} OR agent_name = {0} ORDER BY agent_id",
            quoted(agent)
        );
        let mut found = ask_json(self.access, self.tenant, &query).await?;
        let ids: Vec<&str> = found.iter().filter_map(|row| row["agent_id"].as_str()).collect();
        match ids.as_slice() {
            [] => bail!("no agent with the id or name `{agent}` was seen in tenant `{}`", self.tenant),
            [_] => Ok(found.remove(0)),
            several => bail!("`{agent}` names several agents; say which: {}", several.join(", ")),
        }
    }

    async fn fill(&self, profile: &mut Profile, calls: &Calls, detect: &detect::Config) -> Result<()> {
        let known_days = profile.roster["known_days"].as_i64().unwrap_or(0);
        profile.history = self.one::<History>(&calls.history()).await?.map(|history| History {
            known_days,
            sessions_min: detect.history_sessions_min,
            days_min: detect.history_days_min,
            may_be_judged: history.sessions >= u64::from(detect.history_sessions_min)
                && known_days >= detect.history_days_min,
            ..history
        });
        profile.actions = self.all(&calls.actions()).await?;
        profile.resources = self.all(&calls.resources()).await?;
        profile.follows = self.all(&calls.follows()).await?;
        for Hour { hour, events } in self.all(&calls.hours()).await? {
            if let Some(place) = profile.hours.get_mut(hour) {
                *place = events;
            }
        }
        profile.days = self.all(&calls.chart()).await?;
        profile.cohort = match calls.cohort(&profile.roster) {
            Some(query) => self.one(&query).await?,
            None => None,
        };
        Ok(())
    }
}

/// The agent's calls of the window, as SQL.
struct Calls {
    agent: String,
    /// Which events are meant.
    here: String,
    /// The same of any agent.
    window: String,
    last: String,
    idle_mins: i64,
}

impl Calls {
    fn new(agent: &str, last: &str, days: u16, idle_mins: i64) -> Calls {
        let (agent, last) = (quoted(agent), quoted(last));
        // By day too, which spares reading other days' files.
        let from = |what: &str| format!("{what} {last} - INTERVAL '{days} days'");
        let window = format!("time > {} AND event_day >= CAST({} AS DATE)", from("TIMESTAMP"), from("TIMESTAMP"));
        Calls { here: format!("agent_id = {agent} AND {window}"), agent, window, last, idle_mins }
    }

    /// Opens a query with `calls`: each with its session and the action before it.
    fn with(&self) -> String {
        format!(
            "WITH keyed AS (SELECT time, log_offset, log_index, action, effect, \
                coalesce(session_id, conversation_id, token_id, '') AS key FROM events WHERE {}), \
             placed AS (SELECT *, lag(time) OVER (PARTITION BY key ORDER BY time, log_offset, log_index) AS before, \
                lag(action) OVER (PARTITION BY key ORDER BY time, log_offset, log_index) AS previous FROM keyed), \
             marked AS (SELECT *, before IS NULL OR time - before > INTERVAL '{} minutes' AS starts FROM placed), \
             calls AS (SELECT *, sum(CASE WHEN starts THEN 1 ELSE 0 END) OVER (PARTITION BY key \
                ORDER BY time, log_offset, log_index ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number FROM marked) ",
            self.here, self.idle_mins
        )
    }

    fn history(&self) -> String {
        self.with()
            + "SELECT count(*) AS events, count(*) FILTER (WHERE starts) AS sessions, count(DISTINCT action) AS actions FROM calls"
    }

    fn actions(&self) -> String {
        self.with()
            + &format!(
                "SELECT action, last_value(effect ORDER BY time) AS effect, count(*) AS calls, \
                 count(DISTINCT concat(number, ' ', key)) AS sessions, max(time) AS last \
                 FROM calls GROUP BY action ORDER BY sessions DESC, calls DESC, action LIMIT {ACTIONS_MAX}"
            )
    }

    /// What is read is told by its kind, numbers in ids are all one; what is changed likewise, since names say enough.
    fn resources(&self) -> String {
        format!(
            "SELECT concat_ws(' ', service, resource_type, regexp_replace(resource_id, '\\b[0-9][0-9a-fA-F-]*\\b', '{{id}}', 'g')) \
                AS resource, count(*) AS calls FROM events WHERE {} AND (resource_id IS NOT NULL OR resource_type IS NOT NULL) \
             GROUP BY 1 ORDER BY calls DESC, resource LIMIT {RESOURCES_MAX}",
            self.here
        )
    }

    fn follows(&self) -> String {
        self.with()
            + &format!(
                "SELECT previous, action, count(*) AS calls, \
                 CAST(count(*) AS DOUBLE) / sum(count(*)) OVER (PARTITION BY previous) AS share \
                 FROM calls WHERE NOT starts GROUP BY previous, action ORDER BY calls DESC, previous, action LIMIT {FOLLOWS_MAX}"
            )
    }

    fn hours(&self) -> String {
        format!(
            "SELECT CAST(date_part('hour', time) AS BIGINT) AS hour, count(*) AS events FROM events WHERE {} GROUP BY 1",
            self.here
        )
    }

    fn chart(&self) -> String {
        format!(
            "WITH days AS (SELECT arrow_cast(arrow_cast(CAST(TIMESTAMP {last} AS DATE), 'Int32') - back, 'Int32') AS number \
                FROM (SELECT unnest({CHART_DAYS}) AS back)), \
             counts AS (SELECT arrow_cast(event_day, 'Int32') AS number, count(*) AS events FROM events \
                WHERE agent_id = {agent} AND event_day > CAST(TIMESTAMP {last} - INTERVAL '14 days' AS DATE) GROUP BY 1) \
             SELECT CAST(arrow_cast(days.number, 'Date32') AS VARCHAR) AS day, coalesce(counts.events, 0) AS events \
             FROM days LEFT JOIN counts ON counts.number = days.number ORDER BY days.number",
            last = self.last,
            agent = self.agent,
        )
    }

    fn cohort(&self, roster: &Value) -> Option<String> {
        let owner = roster["agent_owner"].as_str().map(|owner| ("agent_owner", "owner", owner));
        let source = || roster["sources"][0].as_str().map(|source| ("source", "source", source));
        let (column, word, value) = owner.or_else(source)?;
        let (label, value) = (quoted(&format!("{word} {value}")), quoted(value));
        Some(format!(
            "WITH own AS (SELECT DISTINCT action FROM events WHERE {}), \
             others AS (SELECT agent_id, action FROM events WHERE {column} = {value} AND agent_id <> {} AND {}) \
             SELECT {label} AS label, (SELECT count(DISTINCT agent_id) FROM others) AS agents, \
                (SELECT array_agg(action ORDER BY action) FROM own WHERE action NOT IN (SELECT action FROM others)) AS only_here",
            self.here, self.agent, self.window
        ))
    }
}
