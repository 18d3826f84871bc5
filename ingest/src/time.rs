//! Times as vendors write them: ISO with 0 to 9 digits of a second, with or without a zone; the common log format; and
//! epochs in seconds, milliseconds, microseconds or nanoseconds, told apart by their size.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// A unit of epoch times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// By size: below 10^11 seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.
    BySize,
    Seconds,
    Millis,
    Micros,
    Nanos,
}

/// Years 1970 to 2199: outside, a number is no time.
const MICROS_MAX: i64 = 7_258_118_400_000_000;

pub(crate) fn from_epoch(number: f64, unit: Unit) -> Option<i64> {
    let size = number.abs();
    let unit = match unit {
        Unit::BySize if size < 1e11 => Unit::Seconds,
        Unit::BySize if size < 1e14 => Unit::Millis,
        Unit::BySize if size < 1e17 => Unit::Micros,
        Unit::BySize => Unit::Nanos,
        unit => unit,
    };
    let micros = match unit {
        Unit::Seconds => number * 1e6,
        Unit::Millis => number * 1e3,
        Unit::Nanos => number / 1e3,
        Unit::Micros | Unit::BySize => number,
    };
    (micros.is_finite() && micros >= 0.0 && micros < MICROS_MAX as f64).then_some(micros.round() as i64)
}

pub(crate) fn from_text(text: &str, unit: Unit) -> Option<i64> {
    let text = text.trim();
    let micros = iso(text.as_bytes()).or_else(|| {
        // Fourteen digits that begin like a year of this age are a date: as milliseconds they would be one before 1971
        // or after 2500.
        let date = text.len() >= 14 && text.starts_with("20") && text.bytes().take(14).all(|b| b.is_ascii_digit());
        if date && !text.as_bytes().get(14).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        from_epoch(text.parse().ok()?, unit)
    });
    micros.or_else(|| other(text)).filter(|m| (0..MICROS_MAX).contains(m))
}

/// `2024-05-06T07:08:09.123456789Z`, also with a space, without a zone (UTC), or with an offset.
fn iso(text: &[u8]) -> Option<i64> {
    if text.len() < 19 || text[4] != b'-' || text[7] != b'-' || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let number = |from: usize, to: usize| digits(&text[from..to]);
    let date = NaiveDate::from_ymd_opt(number(0, 4)? as i32, number(5, 7)? as u32, number(8, 10)? as u32)?;
    if text[13] != b':' || text[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(&text[19..])?;
    let days = i64::from(date.to_epoch_days());
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    Some(seconds * 1_000_000 + fraction)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

/// Microseconds of a fraction, and what follows it. Digits past the sixth are cut.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    if !matches!(text.first(), Some(b'.' | b',')) {
        return Some((0, text));
    }
    let end = text[1..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |i| i + 1);
    let kept = &text[1..end.min(7)];
    let micros = digits(kept)? * 10_i64.pow(6 - kept.len() as u32);
    Some((micros, &text[end..]))
}

/// Seconds east of UTC of `Z`, `+01:00`, `+0100`, `+01`, ` UTC` or nothing.
fn offset(zone: &[u8]) -> Option<i64> {
    let zone = zone.trim_ascii();
    if zone.is_empty() || zone.eq_ignore_ascii_case(b"z") || zone.eq_ignore_ascii_case(b"utc") {
        return Some(0);
    }
    let sign = match zone[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = match zone.len() {
        3 => (digits(&zone[1..3])?, 0),
        5 => (digits(&zone[1..3])?, digits(&zone[3..5])?),
        6 => (digits(&zone[1..3])?, digits(&zone[4..6])?),
        _ => return None,
    };
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// Forms without a zone are UTC.
const ZONELESS: [&str; 9] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y%m%d%H%M%S%.f",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d %Y %H:%M:%S%.f",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y, %I:%M:%S%.f %p",
    "%d/%b/%Y:%H:%M:%S%.f",
    "%a %b %d %H:%M:%S %Y",
];

/// `06/Apr/2026:07:59:59 +0000`, RFC 2822, and what else logs hold.
fn other(text: &str) -> Option<i64> {
    let zoned = ["%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%d %H:%M:%S%.f %z", "%b %d %Y %H:%M:%S%.f %z"];
    let zoned = zoned.iter().find_map(|form| DateTime::parse_from_str(text, form).ok());
    if let Some(zoned) = zoned.or_else(|| DateTime::parse_from_rfc2822(text).ok()) {
        return Some(zoned.timestamp_micros());
    }
    let text = text.trim_end_matches("UTC").trim_end().replace(',', ".");
    let read = |form: &&str| NaiveDateTime::parse_from_str(&text, &form.replace(',', ".")).ok();
    ZONELESS.iter().find_map(read).map(|t| t.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> Option<i64> {
        from_text(text, Unit::BySize)
    }

    #[test]
    fn the_same_second_in_every_form() {
        let second = 1_775_462_399_000_000;
        let forms = [
            "2026-04-06T07:59:59Z",
            "2026-04-06 07:59:59",
            "2026-04-06T09:59:59+02:00",
            "2026-04-06T07:59:59.000000000Z",
            "06/Apr/2026:07:59:59 +0000",
            "1775462399",
            "1775462399000",
            "1775462399000000",
            "1775462399000000000",
            "Mon, 06 Apr 2026 07:59:59 +0000",
            "4/6/2026 7:59:59 AM",
            "4/6/2026, 7:59:59.000 AM",
            "Apr 06 2026 07:59:59.000",
            "20260406075959.000",
            "2026/04/06 07:59:59",
            "2026-04-06 7:59:59,000",
            "2026-04-06 07:59:59.000 UTC",
        ];
        for form in forms {
            assert_eq!(micros(form), Some(second), "{form}");
        }
    }

    #[test]
    fn fractions_have_any_number_of_digits() {
        assert_eq!(micros("1970-01-01T00:00:00.5Z"), Some(500_000));
        assert_eq!(micros("1970-01-01 00:00:00.123456789"), Some(123_456));
        assert_eq!(micros("1970-01-01T00:00:00.Z"), Some(0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "-",
            "2026-13-01T00:00:00Z",
            "2026-04-06T25:00:00Z",
            "yesterday",
            "NaN",
            "inf",
            "-5",
            "2026-04-06T07:59:59 CEST",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
