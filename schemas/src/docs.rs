//! Reference pages and JSON Schemas, generated from the declarations.

use serde_json::{Map, Value, json};

use crate::catalogue::{Catalogue, Impact};
use crate::table::{Column, Kind, Table};

/// `docs/<table>.md`: every column with meaning, unit and its name in OCSF, ECS and OpenTelemetry.
pub fn markdown(table: &Table) -> String {
    let mut page = format!("# The table `{}`\n\n{}\n\n", table.name, table.doc);
    page.push_str("Generated from the declaration in `schemas/src`; do not edit (`muster docs` writes it).\n");
    let mut group = "";
    for column in table.columns {
        if column.group != group {
            group = column.group;
            page.push_str(&format!("\n## {group}\n\n| column | type | meaning | OCSF | ECS | OpenTelemetry |\n"));
            page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        }
        page.push_str(&markdown_row(column));
    }
    page
}

fn markdown_row(column: &Column) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let need = if column.required { "" } else { ", optional" };
    let unit = if column.unit.is_empty() { String::new() } else { format!(" *({})*", cell(column.unit)) };
    let Column { name, kind, doc, ocsf, ecs, otel, .. } = column;
    let kind = kind.label();
    format!("| `{name}` | {kind}{need} | {}{unit} | {} | {} | {} |\n", cell(doc), cell(ocsf), cell(ecs), cell(otel))
}

/// `docs/catalogue.md`: what is known of actions by their names.
pub fn catalogue(catalogue: &Catalogue) -> String {
    let mut page = CATALOGUE.to_owned();
    for impact in Impact::ALL {
        page.push_str(&format!("| {} | {:.1} | {} |\n", impact.name(), impact.weight(), impact.doc()));
    }
    page.push_str("\n## Built in\n\n| of | kind | actions |\n| --- | --- | --- |\n");
    for entry in catalogue.actions() {
        let patterns: Vec<String> = entry.patterns().map(|pattern| format!("`{pattern}`")).collect();
        page.push_str(&format!("| {} | {} | {} |\n", entry.of, entry.kind.name(), patterns.join(", ")));
    }
    page
}

const CATALOGUE: &str = "# The catalogue of actions

Generated from `schemas/catalogue.toml`; do not edit (`muster docs` writes it).

Detection multiplies surprise with what an action can do at worst. An action that is not in the catalogue counts by the \
event's `effect` and by sensitive words in its name. The first entry that fits counts; `*` is any text, case does not count.

Your own entries come before the built-in ones: name a file as `detect.catalogue_file`. With `needs_approval` a successful \
call without `approval_id` is an alert of its own.

```toml
[[actions]]
of = \"our payment gateway\"   # for people
kind = \"payment\"
match = [\"POST /v1/payouts\", \"payouts.*\"]
needs_approval = true
```

| kind | weight | |
| --- | --- | --- |
";

/// The JSON Schema (draft 2020-12) of one row as Muster prints it.
pub fn json_schema(table: &Table) -> Value {
    let mut properties = Map::new();
    for column in table.columns {
        let mut property = json_type(column.kind);
        let unit = if column.unit.is_empty() { String::new() } else { format!(" ({})", column.unit) };
        property["description"] = format!("{}{unit}", column.doc).into();
        properties.insert(column.name.to_owned(), property);
    }
    let required: Vec<&str> = table.columns.iter().filter(|c| c.required).map(|c| c.name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table.name,
        "description": table.doc,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn json_type(kind: Kind) -> Value {
    match kind {
        Kind::Str => json!({"type": "string"}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Date => json!({"type": "string", "format": "date"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::I32 | Kind::I64 => json!({"type": "integer"}),
        Kind::F64 => json!({"type": "number"}),
        Kind::Strs => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Hops => json!({"type": "array", "items": {"type": "object", "properties": {
            "kind": {"type": "string"}, "id": {"type": "string"}, "issuer": {"type": "string"}}}}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base16"}),
    }
}
