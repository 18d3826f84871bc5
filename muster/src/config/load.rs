//! From `muster.toml` and `MUSTER__SECTION__KEY` to a checked [`Config`], reporting all problems at once.
//!
//! Two steps: as written (a TOML table with the environment laid over it), then what it means. Known keys come from the
//! configuration's own JSON Schema, so that an unknown key is refused with the nearest known one.

use std::path::Path;

use schemars::Schema;
use serde_json::Value;

use super::Config;

/// Everything that is wrong with a configuration, one line a problem.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// Reads the file (none is fine where `path` is none) and the environment's `MUSTER__…` variables.
pub(crate) fn load(path: Option<&Path>, environment: &[(String, String)]) -> Result<Config, Problems> {
    let (text, shown) = match path {
        None => (String::new(), String::new()),
        Some(path) => {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|e| Problems(vec![format!("cannot read {shown}: {e}")]))?;
            (text, shown)
        }
    };
    parse(&text, &shown, environment)
}

fn parse(text: &str, shown: &str, environment: &[(String, String)]) -> Result<Config, Problems> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| Problems(vec![format!("{shown}: {e}")]))?;
    let mut written = serde_json::to_value(table).map_err(|e| Problems(vec![format!("{shown}: {e}")]))?;
    let mut problems = Vec::new();
    for (name, value) in environment {
        let Some(path) = name.strip_prefix("MUSTER__") else { continue };
        set(&mut written, &path.to_lowercase().split("__").collect::<Vec<_>>(), value);
    }
    let schema = schemars::schema_for!(Config);
    unknown_keys(&mut written, schema.as_value(), &schema, "", &mut problems);
    // Sections are read one by one, so that a mistake in one does not hide a mistake in the next.
    let mut config = Config::default();
    for (section, value) in written.as_object().into_iter().flatten() {
        let mut alone = serde_json::Map::new();
        alone.insert(section.clone(), value.clone());
        match serde_json::from_value::<Config>(Value::Object(alone)) {
            Ok(read) => config.take(section, read),
            Err(error) => problems.push(format!("[{section}] {error}")),
        }
    }
    problems.extend(config.problems());
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}

/// Lays one environment variable over the table; its text is read as TOML where that is possible (`5`, `true`, `["a"]`).
fn set(written: &mut Value, path: &[&str], text: &str) {
    let value = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| serde_json::to_value(table.remove("value")?).ok())
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut place = written;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = &mut place[*key];
    }
    *place = value;
}

/// Walks value and schema together, names every key that the schema does not have and takes it out, so that the rest can
/// be read and its mistakes be named too.
fn unknown_keys(value: &mut Value, schema: &Value, root: &Schema, path: &str, problems: &mut Vec<String>) {
    let schema = resolve(schema, root);
    match value {
        Value::Object(map) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
            map.retain(|key, inner| {
                let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(schema) => unknown_keys(inner, schema, root, &place, problems),
                    None => problems.push(format!("{place}: no such key{}", nearest(key, known.keys()))),
                }
                known.contains_key(key)
            });
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (i, item) in items.iter_mut().enumerate() {
                unknown_keys(item, schema, root, &format!("{path}[{i}]"), problems);
            }
        }
        _ => {}
    }
}

/// Follows `$ref`, and the non-null branch of an optional value.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Schema) -> &'a Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let found = reference.strip_prefix('#').and_then(|pointer| root.as_value().pointer(pointer));
        return found.map_or(schema, |found| resolve(found, root));
    }
    let branches = schema.get("anyOf").and_then(Value::as_array);
    let inner = branches.and_then(|all| all.iter().find(|b| b.get("type").and_then(Value::as_str) != Some("null")));
    inner.map_or(schema, |inner| resolve(inner, root))
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> String {
    let closest = known.map(|k| (strsim::damerau_levenshtein(key, k), k)).min();
    match closest {
        Some((distance, known)) if distance <= key.len().max(3) / 2 => format!(", did you mean `{known}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(text, "muster.toml", &[]).err().map(|p| p.0).unwrap_or_default()
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert!(problems("").is_empty());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let found = problems("[server]\nlisten_adress = \"127.0.0.1:1\"\n[lgo]\nx = 1\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found.iter().any(|p| p.contains("server.listen_adress") && p.contains("`listen_address`")),
            "{found:?}"
        );
        assert!(found.iter().any(|p| p.contains("lgo") && p.contains("`log`")), "{found:?}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems("[server]\nrequests_max = \"many\"\nx = 1\n[data]\nfolder = 3\n");
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let environment = [("MUSTER__SERVER__REQUESTS_MAX".to_owned(), "7".to_owned())];
        let config = parse("[server]\nrequests_max = 9\n", "muster.toml", &environment).expect("is right");
        assert_eq!(config.server.requests_max, 7);
    }
}
