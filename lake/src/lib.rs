//! Where an event becomes durable: the log, and the tables that the log is written into.
//!
//! - [`files`] is the file layer under both: the disk, or a simulated disk that forgets what was not fsynced;
//! - [`log`] is the ordered, durable log of typed frames;
//! - [`tables`] writes the log's frames into Delta tables and hands out snapshots of table and hot tail together;
//! - [`kafka`] is how Apache Kafka is reached;
//! - [`clock`] is the only wall clock.

pub mod clock;
pub mod files;
pub mod hidden;
pub mod kafka;
pub mod log;
pub mod tables;
