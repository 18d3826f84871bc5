//! Who is asking: a named token's holder, made once at the edge and handed to every route.

use serde::{Deserialize, Serialize};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Send records.
    Ingest,
    /// Send records that are live: with [`Verb::Ingest`], they may start an unattended order.
    Act,
    /// Read events, alerts, orders and the roster, by SQL or otherwise.
    Query,
    /// Read the deny list: for gateways.
    Deny,
    /// Ask for an order, or release one.
    Order,
    /// Approve an order that another person asked for.
    Approve,
    /// See the state of the whole process.
    Admin,
}

/// Whether a token stands for a person or a program. Only persons approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    Person,
    Machine,
}

/// The holder of a token: routes find it as a request extension, put there by the authentication layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: String,
    pub tenant: String,
    pub holder: Holder,
    pub verbs: Vec<Verb>,
}

impl Principal {
    pub fn may(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}
