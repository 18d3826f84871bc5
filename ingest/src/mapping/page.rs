//! The reference page of a source, made from its mapping: who did it, the accepted forms, noise, columns, caveats.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{About, Mapping};

impl Mapping {
    /// The reference page, in Markdown.
    pub fn describe(&self) -> String {
        let mut page = format!("# {} (`{}`)\n\n", self.title, self.name);
        if !self.systems.is_empty() {
            let _ = writeln!(page, "Reads records of: {}.\n", self.systems.join(", "));
        }
        let verified = self.verified.as_deref().unwrap_or(
            "nothing yet: unverified. It follows the vendor's documentation, and no real records with a known result \
             were to be had",
        );
        let _ = writeln!(page, "Checked against: {verified}.\n");
        self.who(&mut page);
        let id = if self.unique_id { "the vendor's record id" } else { "the record's place in its file or request" };
        let _ = writeln!(page, "\nAn event's id rests on {id}.");
        self.forms(&mut page);
        if !self.noise.is_empty() {
            page.push_str("\n## Noise: counted by rule, not kept as events\n\n");
            self.noise.iter().for_each(|n| page.push_str(&format!("- `{}`: {}\n", n.name, n.doc)));
        }
        self.column_table(&mut page);
        if !self.about.caveats.is_empty() {
            page.push_str("\n## Caveats\n\n");
            self.about.caveats.iter().for_each(|c| page.push_str(&format!("- {c}\n")));
        }
        page
    }

    fn who(&self, page: &mut String) {
        let About { agent, user, delegation, credential, .. } = &self.about;
        page.push_str("| | where it comes from |\n| --- | --- |\n");
        for (what, text) in [("agent", agent), ("user", user), ("delegation", delegation), ("credential", credential)] {
            let text = if text.is_empty() { "not in these records" } else { text };
            let _ = writeln!(page, "| {what} | {} |", cell(text));
        }
    }

    fn forms(&self, page: &mut String) {
        page.push_str("\n## Accepted forms\n\n- JSON objects, one or several on a line, or a JSON array of them\n");
        let envelopes: Vec<String> = self.envelopes.iter().map(|(_, path)| format!("`{}`", path.join("."))).collect();
        if !envelopes.is_empty() {
            let _ = writeln!(page, "- records wrapped in {}", envelopes.join(", "));
        }
        if self.flattened {
            page.push_str("- the flattened Log Analytics export (`actor_id_s` for `actor.id`)\n");
        }
        for format in &self.formats {
            let _ = writeln!(page, "- text lines of the form `{}`", format.name);
        }
        if !self.lines.is_empty() {
            page.push_str(
                "- such a line, or a JSON object as text, in a field of a container's or collector's record\n",
            );
        }
    }

    /// Each column once, with the terms of all cases.
    fn column_table(&self, page: &mut String) {
        let mut columns: BTreeMap<usize, (&str, Vec<&str>)> = BTreeMap::new();
        for (name, text) in &self.column_texts {
            let index = schemas::event::TABLE.columns.iter().position(|c| c.name == *name).unwrap_or(usize::MAX);
            columns.entry(index).or_insert((name, Vec::new())).1.push(text);
        }
        page.push_str("\n## Columns\n\n| column | from |\n| --- | --- |\n");
        for (name, texts) in columns.values() {
            let texts: Vec<String> = texts.iter().map(|t| format!("`{}`", cell(t))).collect();
            let _ = writeln!(page, "| `{name}` | {} |", texts.join("<br>"));
        }
    }
}

/// Text that may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
