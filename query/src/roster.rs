//! The roster: each agent of a tenant, whose authority it uses, and what is untidy about it.
//!
//! The view `agents` is one SQL text over the tenant's `events` and `inventory` (`roster.sql`); `credentials` and `grants`
//! show what the inventory lists, of each poll its latest complete snapshot (`listed.sql`); `judged_alerts` are alerts with
//! their last verdict, `detector_precision` how often each detector was right, by week (`precision.sql`). Each flag says `yes`, `no` or `unknown` and
//! names the fact it rests on; what no record ever told is `unknown`, never `no`:
//! - **no owner**: a record had the field for the owner, empty, and no record ever named one;
//! - **never expires**: a record showed the credential without an expiry, or with one more than a year after the event;
//! - **shared credential**: a credential id that another agent used as well; or one that came, within one hour, from at
//!   least three user agents and at least three addresses;
//! - **unused scopes**: granted, and never among the scopes that calls needed, where records tell those at all;
//! - **no user attribution**: its events name the agent only, and never the user;
//! - **unused**: for 90 days no event and no use that the provider knows of, or never used as the provider says;
//! - **long-lived**: a credential in force that was made more than a year ago;
//! - **generic name**: every word of the name could stand for any agent ([`GENERIC`]);
//! - **overprivileged**: granted a scope or role that opens nearly everything ([`BROAD`]).
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

const AGENTS: &str = include_str!("roster.sql");
const CREDENTIALS: &str = include_str!("credentials.sql");
const GRANTS: &str = include_str!("grants.sql");
const JUDGED_ALERTS: &str = include_str!("judged_alerts.sql");
const PRECISION: &str = include_str!("precision.sql");
const LISTED: &str = include_str!("listed.sql");
/// Scopes and roles that open nearly everything, in lower case.
const BROAD: &str = r"(^|[^a-z])(admin|administrator|administratoraccess|poweruseraccess|owner|root|superuser|full_?access|fullcontrol|full_control|accessasuser|impersonation)([^a-z]|$)|\*|readwrite\.all$|\.manage$|^manage-realm$|^realm-admin$";
/// Names of which every word could stand for any agent, in lower case.
const GENERIC: &str = "^[^a-z]*((a|the|my|our|new|old|app|application|client|service|svc|account|acct|principal|agent|bot|api|key|token|oauth|m2m|machine|user|admin|test|tests|testing|tmp|temp|demo|dev|prod|staging|sample|example|default|untitled|integration|script|automation|backend|server|internal|generic|misc|poc|foo|bar)([^a-z]+|$))+$";
/// What was not used for so long is unused.
pub const UNUSED_DAYS: &str = "90";
const LONG_DAYS: &str = "365";
/// Agents that the roster lists at most; SQL on `agents` reaches all.
const AGENTS_MAX: usize = 10_000;

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub agent_id: String,
    pub agent_name: Option<String>,
    pub agent_owner: Option<String>,
    /// RFC 3339, UTC; none where only the inventory knows the agent.
    pub first_seen: Option<String>,
    pub last_seen: Option<String>,
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
    /// Inventory polls that list it.
    pub listed_in: Option<Vec<String>>,
    /// Whether it can be used, as the provider says.
    pub enabled: Option<bool>,
    pub credentials_listed: u64,
    pub grants: u64,
    /// Users who granted it something.
    pub grant_users: u64,
    /// The latest expiry of its credentials.
    pub expires_at: Option<String>,
    /// As the provider says.
    pub last_used_at: Option<String>,
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
    pub unused: Known,
    pub unused_fact: String,
    pub long_lived: Known,
    pub long_lived_fact: String,
    pub generic_name: Known,
    pub generic_name_fact: String,
    pub overprivileged: Known,
    pub overprivileged_fact: String,
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
    pub fn flags(&self) -> [(&'static str, Known, &str); 9] {
        [
            ("no owner", self.no_owner, &self.no_owner_fact),
            ("never expires", self.never_expires, &self.never_expires_fact),
            ("shared credential", self.shared_credential, &self.shared_credential_fact),
            ("unused scopes", self.unused_scopes, &self.unused_scopes_fact),
            ("no user attribution", self.no_user_attribution, &self.no_user_attribution_fact),
            ("unused", self.unused, &self.unused_fact),
            ("long-lived credential", self.long_lived, &self.long_lived_fact),
            ("generic name", self.generic_name, &self.generic_name_fact),
            ("overprivileged", self.overprivileged, &self.overprivileged_fact),
        ]
    }
}

impl Query {
    /// The tenant's agents, the last active first.
    pub async fn agents(&self, tenant: &str) -> Result<Vec<Agent>, QueryError> {
        let text = format!("SELECT * FROM agents ORDER BY last_seen DESC NULLS LAST, agent_id LIMIT {AGENTS_MAX}");
        self.sql(tenant, &text).await?.rows_as()
    }
}

/// The views that are made from others, and the tables under each.
pub(crate) const VIEWS: &[(&str, &[&str])] = &[
    ("agents", &["events", "inventory"]),
    ("credentials", &["events", "inventory"]),
    ("grants", &["inventory"]),
    ("judged_alerts", &["alerts", "verdicts"]),
    ("detector_precision", &["alerts", "verdicts"]),
];

/// The plan of a view, over the plans of the tenant's tables.
pub(crate) async fn plan(
    planner: &SessionState,
    view: &str,
    tables: Vec<(&'static str, LogicalPlan)>,
    now: i64,
) -> Result<LogicalPlan> {
    let schema = MemorySchemaProvider::new();
    for (name, plan) in tables {
        schema.register_table(name.to_owned(), Arc::new(ViewTable::new(plan, None)))?;
    }
    let catalog = MemoryCatalogProvider::new();
    let options = &planner.config().options().catalog;
    catalog.register_schema(&options.default_schema, Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(options.default_catalog.clone(), Arc::new(catalog));
    let state = SessionStateBuilder::new_from_existing(planner.clone()).with_catalog_list(Arc::new(catalogs)).build();
    state.create_logical_plan(&text(view, now)).await
}

fn text(view: &str, now: i64) -> String {
    let text = match view {
        "agents" => AGENTS,
        "credentials" => CREDENTIALS,
        "judged_alerts" => JUDGED_ALERTS,
        "detector_precision" => PRECISION,
        _ => GRANTS,
    };
    let now = format!("arrow_cast({now}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let values = [
        ("{listed}", LISTED.trim_end()),
        ("{judged_alerts}", JUDGED_ALERTS.trim_end()),
        ("{now}", &now),
        ("{broad}", BROAD),
        ("{generic}", GENERIC),
        ("{unused_days}", UNUSED_DAYS),
        ("{long_days}", LONG_DAYS),
    ];
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}
