//! Questions at the boundary: SQL text and HTTP requests in, rows and problems out.

mod roster;
mod sql;
mod tenants;
mod world;
