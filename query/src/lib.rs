//! Questions about one tenant's events: SQL over tables and log together, the roster of agents, and their HTTP routes.
//!
//! - [`session`] holds what a request's SQL can see: that tenant's views and nothing else;
//! - [`tenant`] is the wall between tenants;
//! - [`functions`] are the SQL functions of Muster's own;
//! - [`history`] are all tenants' events in the order of their arrival, for detection to learn from;
//! - [`answer`] is a result and the forms it can be written in;
//! - [`roster`] is the view `agents`: who acts, with whose authority, and what is untidy about it; and those of the inventory;
//! - [`http`] are the routes.
//!
//! Everything reads, nothing writes. Memory, time, rows and concurrent requests are limited ([`QueryConfig`]).

pub mod answer;
mod config;
mod error;
mod functions;
pub mod history;
pub mod http;
pub mod roster;
mod session;
mod tenant;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SQLOptions;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use futures::StreamExt;
use lake::clock::Clock;
use lake::tables::{Lake, LakeError};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use answer::{Answer, Format};
pub use config::QueryConfig;
pub use error::QueryError;

/// The planner calls itself for each operator within an operator; with [`QueryConfig::operators_max`] this is ample.
const STACK_BYTES: usize = 64 << 20;

/// Answers questions, a session for each, on threads of its own: a heavy query does not hold up who sends records.
pub struct Query {
    inner: Arc<Inner>,
    running: Semaphore,
    /// Always there until the drop, which must not wait for a query to end.
    runtime: Option<Runtime>,
}

struct Inner {
    lake: Arc<Lake>,
    clock: Clock,
    config: QueryConfig,
    /// Functions and rules, made once; each session is a copy with its own catalog and memory.
    base: SessionState,
}

impl Drop for Query {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Query {
    pub fn new(lake: Arc<Lake>, clock: Clock, config: QueryConfig) -> Result<Arc<Query>, QueryError> {
        let base = session::base(&config)?;
        let running = Semaphore::new(config.concurrency_max);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(config.threads).thread_stack_size(STACK_BYTES).thread_name("query").enable_all();
        let runtime = Some(runtime.build().map_err(|e| QueryError::Internal(e.to_string()))?);
        Ok(Arc::new(Query { inner: Arc::new(Inner { lake, clock, config, base }), running, runtime }))
    }

    /// Answers one SQL query from the rows of `tenant`. Dropping the future stops the query.
    pub async fn sql(&self, tenant: &str, text: &str) -> Result<Answer, QueryError> {
        let config = &self.inner.config;
        if text.len() > config.text_bytes_max {
            return Err(QueryError::TooLong { bytes: text.len(), bytes_max: config.text_bytes_max });
        }
        let count = operators(text);
        if count > config.operators_max {
            return Err(QueryError::TooDeep { count, count_max: config.operators_max });
        }
        let _running = self.running.try_acquire().map_err(|_| QueryError::Busy(config.concurrency_max))?;
        let (inner, tenant, text) = (self.inner.clone(), tenant.to_owned(), text.to_owned());
        let runtime = self.runtime.as_ref().expect("it is taken by the drop alone");
        let mut task = JoinSet::new();
        task.spawn_on(async move { inner.answer(&tenant, &text).await }, runtime.handle());
        match tokio::time::timeout(Duration::from_secs(config.timeout_secs), task.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(e))) => Err(QueryError::Internal(format!("the query's task failed: {e}"))),
            Ok(None) => Err(QueryError::Internal("the query's task is gone".to_owned())),
            Err(_) => Err(QueryError::Timeout(config.timeout_secs)),
        }
    }
}

impl Inner {
    async fn answer(&self, tenant: &str, text: &str) -> Result<Answer, QueryError> {
        match self.answer_once(tenant, text).await {
            Err(QueryError::Lake(LakeError::Replaced)) => {
                // By another process, which does not know who reads here.
                self.lake.refresh().await?;
                self.answer_once(tenant, text).await
            }
            answered => answered,
        }
    }

    async fn answer_once(&self, tenant: &str, text: &str) -> Result<Answer, QueryError> {
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
        let (mut room, mut bytes) = (self.config.rows_max, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            answer.truncated = batch.num_rows() > room;
            let batch = batch.slice(0, batch.num_rows().min(room));
            room -= batch.num_rows();
            bytes += batch.get_array_memory_size();
            if bytes > self.config.memory_bytes_max {
                let bytes_max = self.config.memory_bytes_max;
                let reason = format!("the answer is larger than memory_bytes_max ({bytes_max} bytes); ask for less");
                return Err(QueryError::Memory(reason));
            }
            answer.batches.push(batch);
            if answer.truncated {
                break;
            }
        }
        Ok(answer)
    }
}

/// How many operators and brackets the text holds: each may nest the plan one deeper.
fn operators(text: &str) -> usize {
    // What cannot be cut into tokens is refused by the planner, with the place.
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let nests = |token: &&Token| match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::CASE
                | Keyword::WHEN
                | Keyword::SELECT
                | Keyword::JOIN
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::INTERVAL
                | Keyword::AT
        ),
        Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) => false,
        Token::Comma | Token::Period | Token::SemiColon | Token::EOF | Token::RParen | Token::RBracket => false,
        _ => true,
    };
    tokens.iter().filter(nests).count()
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
