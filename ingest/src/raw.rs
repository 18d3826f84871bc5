//! Slices of JSON text by path, without a tree: the records inside an envelope keep their own bytes.

/// The elements of the array at `path`, or the object there, as ranges of `text`. `text` is valid JSON.
pub(crate) fn inside(text: &[u8], path: &[String]) -> Vec<(usize, usize)> {
    let Some((start, end)) = path.iter().try_fold((0, text.len()), |(start, end), key| member(text, start, end, key))
    else {
        return Vec::new();
    };
    if text[start] != b'[' {
        return vec![(start, end)];
    }
    let mut elements = Vec::new();
    let mut at = skip(text, start + 1);
    while at < end && text[at] != b']' {
        let next = value_end(text, at);
        elements.push((at, next));
        at = skip(text, next);
        if text.get(at) == Some(&b',') {
            at = skip(text, at + 1);
        }
    }
    elements
}

/// The value of a key of the object in `start..end`.
fn member(text: &[u8], start: usize, end: usize, key: &str) -> Option<(usize, usize)> {
    let mut at = skip(text, start);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at = skip(text, at + 1);
    while at < end && text.get(at) == Some(&b'"') {
        let key_end = value_end(text, at);
        let name = &text[at + 1..key_end - 1];
        let value = skip(text, skip(text, key_end) + 1);
        let value_end = value_end(text, value);
        if name.eq_ignore_ascii_case(key.as_bytes()) {
            return Some((value, value_end));
        }
        at = skip(text, value_end);
        if text.get(at) != Some(&b',') {
            return None;
        }
        at = skip(text, at + 1);
    }
    None
}

fn skip(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends.
pub(crate) fn value_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    let mut quoted = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_bytes() {
        let text = br#"{"x":{"a":"}\""}, "data" : {"n":1,"events":[ {"i":1} ,{"i":[2,{}]}]}}"#;
        let path = ["data".to_owned(), "events".to_owned()];
        let found: Vec<&[u8]> = inside(text, &path).into_iter().map(|(s, e)| &text[s..e]).collect();
        assert_eq!(found, [&br#"{"i":1}"#[..], br#"{"i":[2,{}]}"#]);
        assert!(inside(text, &["nothing".to_owned()]).is_empty());
        assert_eq!(inside(text, &["data".to_owned()]).len(), 1);
    }
}
