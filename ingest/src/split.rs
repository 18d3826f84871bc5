//! Cuts bytes into records: JSON or text lines, several JSON objects on one line, JSON arrays, arrays in an envelope
//! (`{"Records":[…]}`), printed JSON.
//!
//! One scanner serves a whole body and a file read in blocks. It goes on where it stopped when more bytes come, so a
//! record of any length needs bounded memory: what is over the limit is skipped and its first bytes are kept. A line is
//! a record even where its JSON is cut off, so that one broken line does not take its successors with it.

use std::io::{self, Read};

use memchr::{memchr, memchr2, memchr3};

/// Where a record is. `size` is its whole length, more than is here where it was cut at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    /// Of the first byte, from the start of the body or file.
    pub offset: u64,
    pub size: u64,
}

/// Bytes with the records in them.
#[derive(Debug, Default)]
pub struct Piece<'a> {
    pub data: std::borrow::Cow<'a, [u8]>,
    pub records: Vec<Span>,
}

/// Splits a whole body. `arrays` are the keys that may begin an envelope's array.
pub fn split<'a>(body: &'a [u8], arrays: &[String]) -> Piece<'a> {
    let mut scanner = Scanner::new(arrays);
    let mut records = Vec::new();
    let mut at = 0;
    loop {
        match scanner.next(&body[at..], true) {
            Step::Record { start, end, next } => {
                let (start, end) = (at + start, at + end);
                records.push(Span { start, end, offset: start as u64, size: (end - start) as u64 });
                at += next;
            }
            Step::Skip(next) => at += next,
            Step::More => break,
        }
    }
    Piece { data: body.into(), records }
}

/// Reads a file or stream a bounded piece at a time. A piece's bytes are its records, each with a line end behind it.
pub struct Chunks<R> {
    reader: R,
    scanner: Scanner,
    window: Vec<u8>,
    /// Bytes of the window that are done.
    done: usize,
    /// Offset of `window[0]`.
    offset: u64,
    ended: bool,
    record_bytes_max: usize,
    piece_bytes_max: usize,
    /// A record over the limit that is being skipped: what is kept of it, its offset and its size so far.
    skipping: Option<(Vec<u8>, u64, u64)>,
}

const BLOCK_BYTES: usize = 256 << 10;

impl<R: Read> Chunks<R> {
    /// Of a record over `record_bytes_max` the first bytes are kept and `size` tells the whole.
    pub fn new(reader: R, arrays: &[String], record_bytes_max: usize, piece_bytes_max: usize) -> Chunks<R> {
        let scanner = Scanner::new(arrays);
        Chunks {
            reader,
            scanner,
            window: Vec::new(),
            done: 0,
            offset: 0,
            ended: false,
            record_bytes_max,
            piece_bytes_max,
            skipping: None,
        }
    }

    /// The next piece; none at the end.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'static>>> {
        let mut data = Vec::new();
        let mut records = Vec::new();
        while data.len() < self.piece_bytes_max {
            match self.scanner.next(&self.window[self.done..], self.ended) {
                Step::Record { start, end, next } => {
                    let begin = data.len();
                    let (offset, size) = match self.skipping.take() {
                        Some((kept, offset, size)) => {
                            data.extend_from_slice(&kept);
                            (offset, size + end as u64)
                        }
                        None => {
                            let kept = (end - start).min(self.record_bytes_max + 1);
                            data.extend_from_slice(&self.window[self.done + start..self.done + start + kept]);
                            (self.offset + (self.done + start) as u64, (end - start) as u64)
                        }
                    };
                    records.push(Span { start: begin, end: data.len(), offset, size });
                    data.push(b'\n');
                    self.done += next;
                }
                Step::Skip(next) => self.done += next,
                Step::More if self.ended => {
                    if let Some((kept, offset, size)) = self.skipping.take() {
                        records.push(Span { start: data.len(), end: data.len() + kept.len(), offset, size });
                        data.extend_from_slice(&kept);
                        data.push(b'\n');
                    }
                    break;
                }
                Step::More => self.fill()?,
            }
        }
        Ok((!records.is_empty()).then(|| Piece { data: data.into(), records }))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.done);
        self.offset += self.done as u64;
        self.done = 0;
        if self.window.len() > self.record_bytes_max + 1 {
            self.skip();
        }
        let length = self.window.len();
        self.window.resize(length + BLOCK_BYTES, 0);
        let read = loop {
            match self.reader.read(&mut self.window[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.window.truncate(length + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }

    /// Lets go of what the scanner has seen of a record over the limit.
    fn skip(&mut self) {
        let seen = self.scanner.forget();
        let offset = self.offset;
        let (_, _, size) =
            self.skipping.get_or_insert_with(|| (self.window[..self.record_bytes_max + 1].to_vec(), offset, 0));
        *size += seen as u64;
        self.window.drain(..seen);
        self.offset += seen as u64;
    }
}

#[derive(Debug)]
enum Step {
    /// A record at `start..end`; the next one is looked for from `next`.
    Record {
        start: usize,
        end: usize,
        next: usize,
    },
    /// Nothing in the bytes before.
    Skip(usize),
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Lines,
    /// Between the elements of an array, with so many objects open around it.
    Array {
        around: u32,
    },
    /// Behind an envelope's array, until these objects are closed.
    Tail {
        open: u32,
        text: bool,
    },
}

/// What is being scanned at the front of the window; `at` is how far it has been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    at: usize,
    depth: u32,
    text: bool,
    /// The last byte outside texts that is no blank, and the line end since then.
    last: u8,
    line_end: Option<usize>,
}

/// A line under way.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// How far it has been seen.
    seen: usize,
    /// Its beginning was let go.
    cut: bool,
    /// Where it begins with an object.
    open: Option<Open>,
}

/// What is open in the JSON of a line. It is looked at only where another object may begin, since most lines hold one.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    at: usize,
    depth: u32,
    text: bool,
}

impl Open {
    /// Whether all is closed before `to`.
    fn is_closed(&mut self, bytes: &[u8], to: usize) -> bool {
        while self.at < to {
            match bytes[self.at] {
                b'\\' if self.text => self.at += 1,
                b'"' => self.text = !self.text,
                b'{' | b'[' if !self.text => self.depth += 1,
                b'}' | b']' if !self.text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
        self.depth == 0 && !self.text
    }
}

impl Line {
    /// Where it ends, or where another object begins on it.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let rest = |from: usize| bytes.get(from..).unwrap_or_default();
        let seen = std::mem::replace(&mut self.seen, bytes.len());
        let Some(open) = &mut self.open else { return memchr(b'\n', rest(seen)).map(|i| seen + i) };
        let mut from = if self.cut { seen } else { seen.max(1) };
        while let Some(at) = memchr2(b'\n', b'{', rest(from)).map(|i| from + i) {
            let before = || bytes[..at].iter().rev().find(|b| !b.is_ascii_whitespace());
            if bytes[at] == b'\n' || (before().is_none_or(|b| *b == b'}') && open.is_closed(bytes, at)) {
                return Some(at);
            }
            from = at + 1;
        }
        open.is_closed(bytes, bytes.len());
        None
    }
}

struct Scanner {
    arrays: Vec<String>,
    mode: Mode,
    /// A JSON value under way.
    value: Option<Value>,
    line: Option<Line>,
}

impl Scanner {
    fn new(arrays: &[String]) -> Scanner {
        Scanner { arrays: arrays.to_vec(), mode: Mode::Lines, value: None, line: None }
    }

    /// How much of the record under way has been seen; it is taken to be gone.
    fn forget(&mut self) -> usize {
        if let Some(value) = &mut self.value {
            value.line_end = None;
            return std::mem::take(&mut value.at);
        }
        let Some(line) = &mut self.line else { return 0 };
        let seen = std::mem::take(&mut line.seen);
        line.cut = true;
        if let Some(open) = &mut line.open {
            open.at -= seen;
        }
        seen
    }

    fn next(&mut self, bytes: &[u8], ended: bool) -> Step {
        if self.value.is_some() {
            return self.value(bytes, ended);
        }
        if self.line.is_some() {
            return self.line(bytes, ended);
        }
        let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace() || matches!(**b, 0xEF | 0xBB | 0xBF)).count();
        if blank > 0 {
            return Step::Skip(blank);
        }
        let Some(&first) = bytes.first() else { return Step::More };
        match self.mode {
            Mode::Lines => self.start(first, bytes, ended),
            Mode::Tail { open, text } => self.tail(bytes, open, text),
            Mode::Array { around } => match first {
                b',' => Step::Skip(1),
                b']' => {
                    self.mode = if around > 0 { Mode::Tail { open: around, text: false } } else { Mode::Lines };
                    Step::Skip(1)
                }
                _ => self.value(bytes, ended),
            },
        }
    }

    /// Behind an envelope's array: its other keys, then its end.
    fn tail(&mut self, bytes: &[u8], open: u32, text: bool) -> Step {
        if text && bytes[0] == b'\\' {
            return if bytes.len() > 1 { Step::Skip(2) } else { Step::More };
        }
        self.mode = match bytes[0] {
            b'"' => Mode::Tail { open, text: !text },
            b'}' if !text && open == 1 => Mode::Lines,
            b'}' if !text => Mode::Tail { open: open - 1, text },
            b'{' if !text => Mode::Tail { open: open + 1, text },
            _ => self.mode,
        };
        Step::Skip(1)
    }

    fn start(&mut self, first: u8, bytes: &[u8], ended: bool) -> Step {
        if first == b'[' {
            let inner = bytes[1..].iter().find(|b| !b.is_ascii_whitespace());
            return match inner {
                Some(b'{' | b']' | b'[') => {
                    self.mode = Mode::Array { around: 0 };
                    Step::Skip(1)
                }
                None if !ended => Step::More,
                _ => self.line(bytes, ended),
            };
        }
        if first == b'{' {
            match self.envelope(bytes) {
                Envelope::Array(next) => {
                    self.mode = Mode::Array { around: 1 };
                    return Step::Skip(next);
                }
                Envelope::Unclear if !ended => return Step::More,
                _ => {}
            }
        }
        self.line(bytes, ended)
    }

    /// Whether the object begins with an envelope's key and array.
    fn envelope(&self, bytes: &[u8]) -> Envelope {
        let skip = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            at
        };
        let key = skip(1);
        for name in &self.arrays {
            let quoted = bytes.get(key + 1..).unwrap_or_default();
            let same = quoted.len().min(name.len());
            if bytes.get(key).is_some_and(|b| *b != b'"')
                || !quoted[..same].eq_ignore_ascii_case(&name.as_bytes()[..same])
            {
                continue;
            }
            let end = key + 1 + name.len();
            let colon = skip(end + 1);
            let array = skip(colon + 1);
            match (bytes.get(end), bytes.get(colon), bytes.get(array)) {
                (Some(b'"'), Some(b':'), Some(b'[')) => return Envelope::Array(array + 1),
                (Some(b'"'), Some(b':'), None) | (Some(b'"'), None, None) | (None, None, None) => {
                    return Envelope::Unclear;
                }
                _ => {}
            }
        }
        Envelope::None
    }

    fn line(&mut self, bytes: &[u8], ended: bool) -> Step {
        let object = bytes.first() == Some(&b'{');
        let new = || Line { open: object.then(Open::default), ..Line::default() };
        let mut line = self.line.take().unwrap_or_else(new);
        let Some(length) = line.end(bytes) else {
            if ended && !bytes.is_empty() {
                return Step::Record { start: 0, end: bytes.len(), next: bytes.len() };
            }
            self.line = Some(line);
            return Step::More;
        };
        let end = bytes[..length].trim_ascii_end().len();
        if bytes[length] == b'{' {
            return Step::Record { start: 0, end, next: length };
        }
        // Printed JSON breaks its lines behind a bracket or comma; a record that is one line does not end in one.
        if object
            && !line.cut
            && matches!(bytes[..end].last(), Some(b'{' | b'[' | b','))
            && is_printed(&bytes[end..], ended)
        {
            return self.value(bytes, ended);
        }
        Step::Record { start: 0, end, next: length + 1 }
    }

    /// Scans a JSON value to its end.
    fn value(&mut self, bytes: &[u8], ended: bool) -> Step {
        let mut value = self.value.take().unwrap_or_default();
        while let Some(&byte) = bytes.get(value.at) {
            if value.text {
                let Some(next) = memchr3(b'"', b'\\', b'\n', &bytes[value.at..]) else {
                    value.at = bytes.len();
                    break;
                };
                let at = value.at + next;
                match bytes[at] {
                    b'\n' => {
                        // No JSON text has a bare line end: the value is cut off, and lines begin anew.
                        self.mode = Mode::Lines;
                        return Step::Record { start: 0, end: at, next: at };
                    }
                    b'\\' if at + 1 >= bytes.len() && !ended => {
                        value.at = at;
                        break;
                    }
                    b'\\' => value.at = at + 2,
                    _ => {
                        value.at = at + 1;
                        value.text = false;
                    }
                }
                continue;
            }
            if byte.is_ascii_whitespace() {
                if byte == b'\n' {
                    value.line_end.get_or_insert(value.at);
                }
                value.at += 1;
                continue;
            }
            match byte {
                // No JSON has an object here: the value was cut off, and lines begin anew.
                b'{' if value.depth > 0 && !matches!(value.last, b':' | b'[' | b',') => {
                    if let Some(end) = value.line_end {
                        self.mode = Mode::Lines;
                        return Step::Record { start: 0, end, next: end + 1 };
                    }
                    value.depth += 1;
                }
                b'"' => value.text = true,
                b'{' | b'[' => value.depth += 1,
                b'}' | b']' if value.depth > 1 => value.depth -= 1,
                b'}' if value.depth == 1 => return Step::Record { start: 0, end: value.at + 1, next: value.at + 1 },
                b']' if value.depth == 1 => return Step::Record { start: 0, end: value.at + 1, next: value.at + 1 },
                b',' | b']' | b'}' if value.depth == 0 => {
                    // An element that is no object; a stray bracket is one by itself, so that the scan goes on.
                    let end = value.at.max(1);
                    return Step::Record { start: 0, end, next: end };
                }
                _ => {}
            }
            (value.last, value.line_end) = (byte, None);
            value.at += 1;
        }
        value.at = value.at.min(bytes.len());
        if ended && !bytes.is_empty() {
            return Step::Record { start: 0, end: bytes.len(), next: bytes.len() };
        }
        self.value = Some(value);
        Step::More
    }
}

/// What follows the first line of printed JSON is indented, or closes it.
fn is_printed(rest: &[u8], ended: bool) -> bool {
    let after = memchr(b'\n', rest).and_then(|i| rest.get(i + 1));
    match after {
        Some(byte) => matches!(byte, b' ' | b'\t' | b'"' | b'}' | b']' | b'\r'),
        None => !ended,
    }
}

enum Envelope {
    Array(usize),
    None,
    Unclear,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<String> {
        let arrays = ["Records".to_owned()];
        let whole = split(body.as_bytes(), &arrays);
        let whole: Vec<String> = whole.records.iter().map(|r| body[r.start..r.end].to_owned()).collect();
        for step in [1, 2, 7] {
            let mut chunks = Chunks::new(Trickle(body.as_bytes(), step), &arrays, 1000, 10);
            let mut found = Vec::new();
            while let Some(piece) = chunks.next_piece().expect("a slice cannot fail") {
                for r in &piece.records {
                    found.push(String::from_utf8(piece.data[r.start..r.end].to_vec()).expect("a text"));
                    assert_eq!(&body.as_bytes()[r.offset as usize..][..r.size as usize], &piece.data[r.start..r.end]);
                }
            }
            assert_eq!(found, whole, "read {step} bytes at a time");
        }
        whole
    }

    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(to.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn every_framing() {
        assert_eq!(texts("{\"a\":1}\n\n{\"b\":2}\r\ntext line\n"), ["{\"a\":1}", "{\"b\":2}", "text line"]);
        assert_eq!(
            texts(" [ {\"a\":\"]\"} , {\"b\":[1,{}]} ]\n{\"c\":1}"),
            ["{\"a\":\"]\"}", "{\"b\":[1,{}]}", "{\"c\":1}"]
        );
        assert_eq!(
            texts("{\"Records\": [{\"a\":\"\\\"}\"},{\"b\":2}], \"x\": {\"y\":1}}\n{\"c\":3}"),
            ["{\"a\":\"\\\"}\"}", "{\"b\":2}", "{\"c\":3}"]
        );
        assert_eq!(texts("{\n  \"a\": 1\n}\n{\"b\":2}"), ["{\n  \"a\": 1\n}", "{\"b\":2}"]);
        assert_eq!(texts("[2025-01-01] text\n[2025-01-02] text"), ["[2025-01-01] text", "[2025-01-02] text"]);
        assert_eq!(texts("{\"a\":\n{\"b\":2}"), ["{\"a\":", "{\"b\":2}"]);
        assert_eq!(texts("{\"Records\":[{\"a\":\"cut\n{\"b\":2}"), ["{\"a\":\"cut", "{\"b\":2}"]);
        assert_eq!(texts(""), Vec::<String>::new());
    }

    #[test]
    fn several_objects_on_one_line() {
        assert_eq!(
            texts("{\"a\":\"}{\"}{\"b\":{\"c\":[{},{}]}} \t{\"d\":\"\\\"} {\"}\n{\"e\":1}"),
            ["{\"a\":\"}{\"}", "{\"b\":{\"c\":[{},{}]}}", "{\"d\":\"\\\"} {\"}", "{\"e\":1}"]
        );
        assert_eq!(texts("{\"a\":1}{\"b\":\n{\"c\":1}"), ["{\"a\":1}", "{\"b\":", "{\"c\":1}"]);
        assert_eq!(texts("{\"Records\":[{\"a\":1}]}{\"Records\":[{\"b\":1}]}"), ["{\"a\":1}", "{\"b\":1}"]);
        assert_eq!(texts("{\"a\":{\"b\":1}{\"c\":1}\ntext }{ text"), ["{\"a\":{\"b\":1}{\"c\":1}", "text }{ text"]);
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_measured() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
        let body = format!("{{\"b\":1}}\n{long}\n{{\"c\":1}}{long}{{\"d\":1}}\n{long}");
        let mut chunks = Chunks::new(body.as_bytes(), &[], 1000, 1 << 20);
        let mut found = Vec::new();
        while let Some(piece) = chunks.next_piece().expect("a slice cannot fail") {
            found.extend(piece.records.iter().map(|r| (r.end - r.start, r.offset, r.size)));
            assert!(chunks.window.len() <= 2 * BLOCK_BYTES);
        }
        let size = long.len() as u64;
        let expected = [
            (7, 0, 7),
            (1001, 8, size),
            (7, 9 + size, 7),
            (1001, 16 + size, size),
            (7, 16 + 2 * size, 7),
            (1001, 24 + 2 * size, size),
        ];
        assert_eq!(found, expected);
    }
}
