//! `{word}` in the texts of a declaration, filled and escaped for the place where it stands.

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) type Words = BTreeMap<String, String>;

/// `text` with each known `{word}` replaced by its escaped value; an unknown one stays as it is written.
pub(super) fn fill(text: &str, words: &Words, escape: impl Fn(&str) -> String) -> String {
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let word = after.split_once('}').and_then(|(word, after)| Some((words.get(word)?, after)));
        rest = match word {
            Some((value, after)) => {
                filled.push_str(&escape(value));
                after
            }
            None => {
                filled.push('{');
                after
            }
        };
    }
    filled + rest
}

/// The same in every text of a JSON value. A text that is `{word:number}` alone becomes a number where the word is one.
pub(super) fn json(value: &Value, words: &Words) -> Value {
    match value {
        Value::String(text) => {
            let number = text.strip_prefix('{').and_then(|text| text.strip_suffix(":number}"));
            let number = number.and_then(|word| words.get(word)?.parse::<i64>().ok());
            number.map_or_else(|| Value::String(fill(text, words, str::to_owned)), Value::from)
        }
        Value::Array(items) => items.iter().map(|item| json(item, words)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), json(value, words))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_once_and_unknown_ones_stay() {
        let words = Words::from([("a".into(), "{b}".into()), ("b".into(), "B".into()), ("n".into(), "7".into())]);
        assert_eq!(fill("x{a}-{b}-{c}-{", &words, str::to_owned), "x{b}-B-{c}-{", "a value is never filled again");
        let value = serde_json::json!({"k": ["{b}", "{n:number}", "{n}", 1, null]});
        assert_eq!(json(&value, &words), serde_json::json!({"k": ["B", 7, "7", 1, null]}));
    }
}
