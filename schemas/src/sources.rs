//! The built-in mapping files, embedded. Adding a source is adding a file to `schemas/sources/`: the build script lists it.

include!(concat!(env!("OUT_DIR"), "/sources.rs"));
