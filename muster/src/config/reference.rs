//! The reference page of the configuration, from its JSON Schema: the doc comments are the documentation.

use schemars::Schema;
use serde_json::Value;

use super::load::resolve;

pub(super) fn markdown(schema: &Schema, defaults: &Value) -> String {
    let mut page = String::from(
        "# Configuration\n\nOne file, `muster.toml`; every key is optional. `MUSTER__SECTION__KEY` overrides a key. \
         `muster config check` reports all problems at once, `muster config show` prints what is in force.\n\n\
         Generated from the code; do not edit (`muster docs` writes it).\n",
    );
    section(&mut page, schema.as_value(), schema, defaults, "");
    page
}

fn section(page: &mut String, value: &Value, root: &Schema, defaults: &Value, path: &str) {
    let Some(properties) = value.get("properties").and_then(Value::as_object) else { return };
    let is_table = |property: &Value| resolve(property, root).get("properties").is_some();
    let keys: Vec<_> = properties.iter().filter(|(_, property)| !is_table(property)).collect();
    if !path.is_empty() {
        page.push_str(&format!("\n## `[{path}]`\n\n{}\n", doc(value)));
        if !keys.is_empty() {
            page.push_str("\n| key | default | meaning |\n| --- | --- | --- |\n");
        }
    }
    for (key, property) in keys {
        let default = defaults.get(key).map_or_else(String::new, |d| format!("`{d}`"));
        page.push_str(&format!(
            "| `{key}` | {} | {}{} |\n",
            default.replace('|', "\\|"),
            doc(property),
            items(property, root)
        ));
    }
    for (key, property) in properties.iter().filter(|(_, property)| is_table(property)) {
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        section(page, resolve(property, root), root, defaults.get(key).unwrap_or(&Value::Null), &place);
    }
}

fn doc(value: &Value) -> String {
    let text = value.get("description").and_then(Value::as_str).unwrap_or("");
    text.replace('\n', " ").replace('|', "\\|")
}

/// The keys of a list's entries, each with its meaning.
fn items(property: &Value, root: &Schema) -> String {
    let Some(entry) = resolve(property, root).get("items").map(|items| resolve(items, root)) else {
        return String::new();
    };
    let Some(properties) = entry.get("properties").and_then(Value::as_object) else { return String::new() };
    let keys: Vec<String> = properties.iter().map(|(key, value)| format!("`{key}` {}", doc(value))).collect();
    format!(" Each entry has: {}", keys.join(" "))
}
