//! Records that could not become events: kept whole, with the reason, until a mapping is fixed.

crate::table::table! {
    "quarantine", "One record that could not be mapped a row.", reader Quarantine, row QuarantineRow;

    "record" {
        record_id: required Str = "Digest of tenant, source and the bytes of the record: the same record comes to the same id.", unit "32 hex digits";
        received_at: required Time = "When Muster received it.", unit "µs UTC", ecs "event.ingested";
        event_day: required Date = "UTC day of `received_at`.", unit "days since 1970-01-01";
        tenant: required Str = "Muster's isolation domain.", ecs "organization.id";
        source: required Str = "The source that was asked to read it.", ecs "event.dataset";
        door: required Str = "The way the bytes came in.";
        record: required I64 = "0-based number of the record in its request or file.";
        log_partition: required I32 = "Partition of the log.";
        log_offset: required I64 = "Offset of the frame in the log.";
        log_index: required I32 = "Row within the frame.";
    }
    "why" {
        reason: required Str = "Why it is here: `not_json`, `no_time` …, one of a fixed list.", ecs "error.code";
        field: optional Str = "The field at fault.";
        detail: optional Str = "What was expected and what was found.", ecs "error.message";
    }
    "evidence" {
        size_bytes: required I64 = "Size of the record as received; more than `raw` holds where it was cut at a limit.", unit "bytes";
        raw: required Bytes = "The record as received, secrets masked where it is text.", ecs "event.original";
    }
}
