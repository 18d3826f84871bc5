//! The ingest settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Limits;

/// Settings of ingest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of your own mapping files, one `<source>.toml` each; one named as a built-in source replaces it.
    pub sources_folder: Option<PathBuf>,
    /// A larger request body (after decompression) is refused.
    pub body_bytes_max: usize,
    /// So many records of a request are reported one by one.
    pub results_max: usize,
    /// Limits on records.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config { sources_folder: None, body_bytes_max: 64 << 20, results_max: 1000, limits: Limits::default() }
    }
}
