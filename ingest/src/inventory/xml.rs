//! An XML answer as JSON, the way AWS's query APIs mean it: an element with elements is an object, one whose elements are all
//! `member` (or repeat) is a list, all else is text. Attributes are left out.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Map, Value};

/// Elements within elements, at most; more is no answer of a provider.
const DEPTH_MAX: usize = 64;

/// The fields of the answer's root element.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_str(text);
    // Open elements: name, children, text.
    let mut open: Vec<(String, Vec<(String, Value)>, String)> = vec![Default::default()];
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                if open.len() > DEPTH_MAX {
                    return Err(format!("elements are nested deeper than {DEPTH_MAX}"));
                }
                open.push((name(start.local_name().as_ref()), Vec::new(), String::new()));
            }
            Event::Empty(start) => {
                let name = name(start.local_name().as_ref());
                open.last_mut().ok_or("an element too many is closed")?.1.push((name, Value::String(String::new())));
            }
            Event::Text(found) => {
                let found = found.decode().map_err(|error| error.to_string())?;
                open.last_mut().ok_or("text outside of any element")?.2.push_str(&found);
            }
            Event::GeneralRef(reference) => {
                let found = reference.decode().map_err(|error| error.to_string())?;
                let text = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(character) => character.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&found).unwrap_or("").to_owned(),
                };
                open.last_mut().ok_or("text outside of any element")?.2.push_str(&text);
            }
            Event::CData(found) => {
                let found = String::from_utf8_lossy(&found).into_owned();
                open.last_mut().ok_or("text outside of any element")?.2.push_str(&found);
            }
            Event::End(_) => {
                let (name, children, text) = open.pop().ok_or("an element too many is closed")?;
                let parent = open.last_mut().ok_or("an element too many is closed")?;
                parent.1.push((name, value(children, text)));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some((_, mut roots, _)), true) if roots.len() == 1 => Ok(roots.remove(0).1),
        _ => Err("it is not one whole element".into()),
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value(children: Vec<(String, Value)>, text: String) -> Value {
    if children.is_empty() {
        return Value::String(text.trim().to_owned());
    }
    if children.iter().all(|(name, _)| name == "member") {
        return Value::Array(children.into_iter().map(|(_, value)| value).collect());
    }
    Value::Object(Map::from_iter(children))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_lists_and_elements_fields() {
        let text = r#"<?xml version="1.0"?><R xmlns="x"><L><U><member><N>a &amp; b&#33;</N></member><member><N>c</N></member></U>
            <T>false</T></L><E/></R>"#;
        let expected = json!({"L": {"U": [{"N": "a & b!"}, {"N": "c"}], "T": "false"}, "E": ""});
        assert_eq!(parse(text), Ok(expected));
        for text in ["", "<a>", "<a></b>", "<a/><b/>", "</a>"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"<a>".repeat(100)).expect_err("too deep").contains("deeper"));
    }
}
