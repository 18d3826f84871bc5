//! Values in JSON text, found without a parse: the text may be cut off, or stand in a string of other JSON.

use super::{MASK, is_masked, is_name, plain_into};

/// Keys whose value is the name of the value beside it.
const NAMED_BY: &[&str] = &[
    "key",
    "name",
    "displayname",
    "field",
    "fieldname",
    "header",
    "headername",
    "attribute",
    "attributename",
    "property",
    "propertyname",
    "parameter",
    "parametername",
];
/// Keys of the value itself, besides those that end in `value` or `values`.
const VALUES: &[&str] = &["v", "old", "new", "from", "to", "changedfrom", "changedto"];

/// A longer text before its name is not looked at.
const TEXT_BYTES_MAX: usize = 4096;

/// JSON text; in a string of other JSON each quote has `slashes` backslashes before it.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) slashes: usize,
}

pub(super) fn blanks(bytes: &[u8], from: usize) -> usize {
    from + bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// How many backslashes stand at `at`.
pub(super) fn slashes(bytes: &[u8], at: usize) -> usize {
    bytes[at.min(bytes.len())..].iter().take_while(|b| **b == b'\\').count()
}

impl<'a> Json<'a> {
    /// Masks the value at `at`: a text, a number, or what is inside an array or object. Of an object all texts and numbers
    /// are secret, or else only those under a key that says that it is the value.
    pub(super) fn value(self, at: usize, all: bool, mask: &mut impl FnMut((usize, usize), &str)) {
        match self.bytes.get(at) {
            Some(b'{') => self.inside(at, 0, 1, all, mask),
            Some(b'[') => self.inside(at, 0, 2, all, mask),
            Some(b'0'..=b'9' | b'-') => {
                self.number(at, mask);
            }
            _ => {
                self.text(at, mask);
            }
        }
    }

    /// Where the member begins whose text begins at `start`, where its key says that the text is a name.
    pub(super) fn pair(self, start: usize) -> Option<usize> {
        let text = self.quote_before(start)?;
        let colon = self.back(text);
        let key_end = self.quote_before(self.back(colon.checked_sub(1).filter(|at| self.bytes[*at] == b':')?))?;
        let key = self.bytes[..key_end].iter().rev().take_while(|b| is_name(b)).count();
        let begin = self.quote_before(key_end - key)?;
        is_one(&self.bytes[key_end - key..key_end], NAMED_BY).then_some(begin)
    }

    /// Masks the values beside the name that ends before `after`; its member begins at `pair`.
    pub(super) fn paired(self, pair: usize, after: usize, mask: &mut impl FnMut((usize, usize), &str)) {
        if let Some(value) = self.value_before(pair).filter(|(start, end)| !is_masked(&self.bytes[*start..*end])) {
            mask(value, MASK);
        }
        self.inside(after, 1, 1, false, mask);
    }

    /// The text of the member that ends before the one at `pair`, where its key says that it is the value.
    fn value_before(self, pair: usize) -> Option<(usize, usize)> {
        let comma = self.back(pair).checked_sub(1).filter(|at| self.bytes[*at] == b',')?;
        let end = self.quote_before(self.back(comma))?;
        let escapes = |at: usize| self.bytes[..at].iter().rev().take_while(|b| **b == b'\\').count();
        let opening = |at: &usize| self.bytes[*at] == b'"' && escapes(*at) % (2 * (self.slashes + 1)) == self.slashes;
        let start = (end.saturating_sub(TEXT_BYTES_MAX)..end).rev().find(opening)? + 1;
        let colon = self.back(self.quote_before(start)?);
        let key_end = self.quote_before(self.back(colon.checked_sub(1).filter(|at| self.bytes[*at] == b':')?))?;
        let key = self.bytes[..key_end].iter().rev().take_while(|b| is_name(b)).count();
        is_value(&self.bytes[key_end - key..key_end]).then_some((start, end))
    }

    /// Masks what is inside, from `at` to where all is closed; `open` containers are open there. Keys of values count at
    /// the depth `level`.
    fn inside(
        self,
        mut at: usize,
        mut open: usize,
        level: usize,
        all: bool,
        mask: &mut impl FnMut((usize, usize), &str),
    ) {
        // The depth at which everything is secret, and whether the next value is.
        let mut whole = if all { 0 } else { usize::MAX };
        let mut wanted = all || open == 0;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'{' | b'[' => open += 1,
                b'}' | b']' => {
                    open -= 1;
                    if open == 0 {
                        return;
                    }
                    whole = if open < whole { usize::MAX } else { whole };
                }
                b'"' if self.slashes > 0 => return,
                b'"' | b'\\' => {
                    let Some((start, end)) = self.text_at(at) else {
                        at += 1;
                        continue;
                    };
                    at = end + self.slashes + 1;
                    let next = blanks(self.bytes, at);
                    if self.bytes.get(next) == Some(&b':') {
                        let is_value = open == level && is_value(&self.bytes[start..end]);
                        whole = match is_value {
                            true => whole.min(open + 1),
                            false if whole <= open => whole,
                            false => usize::MAX,
                        };
                        wanted = is_value || whole <= open;
                    } else if wanted && !is_masked(&self.bytes[start..end]) {
                        mask((start, end), MASK);
                    }
                    continue;
                }
                b'0'..=b'9' | b'-' if wanted => {
                    at = self.number(at, mask);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn text(self, at: usize, mask: &mut impl FnMut((usize, usize), &str)) {
        if let Some(text) = self.text_at(at).filter(|(start, end)| !is_masked(&self.bytes[*start..*end])) {
            mask(text, MASK);
        }
    }

    /// Masks a number, which becomes a text; gives where it ends.
    fn number(self, at: usize, mask: &mut impl FnMut((usize, usize), &str)) -> usize {
        let digits = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
        let end = at + self.bytes[at..].iter().take_while(digits).count();
        match self.slashes {
            0 => mask((at, end), "\"***\""),
            1 => mask((at, end), "\\\"***\\\""),
            _ => {}
        }
        end
    }

    /// What stands between the quotes of the text at `at`.
    pub(super) fn text_at(self, at: usize) -> Option<(usize, usize)> {
        let Json { bytes, slashes } = self;
        let opening = bytes.get(at..at + slashes + 1)?;
        if !opening[..slashes].iter().all(|b| *b == b'\\') || opening[slashes] != b'"' {
            return None;
        }
        let start = at + slashes + 1;
        let mut run = 0;
        for (i, byte) in bytes[start..].iter().enumerate() {
            match byte {
                b'\\' => run += 1,
                // A quote inside has more backslashes, in steps that the nesting gives.
                b'"' if run % (2 * (slashes + 1)) == slashes => return Some((start, start + i - slashes)),
                _ => run = 0,
            }
        }
        // Cut off: everything there is belongs to it.
        Some((start, bytes.len()))
    }

    /// Where the quote begins that ends at `end`.
    fn quote_before(self, end: usize) -> Option<usize> {
        let begin = end.checked_sub(self.slashes + 1)?;
        let quote = &self.bytes[begin..end];
        (quote[self.slashes] == b'"' && quote[..self.slashes].iter().all(|b| *b == b'\\')).then_some(begin)
    }

    /// Where the blanks begin that end at `end`.
    fn back(self, end: usize) -> usize {
        end - self.bytes[..end].iter().rev().take_while(|b| b.is_ascii_whitespace()).count()
    }
}

fn is_value(key: &[u8]) -> bool {
    let mut kept = [0; 64];
    let name = plain_into(key, &mut kept);
    name.ends_with(b"value") || name.ends_with(b"values") || is_one(key, VALUES)
}

fn is_one(key: &[u8], known: &[&str]) -> bool {
    let mut kept = [0; 64];
    let name = plain_into(key, &mut kept);
    known.iter().any(|known| name == known.as_bytes())
}
