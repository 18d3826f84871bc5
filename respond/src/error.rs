//! What can go wrong with orders.

use lake::log::LogError;
use schemas::SchemaError;

use crate::order::State;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("orders cannot be configured so: {}", .0.join("; "))]
    Config(Vec<String>),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the control log's frame {offset} cannot be read: {reason}")]
    Note { offset: u64, reason: String },
    #[error("a task of the responder ended: {0}")]
    Task(String),
    #[error("there is no order {0}")]
    Unknown(String),
    #[error("more than one order's id begins with {0}")]
    Ambiguous(String),
    #[error("it cannot be asked for so: {0}")]
    Request(String),
    #[error("order {order_id} cannot be approved: {why}")]
    NotApproved { order_id: String, why: String },
    #[error("order {order_id} does not stop anything: it is {}", .state.name())]
    NotStanding { order_id: String, state: State },
}

impl Error {
    /// Whether the same call may succeed in a moment.
    pub fn retry_later(&self) -> bool {
        matches!(self, Error::Log(error) if error.retry_helps())
    }
}
