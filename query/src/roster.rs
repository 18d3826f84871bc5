//! The roster: each agent of a tenant, whose authority it uses, and what is untidy about it.
//!
//! The view `agents` is one SQL text over the tenant's `events` (`roster.sql`). Each flag says `yes`, `no` or `unknown` and
//! names the fact it rests on; what no record ever told is `unknown`, never `no`:
//! - **no owner**: a record had the field for the owner, empty, and no record ever named one;
//! - **never expires**: a record showed the credential without an expiry, or with one more than a year after the event;
//! - **shared credential**: a credential id that another agent used as well; or one that came, within one hour, from at
//!   least three user agents and at least three addresses;
//! - **unused scopes**: granted, and never among the scopes that calls needed, where records tell those at all;
//! - **no user attribution**: its events name the agent only, and never the user.
//!
//! Lists are capped (20 entries, scopes 50); counts beside them are whole.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use serde::{Deserialize, Serialize};

use crate::{Query, QueryError};

const SQL: &str = include_str!("roster.sql");
/// Agents that the roster lists at most; SQL on `agents` reaches all.
const AGENTS_MAX: usize = 10_000;

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub agent_id: String,
    pub agent_name: Option<String>,
    pub agent_owner: Option<String>,
    /// RFC 3339, UTC.
    pub first_seen: String,
    pub last_seen: String,
    pub credential_kinds: Option<Vec<String>>,
    pub credential_ids: Option<Vec<String>>,
    pub credentials: u64,
    pub scopes_granted: Option<Vec<String>>,
    pub scopes_used: Option<Vec<String>>,
    /// Users it acted for.
    pub users: Option<Vec<String>>,
    pub users_count: u64,
    pub org_ids: Option<Vec<String>>,
    pub resource_tenants: Option<Vec<String>>,
    pub sources: Option<Vec<String>>,
    pub events: u64,
    pub writes: u64,
    pub denied: u64,
    pub events_24h: u64,
    pub no_owner: Known,
    pub no_owner_fact: String,
    pub never_expires: Known,
    pub never_expires_fact: String,
    pub shared_credential: Known,
    pub shared_credential_fact: String,
    pub unused_scopes: Known,
    pub unused_scopes_fact: String,
    pub no_user_attribution: Known,
    pub no_user_attribution_fact: String,
}

/// Whether something is so, as far as the records tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    Yes,
    No,
    Unknown,
}

impl Agent {
    /// The flags in plain words, each with its fact.
    pub fn flags(&self) -> [(&'static str, Known, &str); 5] {
        [
            ("no owner", self.no_owner, &self.no_owner_fact),
            ("never expires", self.never_expires, &self.never_expires_fact),
            ("shared credential", self.shared_credential, &self.shared_credential_fact),
            ("unused scopes", self.unused_scopes, &self.unused_scopes_fact),
            ("no user attribution", self.no_user_attribution, &self.no_user_attribution_fact),
        ]
    }
}

impl Query {
    /// The tenant's agents, the last active first.
    pub async fn agents(&self, tenant: &str) -> Result<Vec<Agent>, QueryError> {
        let text = format!("SELECT * FROM agents ORDER BY last_seen DESC, agent_id LIMIT {AGENTS_MAX}");
        self.sql(tenant, &text).await?.rows_as()
    }
}

/// The plan of the view, over the plan of the tenant's events.
pub(crate) async fn plan(planner: &SessionState, events: LogicalPlan, now: i64) -> Result<LogicalPlan> {
    let schema = MemorySchemaProvider::new();
    schema.register_table("events".to_owned(), Arc::new(ViewTable::new(events, None)))?;
    let catalog = MemoryCatalogProvider::new();
    let options = &planner.config().options().catalog;
    catalog.register_schema(&options.default_schema, Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(options.default_catalog.clone(), Arc::new(catalog));
    let state = SessionStateBuilder::new_from_existing(planner.clone()).with_catalog_list(Arc::new(catalogs)).build();
    let now = format!("arrow_cast({now}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    state.create_logical_plan(&SQL.replace("{now}", &now)).await
}
