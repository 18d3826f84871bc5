//! Symbols: an action or resource without the ids in it, so that `GET /invoices/123` and `GET /invoices/124` are one.
//!
//! A word (letters and digits between other signs) that is an id becomes `*`: only digits; a UUID; hex digits, eight or
//! more with a digit among them; twelve or more signs with three digits or more among them. `v1`, `s3` and `oauth2` stay. Mappings
//! may have put templates in already (`/invoices/{id}`); those stay too. The names of actions are kept, up to a limit, so that
//! an explanation can say what a fingerprint stands for.

use crate::hash::{Map, map};

/// Longest name kept for explanations.
const NAME_CHARS_MAX: usize = 96;

/// `text` without its ids, in `scratch` if that differs from `text`.
pub(crate) fn template<'a>(text: &'a str, scratch: &'a mut String) -> &'a str {
    if !text.bytes().any(|b| b.is_ascii_digit()) {
        return text;
    }
    scratch.clear();
    let mut rest = text;
    while !rest.is_empty() {
        let word = word_len(rest);
        if word == 0 {
            let sign = rest.chars().next().map_or(1, char::len_utf8);
            scratch.push_str(&rest[..sign]);
            rest = &rest[sign..];
            continue;
        }
        scratch.push_str(if is_id(&rest[..word]) { "*" } else { &rest[..word] });
        rest = &rest[word..];
    }
    scratch
}

/// Appends an id as one spells it or another: without scheme, `www.`, a slash at the end, `.0` of a number, and case.
pub(crate) fn normal(text: &str, out: &mut String) {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.strip_prefix("www.").unwrap_or(text).trim_end_matches('/');
    let number = text.split_once('.').filter(|(whole, rest)| {
        !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit()) && rest.bytes().all(|b| b == b'0')
    });
    let text = number.map_or(text, |(whole, _)| whole);
    if !text.is_ascii() {
        return out.extend(text.chars().flat_map(char::to_lowercase));
    }
    let from = out.len();
    out.push_str(text);
    out[from..].make_ascii_lowercase();
}

/// The length of the word at the start of `text`; a UUID is one word.
fn word_len(text: &str) -> usize {
    if text.len() >= 36 && is_uuid(&text.as_bytes()[..36]) {
        return 36;
    }
    text.bytes().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(text.len())
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = || word.bytes().all(|b| b.is_ascii_hexdigit());
    digits == word.len()
        || word.contains('-')
        || (word.len() >= 8 && digits > 0 && hex())
        || (word.len() >= 12 && digits >= 3)
}

/// What fingerprints of actions stand for.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    known: Map<String>,
    names_max: usize,
}

impl Symbols {
    pub(crate) fn new(names_max: usize) -> Self {
        Symbols { known: map(), names_max }
    }

    pub(crate) fn restore(names_max: usize, rows: Vec<(u64, String)>) -> Self {
        let mut known = map();
        known.extend(rows);
        Symbols { known, names_max }
    }

    /// In order of fingerprints.
    pub(crate) fn rows(&self) -> Vec<(u64, String)> {
        let mut rows: Vec<_> = self.known.iter().map(|(key, name)| (*key, name.clone())).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// Remembers what `key` stands for.
    pub(crate) fn note(&mut self, key: u64, action: &str) {
        if self.known.len() < self.names_max && !self.known.contains_key(&key) {
            let name = template(action, &mut String::new()).chars().take(NAME_CHARS_MAX).collect();
            self.known.insert(key, name);
        }
    }

    pub(crate) fn name(&self, key: u64) -> &str {
        self.name_or(key, "(name not kept)")
    }

    pub(crate) fn name_or<'a>(&'a self, key: u64, otherwise: &'a str) -> &'a str {
        self.known.get(&key).map_or(otherwise, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_stars_and_versions_stay() {
        for (text, expected) in [
            ("GET /v1/invoices/123", "GET /v1/invoices/*"),
            ("GET /invoices/{id}", "GET /invoices/{id}"),
            ("s3:GetObject", "s3:GetObject"),
            ("app.oauth2.token.grant", "app.oauth2.token.grant"),
            ("/c/6fa459ea-ee8a-3ca4-894e-db77e160355e/x", "/c/*/x"),
            ("order:deadbeef01", "order:*"),
            ("cust_00u1a2b3c4d5e6f7", "cust_*"),
            ("ärger/7", "ärger/*"),
            ("sarah@example.com", "sarah@example.com"),
        ] {
            assert_eq!(template(text, &mut String::new()), expected, "{text}");
        }
    }

    #[test]
    fn one_destination_has_one_name() {
        for (text, expected) in [
            ("https://www.Example.com/", "example.com"),
            ("example.com", "example.com"),
            ("7.0", "7"),
            ("1.5", "1.5"),
            ("GB29NWBK60161331926819", "gb29nwbk60161331926819"),
        ] {
            let mut name = String::new();
            normal(text, &mut name);
            assert_eq!(name, expected, "{text}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let mut symbols = Symbols::new(1);
        symbols.note(1, "GetSecretValue");
        symbols.note(2, "ListInvoices");
        assert_eq!((symbols.name(1), symbols.name(2)), ("GetSecretValue", "(name not kept)"));
    }
}
