//! Questions about one tenant's events: SQL over tables and log together, the roster of agents, and their HTTP routes.
//!
//! - [`session`] holds what a request's SQL can see: that tenant's views and nothing else;
//! - [`functions`] are the SQL functions of Muster's own;
//! - [`answer`] is a result and the forms it can be written in;
//! - [`roster`] is the view `agents`: who acts, with whose authority, and what is untidy about it;
//! - [`http`] are the routes.
//!
//! Everything reads, nothing writes. Memory, time, rows and concurrent requests are limited ([`QueryConfig`]).

pub mod answer;
mod config;
mod error;
mod functions;
pub mod http;
pub mod roster;
mod session;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SQLOptions;
use futures::StreamExt;
use lake::clock::Clock;
use lake::tables::Lake;
use tokio::sync::Semaphore;

pub use answer::{Answer, Format};
pub use config::QueryConfig;
pub use error::QueryError;

/// Answers questions, a session for each.
pub struct Query {
    lake: Arc<Lake>,
    clock: Clock,
    config: QueryConfig,
    running: Semaphore,
    /// Functions and rules, made once; each session is a copy with its own catalog and memory.
    base: SessionState,
}

impl Query {
    pub fn new(lake: Arc<Lake>, clock: Clock, config: QueryConfig) -> Result<Arc<Query>, QueryError> {
        let base = session::base(&config)?;
        let running = Semaphore::new(config.concurrency_max);
        Ok(Arc::new(Query { lake, clock, config, running, base }))
    }

    /// Answers one SQL query from the rows of `tenant`.
    pub async fn sql(&self, tenant: &str, text: &str) -> Result<Answer, QueryError> {
        if text.len() > self.config.text_bytes_max {
            return Err(QueryError::TooLong { bytes: text.len(), bytes_max: self.config.text_bytes_max });
        }
        let _running = self.running.try_acquire().map_err(|_| QueryError::Busy(self.config.concurrency_max))?;
        let answered = self.answer(tenant, text);
        match tokio::time::timeout(Duration::from_secs(self.config.timeout_secs), answered).await {
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Timeout(self.config.timeout_secs)),
        }
    }

    async fn answer(&self, tenant: &str, text: &str) -> Result<Answer, QueryError> {
        let snapshot = self.lake.snapshot().await?;
        let state = session::of_tenant(&self.base, &self.config, tenant, snapshot, self.clock.now_micros())?;
        let plan = state.create_logical_plan(text).await?;
        allowed(&plan)?;
        self.collect(&state, &plan).await
    }

    async fn collect(&self, state: &SessionState, plan: &LogicalPlan) -> Result<Answer, QueryError> {
        let plan = state.create_physical_plan(plan).await?;
        let schema: SchemaRef = plan.schema();
        let mut stream = execute_stream(plan, state.task_ctx())?;
        let mut answer = Answer { schema, batches: Vec::new(), truncated: false };
        let (mut rows, mut bytes) = (0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            let room = self.config.rows_max - rows;
            answer.truncated = batch.num_rows() > room;
            let batch = batch.slice(0, batch.num_rows().min(room));
            bytes += batch.get_array_memory_size();
            if bytes > self.config.memory_bytes_max {
                return Err(QueryError::Memory(format!(
                    "the answer is larger than memory_bytes_max ({} bytes); ask for fewer columns or rows",
                    self.config.memory_bytes_max
                )));
            }
            rows += batch.num_rows();
            answer.batches.push(batch);
            if answer.truncated {
                break;
            }
        }
        Ok(answer)
    }
}

/// Refuses what is not a plain question. A plan shows files and row counts that other tenants share.
fn allowed(plan: &LogicalPlan) -> Result<(), QueryError> {
    let refused = |what: &str| Err(QueryError::Refused(what.to_owned()));
    match plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => {
            return refused("EXPLAIN is not offered: a plan tells of files that tenants share");
        }
        _ => {}
    }
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    match read_only.verify_plan(plan) {
        Ok(()) => Ok(()),
        Err(e) => refused(&format!("only queries are answered here: {}", e.strip_backtrace())),
    }
}
