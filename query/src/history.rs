//! All tenants' rows of a table in the order of their arrival: what detection learns from when the log no longer holds them.
//!
//! Neither SQL nor a tenant reaches this. Live judging went by `log_offset` and `log_index`, and the files are sorted
//! otherwise: rows are sorted again, in bounded memory, out to disk beyond it. Raw records stay where they are: no detector
//! reads them, and they are most of the bytes.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{col, lit};
use futures::StreamExt;
use lake::tables::Lake;
use schemas::Table;

use crate::session::{base, conform};
use crate::{QueryConfig, QueryError};

/// Rows of a batch, and the part of the memory that is kept for merging what was spilled.
const BATCH_ROWS: usize = 1_024;
const RESERVED_PARTS: usize = 4;

/// Which rows, and what sorting them may take.
#[derive(Clone, Debug)]
pub struct Span {
    /// First and last `event_day`, as days since 1970-01-01.
    pub from: Option<i32>,
    pub to: Option<i32>,
    /// Memory of the sorting.
    pub memory_bytes_max: usize,
    /// What does not fit is sorted here; nothing stays.
    pub spill: PathBuf,
}

/// Rows on their way.
pub struct Arrivals(SendableRecordBatchStream);

impl Arrivals {
    /// The next rows; none after the last.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        Ok(self.0.next().await.transpose()?)
    }
}

/// The rows of a span as batches of the table, without raw records.
pub async fn arrivals(
    lake: &Lake,
    config: &QueryConfig,
    table: &'static Table,
    span: &Span,
) -> Result<Arrivals, QueryError> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![span.spill.clone()]));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(span.memory_bytes_max)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let state = base(config)?;
    // One sort, in small steps: several would share the memory, and each would have less than it needs to begin.
    let settings = state.config().clone().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    let settings = settings.with_repartition_sorts(false);
    let settings = settings.with_sort_spill_reservation_bytes(span.memory_bytes_max / RESERVED_PARTS);
    let state = SessionStateBuilder::new_from_existing(state).with_config(settings).with_runtime_env(runtime).build();
    let state = Arc::new(state);
    let snapshot = lake.snapshot().await?;
    let found = snapshot.table(table.name);
    let found = found.ok_or_else(|| QueryError::Internal(format!("no table {} in the lake", table.name)))?;
    let files = found.state.provider(state.clone()).await?;
    let schema = files.schema();
    let tail = found.tail.iter().map(|batch| conform(batch, &schema)).collect::<Result<_, DataFusionError>>()?;
    let tail: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![tail])?);
    let scan = |rows| LogicalPlanBuilder::scan(table.name, provider_as_source(rows), None);
    let mut rows = scan(files)?.union(scan(tail)?.build()?)?;
    let day = |day| lit(ScalarValue::Date32(Some(day)));
    if let Some(from) = span.from {
        rows = rows.filter(col("event_day").gt_eq(day(from)))?;
    }
    if let Some(to) = span.to {
        rows = rows.filter(col("event_day").lt_eq(day(to)))?;
    }
    let plan = rows.project(columns(table))?.sort([asc("log_offset"), asc("log_index")])?.build()?;
    let plan = state.create_physical_plan(&plan).await?;
    Ok(Arrivals(execute_stream(plan, state.task_ctx())?))
}

fn asc(column: &str) -> datafusion::logical_expr::SortExpr {
    col(column).sort(true, false)
}

/// Every column of the table; in place of a raw record nothing.
fn columns(table: &Table) -> Vec<Expr> {
    let column = |name: &str| if name == "raw" { lit("").alias("raw") } else { col(name) };
    table.columns.iter().map(|c| column(c.name)).collect()
}
