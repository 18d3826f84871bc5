//! Takes secrets out of what is stored: raw records, quarantined bytes, and texts that a mapping copies into columns.
//!
//! Three nets: values of keys that name a secret (`client_secret`, `Authorization`, `set-cookie` …, and those that a
//! mapping declares), values of such parameters in query strings, and texts that look like a secret wherever they stand
//! (JWTs, `Bearer …`, tokens with a well-known prefix). A search for fragments of these decides first whether there is
//! anything to do, since most records hold none. JSON stays JSON, nested JSON in strings included.
//! Left out: secrets under a key that says nothing, in a form that nobody knows.

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, Span};

/// What stands where a secret was.
const MASK: &str = "***";

/// Names of secrets, without case and separators. A key that ends in one holds a secret.
const NAMES: &[&str] = &[
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authtoken",
    "sessiontoken",
    "securitytoken",
    "bearertoken",
    "apitoken",
    "csrftoken",
    "xsrftoken",
    "clientsecret",
    "sharedsecret",
    "secretkey",
    "secretaccesskey",
    "secretstring",
    "secretbinary",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "cookie",
    "setcookie",
    "cookies",
    "apikey",
    "xapikey",
    "privatekey",
    "clientassertion",
    "assertion",
    "subjecttoken",
    "actortoken",
    "devicetoken",
    "statetoken",
];
/// Names that are secrets only by themselves, since longer keys that end so are not (`nextToken`).
const WHOLE_NAMES: &[&str] = &["token", "secret", "jwt", "pwd"];
/// Further parameters of query strings, behind `?` or `&`.
const PARAMETERS: &[&str] = &["code", "sig", "key"];
/// Parameters that are secrets wherever they stand.
const SIGNATURES: &[&str] = &["signature", "xamzsignature"];

/// Beginnings of tokens that tell their kind.
const SHAPES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxe-",
    "AIza",
    "glpat-",
    "sk-proj-",
    "sk-ant-",
    "sk_live_",
    "rk_live_",
];
const SCHEMES: &[&str] = &["Bearer ", "bearer ", "BEARER ", "Basic ", "SSWS ", "DPoP "];
/// Parts of names, as they are written in keys and parameters. What the search costs hangs on how many beginnings of
/// three letters there are, and how rare these are in records: a part may stand for several names.
const FRAGMENTS: &[&str] = &[
    "oken",
    "OKEN",
    "ecret",
    "ECRET",
    "assw",
    "ASSW",
    "assphrase",
    "uthorization",
    "UTHORIZATION",
    "ookie",
    "OOKIE",
    "pikey",
    "piKey",
    "pi_key",
    "pi-key",
    "pi-Key",
    "PI_KEY",
    "PI-KEY",
    "vate_key",
    "vateKey",
    "ssertion",
    "pwd\"",
    "\"jwt",
    "code=",
    "sig=",
    "ignature=",
    "key=",
];

/// Finds and masks secrets.
pub struct Masker {
    /// Fragments of names.
    names: Search,
    /// Beginnings of secrets: shapes, schemes, and JWTs.
    values: Search,
    extra: Vec<String>,
}

impl Masker {
    /// `extra` are names of keys that the mapping declares to hold secrets.
    pub fn new(extra: &[String]) -> Masker {
        let names: Vec<&str> = FRAGMENTS.iter().copied().chain(extra.iter().map(String::as_str)).collect();
        let values: Vec<&str> = SHAPES.iter().chain(SCHEMES).copied().chain(["eyJ"]).collect();
        Masker {
            names: Search::new(&names),
            values: Search::new(&values),
            extra: extra.iter().map(|name| plain(name)).collect(),
        }
    }

    /// Writes `text` with its secrets masked to `out` and says how many there were. With none, `out` stays empty.
    pub fn mask(&self, text: &str, out: &mut String) -> u32 {
        out.clear();
        let bytes = text.as_bytes();
        let (mut count, mut copied) = (0, 0);
        let mut name = self.names.find(bytes, 0);
        let mut value = self.values.find(bytes, 0);
        while let Some(start) = name.into_iter().chain(value).map(|hit| hit.start).min() {
            let mut mask = |range: (usize, usize), with: &str| {
                out.push_str(&text[copied..range.0]);
                out.push_str(with);
                copied = range.1;
                count += 1;
            };
            match (name, value) {
                (Some(hit), _) if hit.start == start => {
                    let inside = if matches!(bytes[hit.end - 1], b'=' | b'"') { hit.end - 1 } else { hit.end };
                    self.named(bytes, inside, &mut mask);
                }
                (_, Some(hit)) => secret(bytes, hit).into_iter().for_each(|range| mask(range, MASK)),
                (_, None) => {}
            }
            let from = copied.max(start + 1);
            name = name.and_then(|hit| self.names.again(bytes, hit, from));
            value = value.and_then(|hit| self.values.again(bytes, hit, from));
        }
        if count > 0 {
            out.push_str(&text[copied..]);
        }
        count
    }

    /// A fragment ends at `end`: masks the value where the name around it is that of a secret.
    fn named(&self, bytes: &[u8], end: usize, mask: &mut impl FnMut((usize, usize), &str)) {
        let end = end + bytes[end..].iter().take(NAME_BYTES_MAX).take_while(|b| is_name(b)).count();
        let slashes = bytes[end..].iter().take_while(|b| **b == b'\\').count();
        match bytes.get(end + slashes) {
            Some(b'"') => {
                let value = blanks(bytes, end + slashes + 1);
                if bytes.get(value) == Some(&b':') && self.is_secret(bytes, end, false) {
                    json_value(bytes, blanks(bytes, value + 1), slashes, mask);
                }
            }
            Some(b'=') if slashes == 0 && self.is_secret(bytes, end, true) => {
                let start = end + 1;
                let stop = |b: &u8| b.is_ascii_whitespace() || b"&\"'\\;,#)<>".contains(b);
                let length = bytes[start..].iter().position(stop).unwrap_or(bytes.len() - start);
                if !is_masked(&bytes[start..start + length]) {
                    mask((start, start + length), MASK);
                }
            }
            _ => {}
        }
    }

    /// Whether the name that ends at `end` is one of a secret.
    fn is_secret(&self, bytes: &[u8], end: usize, parameter: bool) -> bool {
        let length = bytes[..end].iter().rev().take(NAME_BYTES_MAX).take_while(|b| is_name(b)).count();
        let (mut start, mut behind) = (end - length, false);
        if parameter {
            // JSON may write `&` as \u0026.
            let escaped = start > 0 && bytes[start - 1] == b'\\' && bytes[start..end].starts_with(b"u0026");
            start += if escaped { 5 } else { 0 };
            behind = escaped || (start > 0 && matches!(bytes[start - 1], b'?' | b'&'));
        }
        // A flattened export ends names of texts in `_s`.
        let name = bytes[start..end].strip_suffix(b"_s").unwrap_or(&bytes[start..end]);
        let mut kept = [0; NAME_BYTES_MAX];
        let name = plain_into(name, &mut kept);
        NAMES.iter().any(|known| name.ends_with(known.as_bytes()))
            || self.extra.iter().any(|known| name.ends_with(known.as_bytes()))
            || WHOLE_NAMES.iter().any(|known| name == known.as_bytes())
            || (parameter && SIGNATURES.iter().any(|known| name == known.as_bytes()))
            || (behind && PARAMETERS.iter().any(|known| name == known.as_bytes()))
    }
}

/// A search for a few short patterns, fast while they are no more than 32.
struct Search {
    packed: Option<packed::Searcher>,
    fallback: AhoCorasick,
}

#[derive(Clone, Copy)]
struct Hit {
    pattern: usize,
    start: usize,
    end: usize,
}

impl Search {
    fn new(patterns: &[&str]) -> Search {
        Search {
            packed: packed::Config::new().builder().extend(patterns).build(),
            fallback: AhoCorasick::builder()
                .match_kind(aho_corasick::MatchKind::LeftmostFirst)
                .build(patterns)
                .expect("a few short patterns fit"),
        }
    }

    fn find(&self, text: &[u8], from: usize) -> Option<Hit> {
        let span = Span { start: from, end: text.len() };
        let found = match &self.packed {
            Some(packed) if text.len() - from >= packed.minimum_len() => packed.find_in(text, span),
            _ => self.fallback.find(aho_corasick::Input::new(text).span(span)),
        };
        found.map(|m| Hit { pattern: m.pattern().as_usize(), start: m.start(), end: m.end() })
    }

    /// The hit itself where it lies at `from` or behind, else the next one.
    fn again(&self, text: &[u8], hit: Hit, from: usize) -> Option<Hit> {
        if hit.start >= from { Some(hit) } else { self.find(text, from) }
    }
}

/// The secret that begins at a hit among the values.
fn secret(bytes: &[u8], hit: Hit) -> Option<(usize, usize)> {
    match hit.pattern {
        shape if shape < SHAPES.len() => token(bytes, hit.start, hit.end, 12),
        scheme if scheme < SHAPES.len() + SCHEMES.len() => scheme_value(bytes, hit.end),
        _ => json_web_token(bytes, hit.start),
    }
}

/// Longer names are looked at from their end.
const NAME_BYTES_MAX: usize = 64;

fn is_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// [`plain`] of so much of a name as there is room for.
fn plain_into<'k>(name: &[u8], kept: &'k mut [u8; NAME_BYTES_MAX]) -> &'k [u8] {
    let letters = name.iter().filter(|b| b.is_ascii_alphanumeric());
    let used = kept.iter_mut().zip(letters).map(|(to, from)| *to = from.to_ascii_lowercase()).count();
    &kept[..used]
}

fn blanks(bytes: &[u8], from: usize) -> usize {
    from + bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// Masks the value that begins at `at`: a text, a number, or the texts of an array. In JSON nested in a string each
/// quote has `slashes` backslashes before it.
fn json_value(bytes: &[u8], at: usize, slashes: usize, mask: &mut impl FnMut((usize, usize), &str)) {
    match bytes.get(at) {
        Some(b'[') => {
            let mut at = blanks(bytes, at + 1);
            while let Some((start, end)) = text_at(bytes, at, slashes) {
                if !is_masked(&bytes[start..end]) {
                    mask((start, end), MASK);
                }
                at = blanks(bytes, end + slashes + 1);
                if bytes.get(at) != Some(&b',') {
                    return;
                }
                at = blanks(bytes, at + 1);
            }
        }
        Some(b'0'..=b'9' | b'-') if slashes == 0 => {
            let length = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
            mask((at, at + length), "\"***\"");
        }
        _ => {
            if let Some((start, end)) =
                text_at(bytes, at, slashes).filter(|(start, end)| !is_masked(&bytes[*start..*end]))
            {
                mask((start, end), MASK);
            }
        }
    }
}

/// What stands between the quotes of the text at `at`.
fn text_at(bytes: &[u8], at: usize, slashes: usize) -> Option<(usize, usize)> {
    let opening = bytes.get(at..at + slashes + 1)?;
    if !opening[..slashes].iter().all(|b| *b == b'\\') || opening[slashes] != b'"' {
        return None;
    }
    let start = at + slashes + 1;
    let mut run = 0;
    for (i, byte) in bytes[start..].iter().enumerate() {
        match byte {
            b'\\' => run += 1,
            // A quote inside has more backslashes, in steps that the nesting gives.
            b'"' if run % (2 * (slashes + 1)) == slashes => return Some((start, start + i - slashes)),
            _ => run = 0,
        }
    }
    // Cut off: everything there is belongs to it.
    Some((start, bytes.len()))
}

/// Whether there is nothing to hide: empty, or hidden already.
fn is_masked(value: &[u8]) -> bool {
    let first = value.first().copied().unwrap_or(b'*');
    value.iter().all(|b| *b == first && matches!(b, b'*' | b'x' | b'X' | b'-' | b'.'))
        || value.starts_with(b"HIDDEN_DUE_TO")
        || value.eq_ignore_ascii_case(b"redacted")
        || value.eq_ignore_ascii_case(b"null")
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A token with a well-known beginning, from `start`; behind the beginning it has `least` or more characters.
fn token(bytes: &[u8], start: usize, end: usize, least: usize) -> Option<(usize, usize)> {
    let alone = start == 0 || !is_token(&bytes[start - 1]);
    let length = bytes[end..].iter().take_while(|b| is_token(b)).count();
    let digit = bytes[end..end + length].iter().any(u8::is_ascii_digit);
    (alone && digit && length >= least).then_some((start, end + length))
}

/// What stands behind `Bearer `, where it is no word.
fn scheme_value(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let part = |b: &&u8| is_token(b) || b".~+/=".contains(b);
    let length = bytes[start..].iter().take_while(part).count();
    let value = &bytes[start..start + length];
    let odd = value.iter().any(|b| b.is_ascii_digit() || *b == b'=') || length >= 24;
    (length >= 8 && odd).then_some((start, start + length))
}

/// `eyJ….eyJ….signature`, or two parts of it.
fn json_web_token(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    if start > 0 && is_token(&bytes[start - 1]) {
        return None;
    }
    let mut end = start + bytes[start..].iter().take_while(|b| is_token(b)).count();
    let header = end - start;
    let mut parts = 0;
    while parts < 4 && bytes.get(end) == Some(&b'.') {
        let length = bytes[end + 1..].iter().take_while(|b| is_token(b)).count();
        end += 1 + length;
        parts += 1;
    }
    (header >= 10 && parts > 0).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> (String, u32) {
        let mut out = String::new();
        let count = Masker::new(&["deviceSecretCode".to_owned()]).mask(text, &mut out);
        (if count == 0 { text.to_owned() } else { out }, count)
    }

    #[test]
    fn secrets_go() {
        let cases = [
            (r#"{"client_secret":"s3cr3t","a":1}"#, r#"{"client_secret":"***","a":1}"#),
            (r#"{"Authorization": ["Bearer abc", "abc"]}"#, r#"{"Authorization": ["***", "***"]}"#),
            (r#"{"password":12345}"#, r#"{"password":"***"}"#),
            (r#"{"x":"{\"password\":\"a\\\"b\",\"y\":\"z\"}"}"#, r#"{"x":"{\"password\":\"***\",\"y\":\"z\"}"}"#),
            (r#"{"newPassword":"a\"b","x":"y"}"#, r#"{"newPassword":"***","x":"y"}"#),
            (r#"{"path":"/a?access_token=abc&x=1"}"#, r#"{"path":"/a?access_token=***&x=1"}"#),
            (r#"{"t":"eyJhbGciOiJI.eyJzdWIiOiIx.c2ln"}"#, r#"{"t":"***"}"#),
            ("GET /x Bearer abcdef123456 end", "GET /x Bearer *** end"),
            (r#"{"sessionToken":"AgoJb3"}"#, r#"{"sessionToken":"***"}"#),
            (r#"{"set-cookie":"sid=1"}"#, r#"{"set-cookie":"***"}"#),
            (r#"{"deviceSecretCode":"77"}"#, r#"{"deviceSecretCode":"***"}"#),
            (r#"{"debugContext_clientSecret_s":"77"}"#, r#"{"debugContext_clientSecret_s":"***"}"#),
            (r#"{"m":"key is ghp_abcdefghij0123456789"}"#, r#"{"m":"key is ***"}"#),
            (r#"{"url":"/a?x=1\u0026sig=abc&code=de"}"#, r#"{"url":"/a?x=1\u0026sig=***&code=***"}"#),
            (r#"{"secretAccessKey":"77","x_password_s":"1"}"#, r#"{"secretAccessKey":"***","x_password_s":"***"}"#),
            (r#"{"token":"cut off"#, r#"{"token":"***"#),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text).0, expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let cases = [
            r#"{"nextToken":"abc","tokenId":"t","eventType":"app.oauth2.token.grant.access_token"}"#,
            r#"{"passwordChanged":true,"password":null,"password_last_used":"x"}"#,
            r#"{"client_id":"******","clientSecret":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#,
            r#"{"m":"Basic authentication","n":"the bearer says","type":"access_token"}"#,
            r#"{"m":"exit code=5 key=7","secretKeyId":"x","statusCode":"y"}"#,
            r#"{"secretId":"arn:aws:secretsmanager:1","risk-level":"sk-y"}"#,
        ];
        for text in cases {
            assert_eq!(masked(text), (text.to_owned(), 0));
        }
    }
}
