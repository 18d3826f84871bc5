//! The ledger: one entry for each admission, so that no record can disappear unseen.
//!
//! Entries are summed, never changed: `received = mapped + noise + quarantined + duplicates` holds for each entry and so
//! for every sum. The log's writer finds the duplicates; it moves them from `mapped` to `duplicates` in the entry that
//! came with them, before that is durable. A quarantined record that is driven again moves by a correction: an entry
//! that receives nothing, counts it out of `quarantined` and into what it became, and names its place.

crate::table::table! {
    "ingest_ledger", "One admission of records, or one correction, a row; counts are in records.", reader Ledger, row LedgerRow;

    "admission" {
        received_at: required Time = "When the records were received.", unit "µs UTC";
        event_day: required Date = "UTC day of `received_at`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain.";
        door: required Str = "The way the bytes came in.";
        source: required Str = "The source that read them.";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "counts" {
        received: required I64 = "Records that came in.", unit "records";
        mapped: required I64 = "Records that became events.", unit "records";
        noise: required I64 = "Records that a mapping declares to be noise.", unit "records";
        quarantined: required I64 = "Records in quarantine.", unit "records";
        duplicates: required I64 = "Records that had come before with the same id and the same bytes.", unit "records";
        events: required I64 = "Events that the mapped records became.", unit "events";
        masked: required I64 = "Secrets masked in these records.", unit "values";
        noise_rules: optional Strs = "Noise by rule, as `rule=count`.";
        redriven: optional Strs = "Places (`log_offset/log_index`) of the quarantined records that this correction moves: each counts -1 in `quarantined`, and where it went.";
    }
}

impl LedgerRow {
    /// Whether every record that came in went somewhere.
    pub fn balances(&self) -> bool {
        self.received == self.mapped + self.noise + self.quarantined + self.duplicates
    }

    /// Adds the counts of another entry to this one.
    pub fn add(&mut self, other: &LedgerRow) {
        self.received += other.received;
        self.mapped += other.mapped;
        self.noise += other.noise;
        self.quarantined += other.quarantined;
        self.duplicates += other.duplicates;
        self.events += other.events;
        self.masked += other.masked;
    }
}
