//! Takes secrets out of what is stored: raw records, quarantined bytes, and texts that a mapping copies into columns.
//!
//! Three nets: values of keys that name a secret (`client_secret`, `Authorization`, `set-cookie` …, and those that a
//! mapping declares), be they a text, a list or an object, or stand beside their name (`{"name": …, "value": …}`); values
//! of such parameters in query strings and pairs; and texts that look like a secret wherever they stand (JWTs, `Bearer …`,
//! tokens with a well-known prefix). A search for fragments of these decides first whether there is anything to do, since
//! most records hold none. JSON stays JSON, nested JSON in strings included.
//! Left out: secrets under a key that says nothing, in a form that nobody knows; names that a mapping says are none.

mod json;

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, Span};

use json::{Json, blanks};

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
/// Ends of names under which an object says what a token is (claims, lifetimes): only its values are secret.
const DESCRIBED: &[&str] = &["token", "secret", "jwt", "assertion"];
/// Further parameters of query strings, behind `?` or `&`.
const PARAMETERS: &[&str] = &["code", "sig", "key"];
/// Parameters that are secrets wherever they stand.
const SIGNATURES: &[&str] = &["signature", "xamzsignature"];

/// Beginnings of secrets: of tokens that tell their kind, schemes (with a blank behind), and [`JWT`].
///
/// Here and in [`FRAGMENTS`] every eighth pattern is looked for at once, by the sets of what its first bytes are: what
/// stands in one column is alike, or else of bytes so rare together that little else fits. In another order the search
/// takes four times as long, and finds the same. Spellings in another case, behind the rest, share their twins' place.
#[rustfmt::skip]
const BEGINNINGS: &[&str] = &[
    "npm_",    "gho_",  "glpat-",  "ghs_",    "sk-proj-", "sk_live_", "ATATT3", "AIza",
    "hvb.",    "DPoP ", "ghp_",    "Basic ",  "SSWS ",    "rk_live_", "xapp-",  "github_pat_",
    "hvs.",    "ghr_",  "Bearer ", "ghu_",    "xox",      "ya29.",    "shpat_", JWT,
    "sk-ant-", "whsec_",
    "hvr.", "bearer ", "BEARER ",
];
/// `{"` in base64.
const JWT: &str = "eyJ";
/// Parts of names, as they are written in keys and parameters. What the search costs hangs on how rare their beginnings
/// are in records: a part may stand for several names. `code\\` and the like are as CEF escapes them.
#[rustfmt::skip]
const FRAGMENTS: &[&str] = &[
    "sig\\",    "assw",      "pikey",  "ignature=", "oken",   "\"jwt",        "key\\",     "\"pwd",
    "sig=",     "key=",      "pi-key", "pi_key",    "ecret",  "uthorization", "vate_key", "code=",
    "ssertion", "assphrase", "ookie",
    "OKEN", "ECRET", "ASSW", "UTHORIZATION", "OOKIE", "piKey", "pi-Key", "PI_KEY", "PI-KEY", "vateKey", "code\\",
    "ignature\\",
];

/// Finds and masks secrets.
pub struct Masker {
    /// Fragments of names.
    names: Search,
    /// Beginnings of secrets: shapes, schemes, and JWTs.
    values: Search,
    extra: Vec<String>,
    not_secret: Vec<String>,
}

/// What a name says of its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    /// It is one, and so is everything inside.
    Whole,
    /// A text is one; an object describes it.
    Described,
}

impl Masker {
    /// `extra` are names of keys that the mapping declares to hold secrets, `not_secret` those that only sound so.
    pub fn new(extra: &[String], not_secret: &[String]) -> Masker {
        let known = |name: &&str| !FRAGMENTS.iter().any(|fragment| name.contains(fragment));
        let own = extra.iter().map(String::as_str).filter(known);
        let names: Vec<&str> = FRAGMENTS.iter().copied().chain(own).collect();
        Masker {
            names: Search::new(&names),
            values: Search::new(BEGINNINGS),
            extra: extra.iter().map(|name| plain(name)).collect(),
            not_secret: not_secret.iter().map(|name| plain(name)).collect(),
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
                if range.0 < copied {
                    return;
                }
                out.push_str(&text[copied..range.0]);
                out.push_str(with);
                copied = range.1;
                count += 1;
            };
            match (name, value) {
                (Some(hit), _) if hit.start == start => {
                    let inside = if matches!(bytes[hit.end - 1], b'=' | b'\\') { hit.end - 1 } else { hit.end };
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
        let slashes = json::slashes(bytes, end);
        let json = Json { bytes, slashes };
        match bytes.get(end + slashes) {
            Some(b'"') => {
                let after = blanks(bytes, end + slashes + 1);
                match bytes.get(after) {
                    Some(b':') => {
                        if let Some(secret) = self.secret(bytes, end, false) {
                            json.value(blanks(bytes, after + 1), secret == Secret::Whole, mask);
                        }
                    }
                    Some(b',' | b'}') => {
                        if let Some(pair) = json.pair(name_start(bytes, end))
                            && self.secret(bytes, end, false).is_some()
                        {
                            json.paired(pair, after, mask);
                        }
                    }
                    _ => {}
                }
            }
            Some(b'=') if self.secret(bytes, end, true).is_some() => {
                let value = parameter_value(bytes, end + slashes + 1, slashes);
                if !is_masked(&bytes[value.0..value.1]) {
                    mask(value, MASK);
                }
            }
            _ => {}
        }
    }

    /// What the name that ends at `end` says of its value, where it is one of a secret.
    fn secret(&self, bytes: &[u8], end: usize, parameter: bool) -> Option<Secret> {
        let (mut start, mut behind) = (name_start(bytes, end), false);
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
        let is = |known: &[&str]| known.iter().any(|known| name == known.as_bytes());
        let last = name.last();
        let ends = |known: &[&str]| known.iter().any(|k| k.as_bytes().last() == last && name.ends_with(k.as_bytes()));
        if self.not_secret.iter().any(|known| name == known.as_bytes()) {
            return None;
        }
        let own = self.extra.iter().any(|known| name.ends_with(known.as_bytes()));
        let of_url = || parameter && (is(SIGNATURES) || (behind && is(PARAMETERS)));
        if !(own || ends(NAMES) || is(WHOLE_NAMES) || of_url()) {
            return None;
        }
        Some(if !own && ends(DESCRIBED) { Secret::Described } else { Secret::Whole })
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
    match BEGINNINGS[hit.pattern] {
        JWT => json_web_token(bytes, hit.start),
        scheme if scheme.ends_with(' ') => scheme_value(bytes, hit.end),
        _ => token(bytes, hit.start, hit.end, 12),
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

/// Where the name that ends at `end` begins.
fn name_start(bytes: &[u8], end: usize) -> usize {
    end - bytes[..end].iter().rev().take(NAME_BYTES_MAX).take_while(|b| is_name(b)).count()
}

/// The value of a parameter: in quotes, or up to what cannot be part of one. With `slashes`, which stood before its `=`,
/// it is written as in CEF: a further `=` or backslash has as many before it.
fn parameter_value(bytes: &[u8], start: usize, slashes: usize) -> (usize, usize) {
    let quoted = Json { bytes, slashes: json::slashes(bytes, start) };
    let first = bytes.get(start + quoted.slashes + 1);
    // Behind the quote that ends a text there is no value.
    let opens = first.is_some_and(|b| !b.is_ascii_whitespace() && !b",:}]\\".contains(b));
    if let Some(value) = quoted.text_at(start).filter(|_| opens) {
        return value;
    }
    if bytes.get(start) == Some(&b'\'')
        && let Some(length) = bytes[start + 1..].iter().position(|b| *b == b'\'')
    {
        return (start + 1, start + 1 + length);
    }
    let mut end = start;
    while let Some(byte) = bytes.get(end) {
        let run = if slashes > 0 { json::slashes(bytes, end) } else { 0 };
        let escaped = run >= 2 * slashes || (run == slashes && matches!(bytes.get(end + run), Some(b'=' | b'|')));
        if run > 0 && escaped {
            end += run;
        } else if byte.is_ascii_whitespace() || b"&\"'\\;,#)<>".contains(byte) {
            break;
        }
        end += 1;
    }
    (start, end.min(bytes.len()))
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
    let odd = length >= 24 || bytes[end..end + length].iter().any(u8::is_ascii_digit);
    (alone && odd && length >= least).then_some((start, end + length))
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
        let masker = Masker::new(&["deviceSecretCode".to_owned()], &["Role-Password".to_owned()]);
        let count = masker.mask(text, &mut out);
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
            (r#"{"m":"x hvs.CAESIJabcdefghij01 hvb.AAAAAQabcdefghij01"}"#, r#"{"m":"x *** ***"}"#),
            (r#"{"m":"password=\"a b\" x","n":"pwd='c d'"}"#, r#"{"m":"password=\"***\" x","n":"pwd='***'"}"#),
            ("a=1 password=\"a b\" c=d", "a=1 password=\"***\" c=d"),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text).0, expected);
        }
    }

    #[test]
    fn secrets_inside_objects_and_lists_go() {
        let cases = [
            (
                r#"{"Authorization":{"scheme":"basic","credentials":["a",7,{"b":"c"}],"ok":true},"d":"e"}"#,
                r#"{"Authorization":{"scheme":"***","credentials":["***","***",{"b":"***"}],"ok":true},"d":"e"}"#,
            ),
            (
                r#"{"cookies":[{"name":"sid","value":"1"}],"a":"b"}"#,
                r#"{"cookies":[{"name":"***","value":"***"}],"a":"b"}"#,
            ),
            (r#"{"password": ["a", ["b"]], "c": 1}"#, r#"{"password": ["***", ["***"]], "c": 1}"#),
            (
                r#"{"m":"{\"password\":{\"a\":\"b\",\"c\":1},\"d\":\"e\"}"}"#,
                r#"{"m":"{\"password\":{\"a\":\"***\",\"c\":\"***\"},\"d\":\"e\"}"}"#,
            ),
            (
                r#"{"token":{"sub":"u","value":{"raw":"abc"},"exp":1},"b":1}"#,
                r#"{"token":{"sub":"u","value":{"raw":"***"},"exp":1},"b":1}"#,
            ),
            (r#"{"password":{"a":"cut o"#, r#"{"password":{"a":"***"#),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text).0, expected);
        }
        assert_eq!(masked(cases[0].0).1, 4, "each is counted");
    }

    #[test]
    fn secrets_beside_their_names_go() {
        let cases = [
            (
                r#"{"key":"authorization","value":{"stringValue":"Digest abc"}}"#,
                r#"{"key":"authorization","value":{"stringValue":"***"}}"#,
            ),
            (
                r#"[{"key":"http.request.header.cookie","value":{"arrayValue":{"values":[{"stringValue":"a"}]}}},{"key":"b","value":"c"}]"#,
                r#"[{"key":"http.request.header.cookie","value":{"arrayValue":{"values":[{"stringValue":"***"}]}}},{"key":"b","value":"c"}]"#,
            ),
            (r#"{"a":[{"value":"x\"y", "name" : "Api-Key"}]}"#, r#"{"a":[{"value":"***", "name" : "Api-Key"}]}"#),
            (
                r#"{"displayName":"Password","oldValue":"a","newValue":"[\"b\"]","x":"y"}"#,
                r#"{"displayName":"Password","oldValue":"***","newValue":"***","x":"y"}"#,
            ),
            (
                r#"{"m":"[{\"name\":\"client_secret\",\"value\":\"abc\",\"type\":\"t\"}]"}"#,
                r#"{"m":"[{\"name\":\"client_secret\",\"value\":\"***\",\"type\":\"t\"}]"}"#,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text), (expected.to_owned(), expected.matches("***").count() as u32));
        }
    }

    #[test]
    fn secrets_in_cef_go() {
        let cases = [
            (
                r"CEF:0|x|y|1|2|3|4|request=https://a.example/?code\=abc&client_secret\=d\=\=&x\=1 act=z",
                r"CEF:0|x|y|1|2|3|4|request=https://a.example/?code\=***&client_secret\=***&x\=1 act=z",
            ),
            (
                r#"{"message":"CEF:0|a|b request=/x?sig\\=ab\\\\c&y\\=1 cs1=\"token\\=t\""}"#,
                r#"{"message":"CEF:0|a|b request=/x?sig\\=***&y\\=1 cs1=\"token\\=***\""}"#,
            ),
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
            r#"{"role_password":{"a":"b"},"rolePassword":"c"}"#,
            r#"{"name":"CHANGE_PASSWORD","parameters":[{"name":"USER_EMAIL","value":"a@example.com"}]}"#,
            r#"{"eventName":"GetSessionToken","value":"x","m":"reset password","b":{"name":"change password","value":"x"}}"#,
            r#"{"refresh_token":{"expiration_type":"expiring","leeway":0},"jwt":{"sub":"u","scopes":["a"]}}"#,
            r#"{"url":"/a?token=","x":"y","m":"{\"u\":\"?token=\",\"v\":\"w\"}"}"#,
            r#"{"key":"grant_type","value":"password","amr":["pwd","mfa"]}"#,
        ];
        for text in cases {
            assert_eq!(masked(text), (text.to_owned(), 0));
        }
    }
}
