//! What happened, and how each vendor would have logged it: one file a vendor, one function a kind of record.
//!
//! Written from the vendors' documented formats; no real record is copied. Every record ends with a line feed.

pub mod aws_cloudtrail;
pub mod envoy;
pub mod kong;
pub mod okta;

use std::net::Ipv4Addr;

use fastrand::Rng;

/// A software principal as its systems know it.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The OAuth client id at Okta, and so `azp` in a token.
    pub id: String,
    pub name: String,
    /// Mail address of who answers for it.
    pub owner: Option<String>,
    pub user_agent: String,
    pub address: Ipv4Addr,
    /// Its consumer at Kong, and the id of the key it calls with there.
    pub consumer: Uuid,
    pub key: Uuid,
}

/// A person on whose behalf agents act.
#[derive(Clone, Debug)]
pub struct User {
    /// The id at Okta, and so `sub` in a token.
    pub id: String,
    pub mail: String,
    pub name: String,
    pub address: Ipv4Addr,
}

/// An access token and the session it was granted in.
#[derive(Clone, Debug)]
pub struct Token {
    pub jti: String,
    pub session: String,
    pub issuer: &'static str,
    /// Granted scopes, separated by a space.
    pub scopes: &'static str,
    pub issued_secs: i64,
    /// `None`: the token shows no expiry.
    pub expires_secs: Option<i64>,
    /// Ids of the agents before the holder in a chain of delegation, the nearest first.
    pub delegated_by: Vec<String>,
}

/// One call of an API through a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub time_micros: i64,
    pub id: Uuid,
    pub agent: &'a Agent,
    pub user: Option<&'a User>,
    pub token: Option<&'a Token>,
    pub service: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub duration_ms: i64,
    pub bytes_in: i64,
    pub bytes_out: i64,
}

/// Prints as a version 4 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl Uuid {
    pub fn random(rng: &mut Rng) -> Uuid {
        let variant = rng.u128(..) & !(0xf << 76) & !(0x3 << 62);
        Uuid(variant | 0x4 << 76 | 0x2 << 62)
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mut text = [b'-'; 36];
        let mut at = 0;
        for nibble in 0..32 {
            if matches!(nibble, 8 | 12 | 16 | 20) {
                at += 1;
            }
            text[at] = b"0123456789abcdef"[(self.0 >> (124 - 4 * nibble)) as usize & 0xf];
            at += 1;
        }
        f.write_str(str::from_utf8(&text).expect("hex digits are text"))
    }
}

/// An id of the kind Okta gives: `prefix`, then letters and digits up to `length` in all.
pub(crate) fn short_id(rng: &mut Rng, prefix: &str, length: usize) -> String {
    let mut id = String::with_capacity(length);
    id.push_str(prefix);
    while id.len() < length {
        id.push(rng.alphanumeric());
    }
    id
}

impl Token {
    /// A token as Okta issues it, of a new session.
    pub fn issue(rng: &mut Rng, issuer: &'static str, scopes: &'static str, issued_secs: i64, life_secs: i64) -> Token {
        Token {
            jti: short_id(rng, "AT.", 46),
            session: short_id(rng, "102", 25),
            issuer,
            scopes,
            issued_secs,
            expires_secs: Some(issued_secs + life_secs),
            delegated_by: Vec::new(),
        }
    }
}
