//! The receipt of an admission: what a sender can show later to ask whether its records are still there.
//!
//! ```text
//! mr1.<claims: base64url of JSON>.<HMAC-SHA256 of what comes before, base64url>
//! ```
//! The key is derived from the installation's, so whoever holds the data folder can check a receipt, and nobody else can
//! make one. A receipt holds no content of a record, only places, counts and the digest of the body as it was read
//! (BLAKE3 of the decompressed bytes, what `b3sum` prints).

use data_encoding::BASE64URL_NOPAD as BASE64;
use hmac::{Hmac, Mac};
use lake::log::Rows;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const VERSION: &str = "mr1";
const KEY_CONTEXT: &str = "muster 2026 receipts of admissions";
/// A body of the largest size allowed has far fewer pieces.
const TOKEN_BYTES_MAX: usize = 48 << 10;

/// Rows of one frame that an admission wrote: offset of the frame, index of the first row, number of rows, and the partition
/// of the log's own, 0 in the embedded log, which is one. In Kafka some of the rows may turn out to be duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place(pub u64, pub u32, pub u32, #[serde(default)] pub u32);

impl From<&Rows> for Place {
    fn from(rows: &Rows) -> Place {
        Place(rows.offset, rows.index, rows.count, rows.sequence as u32)
    }
}

/// What a receipt says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub tenant: String,
    pub door: String,
    pub source: String,
    /// Microseconds since the Unix epoch.
    pub received_at: i64,
    /// Always 0: the places say it.
    pub partition: i32,
    /// Records that came in.
    pub records: i64,
    /// Of these, such as had come before: their rows are elsewhere.
    pub duplicates: i64,
    /// BLAKE3 of the body.
    pub body: String,
    /// Where the events are.
    pub events: Vec<Place>,
    /// Where the quarantined records are.
    pub quarantine: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("this is not a receipt of Muster's")]
    Malformed,
    #[error("the receipt's signature does not hold: it was changed, or another installation gave it")]
    Forged,
}

/// Gives receipts and checks them.
#[derive(Clone)]
pub struct Receipts {
    key: [u8; 32],
}

impl Receipts {
    pub fn new(installation_key: &[u8; 32]) -> Receipts {
        Receipts { key: blake3::derive_key(KEY_CONTEXT, installation_key) }
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(signed.as_bytes());
        mac
    }

    pub fn give(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("texts and numbers are JSON");
        let signed = format!("{VERSION}.{}", BASE64.encode(&claims));
        let mac = BASE64.encode(&self.mac(&signed).finalize().into_bytes());
        format!("{signed}.{mac}")
    }

    pub fn check(&self, receipt: &str) -> Result<Claims, ReceiptError> {
        if receipt.len() > TOKEN_BYTES_MAX {
            return Err(ReceiptError::Malformed);
        }
        let (signed, mac) = receipt.rsplit_once('.').ok_or(ReceiptError::Malformed)?;
        let (version, claims) = signed.split_once('.').ok_or(ReceiptError::Malformed)?;
        if version != VERSION {
            return Err(ReceiptError::Malformed);
        }
        let mac = BASE64.decode(mac.as_bytes()).map_err(|_| ReceiptError::Malformed)?;
        self.mac(signed).verify_slice(&mac).map_err(|_| ReceiptError::Forged)?;
        let claims = BASE64.decode(claims.as_bytes()).map_err(|_| ReceiptError::Malformed)?;
        serde_json::from_slice(&claims).map_err(|_| ReceiptError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_back_and_any_change_shows() {
        let receipts = Receipts::new(&[7; 32]);
        let claims = Claims { tenant: "acme".into(), records: 3, events: vec![Place(9, 2, 3, 4)], ..Claims::default() };
        let token = receipts.give(&claims);
        assert_eq!(receipts.check(&token), Ok(claims));
        assert_eq!(Receipts::new(&[8; 32]).check(&token), Err(ReceiptError::Forged));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("is ASCII");
            assert!(receipts.check(&changed).is_err(), "{at}");
        }
        assert_eq!(receipts.check("mr1.x"), Err(ReceiptError::Malformed));
        // As versions wrote it that knew one sequence.
        let older: Place = serde_json::from_str("[9,2,3]").expect("reads");
        assert_eq!(older, Place(9, 2, 3, 0));
    }
}
