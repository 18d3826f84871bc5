//! What `lake` promises, tested at its boundary.

mod files;
mod log;
mod tables;
