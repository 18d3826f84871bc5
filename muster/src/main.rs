//! `muster`: takes the roll call of every AI agent that touches your APIs.
//!
//! The only crate that knows all others: configuration, wiring, command line, HTTP server. `cli/` has a file a command;
//! `node` opens a data folder with every role; `server` mounts the crates' routes; `client` reaches a running server;
//! `quarantine`, `keeping` and `receipts` are what persons and senders ask of stored records; `audit` records who did what.

mod audit;
mod cli;
mod client;
mod config;
mod detection;
mod gaps;
mod keeping;
mod learning;
mod metrics;
mod node;
mod operator;
mod output;
mod quarantine;
mod receipts;
mod role;
mod server;
mod tokens;
mod verdict;

/// Batches are made by one thread and freed by another; settings in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
