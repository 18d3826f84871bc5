//! Fingerprints: what the state holds instead of names.
//!
//! SipHash-1-3 under the installation's key: nobody who does not know the key can craft two names that collide, and the
//! value is the same on every machine and version, so that snapshots travel and replays agree (ahash promises neither;
//! it is used only for maps whose order nobody sees). Two agents share a 64-bit fingerprint once in 2^64 pairs.

use siphasher::sip::SipHasher13;

/// What a fingerprint is of: equal texts of two kinds have different fingerprints.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    Tenant,
    Agent,
    Owner,
    Source,
    Action,
    Resource,
    Session,
    Job,
    Scope,
    Organization,
    Hop,
    Grant,
    Credential,
    User,
    Order,
}

#[derive(Clone, Copy)]
pub(crate) struct Keyed([u64; 2]);

impl Keyed {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Keyed(key)
    }

    /// The fingerprint of `text` within `scope` (0, or the fingerprint that it belongs to). Never 0, which means "none".
    #[inline]
    pub(crate) fn of(self, kind: Of, scope: u64, text: &str) -> u64 {
        SipHasher13::new_with_keys(self.0[0] ^ kind as u64, self.0[1] ^ scope).hash(text.as_bytes()).max(1)
    }
}

/// A fingerprint that tells texts of one agent apart, without a key: who makes two collide looks like himself.
#[inline]
pub(crate) fn quick(text: &str) -> u64 {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let whole = words.iter().fold(text.len() as u64, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    mix(whole, little(rest))
}

/// Fewer than eight bytes as a number, the first the lowest.
#[inline]
fn little(bytes: &[u8]) -> u64 {
    let at = |at: usize| u64::from(bytes[at]) << (8 * at);
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let high = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
            u64::from(u32::from_le_bytes(*first)) | high
        }
        _ if bytes.is_empty() => 0,
        // The first, the middle and the last are all of one to three.
        _ => at(0) | at(bytes.len() / 2) | at(bytes.len() - 1),
    }
}

/// Joins two fingerprints into the key of a pair. Its inputs are keyed already, so mixing well is enough.
#[inline]
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b.rotate_left(29) ^ 0xd1b5_4a32_d192_ed03);
    (product as u64) ^ (product >> 64) as u64
}

/// A map by fingerprint. The keys are hashes already and the order is never shown.
pub(crate) type Map<V> = std::collections::HashMap<u64, V, ahash::RandomState>;

/// Writes a [`Map`] in the order of its keys, so that equal maps are equal bytes.
pub(crate) mod in_order {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Map, map};

    pub(crate) fn serialize<V: Serialize, S: Serializer>(map: &Map<V>, to: S) -> Result<S::Ok, S::Error> {
        let mut rows: Vec<_> = map.iter().collect();
        rows.sort_unstable_by_key(|(key, _)| **key);
        rows.serialize(to)
    }

    pub(crate) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Map<V>, D::Error> {
        let mut all = map();
        all.extend(Vec::<(u64, V)>::deserialize(from)?);
        Ok(all)
    }
}

pub(crate) fn map<V>() -> Map<V> {
    Map::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_are_a_number() {
        let bytes = [1, 2, 3, 4, 5, 6, 7];
        for len in 0..=bytes.len() {
            let one_by_one = bytes[..len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            assert_eq!(little(&bytes[..len]), one_by_one, "{len}");
        }
    }
}
