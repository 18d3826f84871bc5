//! Standard Webhooks 1.0.0 (symmetric `v1` signatures): how a message is signed, and how a receiver checks one.
//!
//! The signature is over `id.timestamp.body`, the body as sent. A receiver also refuses an old timestamp, and remembers ids:
//! a message may come twice, with the same `webhook-id`. Asymmetric `v1a` signatures are left out until switches need them.

use std::fmt;
use std::str::FromStr;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

pub const ID: &str = "webhook-id";
pub const TIMESTAMP: &str = "webhook-timestamp";
pub const SIGNATURE: &str = "webhook-signature";

/// A signing secret; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` and 24 to 64 bytes in base64")]
pub struct SecretError;

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix("whsec_").ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SecretError);
        }
        Ok(Secret(bytes))
    }
}

/// Why a message is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the header {0} is missing or not text")]
    Header(&'static str),
    #[error("the timestamp is too far from now")]
    Timestamp,
    #[error("no signature matches")]
    Signature,
}

fn mac(secret: &Secret, id: &str, timestamp_secs: i64, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key of any length will do");
    mac.update(format!("{id}.{timestamp_secs}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The value of the header `webhook-signature`.
pub fn sign(secret: &Secret, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(mac(secret, id, timestamp_secs, body)))
}

/// Checks that a holder of `secret` sent `body` within `tolerance_secs` of `now_secs`; returns the message's id. Compares in
/// constant time.
pub fn verify<'a>(
    secret: &Secret,
    headers: &'a HeaderMap,
    body: &[u8],
    now_secs: i64,
    tolerance_secs: i64,
) -> Result<&'a str, VerifyError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(VerifyError::Header(name));
    let (id, timestamp, signatures) = (text(ID)?, text(TIMESTAMP)?, text(SIGNATURE)?);
    let timestamp_secs: i64 = timestamp.parse().map_err(|_| VerifyError::Header(TIMESTAMP))?;
    if now_secs.saturating_sub(timestamp_secs).saturating_abs() > tolerance_secs {
        return Err(VerifyError::Timestamp);
    }
    let expected = mac(secret, id, timestamp_secs, body);
    // A sender that changes its secret signs with both for a while.
    let matches = |signature: &str| {
        let given = signature.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
        given.is_some_and(|given| bool::from(given.ct_eq(&expected)))
    };
    if signatures.split(' ').any(matches) { Ok(id) } else { Err(VerifyError::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that Standard Webhooks publishes.
    fn published() -> (Secret, HeaderMap, &'static [u8]) {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("is a secret");
        let mut headers = HeaderMap::new();
        headers.insert(ID, "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("is text"));
        headers.insert(TIMESTAMP, "1614265330".parse().expect("is text"));
        let signature = "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        headers.insert(SIGNATURE, signature.parse().expect("is text"));
        (secret, headers, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_published_example_verifies() {
        let (secret, headers, body) = published();
        assert_eq!(
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(verify(&secret, &headers, body, 1614265340, 300), Ok("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    }

    #[test]
    fn anything_changed_is_refused() {
        let (secret, headers, body) = published();
        assert_eq!(verify(&secret, &headers, b"{}", 1614265330, 300), Err(VerifyError::Signature));
        assert_eq!(verify(&secret, &headers, body, 1614265631, 300), Err(VerifyError::Timestamp));
        let mut other = headers.clone();
        other.insert(ID, "msg_other".parse().expect("is text"));
        assert_eq!(verify(&secret, &other, body, 1614265330, 300), Err(VerifyError::Signature));
        other.remove(SIGNATURE);
        assert_eq!(verify(&secret, &other, body, 1614265330, 300), Err(VerifyError::Header(SIGNATURE)));
    }

    #[test]
    fn a_secret_is_long_enough_and_never_printed() {
        assert_eq!("whsec_c2hvcnQ=".parse::<Secret>(), Err(SecretError));
        assert_eq!("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse::<Secret>(), Err(SecretError));
        assert_eq!(format!("{:?}", published().0), "***");
    }
}
