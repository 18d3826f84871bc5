//! Muster's own signature (RS256) on what others hold or pass on: the deny list and security event tokens.
//!
//! RSA, because every gateway and every receiver of shared signals can verify it. The key is the installation's; its public half
//! is published as a JSON Web Key Set.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

pub struct Signer {
    pair: RsaKeyPair,
    id: String,
    modulus: String,
    exponent: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key is not an RSA key in PKCS #8")]
pub struct KeyError;

impl Signer {
    /// A new key, in PKCS #8.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError)?;
        Ok(pair.as_der().map_err(|_| KeyError)?.as_ref().to_vec())
    }

    pub fn from_pkcs8(key: &[u8]) -> Result<Signer, KeyError> {
        let pair = RsaKeyPair::from_pkcs8(key).map_err(|_| KeyError)?;
        let public = pair.public_key().as_ref();
        let (modulus, exponent) = numbers(public).ok_or(KeyError)?;
        let id = schemas::id::digest([public])[..16].to_owned();
        let (modulus, exponent) = (BASE64URL_NOPAD.encode(modulus), BASE64URL_NOPAD.encode(exponent));
        Ok(Signer { id, modulus, exponent, pair })
    }

    /// `payload` as a JWS of this type, in the compact form.
    pub fn sign(&self, kind: &str, payload: &[u8]) -> String {
        let header = json!({"alg": "RS256", "typ": kind, "kid": self.id}).to_string();
        let message = format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(payload));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        signed.expect("the key was checked when it was read");
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    /// The JSON Web Key Set with the public half.
    pub fn keys(&self) -> Value {
        let key =
            json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": self.modulus, "e": self.exponent});
        json!({"keys": [key]})
    }
}

/// The two numbers of an RSA public key (PKCS #1, DER), without leading zeros.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = element(der, 0x30)?;
    let (modulus, rest) = element(sequence, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let trimmed = |number: &'_ [u8]| number.iter().take_while(|byte| **byte == 0).count();
    Some((&modulus[trimmed(modulus)..], &exponent[trimmed(exponent)..]))
}

/// The contents of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first().filter(|_| first == tag)?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    use super::*;

    #[test]
    fn the_published_key_verifies_what_was_signed() {
        let signer = Signer::from_pkcs8(&Signer::generate().expect("a key")).expect("is a key");
        let token = signer.sign("secevent+jwt", br#"{"iss":"x"}"#);
        let key = &signer.keys()["keys"][0];
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).expect("is base64");
        let part = |name: &str| decode(key[name].as_str().expect("is text"));
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let public = RsaPublicKeyComponents { n: part("n"), e: part("e") };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &decode(signature)).expect("verifies");
        assert!(public.verify(&RSA_PKCS1_2048_8192_SHA256, b"other", &decode(signature)).is_err());
        assert_eq!(decode(message.split_once('.').expect("two").1), br#"{"iss":"x"}"#);
    }

    #[test]
    fn nonsense_is_no_key() {
        assert_eq!(Signer::from_pkcs8(b"nonsense").err(), Some(KeyError));
        for cut in 0..8 {
            assert!(numbers(&[0x30, 0x07, 0x02, 0x02, 0x00, 0xff, 0x02, 0x01, 0x03][..cut]).is_none());
        }
    }
}
