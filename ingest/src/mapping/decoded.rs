//! Encoded JSON in a record's texts: tokens, base64. A text is decoded once, whatever many columns ask for its keys.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use serde_json::Value as Json;

use super::expr::Value;

/// How JSON is encoded in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The payload of a JWT, with or without `Bearer ` before it.
    Jwt,
    Base64,
}

/// What texts of one record hold. More than a few are decoded anew each time.
#[derive(Default)]
pub(crate) struct Decoded {
    known: RefCell<Vec<(Form, String, Option<Rc<Json>>)>>,
}

const KNOWN_MAX: usize = 8;

impl Decoded {
    /// The value at `path` in what a text holds.
    pub(crate) fn value<'a>(&self, value: &Value<'_>, form: Form, path: &[String]) -> Value<'a> {
        let json = value.as_text().and_then(|text| self.json(&text, form));
        let found = json.as_deref().and_then(|json| path.iter().try_fold(json, |at, key| at.get(key.as_str())));
        found.map_or(Value::None, scalar)
    }

    fn json(&self, text: &str, form: Form) -> Option<Rc<Json>> {
        let mut known = self.known.borrow_mut();
        if let Some((.., json)) = known.iter().find(|(f, t, _)| *f == form && t == text) {
            return json.clone();
        }
        let bytes = match form {
            Form::Jwt => jwt_payload(text),
            Form::Base64 => decode64(text),
        };
        let json = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(Rc::new);
        if known.len() < KNOWN_MAX {
            known.push((form, text.to_owned(), json.clone()));
        }
        json
    }
}

fn scalar<'a>(json: &Json) -> Value<'a> {
    match json {
        Json::String(text) => Value::Text(Cow::Owned(text.clone())),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| number.as_f64().map_or(Value::None, Value::Float), Value::Int)
        }
        Json::Bool(value) => Value::Bool(*value),
        Json::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(|i| i.as_str()).collect();
            if items.is_empty() { Value::None } else { Value::Text(Cow::Owned(items.join(" "))) }
        }
        _ => Value::None,
    }
}

fn decode64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    BASE64URL_NOPAD.decode(text).or_else(|_| BASE64_NOPAD.decode(text)).ok()
}

/// The payload of a JWT, undecided whether it is true: Muster reads logs, the gateway has verified the token.
pub(crate) fn jwt_payload(text: &str) -> Option<Vec<u8>> {
    let token = text.trim();
    let token = token.get(..7).filter(|p| p.eq_ignore_ascii_case("bearer ")).map_or(token, |_| token[7..].trim());
    let mut parts = token.split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    parts.next()?;
    decode64(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decoded_once_for_all_its_keys() {
        let decoded = Decoded::default();
        let text = "eyJhIjp7ImIiOiJjIn0sIm4iOjd9";
        let value = |form, path: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            decoded.value(&Value::Text(Cow::Borrowed(text)), form, &path)
        };
        assert_eq!(value(Form::Base64, "a.b"), Value::Text(Cow::Borrowed("c")));
        assert_eq!(value(Form::Base64, "n"), Value::Int(7));
        assert_eq!(value(Form::Jwt, "n"), Value::None);
        assert_eq!(value(Form::Jwt, "m"), Value::None);
        assert_eq!(decoded.known.borrow().len(), 2, "one for each form, what cannot be decoded included");
    }
}
