//! Ingest from outside: fixtures, the corpus, any bytes at all, and admission through a log.

mod admission;
mod corpus;
mod fixtures;
mod properties;
mod support;
