//! Writes JSON objects straight into bytes: no tree, no allocation, keys in the order they are written.
//!
//! A generator that builds a tree per record would be slower than what it measures. Texts are escaped by serde_json;
//! keys are ours and need no escaping.

use std::fmt::Display;
use std::io::Write;

use chrono::{DateTime, Datelike, Timelike};

/// Writing into a `Vec` has no way to fail.
const INFALLIBLE: &str = "writing to memory does not fail";

/// An object that is being written.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    /// Appends one object, with whatever `fill` puts in it.
    pub(crate) fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object)) {
        out.push(b'{');
        fill(&mut Object { out, first: true });
        out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        serde_json::to_writer(&mut *self.out, value).expect(INFALLIBLE);
        self
    }

    pub(crate) fn optional(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, "null"),
        }
    }

    pub(crate) fn int(&mut self, key: &str, value: i64) -> &mut Self {
        self.key(key);
        write!(self.out, "{value}").expect(INFALLIBLE);
        self
    }

    /// A text whose printed form needs no escaping: an address, an id, words of ours put together.
    pub(crate) fn shown(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.key(key);
        write!(self.out, "\"{value}\"").expect(INFALLIBLE);
        self
    }

    /// JSON that is already written.
    pub(crate) fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
        self
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(crate) fn time(&mut self, key: &str, micros: i64) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        write_seconds(self.out, micros);
        let millis = micros.rem_euclid(1_000_000) / 1_000;
        self.out.push(b'.');
        digits(self.out, millis as u32, 3);
        self.out.extend_from_slice(b"Z\"");
        self
    }

    /// RFC 3339 in UTC with whole seconds.
    pub(crate) fn time_seconds(&mut self, key: &str, micros: i64) -> &mut Self {
        self.key(key);
        self.out.push(b'"');
        write_seconds(self.out, micros);
        self.out.extend_from_slice(b"Z\"");
        self
    }

    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object)) -> &mut Self {
        self.key(key);
        Object::write(self.out, fill);
        self
    }

    /// An array of objects, one for each item.
    pub(crate) fn objects<T>(&mut self, key: &str, items: &[T], fill: impl Fn(&mut Object, &T)) -> &mut Self {
        self.key(key);
        self.out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, |object| fill(object, item));
        }
        self.out.push(b']');
        self
    }
}

/// `2026-03-02T09:15:00`.
fn write_seconds(out: &mut Vec<u8>, micros: i64) {
    let time = DateTime::from_timestamp_micros(micros).expect("a time of this era").naive_utc();
    digits(out, time.year() as u32, 4);
    let parts =
        [(b'-', time.month()), (b'-', time.day()), (b'T', time.hour()), (b':', time.minute()), (b':', time.second())];
    for (before, value) in parts {
        out.push(before);
        digits(out, value, 2);
    }
}

fn digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10u32.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_serde_reads() {
        let mut out = Vec::new();
        Object::write(&mut out, |o| {
            o.text("quote", "a\"b\\").int("n", -7).optional("none", None).time("at", 1_772_442_900_045_999);
            o.time_seconds("second", 1_772_442_900_045_999).raw("list", "[1]");
            o.objects("many", &[1, 2], |o, n| {
                o.int("n", *n);
            });
            o.object("empty", |_| ());
        });
        let expected = serde_json::json!({
            "quote": "a\"b\\", "n": -7, "none": null, "at": "2026-03-02T09:15:00.045Z",
            "second": "2026-03-02T09:15:00Z", "list": [1], "many": [{"n": 1}, {"n": 2}], "empty": {},
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }
}
