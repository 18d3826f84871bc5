//! Standard Webhooks 1.0.0: how a message is signed, and how a receiver checks one.
//!
//! The signature is over `id.timestamp.body`, the body as sent. A receiver also refuses an old timestamp, and remembers ids:
//! a message may come twice, with the same `webhook-id`. A shared secret
//! (`whsec_…`) signs with HMAC-SHA256 (`v1`), a private key (`whsk_…`) with Ed25519 (`v1a`); its public key (`whpk_…`) verifies only.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use axum::http::HeaderMap;
use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

pub const ID: &str = "webhook-id";
pub const TIMESTAMP: &str = "webhook-timestamp";
pub const SIGNATURE: &str = "webhook-signature";

/// What signs or verifies; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Key);

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Shared(Vec<u8>),
    /// The seed of an Ed25519 key, and its public half.
    Private([u8; 32], [u8; 32]),
    Public([u8; 32]),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` and 24 to 64 bytes in base64, or `whsk_` and the 32 bytes of an Ed25519 seed")]
pub struct SecretError;

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (prefix, encoded) = text.trim().split_once('_').ok_or(SecretError)?;
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| SecretError)?;
        match prefix {
            "whsec" if (24..=64).contains(&bytes.len()) => Ok(Secret(Key::Shared(bytes))),
            "whsk" => {
                // Some tools append the public half.
                let seed = bytes.get(..32).filter(|_| matches!(bytes.len(), 32 | 64)).ok_or(SecretError)?;
                let seed: [u8; 32] = seed.try_into().map_err(|_| SecretError)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SecretError)?;
                let public = pair.public_key().as_ref().try_into().map_err(|_| SecretError)?;
                Ok(Secret(Key::Private(seed, public)))
            }
            "whpk" => Ok(Secret(Key::Public(bytes.try_into().map_err(|_| SecretError)?))),
            _ => Err(SecretError),
        }
    }
}

impl Secret {
    /// Whether it can sign, not only verify.
    pub(crate) fn signs(&self) -> bool {
        !matches!(self.0, Key::Public(_))
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

fn mac(secret: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn signed(id: &str, timestamp_secs: i64, body: &[u8]) -> Vec<u8> {
    [format!("{id}.{timestamp_secs}.").as_bytes(), body].concat()
}

/// The value of the header `webhook-signature`; empty where the secret only verifies.
pub fn sign(secret: &Secret, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
    let message = signed(id, timestamp_secs, body);
    match &secret.0 {
        Key::Shared(secret) => format!("v1,{}", BASE64.encode(&mac(secret, &message))),
        Key::Private(seed, _) => {
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("the seed was checked when it was read");
            format!("v1a,{}", BASE64.encode(pair.sign(&message).as_ref()))
        }
        Key::Public(_) => String::new(),
    }
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
    let message = signed(id, timestamp_secs, body);
    // A sender that changes its secret signs with both for a while.
    let decoded = |signature: &str, version: &str| BASE64.decode(signature.strip_prefix(version)?.as_bytes()).ok();
    let matches = |signature: &str| match &secret.0 {
        Key::Shared(secret) => {
            decoded(signature, "v1,").is_some_and(|given| bool::from(given.ct_eq(&mac(secret, &message))))
        }
        Key::Private(_, public) | Key::Public(public) => decoded(signature, "v1a,")
            .is_some_and(|given| UnparsedPublicKey::new(&ED25519, public).verify(&message, &given).is_ok()),
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

    /// The key pair of RFC 8032, section 7.1, test 1.
    #[test]
    fn an_ed25519_key_signs_and_its_public_half_verifies() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("is hex")).collect()
        };
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let private: Secret = format!("whsk_{}", BASE64.encode(&seed)).parse().expect("is a key");
        let public: Secret = format!("whpk_{}", BASE64.encode(&public)).parse().expect("is a key");
        let signature = sign(&private, "msg_1", 1_614_265_330, b"{}");
        assert!(signature.starts_with("v1a,") && private.signs() && !public.signs());
        let mut headers = HeaderMap::new();
        headers.insert(ID, "msg_1".parse().expect("is text"));
        headers.insert(TIMESTAMP, "1614265330".parse().expect("is text"));
        headers.insert(SIGNATURE, signature.parse().expect("is text"));
        for key in [&private, &public] {
            assert_eq!(verify(key, &headers, b"{}", 1_614_265_330, 300), Ok("msg_1"));
            assert_eq!(verify(key, &headers, b"{ }", 1_614_265_330, 300), Err(VerifyError::Signature));
        }
        let (shared, _, _) = published();
        assert_eq!(verify(&shared, &headers, b"{}", 1_614_265_330, 300), Err(VerifyError::Signature));
    }

    #[test]
    fn a_secret_is_long_enough_and_never_printed() {
        assert_eq!("whsec_c2hvcnQ=".parse::<Secret>(), Err(SecretError));
        assert_eq!("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse::<Secret>(), Err(SecretError));
        assert_eq!(format!("{:?}", published().0), "***");
    }
}
