//! The text of a draft: the mapping, commented, and its fixture.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::guess::{EITHER, effect, is_method, keys, outcome};
use super::sample::Sample;
use super::{ACTION, Choice, OUTCOME, TIME};

/// So many alternatives of a column are written beside it.
const ALTERNATIVES_MAX: usize = 3;
/// So many actions are classified one by one.
const ACTIONS_MAX: usize = 40;
/// Method and path make the action where so many records have them.
const HTTP_PERCENT_MIN: usize = 90;
/// Conditions by which a record is recognised.
const RECOGNISE_MAX: usize = 4;

/// What the draft says, before it is written.
pub(super) struct Plan<'a> {
    name: &'a str,
    sample: &'a Sample,
    choices: &'a [Choice<'a>],
    /// Action from method and path, where no field names an action.
    http: bool,
}

impl<'a> Plan<'a> {
    pub(super) fn new(name: &'a str, sample: &'a Sample, choices: &'a [Choice<'a>]) -> Plan<'a> {
        let has = |column: &str| {
            let choice = choices.iter().find(|c| c.rule.column == column);
            choice.is_some_and(|c| sample.percent(c.candidates[0].field) >= HTTP_PERCENT_MIN)
        };
        // An `action` whose values are methods is the method.
        let action = choices.iter().find(|c| c.rule.column == ACTION);
        let named = action.is_some_and(|c| !c.values().all(is_method));
        Plan { name, sample, choices, http: !named && has("http_method") && has("http_path") }
    }

    fn choice(&self, column: &str) -> Option<&Choice<'a>> {
        self.choices.iter().find(|c| c.rule.column == column)
    }

    /// A word of the vendor's own: an action, a result, a method.
    pub(super) fn is_word(&self, text: &str) -> bool {
        let of = |column: &&str| self.choice(column).is_some_and(|c| c.values().any(|value| value == text));
        [ACTION, OUTCOME, "http_method", "resource_type"].iter().any(of)
    }

    /// Columns and where they come from.
    pub(super) fn columns(&self) -> Vec<(String, String)> {
        self.choices.iter().map(|c| (c.rule.column.to_owned(), self.term(c))).collect()
    }

    fn term(&self, choice: &Choice<'_>) -> String {
        if choice.rule.column == ACTION && self.http {
            return String::new();
        }
        let first = &choice.candidates[0];
        let element = if first.field.list && choice.rule.column != "scopes" { "[0]" } else { "" };
        format!("{}{element}{}", first.path, choice.rule.functions)
    }

    /// Paths that are in no column, not even as an alternative.
    pub(super) fn unused(&self) -> Vec<(&str, usize)> {
        let used: BTreeSet<&str> = self.choices.iter().flat_map(|c| c.candidates.iter().map(|c| c.path)).collect();
        let rest = self.sample.fields.iter().filter(|(path, _)| !used.contains(path.as_str()));
        rest.map(|(path, field)| (path.as_str(), self.sample.percent(field))).collect()
    }

    /// What a person must decide.
    pub(super) fn checks(&self) -> Vec<String> {
        let mut checks = Vec::new();
        let has = |column: &str| self.choice(column).is_some();
        if !has(TIME) {
            checks.push(
                "time: no field with a known name reads as a time; without one every record goes to quarantine".into(),
            );
        }
        if !has(ACTION) && !self.http {
            checks.push("action: no field says what was done; without one every record goes to quarantine".into());
        }
        for (column, what) in [("agent_id", "the software that acted"), ("user_id", "the person it acted for")] {
            if !has(column) {
                checks.push(format!("{column}: no field plainly names {what}"));
            }
        }
        let either: Vec<&str> = self.sample.fields.keys().map(String::as_str).filter(|path| is_either(path)).collect();
        if let Some(path) = either.first() {
            let more = if either.len() > 1 { format!(" (and {} more)", either.len() - 1) } else { String::new() };
            checks.push(format!("`{path}`{more}: is this an agent or a user? A `when` can tell, such as by its type"));
        }
        for choice in self.choices {
            let [first, second, ..] = &choice.candidates[..] else { continue };
            if choice.rule.column != ACTION || !self.http {
                let columns = (choice.rule.column, first.path, second.path);
                checks.push(format!("{}: `{}` was taken; `{}` fits as well", columns.0, columns.1, columns.2));
            }
        }
        checks.push("unique_id: is the vendor's record id never used twice? Only then set it to true".into());
        checks.push("[about]: say where agent, user, delegation and credential come from".into());
        if self.sample.unread > 0 {
            checks.push(format!("{} records of the sample are no JSON objects and were left out", self.sample.unread));
        }
        if self.sample.paths_left_out {
            checks.push("the records have more different paths than a draft looks at".into());
        }
        checks
    }

    pub(super) fn mapping(&self, masks: &BTreeSet<String>) -> String {
        let mut text = self.head(masks);
        self.classify(&mut text);
        text.push_str("\n[about]\n");
        for (key, column) in [("agent", "agent_id"), ("user", "user_id"), ("credential", "credential_id")] {
            let from = self.choice(column).map_or(String::new(), |c| format!("`{}`", c.path()));
            text.push_str(&format!("{key} = {}  # CHECK\n", quoted(&from)));
        }
        text.push_str("caveats = [\"Drafted from sample records, not yet checked by a person.\"]\n");
        if let Some(path) = &self.sample.envelope {
            text.push_str(&format!(
                "\n# The sample's records stand in a wrapping object.\n[framing]\nenvelopes = [{}]\n",
                quoted(path)
            ));
        }
        self.recognise(&mut text);
        text.push_str("\n[columns]\n");
        self.write_columns(&mut text);
        self.outcomes(&mut text);
        let unused = self.unused();
        if !unused.is_empty() {
            text.push_str("\n# Not used; nothing plainly says what they are:\n");
            unused.iter().for_each(|(path, percent)| text.push_str(&format!("#   {path}  ({percent} %)\n")));
        }
        text
    }

    fn head(&self, masks: &BTreeSet<String>) -> String {
        let records = self.sample.records.len();
        let mut text = format!(
            "# Drafted by `muster sources new` from {records} sample records. The share of records that hold a field stands\n\
             # behind it; what is marked CHECK is for you to decide. `muster sources test FOLDER` runs the fixture.\n\
             title = {}  # CHECK\n\
             # CHECK: true only where the vendor never uses a record id twice.\n\
             unique_id = false\n",
            quoted(self.name)
        );
        if !masks.is_empty() {
            let keys: Vec<String> = masks.iter().map(|key| quoted(key)).collect();
            text.push_str(&format!("# Keys of the sample that look like secrets.\nmask = [{}]\n", keys.join(", ")));
        }
        text.push_str(
            "# CHECK: which records say that a token was issued? Without it: successful ones with the effect auth or delegate.\n\
             # issuance = { \"path\" = \"pattern\" }\n",
        );
        text
    }

    /// Effects of the actions, where a word in them says so.
    fn classify(&self, text: &mut String) {
        let rows = |text: &mut String, rows: &[(&str, (&str, i32, i32))]| {
            text.push_str("classify = [\n");
            for (action, (effect, class, activity)) in rows {
                text.push_str(&format!("  [{}, {}, {class}, {activity}],\n", quoted(action), quoted(effect)));
            }
        };
        if self.http {
            text.push_str("\n# Effects by method. CHECK: a POST that only reads, a GET that exports.\n");
            let (read, write) = (("read", 6003, 2), ("write", 6003, 3));
            let delete = ("delete", 6003, 4);
            rows(
                text,
                &[
                    ("GET *", read),
                    ("HEAD *", read),
                    ("OPTIONS *", read),
                    ("POST *", ("write", 6003, 1)),
                    ("PUT *", write),
                    ("PATCH *", write),
                    ("DELETE *", delete),
                ],
            );
            return text.push_str("]\n");
        }
        let Some(action) = self.choice(ACTION) else { return };
        let actions: Vec<&str> = action.values().take(ACTIONS_MAX).collect();
        text.push_str("\n# CHECK: effect, OCSF class and activity of each action, proposed from a word in it.\n");
        let known: Vec<_> = actions.iter().filter_map(|action| Some((*action, effect(action)?))).collect();
        rows(text, &known);
        for action in actions.iter().filter(|action| effect(action).is_none()) {
            text.push_str(&format!("  # [{}, \"effect?\", 6003, 99],\n", quoted(action)));
        }
        text.push_str("]\n");
    }

    /// Fields that every record has.
    fn recognise(&self, text: &mut String) {
        let every = |c: &&Choice<'_>| c.candidates[0].field.records == self.sample.records.len();
        let mut paths: Vec<&str> = self.choices.iter().filter(every).map(Choice::path).collect();
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(*path));
        if paths.is_empty() {
            return;
        }
        text.push_str("\n# CHECK: held by every record of the sample; are they by no other source's?\n[[recognise]]\n");
        paths.iter().take(RECOGNISE_MAX).for_each(|path| text.push_str(&format!("{} = true\n", quoted(path))));
    }

    fn write_columns(&self, text: &mut String) {
        if self.http {
            let path = |column| self.choice(column).map_or("", Choice::path);
            let (method, path) = (path("http_method"), path("http_path"));
            let parts = [quoted(method), quoted("' '"), quoted(&format!("{path} | url_path | route"))];
            text.push_str(&format!("action = {{ join = [{}] }}\n", parts.join(", ")));
        }
        for choice in self.choices {
            let column = choice.rule.column;
            let skipped = column == ACTION && self.http;
            if !skipped {
                let percent = self.sample.percent(choice.candidates[0].field);
                text.push_str(&format!("{column} = {}  # {percent} %\n", quoted(&self.term(choice))));
            }
            for other in choice.candidates.iter().skip(usize::from(!skipped)).take(ALTERNATIVES_MAX) {
                let percent = self.sample.percent(other.field);
                let term = format!("{}{}", other.path, choice.rule.functions);
                text.push_str(&format!("#   or: {column} = {}  # {percent} %\n", quoted(&term)));
            }
        }
        for column in [TIME, "agent_id", "user_id"] {
            if self.choice(column).is_none() {
                text.push_str(&format!("# CHECK: {column} = \"path\"\n"));
            }
        }
        if self.choice(ACTION).is_none() && !self.http {
            text.push_str("# CHECK: action = \"path\"\n");
        }
    }

    fn outcomes(&self, text: &mut String) {
        let Some(choice) = self.choice(OUTCOME) else { return };
        text.push_str("\n[tables]\noutcome = [\n");
        if choice.values().all(|value| value.parse::<u16>().is_ok()) {
            for (status, outcome) in [("401", "denied"), ("403", "denied"), ("407", "denied"), ("429", "denied")] {
                text.push_str(&format!("  [\"{status}\", \"{outcome}\"],\n"));
            }
            for (status, outcome) in
                [("1*", "success"), ("2*", "success"), ("3*", "success"), ("4*", "failure"), ("5*", "failure")]
            {
                text.push_str(&format!("  [\"{status}\", \"{outcome}\"],\n"));
            }
        } else {
            for value in choice.values() {
                match outcome(value) {
                    Some(known) => text.push_str(&format!("  [{}, \"{known}\"],\n", quoted(value))),
                    None => text.push_str(&format!("  # CHECK: [{}, \"unknown\"],\n", quoted(value))),
                }
            }
        }
        text.push_str("  [\"*\", \"unknown\"],\n]\n");
    }
}

/// Whether the path names whoever acted without saying what that is.
fn is_either(path: &str) -> bool {
    let keys = keys(path);
    keys.iter().any(|key| EITHER.contains(&key.as_str()))
        && keys.last().is_some_and(|key| key.ends_with("id") || EITHER.contains(&key.as_str()))
}

/// A TOML text on one line.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string().replace('\n', "\\n")
}

/// Columns that say something of the record's reception, not of the record.
const RECEPTION: &[&str] =
    &["event_id", "received_at", "event_day", "tenant", "source", "door", "event_index", "flags", "raw", "delegation"];

/// One fixture: the record and what it becomes now.
pub(super) fn fixture(
    record: &str,
    secrets: &[String],
    event: Option<&Map<String, Value>>,
    quarantined: Option<&str>,
) -> String {
    let mut text = String::from(
        "# Drafted by `muster sources new`: the first record of the sample, with stand-ins for what it says about people,\n\
         # systems and secrets. Look at it before you share it. The event is what the draft makes of it: CHECK each column.\n\
         [[fixture]]\ntitle = \"first record of the sample\"\n",
    );
    let literal =
        !record.contains("'''") && !record.ends_with('\'') && !record.chars().any(|c| c.is_control() && c != '\t');
    text.push_str(&format!("record = {}\n", if literal { format!("'''{record}'''") } else { quoted(record) }));
    if !secrets.is_empty() {
        let secrets: Vec<String> = secrets.iter().map(|secret| quoted(secret)).collect();
        text.push_str(&format!("mask = [{}]\n", secrets.join(", ")));
    }
    if let Some(reason) = quarantined {
        text.push_str(&format!("# CHECK: until the mapping has what is missing.\nquarantined = {}\n", quoted(reason)));
    }
    let Some(event) = event else { return text };
    text.push_str("[fixture.event]\n");
    for column in schemas::event::TABLE.columns {
        let name = column.name;
        let Some(value) = event.get(name).filter(|_| !RECEPTION.contains(&name) && !name.starts_with("log_")) else {
            continue;
        };
        let value = match value {
            Value::String(value) => quoted(value),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().filter_map(Value::as_str).map(quoted).collect();
                format!("[{}]", items.join(", "))
            }
            value => value.to_string(),
        };
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}
