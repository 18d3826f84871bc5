//! AWS Signature Version 4 of a GET request without a body, over the headers `host`, `x-amz-date` and the session token.
//!
//! All that IAM's query API needs of it. AWS's own crate would bring a second HTTP and credential stack for these lines.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use url::Url;

/// A key as AWS tools keep it.
pub(super) struct Key {
    pub(super) id: String,
    secret: String,
    pub(super) session: Option<String>,
}

impl Key {
    /// Reads the first profile of a file in the form of `~/.aws/credentials`.
    pub(super) fn parse(text: &str) -> Result<Key, String> {
        let value = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
            values.next().filter(|value| !value.is_empty())
        };
        let missing = |name: &str| format!("it holds no `{name} = …`");
        Ok(Key {
            id: value("aws_access_key_id").ok_or_else(|| missing("aws_access_key_id"))?,
            secret: value("aws_secret_access_key").ok_or_else(|| missing("aws_secret_access_key"))?,
            session: value("aws_session_token"),
        })
    }
}

/// The value of `authorization`; `date` is the value of `x-amz-date` (`20150830T123600Z`).
pub(super) fn authorization(key: &Key, url: &Url, date: &str, region: &str, service: &str) -> String {
    let host = url.host_str().unwrap_or("");
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut headers = format!("host:{host}\nx-amz-date:{date}\n");
    let mut signed = "host;x-amz-date".to_owned();
    if let Some(session) = &key.session {
        headers.push_str(&format!("x-amz-security-token:{session}\n"));
        signed.push_str(";x-amz-security-token");
    }
    let request = format!("GET\n{}\n{}\n{headers}\n{signed}\n{}", url.path(), query(url), hex(&Sha256::digest(b"")));
    let day = date.get(..8).unwrap_or(date);
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let mut signing = format!("AWS4{}", key.secret).into_bytes();
    for part in [day, region, service, "aws4_request", &text] {
        signing = hmac(&signing, part.as_bytes());
    }
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}", key.id, hex(&signing))
}

/// The query's parameters, encoded as AWS wants them and sorted.
fn query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> = url.query_pairs().map(|(k, v)| (encoded(&k), encoded(&v))).collect();
    pairs.sort();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

/// RFC 3986: all but unreserved characters as `%XX`.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get-vanilla` and `get-vanilla-query-order-key-case` of AWS's published test suite.
    #[test]
    fn the_published_examples_agree() {
        let text = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n";
        let key = Key::parse(text).expect("is a key");
        for (url, signature) in [
            ("https://example.amazonaws.com/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let url = Url::parse(url).expect("is a url");
            let signed = authorization(&key, &url, "20150830T123600Z", "us-east-1", "service");
            let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=";
            assert_eq!(signed, format!("{expected}{signature}"));
        }
        assert!(Key::parse("aws_access_key_id = x").err().expect("is none").contains("aws_secret_access_key"));
    }
}
