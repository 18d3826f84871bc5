//! What every test hands to `normalize`.

use ingest::{Carrier, Context};

pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const RECEIVED_AT: i64 = 1_767_225_600_000_000;

pub(crate) fn context<'a>(carrier: &'a Carrier) -> Context<'a> {
    Context {
        tenant: "acme",
        instance: "",
        door: "file",
        live: false,
        received_at: RECEIVED_AT,
        carrier,
        partitions: 64,
        secret_key: &KEY,
    }
}

pub(crate) fn file() -> Carrier {
    Carrier::File { name: "test.jsonl".to_owned(), offset: 0 }
}
