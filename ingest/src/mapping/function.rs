//! The small functions a mapping may apply to a value: `path | name argument …`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::IpAddr;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memchr2, memrchr};
use regex::{CaptureLocations, Regex};

use super::decoded::Form;
use super::expr::{Record, Value};
use crate::time::{self, Unit};

#[derive(Clone, Debug)]
pub(crate) enum Function {
    /// Microseconds from an epoch of a stated unit; without it, times are read by their form and size.
    Epoch(Unit),
    /// The address without port, brackets and IPv4-in-IPv6 prefix; another text stays as it is.
    Ip,
    /// As `ip`, and nothing where it is no address.
    IpOnly,
    Before(Separator),
    After(Separator),
    Last(String),
    Part(Separator, usize),
    Split(Vec<char>),
    StripPrefix(String),
    StripSuffix(String),
    Lower,
    Upper,
    Replace(String, String),
    /// Zeros on the left, up to so many characters.
    Pad(usize),
    /// The path of a URL: no scheme, host, query or fragment.
    UrlPath,
    /// A path with ids as `{id}`.
    Route,
    Times(f64),
    /// A row of a table of the mapping.
    Lookup(usize),
    /// The first group of a regular expression.
    Capture(usize),
    /// A keyed hash: an id for a secret.
    Hash,
    /// A claim of a JWT, with or without `Bearer `.
    Jwt(Vec<String>),
    /// A key of base64-encoded JSON.
    Base64(Vec<String>),
}

/// Name, number of arguments and meaning of each function, for reference pages and error messages.
pub(crate) const FUNCTIONS: &[(&str, usize, &str)] = &[
    ("epoch", 1, "a time in `s`, `ms`, `us` or `ns` since 1970; without it the unit is told by size"),
    ("ip", 0, "the address without port and brackets; a host name stays"),
    ("ip_only", 0, "as `ip`, and nothing where it is no address"),
    ("before", 1, "what stands before the first occurrence of a text"),
    ("after", 1, "what stands after the first occurrence of a text"),
    ("last", 1, "what stands after the last occurrence of a text"),
    ("part", 2, "the part with a number, from 0, of a text split at a separator"),
    ("split", 1, "a list, split at any of the characters; blanks around items go"),
    ("strip_prefix", 1, "without this beginning"),
    ("strip_suffix", 1, "without this end"),
    ("lower", 0, "in lower case"),
    ("upper", 0, "in upper case"),
    ("replace", 2, "each occurrence of a text replaced by another"),
    ("pad", 1, "zeros on the left, up to so many characters"),
    ("url_path", 0, "the path of a URL, without the query"),
    ("route", 0, "a path with ids in it as `{id}`"),
    ("times", 1, "multiplied by a number"),
    ("lookup", 1, "the row of a table of this mapping"),
    ("capture", 1, "the first group of a regular expression"),
    ("hash", 0, "a keyed hash, to name a secret without keeping it"),
    ("jwt", 1, "a claim of a JWT; `a.b` for a nested one"),
    ("base64", 1, "a key of base64-encoded JSON"),
];

impl Function {
    pub(crate) fn apply<'a>(&'a self, value: &Value<'a>, record: &Record<'a, '_>) -> Value<'a> {
        match self {
            Function::Epoch(unit) => {
                value.number().and_then(|n| time::from_epoch(n, *unit)).map_or(Value::None, Value::Int)
            }
            Function::Times(factor) => value.number().map_or(Value::None, |n| Value::Float(n * factor)),
            Function::Lookup(table) => {
                let table = &record.tables[*table];
                let row = value.as_text().and_then(|text| table.find(&text));
                row.map_or(Value::None, |row| Value::Text(Cow::Borrowed(&table.rows[row][0])))
            }
            Function::Hash => value.as_text().map_or(Value::None, |text| own(keyed_hash(record.secret_key, &text))),
            Function::Jwt(claim) => record.decoded.value(value, Form::Jwt, claim),
            Function::Base64(key) => record.decoded.value(value, Form::Base64, key),
            Function::Lower => cut(value, |text| own(text.to_lowercase())),
            Function::Upper => cut(value, |text| own(text.to_uppercase())),
            Function::Replace(from, to) => cut(value, |text| own(text.replace(from.as_str(), to))),
            Function::Pad(width) => cut(value, |text| own(format!("{text:0>width$}"))),
            Function::Route => cut(value, route),
            Function::Ip => cut(value, |text| part(address(text))),
            Function::IpOnly => {
                let is_one = |text: &&str| text.parse::<IpAddr>().is_ok();
                cut(value, |text| part(Some(address(text)).filter(is_one).unwrap_or_default()))
            }
            Function::Before(at) => cut(value, |text| part(at.once(text).map_or(text, |(before, _)| before).trim())),
            Function::After(at) => cut(value, |text| part(at.once(text).map_or("", |(_, after)| after))),
            Function::Last(at) => cut(value, |text| part(text.rsplit(at.as_str()).next().unwrap_or_default())),
            Function::Part(at, n) => cut(value, |text| part(at.part(text, *n).unwrap_or_default())),
            Function::Split(at) => cut(value, |text| part(pieces(text, at).next().unwrap_or_default())),
            Function::StripPrefix(prefix) => {
                cut(value, |text| part(text.strip_prefix(prefix.as_str()).unwrap_or(text)))
            }
            Function::StripSuffix(suffix) => {
                cut(value, |text| part(text.strip_suffix(suffix.as_str()).unwrap_or(text)))
            }
            Function::UrlPath => cut(value, |text| part(url_path(text))),
            Function::Capture(regex) => cut(value, |text| {
                let found = record.slots.places.first(record.regexes, *regex, text);
                part(found.map_or("", |(start, end)| &text[start..end]))
            }),
        }
    }
}

/// A text that separates others, prepared to be looked for.
#[derive(Clone, Debug)]
pub(crate) struct Separator(Finder<'static>);

impl Separator {
    pub(crate) fn new(text: &str) -> Separator {
        Separator(Finder::new(text).into_owned())
    }

    /// What stands before its first occurrence, and what behind.
    fn once<'t>(&self, text: &'t str) -> Option<(&'t str, &'t str)> {
        let at = self.0.find(text.as_bytes())?;
        Some((&text[..at], &text[at + self.0.needle().len()..]))
    }

    fn part<'t>(&self, text: &'t str, number: usize) -> Option<&'t str> {
        let rest = (0..number).try_fold(text, |rest, _| self.once(rest).map(|(_, behind)| behind))?;
        Some(self.once(rest).map_or(rest, |(part, _)| part))
    }
}

/// What stands between separators, without blanks around it, where that is anything.
pub(crate) fn pieces<'t>(text: &'t str, separators: &[char]) -> impl Iterator<Item = &'t str> {
    text.split(|c| separators.contains(&c)).map(str::trim).filter(|piece| !piece.is_empty())
}

/// Where the groups of a mapping's regular expressions were found, kept for the next text.
#[derive(Default)]
pub(crate) struct Places(RefCell<Vec<CaptureLocations>>);

impl Places {
    /// The place of the first group of an expression.
    pub(crate) fn first(&self, regexes: &[Regex], number: usize, text: &str) -> Option<(usize, usize)> {
        let mut places = self.0.borrow_mut();
        if places.is_empty() {
            places.extend(regexes.iter().map(Regex::capture_locations));
        }
        let places = &mut places[number];
        regexes[number].captures_read(places, text).and_then(|_| places.get(1))
    }
}

/// Applies a function from text to a part of it, or to a text made of it.
#[inline(always)]
fn cut<'a>(value: &Value<'a>, f: impl for<'t> Fn(&'t str) -> Value<'t>) -> Value<'a> {
    match value {
        Value::Text(Cow::Borrowed(text)) => f(text),
        made => cut_made(made, &f),
    }
}

/// The same for a text that does not outlive the value.
fn cut_made<'a>(value: &Value<'_>, f: &dyn for<'t> Fn(&'t str) -> Value<'t>) -> Value<'a> {
    let text = value.as_text().and_then(|text| Some(f(&text).into_text()?.into_owned()));
    text.map_or(Value::None, own)
}

/// A part of a text; an empty one is nothing.
fn part(text: &str) -> Value<'_> {
    if text.is_empty() { Value::None } else { Value::Text(Cow::Borrowed(text)) }
}

/// A text made of another; an empty one is nothing.
fn own<'a>(text: String) -> Value<'a> {
    if text.is_empty() { Value::None } else { Value::Text(Cow::Owned(text)) }
}

/// An id for a secret: 32 hex digits that say nothing without this installation's key.
pub(crate) fn keyed_hash(key: &[u8; 32], secret: &str) -> String {
    blake3::keyed_hash(key, secret.as_bytes()).to_hex()[..32].to_owned()
}

/// `10.0.0.1:80`, `[::1]:80`, `::ffff:10.0.0.1` → the address.
fn address(text: &str) -> &str {
    let text = text.trim();
    let bare = match text.strip_prefix('[') {
        Some(after) => after.split(']').next().unwrap_or(after),
        None => match (memchr(b':', text.as_bytes()), memrchr(b':', text.as_bytes())) {
            (Some(only), Some(last)) if only == last => &text[..only],
            _ => text,
        },
    };
    let mapped = bare.get(..7).is_some_and(|p| p.eq_ignore_ascii_case("::ffff:")) && bare.contains('.');
    if mapped { &bare[7..] } else { bare }
}

fn url_path(text: &str) -> &str {
    let text = &text[..memchr2(b'?', b'#', text.as_bytes()).unwrap_or(text.len())];
    match memchr_iter(b':', text.as_bytes()).find(|at| text[*at..].starts_with("://")) {
        Some(scheme) => text[scheme + 3..].find('/').map_or("/", |slash| &text[scheme + 3 + slash..]),
        None => text,
    }
}

/// A path whose segments that look like ids stand as `{id}`, so that one action has one name.
fn route(path: &str) -> Value<'_> {
    let (mut named, mut copied, mut start) = (String::new(), 0, 0);
    for segment in path.split('/') {
        let end = start + segment.len();
        if is_id(segment) {
            named.push_str(&path[copied..start]);
            named.push_str("{id}");
            copied = end;
        }
        start = end + 1;
    }
    if copied == 0 {
        return part(path);
    }
    named.push_str(&path[copied..]);
    own(named)
}

/// Digits; a UUID; eight or more hex digits with a decimal among them; or a long word of letters and many digits.
fn is_id(segment: &str) -> bool {
    if segment.len() > 128 || segment.contains('@') {
        return true;
    }
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~=.:%".contains(&b));
    let hex = segment.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let version = segment.len() <= 6 && segment.starts_with(['v', 'V']);
    digits == segment.len()
        || (hex && segment.len() >= 8)
        || (plain && !version && segment.len() >= 4 && digits * 3 >= segment.len())
        || (plain && segment.len() >= 16 && digits >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_cut_as_the_standard_library_does() {
        for text in ["a-b-c", "a--b", "--", "", "é-ü", "-a", "b-"] {
            for at in ["-", "--", "é", "a-b-c"] {
                let separator = Separator::new(at);
                assert_eq!(separator.once(text), text.split_once(at), "{text} at {at}");
                for number in 0..4 {
                    assert_eq!(separator.part(text, number), text.split(at).nth(number), "{text} at {at}, {number}");
                }
            }
        }
    }

    #[test]
    fn the_path_of_a_url_is_what_is_no_host_and_no_query() {
        let cases = [
            ("/a/b?x=https://c/d", "/a/b"),
            ("https://h:8443/p/q#f", "/p/q"),
            ("https://h", "/"),
            ("/proxy/http://x/y", "/y"),
            ("a:b/c", "a:b/c"),
        ];
        for (text, expected) in cases {
            assert_eq!(url_path(text), expected);
        }
    }

    #[test]
    fn addresses() {
        let cases = [
            ("10.0.0.1:80", "10.0.0.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("AWS Internal", "AWS Internal"),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text), expected);
        }
    }

    #[test]
    fn ids_in_paths_have_one_name() {
        let cases = [
            ("/invoices/123", "/invoices/{id}"),
            ("/v2/users/00u1abvz4pYqdM8ms4x6/roles", "/v2/users/{id}/roles"),
            ("/orders/9fcc7101-13bd-9753-98d6-820806088d9d", "/orders/{id}"),
            ("/api/oauth2/v1/token", "/api/oauth2/v1/token"),
            ("/users/jo@example.com", "/users/{id}"),
            ("/inv_000123", "/{id}"),
            ("/", "/"),
        ];
        for (path, expected) in cases {
            assert_eq!(route(path), part(expected));
        }
    }
}
