//! Symbols: an action or resource without the ids in it, so that `GET /invoices/123` and `GET /invoices/124` are one.
//!
//! A word (letters and digits between other signs) that is an id becomes `*`: only digits; a UUID; hex digits, eight or
//! more with a digit among them; twelve or more signs with three digits or more among them. `v1`, `s3` and `oauth2` stay. Mappings
//! may have put templates in already (`/invoices/{id}`); those stay too. The names of actions are kept, up to a limit, so that
//! an explanation can say what a fingerprint stands for.

use crate::hash::{Map, map};

/// Longest name kept for explanations.
const NAME_CHARS_MAX: usize = 96;

/// Appends `text` without its ids.
pub(crate) fn template(text: &str, out: &mut String) {
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        let word = Word::first(&text.as_bytes()[at..]);
        if word.is_id() {
            out.push_str(&text[copied..at]);
            out.push('*');
            copied = at + word.len;
        }
        // A word ends before a sign, or before what follows a UUID.
        at += word.len.max(1);
    }
    out.push_str(&text[copied..]);
}

/// Appends an id as one spells it or another: without scheme, `www.`, a slash at the end, `.0` of a number, and case.
pub(crate) fn normal(text: &str, out: &mut String) {
    let text = text.trim();
    let scheme = text.match_indices(':').find(|(at, _)| text[at + 1..].starts_with("//"));
    let text = scheme.map_or(text, |(at, _)| &text[at + 3..]);
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

/// Letters and digits between other signs, or a UUID: how many, how many of them are digits, and hex digits.
#[derive(Default)]
struct Word {
    len: usize,
    digits: usize,
    hex: usize,
    is_uuid: bool,
}

impl Word {
    /// The word at the start of `text`; empty where another sign is.
    #[inline]
    fn first(text: &[u8]) -> Self {
        let mut word = Word::default();
        for byte in text.iter().take_while(|byte| byte.is_ascii_alphanumeric()) {
            word.len += 1;
            word.digits += usize::from(byte.is_ascii_digit());
            word.hex += usize::from(byte.is_ascii_hexdigit());
        }
        if word.len == 8 && word.hex == 8 && text.first_chunk().is_some_and(is_uuid) {
            return Word { len: UUID_BYTES, is_uuid: true, ..word };
        }
        word
    }

    #[inline]
    fn is_id(&self) -> bool {
        let Word { len, digits, hex, is_uuid } = *self;
        is_uuid || digits > 0 && (digits == len || len >= 8 && hex == len || len >= 12 && digits >= 3)
    }
}

const UUID_BYTES: usize = 36;

fn is_uuid(bytes: &[u8; UUID_BYTES]) -> bool {
    bytes.iter().enumerate().all(|(i, b)| match i {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
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
            let mut name = String::new();
            template(action, &mut name);
            self.known.insert(key, name.chars().take(NAME_CHARS_MAX).collect());
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
            ("7ärger8", "*ärger8"),
            ("6fa459ea-ee8a-3ca4-894e-db77e160355e7", "**"),
            ("6fa459ea-ee8a", "*-ee8a"),
            ("sarah@example.com", "sarah@example.com"),
            ("", ""),
        ] {
            let mut out = "(".to_owned();
            template(text, &mut out);
            assert_eq!(out.strip_prefix('('), Some(expected), "{text}");
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
