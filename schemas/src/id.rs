//! Ids and partitions: digests of content, so that the same thing has the same name wherever it is computed.

/// A 128-bit digest of `parts`, as 32 hex digits. Each part is preceded by its length, so that no two lists of parts
/// run together into the same bytes.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    hex(digest_bytes(parts))
}

/// [`digest`] before it is written in hex.
pub fn digest_bytes<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    // Ids are short: the parts are laid side by side and hashed at once, as long as they fit.
    let mut hasher: Option<blake3::Hasher> = None;
    let (mut kept, mut used) = ([0; KEPT_BYTES], 0);
    for part in parts {
        for bytes in [&(part.len() as u64).to_le_bytes(), part] {
            if used + bytes.len() > KEPT_BYTES {
                hasher.get_or_insert_default().update(&kept[..used]);
                used = 0;
            }
            match kept.get_mut(used..used + bytes.len()) {
                Some(space) => {
                    space.copy_from_slice(bytes);
                    used += bytes.len();
                }
                None => {
                    hasher.get_or_insert_default().update(bytes);
                }
            }
        }
    }
    let hash = match hasher {
        Some(mut hasher) => hasher.update(&kept[..used]).finalize(),
        None => blake3::hash(&kept[..used]),
    };
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

const KEPT_BYTES: usize = 256;

/// A digest as 32 lower-case hex digits.
pub fn hex(digest: u128) -> String {
    hex_digits(digest).iter().map(|b| char::from(*b)).collect()
}

/// [`hex`] without a `String`.
pub fn hex_digits(digest: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The partition of an event: one agent's events (else one user's) stay in order within it.
pub fn partition(tenant: &str, agent: Option<&str>, user: Option<&str>, partitions: u32) -> i32 {
    let (kind, who) = match (agent, user) {
        (Some(agent), _) => ("agent", agent),
        (None, Some(user)) => ("user", user),
        (None, None) => ("none", ""),
    };
    (digest_bytes([tenant.as_bytes(), kind.as_bytes(), who.as_bytes()]) % u128::from(partitions.max(1))) as i32
}

/// The UTC day of a time: days since 1970-01-01.
pub fn day(time_micros: i64) -> i32 {
    time_micros.div_euclid(86_400_000_000) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]));
        assert_eq!(digest([&b"a"[..]]).len(), 32);
    }

    #[test]
    fn long_parts_are_hashed_as_short_ones_are() {
        for length in [0, 100, 240, 248, 249, 256, 257, 1000] {
            let part = vec![7; length];
            let mut plain = Vec::new();
            for part in [&part[..], b"end"] {
                plain.extend((part.len() as u64).to_le_bytes());
                plain.extend(part);
            }
            let expected = blake3::hash(&plain).to_hex()[..32].to_owned();
            assert_eq!(digest([&part[..], b"end"]), expected, "{length}");
        }
    }

    #[test]
    fn days_before_the_epoch_are_negative() {
        assert_eq!((day(0), day(-1), day(86_400_000_000)), (0, -1, 1));
    }
}
