//! Ids and partitions: digests of content, so that the same thing has the same name wherever it is computed.

/// A 128-bit digest of `parts`, as 32 hex digits. Each part is preceded by its length, so that no two lists of parts
/// run together into the same bytes.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    hex(digest_bytes(parts))
}

/// [`digest`] before it is written in hex.
pub fn digest_bytes<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(first)
}

/// A digest as 32 lower-case hex digits.
pub fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

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
    fn days_before_the_epoch_are_negative() {
        assert_eq!((day(0), day(-1), day(86_400_000_000)), (0, -1, 1));
    }
}
