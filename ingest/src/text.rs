//! Text lines as records: a regular expression names the parts, and a part may hold pairs of keys and values.
//!
//! The fields become the record's JSON, as far as the mapping has a path to them.

mod groups;
mod pairs;

use std::sync::OnceLock;

use regex::Regex;
use serde::Serialize;

use groups::Groups;
pub(crate) use pairs::Pairs;

/// A form of text line that a mapping reads.
#[derive(Debug)]
pub(crate) struct TextFormat {
    pub(crate) name: String,
    pub(crate) regex: Regex,
    /// Made when the first line comes: most forms are of sources that one does not have.
    groups: OnceLock<Groups>,
    parts: Vec<String>,
    /// The groups that the mapping has a path to.
    kept: Vec<String>,
    /// Length of the shortest line that fits.
    pub(crate) line_bytes_min: usize,
    /// The group that holds pairs, and how they are written.
    pairs: Option<(String, Pairs)>,
}

impl TextFormat {
    /// `parts` are those of one regular expression, one behind the other.
    pub(crate) fn new(
        name: String,
        parts: Vec<String>,
        pairs: Option<(String, Pairs)>,
    ) -> Result<TextFormat, regex::Error> {
        for part in &parts {
            Regex::new(part)?;
        }
        let regex = Regex::new(&parts.concat())?;
        let parsed = regex_syntax::parse(regex.as_str()).ok();
        let line_bytes_min = parsed.and_then(|hir| hir.properties().minimum_len()).unwrap_or(0);
        let kept = regex.capture_names().flatten().map(str::to_owned).collect();
        Ok(TextFormat { name, regex, groups: OnceLock::new(), parts, kept, line_bytes_min, pairs })
    }

    /// Call once it is known which fields the mapping has a path to.
    pub(crate) fn keep(&mut self, wanted: &dyn Fn(&str) -> bool) {
        let pairs = self.pairs.as_ref().map(|(group, _)| group.clone());
        self.kept.retain(|name| pairs.as_ref() == Some(name) || wanted(name));
    }

    fn groups(&self) -> &Groups {
        self.groups.get_or_init(|| Groups::new(&self.parts, &|name| self.kept.iter().any(|kept| kept == name)))
    }
}

/// The name of the first format that fits a line, and the line's fields as JSON: those that are `wanted`. Blanks around a
/// field do not belong to it.
pub(crate) fn fields<'m>(
    formats: &'m [TextFormat],
    line: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Option<(&'m str, String)> {
    let several = formats.iter().filter(|format| format.parts.len() > 1).count() > 1;
    formats.iter().find_map(|format| {
        // Forms in parts mostly begin alike: which of them it is, is told with less work than a first part's groups.
        if several && format.parts.len() > 1 && !format.regex.is_match(line) {
            return None;
        }
        let mut fields = Fields { json: Vec::new(), keys: Vec::new(), wanted };
        let fits = format.groups().each(&format.regex, line, &mut |name, text| match &format.pairs {
            Some((holds, form)) if holds == name => pairs::read(text, *form, &mut fields),
            _ => fields.put(name, text.trim()),
        });
        fits.then(|| (format.name.as_str(), fields.finish()))
    })
}

/// A JSON object in the making. The first value of a key counts.
struct Fields<'a> {
    json: Vec<u8>,
    keys: Vec<&'a str>,
    wanted: &'a dyn Fn(&str) -> bool,
}

impl<'a> Fields<'a> {
    /// Whether a value of this key has a place; what no path reads needs not be decoded.
    fn wants(&self, key: &str) -> bool {
        (self.wanted)(key) && !self.keys.contains(&key)
    }

    fn put(&mut self, key: &'a str, value: impl Serialize) {
        if !self.wants(key) {
            return;
        }
        self.json.push(if self.keys.is_empty() { b'{' } else { b',' });
        self.keys.push(key);
        serde_json::to_writer(&mut self.json, key).expect("a text becomes JSON");
        self.json.push(b':');
        serde_json::to_writer(&mut self.json, &value).expect("a value becomes JSON");
    }

    fn finish(mut self) -> String {
        self.json.extend_from_slice(if self.keys.is_empty() { b"{}" } else { b"}" });
        String::from_utf8(self.json).expect("JSON is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &[&str], line: &str) -> Option<serde_json::Value> {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        let format = TextFormat::new("f".to_owned(), parts, None).expect("a regular expression");
        let full = format.regex.captures(line).map(|groups| {
            let names = format.regex.capture_names().flatten();
            let pairs = names.filter_map(|name| Some((name.to_owned(), groups.name(name)?.as_str().trim())));
            serde_json::json!(pairs.collect::<std::collections::BTreeMap<_, _>>())
        });
        let regex = format.regex.clone();
        let found = fields(&[format], line, &|_| true).map(|(_, json)| serde_json::from_str(&json).expect("JSON"));
        assert_eq!(found, full, "as the whole expression has it: {regex} on {line}");
        found
    }

    #[test]
    fn groups_are_those_of_the_whole_expression() {
        let patterns: [&[&str]; 11] = [
            &[r"^(?P<a>\S+) (?P<rest>.*)$"],
            &[r"^(?P<a>\S+) (?P<rest>k=.*)"],
            &[r"^(?P<rest>\S+ .*k.*)$"],
            &[r"(?s)^(?P<a>.*?)(?P<rest> .*)$"],
            &[r"^(?P<a>\S+) (?P<outer>x?(?P<inner>.*))$"],
            &[r"(?P<a>k)=.*"],
            &[r"^(?P<rest>.*)$"],
            &[r"^(?P<a>\S+)(?: (?P<b>k.*))?$"],
            &[r"^(?P<a>\S+) ", r"(?P<k>[a-z]+)=", r"(?P<rest>.*)$"],
            // The first part ends too late, and goes back.
            &[r"^(?P<a>.*)", r"(?P<b>[ =].)$"],
            &[r"^(?P<a>a*)", r"(?P<b>ab?)"],
        ];
        let lines = ["a k=v", "a xk=v\nb", "ab", "", "é k=ü", "a  k\n"];
        let fitting = patterns.iter().flat_map(|p| lines.map(|line| all(p, line))).flatten().count();
        assert_eq!(fitting, 30, "of {}", patterns.len() * lines.len());
    }

    #[test]
    fn what_no_path_reads_is_left_out() {
        let pairs = Some(("rest".to_owned(), Pairs::Logfmt));
        let parts = vec![r"^(?P<a>\S+) (?P<b>(?:\S|x)+) (?P<rest>.*)$".to_owned()];
        let mut format = TextFormat::new("f".to_owned(), parts, pairs).expect("right");
        let wanted = |key: &str| key != "b" && key != "d" && key != "rest";
        format.keep(&wanted);
        let (_, json) = fields(&[format], "1 2 a=3 c=\"4\" d=5", &wanted).expect("it fits");
        assert_eq!(json, r#"{"a":"1","c":"4"}"#);
    }
}
