//! A record with stand-ins for what it says about people, systems and secrets, so that it can be kept as a fixture.
//!
//! Kept are keys, times, truth values, small numbers, and texts that the caller says are words of the vendor's own. Everything
//! else becomes something of the same kind; equal values become equal stand-ins.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::guess::{is_address, is_time};
use super::sample::nested;

/// Numbers of more digits name something.
const KEPT_NUMBER_MAX: u64 = 999_999;
/// Parts of the names of secrets, without case and separators.
const SECRETS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "apikey",
    "authorization",
    "cookie",
    "assertion",
    "privatekey",
    "signature",
    "otp",
];

/// Stand-ins by what they stand for.
#[derive(Default)]
pub(super) struct StandIns {
    known: HashMap<String, String>,
    /// Stand-ins of secrets, with the key of each.
    pub(super) secrets: Vec<(String, String)>,
}

impl StandIns {
    /// The record with stand-ins. `kept` says whether a text is a word of the vendor's own.
    pub(super) fn record(&mut self, record: &Value, kept: &dyn Fn(&str) -> bool) -> Value {
        self.value("", record, kept)
    }

    fn value(&mut self, key: &str, value: &Value, kept: &dyn Fn(&str) -> bool) -> Value {
        match value {
            Value::Object(object) => {
                let inner = object.iter().map(|(key, value)| (key.clone(), self.value(key, value, kept)));
                Value::Object(inner.collect::<Map<_, _>>())
            }
            Value::Array(items) => items.iter().map(|item| self.value(key, item, kept)).collect(),
            Value::String(text) => Value::String(self.text(key, text, kept)),
            Value::Number(number) => self.number(number),
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }

    fn number(&mut self, number: &Number) -> Value {
        let digits = number.to_string();
        if number.is_f64() && !is_time(&digits) {
            return Value::from(0.5);
        }
        if number.as_u64().is_some_and(|n| n <= KEPT_NUMBER_MAX) || is_time(&digits) {
            return Value::Number(number.clone());
        }
        let stand_in = self.stand_in("number", &digits, |n| (KEPT_NUMBER_MAX as usize + n).to_string());
        stand_in.parse::<u64>().map_or(Value::from(0), Value::from)
    }

    fn text(&mut self, key: &str, text: &str, kept: &dyn Fn(&str) -> bool) -> String {
        if is_secret(key, text) {
            let secret = self.stand_in("secret", text, |n| format!("fixture-secret-{n}"));
            if !self.secrets.iter().any(|(_, known)| *known == secret) {
                self.secrets.push((key.to_owned(), secret.clone()));
            }
            return secret;
        }
        if let Some(inner) = nested(text) {
            return self.value(key, &inner, kept).to_string();
        }
        if text.is_empty() || text == "-" || is_time(text) || kept(text) || matches!(text, "true" | "false" | "null") {
            return text.to_owned();
        }
        if text.parse::<u64>().is_ok_and(|n| n <= KEPT_NUMBER_MAX) {
            return text.to_owned();
        }
        if is_address(text) {
            let six = text.matches(':').count() > 1;
            return self.stand_in("address", text, |n| {
                if six { format!("2001:db8::{n}") } else { format!("203.0.113.{}", n % 254 + 1) }
            });
        }
        if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| scheme.len() <= 8) {
            return self.stand_in("url", text, |n| format!("{scheme}://host.example/part-{n}"));
        }
        if let Some(rest) = text.strip_prefix('/') {
            let first: String = rest.chars().take_while(char::is_ascii_alphanumeric).take(16).collect();
            return self.stand_in("path", text, |n| format!("/{first}/part-{n}"));
        }
        if text.contains('@') {
            return self.stand_in("mail", text, |n| format!("user-{n}@mail.example"));
        }
        if is_uuid(text) {
            return self.stand_in("uuid", text, |n| format!("00000000-0000-4000-8000-{n:012}"));
        }
        self.stand_in("text", text, |n| format!("text-{n}"))
    }

    fn stand_in(&mut self, kind: &str, text: &str, make: impl Fn(usize) -> String) -> String {
        let next = 1 + self.known.len();
        self.known.entry(format!("{kind} {text}")).or_insert_with(|| make(next)).clone()
    }
}

fn is_secret(key: &str, text: &str) -> bool {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let named = SECRETS.iter().any(|part| key.contains(part)) || key.ends_with("token");
    named && !text.is_empty() || text.starts_with("eyJ") || text.starts_with("Bearer ") || text.starts_with("Basic ")
}

fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| if dashes.contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() })
}
