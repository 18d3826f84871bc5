//! Pairs of keys and values in a text: `a=b c="d e"` and its relatives.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::{Map, Value as Json};

use super::Fields;

/// How keys and values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// `a=b c="d e"`; a value without quotes may hold blanks, and Go's `map[a:b]` is an object.
    Logfmt,
    /// `a=b, c="d"`
    Comma,
    /// The extension of the ArcSight Common Event Format: `\=`, `\\` and `\n` are escapes.
    Cef,
}

/// Pairs of one line; further ones stay in the raw record alone.
const PAIRS_MAX: usize = 512;
/// Go maps in Go maps.
const MAP_DEPTH_MAX: usize = 8;

impl Pairs {
    pub(crate) const FORMS: [(&'static str, Pairs); 3] =
        [("logfmt", Pairs::Logfmt), ("comma", Pairs::Comma), ("cef", Pairs::Cef)];
}

/// Reads `key=value` pairs.
pub(super) fn read<'a>(text: &'a str, form: Pairs, fields: &mut Fields<'a>) {
    let mut rest = text;
    for _ in 0..PAIRS_MAX {
        let Some((key, after)) = next_key(rest) else { return };
        let wanted = fields.wants(key);
        if let Some(quoted) = after.strip_prefix('"').filter(|_| form != Pairs::Cef) {
            let end = quoted_end(quoted);
            if wanted {
                fields.put(key, unquoted(&quoted[..end]));
            }
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let end = plain_end(after, form);
        let value = after[..end].trim_end_matches([' ', '\t', ',', '\r', '\n']);
        rest = &after[end..];
        if wanted {
            match form {
                Pairs::Cef => fields.put(key, unescaped(value)),
                _ => match go_map(value, 0) {
                    Some((map, _)) => fields.put(key, map),
                    None => fields.put(key, value),
                },
            }
        }
    }
}

/// The next `key=`, and what follows it.
fn next_key(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',', '\r', '\n']);
        let end = rest.bytes().position(|b| matches!(b, b'=' | b' ' | b'\t' | b','))?;
        if end > 0 && rest[end..].starts_with('=') {
            return Some((&rest[..end], &rest[end + 1..]));
        }
        // A word without a value.
        rest = &rest[end + 1..];
    }
}

/// Where a value ends that stands in quotes. A quote that is not closed ends with the text.
fn quoted_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)).map(|i| from + i) {
        if bytes[at] == b'"' {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

/// What the text between quotes says.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other @ ('"' | '\\' | '/')) => value.push(other),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Cow::Owned(value)
}

/// Where the next pair begins: behind a separator, outside brackets, a word that is followed by `=`.
fn plain_end(text: &str, form: Pairs) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if form == Pairs::Cef => at += 1,
            b'[' | b'{' if form != Pairs::Cef => depth += 1,
            b']' | b'}' if form != Pairs::Cef => depth = depth.saturating_sub(1),
            b',' if depth == 0 && form == Pairs::Comma && begins_pair(&bytes[at + 1..]) => return at,
            b' ' | b'\t' if depth == 0 && form != Pairs::Comma && begins_pair(&bytes[at..]) => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Whether a key and `=` follow.
fn begins_pair(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    let key = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-.@/[]".contains(b)).count();
    key > 0 && bytes.get(key) == Some(&b'=')
}

/// What a value of CEF says.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => value.push(c),
            _ => match chars.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some(other) => value.push(other),
                None => value.push('\\'),
            },
        }
    }
    Cow::Owned(value)
}

/// Go's `map[a:b c:map[d:e] f:[g h]]` as an object; values reach to the next `key:`.
fn go_map(text: &str, depth: usize) -> Option<(Json, &str)> {
    let mut rest = text.strip_prefix("map[").filter(|_| depth < MAP_DEPTH_MAX)?;
    let mut map = Map::new();
    for _ in 0..PAIRS_MAX {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return Some((Json::Object(map), after));
        }
        let (key, after) = rest.split_once(':')?;
        let (value, next) = match go_map(after, depth + 1) {
            Some(inner) => inner,
            None => {
                let end = go_end(after);
                let value = after[..end].trim();
                (if value == "<nil>" { Json::Null } else { value.into() }, &after[end..])
            }
        };
        map.insert(key.to_owned(), value);
        rest = next;
    }
    None
}

/// Where a value of a Go map ends: at the map's end, or before the next `key:`.
fn go_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 0 => return at,
            b']' => depth -= 1,
            b' ' if depth == 0 => {
                let key =
                    bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b)).count();
                if key > 0 && bytes.get(at + 1 + key) == Some(&b':') {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, form: Pairs) -> Json {
        let mut fields = Fields { json: Vec::new(), keys: Vec::new(), wanted: &|_| true };
        read(text, form, &mut fields);
        serde_json::from_str(&fields.finish()).expect("JSON")
    }

    #[test]
    fn logfmt_with_quotes_blanks_and_go_maps() {
        let line = r#"time=2026-01-01T00:00:00Z level=info msg=started handling request user="a \"b\" c" empty= req=map[headers:map[accept:*/* ua:curl 8.0] path:/who am i query:<nil>] x=1"#;
        let expected = serde_json::json!({
            "time": "2026-01-01T00:00:00Z", "level": "info", "msg": "started handling request", "user": "a \"b\" c",
            "empty": "", "req": {"headers": {"accept": "*/*", "ua": "curl 8.0"}, "path": "/who am i", "query": null},
            "x": "1",
        });
        assert_eq!(pairs(line, Pairs::Logfmt), expected);
    }

    #[test]
    fn pairs_between_commas() {
        let line =
            r#"type=LOGIN, realmId=main, error="user, unknown", redirect_uri=https://a.example/?x=1,y, last=[a, b=c]"#;
        let expected = serde_json::json!({
            "type": "LOGIN", "realmId": "main", "error": "user, unknown", "redirect_uri": "https://a.example/?x=1,y",
            "last": "[a, b=c]",
        });
        assert_eq!(pairs(line, Pairs::Comma), expected);
    }

    #[test]
    fn the_extension_of_cef() {
        let line = r"rt=May 18 2012 11:41:48.452 src=192.0.2.1 msg=a\=b \\ c\nd cs1Label=Target URL cs1=http://x.example&p\=1 cs6={A\=b}";
        let expected = serde_json::json!({
            "rt": "May 18 2012 11:41:48.452", "src": "192.0.2.1", "msg": "a=b \\ c\nd", "cs1Label": "Target URL",
            "cs1": "http://x.example&p=1", "cs6": "{A=b}",
        });
        assert_eq!(pairs(line, Pairs::Cef), expected);
    }
}
