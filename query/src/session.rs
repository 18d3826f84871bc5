//! What a request's SQL can see: the views of one tenant, and nothing else.
//!
//! A view is `table ∪ tail`, both behind a wall that lets the tenant's rows out and nothing in
//! ([`crate::tenant`]). The catalog has no other schema but `information_schema`, which lists these views; there is no table function
//! that reads files, no way to make a table, and no function whose result grows beyond its arguments by a number.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionConfig;
use lake::tables::Snapshot;

use crate::tenant::OneTenant;
use crate::{QueryConfig, QueryError, functions, roster};

/// The views of a session.
pub(crate) const VIEWS: &[&str] = &[
    "events",
    "agents",
    "alerts",
    "judged_alerts",
    "verdicts",
    "detector_precision",
    "orders",
    "quarantine",
    "ingest_ledger",
    "inventory",
    "credentials",
    "grants",
];
const CATALOG: &str = "muster";
const SCHEMA: &str = "public";
/// Functions that make as much as a number says, outside the memory that is counted.
const UNBOUNDED: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "space",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
];

/// A session without a catalog: functions, rules and settings.
pub(crate) fn base(config: &QueryConfig) -> Result<SessionState, QueryError> {
    let settings = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(config.threads)
        // The log's frames hold plain text columns; with the same type in the files a union casts nothing.
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.execution.parquet.pushdown_filters", true);
    let mut state = SessionStateBuilder::new().with_config(settings).with_default_features().build();
    datafusion_functions_json::register_all(&mut state)?;
    functions::register(&mut state)?;
    for name in UNBOUNDED {
        state.deregister_udf(name)?;
        state.deregister_udtf(name)?;
    }
    Ok(state)
}

/// The session of one request.
pub(crate) fn of_tenant(
    base: &SessionState,
    config: &QueryConfig,
    tenant: &str,
    snapshot: Snapshot,
    now: i64,
) -> Result<SessionState, QueryError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(config.memory_bytes_max)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    // The views hold the planner; its catalog is another one, or the two would keep each other alive.
    let mut planner = SessionStateBuilder::new_from_existing(base.clone()).with_runtime_env(runtime).build();
    // What `now()` says, also in a filter that is pushed down to the files.
    planner.mark_start_execution();
    planner.execution_props_mut().query_execution_start_time = DateTime::from_timestamp_micros(now);
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    let mut state = SessionStateBuilder::new_from_existing(planner.clone()).with_catalog_list(catalogs.clone()).build();
    *state.execution_props_mut() = planner.execution_props().clone();
    let views = Views { tenant: tenant.to_owned(), snapshot, now, planner: Arc::new(planner) };
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(views))?;
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(state)
}

/// Makes the views that a query names, when it names them.
struct Views {
    tenant: String,
    snapshot: Snapshot,
    now: i64,
    planner: Arc<SessionState>,
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Views({})", self.tenant)
    }
}

#[async_trait]
impl SchemaProvider for Views {
    fn table_names(&self) -> Vec<String> {
        VIEWS.iter().map(|v| (*v).to_owned()).collect()
    }

    fn table_exist(&self, name: &str) -> bool {
        VIEWS.contains(&name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let made = roster::VIEWS.iter().find(|(view, _)| *view == name);
        let plan = match made {
            Some((view, tables)) => {
                let mut under = Vec::with_capacity(tables.len());
                for table in *tables {
                    under.push((*table, self.rows(table).await?));
                }
                roster::plan(&self.planner, view, under, self.now).await?
            }
            None if self.table_exist(name) => self.rows(name).await?,
            None => return Ok(None),
        };
        Ok(Some(Arc::new(ViewTable::new(plan, None))))
    }
}

impl Views {
    /// The tenant's rows of a table, from its files and from the log.
    async fn rows(&self, name: &str) -> Result<LogicalPlan> {
        let missing = || DataFusionError::Internal(format!("no table {name} in the lake"));
        let table = self.snapshot.table(name).ok_or_else(missing)?;
        let files = table.state.provider(self.planner.clone()).await;
        let files = files.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let schema = files.schema();
        let tail = table.tail.iter().map(|batch| conform(batch, &schema)).collect::<Result<_>>()?;
        let tail = MemTable::try_new(schema, vec![tail])?;
        let scan = |all| {
            let one: Arc<dyn TableProvider> = Arc::new(OneTenant { tenant: self.tenant.clone(), all });
            LogicalPlanBuilder::scan(name, provider_as_source(one), None)
        };
        scan(files)?.union(scan(Arc::new(tail))?.build()?)?.build()
    }
}

/// The batch with the exact types of the files: names of list items and the like may differ.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column =
            column.ok_or_else(|| DataFusionError::Internal(format!("no column {} in the log", field.name())))?;
        Ok(cast(column, field.data_type())?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
