//! The limits of a query.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of each query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Memory of one query's sorts, joins and groups, and of its answer.
    pub memory_bytes_max: usize,
    /// Rows of an answer; what is beyond is cut off, and the answer says so.
    pub rows_max: usize,
    /// A query that takes longer is stopped.
    pub timeout_secs: u64,
    /// Queries at the same time; more are refused until one ends.
    pub concurrency_max: usize,
    /// Length of a query's text.
    pub text_bytes_max: usize,
    /// Operators, brackets and subqueries in a query's text: how deep it can nest.
    pub operators_max: usize,
    /// Processor threads of all queries together.
    pub threads: usize,
}

impl Default for QueryConfig {
    fn default() -> Self {
        QueryConfig {
            memory_bytes_max: 512 << 20,
            rows_max: 100_000,
            timeout_secs: 60,
            concurrency_max: 8,
            text_bytes_max: 32 << 10,
            operators_max: 500,
            threads: 2,
        }
    }
}

impl QueryConfig {
    /// All that is wrong with the settings.
    pub fn problems(&self) -> Vec<String> {
        let checks = [
            (self.memory_bytes_max >= 1 << 20, "memory_bytes_max: must be at least 1 MiB"),
            (self.rows_max >= 1, "rows_max: must be at least 1"),
            (self.timeout_secs >= 1, "timeout_secs: must be at least 1"),
            (self.concurrency_max >= 1, "concurrency_max: must be at least 1"),
            (self.text_bytes_max >= 1, "text_bytes_max: must be at least 1"),
            (self.text_bytes_max <= 1 << 20, "text_bytes_max: must be at most 1 MiB"),
            (self.operators_max <= 1_000, "operators_max: must be at most 1000, a plan is walked on the stack"),
            (self.threads >= 1, "threads: must be at least 1"),
        ];
        checks.into_iter().filter(|(fine, _)| !fine).map(|(_, problem)| problem.to_owned()).collect()
    }
}
