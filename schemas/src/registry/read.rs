//! Reads a registry file, reporting every problem with its file, line and key.

use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::Date32Type;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Agent, Alias, Claim, Intent, Registry};
use crate::problem::{Problem, line_of, nearest};

type Node<'i> = Spanned<DeValue<'i>>;

const KEYS: &[&str] = &["agents"];
const AGENT_KEYS: &[&str] =
    &["id", "name", "owner", "tenant", "purpose", "expires", "protected", "intended", "aliases"];
const ALIAS_KEYS: &[&str] = &["source", "id"];
/// A longer id is no id.
const ID_BYTES_MAX: usize = 1024;
/// Each is looked at for every event of the agent.
const INTENDED_MAX: usize = 100;

pub(super) fn read(file: &str, text: &str, sources: &[&str]) -> Result<Registry, Vec<Problem>> {
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(vec![Problem::at(file, text, at, "", error.message())]);
        }
    };
    let mut reader = Reader { file, text, sources, problems: Vec::new(), registry: Registry::default() };
    reader.keys(root.get_ref(), "", KEYS);
    for (number, item) in reader.items(root.get_ref().get("agents"), "agents").iter().enumerate() {
        reader.agent(item, &format!("agents[{number}]"));
    }
    if reader.problems.is_empty() { Ok(reader.registry) } else { Err(reader.problems) }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    sources: &'a [&'a str],
    problems: Vec<Problem>,
    registry: Registry,
}

impl Reader<'_> {
    fn problem(&mut self, at: usize, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::at(self.file, self.text, at, key, message));
    }

    fn keys(&mut self, table: &DeTable<'_>, under: &str, known: &[&str]) {
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let path = if under.is_empty() { name.to_owned() } else { format!("{under}.{name}") };
                let near = nearest(name, known.iter().copied());
                self.problem(key.span().start, &path, format!("unknown key{near}"));
            }
        }
    }

    fn items<'n, 'i>(&mut self, value: Option<&'n Node<'i>>, key: &str) -> &'n [Node<'i>] {
        let Some(value) = value else { return &[] };
        match value.get_ref() {
            DeValue::Array(items) => items,
            _ => {
                self.problem(value.span().start, key, "expected a list of tables");
                &[]
            }
        }
    }

    fn table<'n, 'i>(&mut self, value: &'n Node<'i>, key: &str, known: &[&str]) -> Option<&'n DeTable<'i>> {
        let Some(table) = value.get_ref().as_table() else {
            self.problem(value.span().start, key, "expected a table");
            return None;
        };
        self.keys(table, key, known);
        Some(table)
    }

    /// A text that says something, with where it stands.
    fn text(&mut self, table: &DeTable<'_>, under: &str, key: &str) -> Option<(String, usize)> {
        let value = table.get(key)?;
        let at = value.span().start;
        match value.get_ref().as_str() {
            Some(text) if !text.is_empty() && text.len() <= ID_BYTES_MAX => return Some((text.to_owned(), at)),
            Some(_) => self.problem(at, &format!("{under}.{key}"), format!("must have 1 to {ID_BYTES_MAX} bytes")),
            None => self.problem(at, &format!("{under}.{key}"), "expected a text"),
        }
        None
    }

    fn agent(&mut self, item: &Node<'_>, under: &str) {
        let Some(table) = self.table(item, under, AGENT_KEYS) else { return };
        let Some((id, at)) = self.text(table, under, "id") else {
            if table.get("id").is_none() {
                self.problem(item.span().start, &format!("{under}.id"), "an agent needs an id");
            }
            return;
        };
        let mut optional = |key| self.text(table, under, key).map(|(text, _)| text);
        let (name, owner, tenant) = (optional("name"), optional("owner"), optional("tenant"));
        let purpose = optional("purpose");
        let (expires, protected) = (self.day(table, under, "expires"), self.yes(table, under, "protected"));
        let (intended, aliases) = (self.intended(table, under), Vec::new());
        let number = self.registry.agents.len();
        let id = id.clone();
        let agent = Agent { id: id.clone(), name, owner, tenant, purpose, expires, protected, intended, aliases };
        self.registry.agents.push(agent);
        self.claim(&id, number, None, true, (at, &format!("{under}.id")));
        for (n, item) in self.items(table.get("aliases"), &format!("{under}.aliases")).iter().enumerate() {
            self.alias(item, number, &format!("{under}.aliases[{n}]"));
        }
    }

    /// A date, as the day that it is.
    fn day(&mut self, table: &DeTable<'_>, under: &str, key: &str) -> Option<i32> {
        let value = table.get(key)?;
        let day = match value.get_ref() {
            DeValue::Datetime(at) if at.time.is_none() => Date32Type::parse(&at.to_string()),
            _ => None,
        };
        if day.is_none() {
            let message = "expected a date, such as 2027-12-31, without quotes and without a time";
            self.problem(value.span().start, &format!("{under}.{key}"), message);
        }
        day
    }

    fn yes(&mut self, table: &DeTable<'_>, under: &str, key: &str) -> bool {
        let Some(value) = table.get(key) else { return false };
        if let DeValue::Boolean(yes) = value.get_ref() {
            return *yes;
        }
        self.problem(value.span().start, &format!("{under}.{key}"), "expected true or false");
        false
    }

    fn intended(&mut self, table: &DeTable<'_>, under: &str) -> Vec<Intent> {
        let Some(value) = table.get("intended") else { return Vec::new() };
        let (at, key) = (value.span().start, format!("{under}.intended"));
        let Some(items) = value.get_ref().as_array() else {
            self.problem(at, &key, "expected a list of texts");
            return Vec::new();
        };
        if items.len() > INTENDED_MAX {
            self.problem(at, &key, format!("at most {INTENDED_MAX} patterns; `*` stands for any text"));
            return Vec::new();
        }
        let mut intended = Vec::new();
        for (n, item) in items.iter().enumerate() {
            let text = item.get_ref().as_str().filter(|text| text.len() <= ID_BYTES_MAX);
            match text.ok_or("expected a text of at most 1024 bytes").and_then(Intent::parse) {
                Ok(intent) => intended.push(intent),
                Err(message) => self.problem(item.span().start, &format!("{key}[{n}]"), message),
            }
        }
        intended
    }

    fn alias(&mut self, item: &Node<'_>, agent: usize, under: &str) {
        let Some(table) = self.table(item, under, ALIAS_KEYS) else { return };
        let source = self.text(table, under, "source");
        if let Some((name, at)) = source.as_ref().filter(|(name, _)| !self.sources.contains(&name.as_str())) {
            let near = nearest(name, self.sources.iter().copied());
            self.problem(*at, &format!("{under}.source"), format!("there is no source `{name}`{near}"));
        }
        let Some((id, at)) = self.text(table, under, "id") else {
            if table.get("id").is_none() {
                self.problem(item.span().start, &format!("{under}.id"), "an alias needs an id");
            }
            return;
        };
        let source = source.map(|(name, _)| name);
        self.claim(&id, agent, source.clone(), false, (at, &format!("{under}.id")));
        self.registry.agents[agent].aliases.push(Alias { source, id });
    }

    /// Claims a name for an agent; a name that another one has is a problem, and so is an alias that is an agent itself,
    /// by which names could lead in a circle.
    fn claim(&mut self, name: &str, agent: usize, source: Option<String>, own: bool, (at, key): (usize, &str)) {
        let line = line_of(self.text, at);
        let Err(other) = self.registry.claim(name, Claim { agent, source, own, line }) else { return };
        let (its, line) = (&self.registry.agents[other.agent].id, other.line);
        let message = match (own, other.own) {
            (true, true) => format!("the agent `{name}` is declared already, in line {line}"),
            (true, false) => {
                format!("`{name}` is an alias of the agent `{its}`, in line {line}: it cannot be an agent itself")
            }
            (false, true) => {
                format!("`{name}` is the id of another agent, in line {line}: names would lead from one to the other")
            }
            (false, false) => format!("the agent `{its}` has this alias already, in line {line}"),
        };
        self.problem(at, key, message);
    }
}
