//! A lake in memory with a log, and a query over both.

use std::path::PathBuf;
use std::sync::Arc;

use lake::clock::Clock;
use lake::files::sim::SimFiles;
use lake::log::{Group, Log, LogConfig};
use lake::tables::{GROUP, Lake, LakeConfig};
use query::{Answer, Query, QueryConfig};
use schemas::event::{self, EventRow};
use schemas::inventory::{self, InventoryRow};
use schemas::ledger::LedgerRow;

/// 2024-10-04, noon.
pub(crate) const NOW: i64 = 20_000 * 86_400_000_000 + 43_200_000_000;

pub(crate) struct World {
    pub(crate) log: Arc<Log>,
    pub(crate) lake: Arc<Lake>,
    pub(crate) query: Arc<Query>,
}

impl World {
    pub(crate) async fn new(config: QueryConfig) -> World {
        let clock = Clock::manual(NOW);
        let files = Arc::new(SimFiles::new());
        let opened = Log::open(files.clone(), PathBuf::from("log"), &LogConfig::default(), clock.clone(), &[GROUP]);
        let (log, _) = opened.unwrap();
        let opened = Lake::open_folder(files, PathBuf::from("lake"), log.clone(), clock.clone(), LakeConfig::default());
        let lake = opened.await.unwrap();
        let query = Query::new(lake.clone(), clock, config).unwrap();
        World { log, lake, query }
    }

    pub(crate) async fn append(&self, events: &[EventRow]) {
        let received = events.len() as i64;
        let tenant = events[0].tenant.clone();
        let ledger = LedgerRow {
            received_at: NOW,
            tenant,
            received,
            mapped: received,
            events: received,
            ..LedgerRow::default()
        };
        let group = Group { events: Some(event::batch(events)), ledger: Some(ledger), ..Group::default() };
        self.log.append(group).await.unwrap();
    }

    pub(crate) async fn append_inventory(&self, rows: &[InventoryRow]) {
        let group = Group { inventory: Some(inventory::batch(rows)), ..Group::default() };
        self.log.append(group).await.unwrap();
    }

    pub(crate) async fn sql(&self, tenant: &str, text: &str) -> Answer {
        self.query.sql(tenant, text).await.unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// The answer as lines of JSON.
    pub(crate) async fn lines(&self, tenant: &str, text: &str) -> Vec<String> {
        let answer = self.sql(tenant, text).await.write(query::Format::Ndjson).unwrap();
        String::from_utf8(answer).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) async fn refused(&self, tenant: &str, text: &str) -> String {
        match self.query.sql(tenant, text).await {
            Ok(answer) => panic!("{text} was answered:\n{}", answer.table().unwrap()),
            Err(e) => e.to_string(),
        }
    }
}

pub(crate) fn row(id: &str, tenant: &str, agent: &str) -> EventRow {
    EventRow {
        event_id: id.into(),
        time: NOW,
        received_at: NOW,
        event_day: schemas::id::day(NOW),
        tenant: tenant.into(),
        source: "okta".into(),
        door: "http".into(),
        actor_kind: "agent".into(),
        agent_id: Some(agent.into()),
        attribution: "agent_only".into(),
        action: "invoices.read".into(),
        effect: "read".into(),
        outcome: "success".into(),
        raw: format!(r#"{{"id":"{id}","actor":{{"name":"{agent}"}}}}"#),
        ..EventRow::default()
    }
}
