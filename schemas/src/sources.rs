//! The built-in mapping files and inventory providers, embedded. Adding one is adding a file to `schemas/sources/` or
//! `schemas/inventory/`: the build script lists it.

include!(concat!(env!("OUT_DIR"), "/sources.rs"));
