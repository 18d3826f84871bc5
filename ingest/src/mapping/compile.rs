//! Compiles a mapping file into a plan, reporting every problem with its file, line and key.

use regex::Regex;
use schemas::event;
use schemas::problem::line_of;
use schemas::table::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{MappingError, nearest};
use super::expr::{ABSENT_BYTES_MAX, Absent, Condition, Source, Subject, Table, Term, Test};
use super::function::{FUNCTIONS, Function, Separator};
use super::path;
use super::path::Step;
use super::trie::{NodeId, Slot, Trie};
use super::{About, Case, Class, ColumnPlan, Delegation, Explode, HopPlan, Level, Mapping, Noise};
use crate::mask::Masker;
use crate::text::{Pairs, TextFormat};
use crate::time::Unit;

type Node<'i> = Spanned<DeValue<'i>>;

const KEYS: &[&str] = &[
    "title",
    "systems",
    "verified",
    "about",
    "unique_id",
    "sequence",
    "flattened",
    "absent",
    "explode",
    "beside",
    "mask",
    "not_secret",
    "framing",
    "recognise",
    "noise",
    "issuance",
    "columns",
    "delegation",
    "flags",
    "tables",
    "classify",
    "cases",
];

/// Columns that the engine fills itself.
const DERIVED: &[&str] = &[
    "event_id",
    "received_at",
    "event_day",
    "tenant",
    "source",
    "door",
    "event_index",
    "flags",
    "log_partition",
    "log_offset",
    "log_index",
    "delegation",
    "delegation_depth",
    "agent_alias",
    "attribution",
    "raw",
];

/// Reads and compiles a mapping; `file` names it in errors.
pub(super) fn compile(name: &str, file: &str, text: &str) -> Result<Mapping, Vec<MappingError>> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            let message = error.message().to_owned();
            return Err(vec![MappingError { file: file.to_owned(), line, key: String::new(), message }]);
        }
    };
    let mut compiler = Compiler::new(file, text);
    let mapping = compiler.mapping(name, table.get_ref());
    if compiler.errors.is_empty() { Ok(mapping) } else { Err(compiler.errors) }
}

struct Compiler<'a> {
    file: &'a str,
    text: &'a str,
    errors: Vec<MappingError>,
    trie: Trie,
    flattened: bool,
    table_names: Vec<String>,
    tables: Vec<Table>,
    regexes: Vec<Regex>,
}

impl<'a> Compiler<'a> {
    fn new(file: &'a str, text: &'a str) -> Compiler<'a> {
        Compiler {
            file,
            text,
            errors: Vec::new(),
            trie: Trie::new(),
            flattened: false,
            table_names: Vec::new(),
            tables: Vec::new(),
            regexes: Vec::new(),
        }
    }

    fn error(&mut self, at: usize, key: &str, message: impl Into<String>) {
        let line = line_of(self.text, at);
        self.errors.push(MappingError { file: self.file.into(), line, key: key.into(), message: message.into() });
    }

    fn mapping(&mut self, name: &str, root: &DeTable<'_>) -> Mapping {
        self.keys(root, "", KEYS);
        self.flattened = self.bool(root.get("flattened"), "flattened");
        self.read_tables(root.get("tables"));
        let explode = self.explode(root.get("explode"));
        let beside = self.text(root.get("beside"), "beside").and_then(|(text, at)| self.node_of(&text, at, "beside"));
        let columns = self.columns(root.get("columns"), "columns");
        let framing = self.table(root.get("framing"), "framing", &["envelopes", "wrapped", "text", "lines"]);
        let envelopes = self.envelopes(framing.and_then(|f| f.get("envelopes")));
        let formats = self.formats(framing.and_then(|f| f.get("text")));
        let lines = self.paths(framing.and_then(|f| f.get("lines")), "framing.lines");
        for (steps, _) in self.steps(framing.and_then(|f| f.get("wrapped")), "framing.wrapped") {
            self.trie.wrap(&steps);
        }
        let flags = self.table(root.get("flags"), "flags", &["no_expiry", "no_owner"]);
        let flag = |c: &mut Self, key| flags.and_then(|f| f.get(key)).map(|v| c.conditions(v, key));
        let (no_expiry, no_owner) = (flag(self, "no_expiry"), flag(self, "no_owner"));
        let mut mapping = Mapping {
            name: name.to_owned(),
            file: self.file.to_owned(),
            version: super::version_of(self.text),
            title: self.text(root.get("title"), "title").map_or_else(|| name.to_owned(), |(text, _)| text),
            systems: root.get("systems").map_or_else(Vec::new, |v| self.strings(v, "systems")),
            verified: self.text(root.get("verified"), "verified").map(|(text, _)| text),
            about: self.about(root.get("about")),
            column_texts: self.column_texts(root),
            unique_id: self.bool(root.get("unique_id"), "unique_id"),
            sequence: self.sequence(root.get("sequence")),
            flattened: self.flattened,
            absent: self.absent(root.get("absent")),
            explode_first: explode.iter().map(|e| e.levels[0].node).collect(),
            explode,
            beside,
            key_slot: None,
            array_keys: envelopes.iter().filter(|(_, path)| path.len() == 1).map(|(_, path)| path[0].clone()).collect(),
            envelopes,
            formats,
            lines,
            recognise: self.each(root.get("recognise"), "recognise", |c, v| Some(c.conditions(v, "recognise"))),
            noise: self.each(root.get("noise"), "noise", Self::noise),
            cases: self.each(root.get("cases"), "cases", Self::case),
            columns,
            delegation: self.delegation(root.get("delegation")),
            no_expiry,
            no_owner,
            issuance: root.get("issuance").map(|v| self.conditions(v, "issuance")),
            classify: Table::default(),
            classes: Vec::new(),
            masker: self.masker(root),
            trie: Trie::new(),
            tables: Vec::new(),
            regexes: Vec::new(),
            pool: Default::default(),
        };
        self.classify(root.get("classify"), &mut mapping);
        for case in &mut mapping.cases {
            // The agent comes before the user, whom the engine compares with it.
            let own: Vec<usize> = case.columns.iter().map(|c| c.index).collect();
            case.columns.extend(mapping.columns.iter().filter(|c| !own.contains(&c.index)).cloned());
            case.columns.sort_by_key(|c| c.index);
        }
        mapping.key_slot = Some(self.slot("$key", 0, "explode"));
        self.trie.seal();
        mapping.formats.iter_mut().for_each(|format| format.keep(&|key| self.trie.has(key)));
        mapping.trie = std::mem::replace(&mut self.trie, Trie::new());
        mapping.tables = std::mem::take(&mut self.tables);
        mapping.regexes = std::mem::take(&mut self.regexes);
        mapping
    }

    // Small readers of TOML values.

    fn keys(&mut self, table: &DeTable<'_>, under: &str, known: &[&str]) {
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let path = if under.is_empty() { name.to_owned() } else { format!("{under}.{name}") };
                let near = nearest(name, known.iter().copied());
                self.error(key.span().start, &path, format!("unknown key{near}"));
            }
        }
    }

    fn table<'n, 'i>(&mut self, value: Option<&'n Node<'i>>, key: &str, known: &[&str]) -> Option<&'n DeTable<'i>> {
        let value = value?;
        match value.get_ref().as_table() {
            Some(table) => {
                self.keys(table, key, known);
                Some(table)
            }
            None => {
                self.error(value.span().start, key, "expected a table");
                None
            }
        }
    }

    fn bool(&mut self, value: Option<&Node<'_>>, key: &str) -> bool {
        let Some(value) = value else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.error(value.span().start, key, "expected true or false");
            false
        })
    }

    fn text(&mut self, value: Option<&Node<'_>>, key: &str) -> Option<(String, usize)> {
        let value = value?;
        match scalar(value.get_ref()) {
            Some(text) => Some((text, value.span().start)),
            None => {
                self.error(value.span().start, key, "expected a text");
                None
            }
        }
    }

    /// Two paths: the number, and what the numbers run within.
    fn sequence(&mut self, value: Option<&Node<'_>>) -> Option<[String; 2]> {
        let value = value?;
        let paths = <[String; 2]>::try_from(self.strings(value, "sequence"));
        if paths.is_err() {
            let message = "expected two paths: that of the number, and that of what the numbers run within";
            self.error(value.span().start, "sequence", message);
        }
        paths.ok()
    }

    fn strings(&mut self, value: &Node<'_>, key: &str) -> Vec<String> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|v| self.text(Some(v), key)).map(|(t, _)| t).collect(),
            _ => self.text(Some(value), key).map(|(text, _)| text).into_iter().collect(),
        }
    }

    fn each<T>(
        &mut self,
        value: Option<&Node<'_>>,
        key: &str,
        mut f: impl FnMut(&mut Self, &Node<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = value else { return Vec::new() };
        match value.get_ref().as_array() {
            Some(items) => items.iter().filter_map(|item| f(self, item)).collect(),
            None => {
                self.error(value.span().start, key, "expected a list");
                Vec::new()
            }
        }
    }

    // Parts of a mapping.

    fn about(&mut self, value: Option<&Node<'_>>) -> About {
        let keys = ["agent", "user", "delegation", "credential", "caveats"];
        let Some(table) = self.table(value, "about", &keys) else { return About::default() };
        let text = |c: &mut Self, key| c.text(table.get(key), key).map(|(t, _)| t).unwrap_or_default();
        About {
            agent: text(self, "agent"),
            user: text(self, "user"),
            delegation: text(self, "delegation"),
            credential: text(self, "credential"),
            caveats: table.get("caveats").map_or_else(Vec::new, |v| self.strings(v, "about.caveats")),
        }
    }

    fn absent(&mut self, value: Option<&Node<'_>>) -> Absent {
        let Some(value) = value else { return Absent::new(["", "-", "null"].map(str::to_owned).to_vec()) };
        let texts = self.strings(value, "absent");
        if texts.iter().any(|text| text.len() > ABSENT_BYTES_MAX) {
            self.error(value.span().start, "absent", format!("a text has more than {ABSENT_BYTES_MAX} bytes"));
        }
        Absent::new(texts)
    }

    fn masker(&mut self, root: &DeTable<'_>) -> Masker {
        let mut names = |key: &str| root.get(key).map_or_else(Vec::new, |v| self.strings(v, key));
        Masker::new(&names("mask"), &names("not_secret"))
    }

    fn read_tables(&mut self, value: Option<&Node<'_>>) {
        let Some(value) = value else { return };
        let Some(tables) = value.get_ref().as_table() else {
            return self.error(value.span().start, "tables", "expected a table");
        };
        for (name, rows) in tables.iter() {
            let mut table = Table::default();
            for (at, row) in self.rows(rows, &format!("tables.{}", name.get_ref())) {
                match row.as_slice() {
                    [glob, text] => table.push(glob, vec![text.clone()]),
                    _ => self.error(at, name.get_ref(), "a row is [\"pattern\", \"value\"]"),
                }
            }
            self.table_names.push(name.get_ref().to_string());
            self.tables.push(table);
        }
    }

    fn rows(&mut self, value: &Node<'_>, key: &str) -> Vec<(usize, Vec<String>)> {
        self.each(Some(value), key, |c, row| Some((row.span().start, c.strings(row, key))))
    }

    fn classify(&mut self, value: Option<&Node<'_>>, mapping: &mut Mapping) {
        let Some(value) = value else { return };
        for (at, row) in self.rows(value, "classify") {
            let numbers = row.get(2..4).and_then(|n| Some((n[0].parse().ok()?, n[1].parse().ok()?)));
            let (Some((class_uid, activity_id)), 4) = (numbers, row.len()) else {
                self.error(at, "classify", "a row is [\"pattern of actions\", \"effect\", class_uid, activity_id]");
                continue;
            };
            self.one_of(event::col::effect, &row[1], at, "classify");
            mapping.classify.push(&row[0], Vec::new());
            mapping.classes.push(Class { effect: row[1].clone(), class_uid, activity_id });
        }
    }

    fn envelopes(&mut self, value: Option<&Node<'_>>) -> Vec<(Slot, Vec<String>)> {
        let Some(value) = value else { return Vec::new() };
        let at = value.span().start;
        let paths = self.strings(value, "framing.envelopes");
        paths
            .iter()
            .map(|p| (self.slot(p, at, "framing.envelopes"), p.split('.').map(str::to_owned).collect()))
            .collect()
    }

    fn steps(&mut self, value: Option<&Node<'_>>, key: &str) -> Vec<(Vec<Step>, usize)> {
        let Some(value) = value else { return Vec::new() };
        let at = value.span().start;
        let mut found = Vec::new();
        for text in self.strings(value, key) {
            match path::parse(&text) {
                Ok(steps) => found.push((steps, at)),
                Err(message) => self.error(at, key, format!("`{text}`: {message}")),
            }
        }
        found
    }

    fn paths(&mut self, value: Option<&Node<'_>>, key: &str) -> Vec<Slot> {
        self.steps(value, key).iter().map(|(steps, _)| self.trie.slot(steps, false)).collect()
    }

    /// `a[].b`, `a[].b.*`: a level for each array on the way, and one for the last key.
    fn explode(&mut self, value: Option<&Node<'_>>) -> Vec<Explode> {
        let mut all = Vec::new();
        for (steps, at) in self.steps(value, "explode") {
            let entries = steps.last() == Some(&Step::Key("*".to_owned()));
            let steps = if entries { &steps[..steps.len() - 1] } else { &steps[..] };
            let steps = if steps.last() == Some(&Step::All) { &steps[..steps.len() - 1] } else { steps };
            if !matches!(steps.last(), Some(Step::Key(_))) {
                self.error(at, "explode", "expected a path of keys and `[]` that ends in a key");
                continue;
            }
            let mut levels = Vec::new();
            for end in 1..=steps.len() {
                if matches!(steps[end - 1], Step::Key(_)) && (end == steps.len() || steps[end] == Step::All) {
                    levels.push(Level { node: self.trie.node(&steps[..end], false), entry: None });
                }
            }
            if let (true, Some(last)) = (entries, levels.last_mut()) {
                let entry = [steps, &[Step::Key("*".to_owned())]].concat();
                last.entry = Some(self.trie.node(&entry, false));
            }
            all.push(Explode { levels });
        }
        all
    }

    /// What each column is made of, as the file spells it.
    fn column_texts(&self, root: &DeTable<'_>) -> Vec<(String, String)> {
        let tables = std::iter::once(root.get("columns")).chain(
            root.get("cases")
                .and_then(|v| v.get_ref().as_array())
                .into_iter()
                .flatten()
                .map(|case| case.get_ref().as_table().and_then(|t| t.get("columns"))),
        );
        let mut texts = Vec::new();
        for (key, value) in tables.flatten().filter_map(|v| v.get_ref().as_table()).flat_map(|t| t.iter()) {
            let text = self.text.get(value.span()).unwrap_or_default();
            texts.push((key.get_ref().to_string(), text.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        texts
    }

    fn formats(&mut self, value: Option<&Node<'_>>) -> Vec<TextFormat> {
        self.each(value, "framing.text", |c, item| {
            let table = c.table(Some(item), "framing.text", &["name", "regex", "pairs"])?;
            let (name, _) = c.text(table.get("name"), "framing.text.name")?;
            let Some(regex) = table.get("regex") else {
                c.error(item.span().start, "framing.text.regex", "a form of line needs a regular expression");
                return None;
            };
            let (parts, at) = (c.strings(regex, "framing.text.regex"), regex.span().start);
            let pairs = table.get("pairs").and_then(|v| c.pairs(v));
            let group = pairs.as_ref().map(|(group, _)| group.clone());
            match TextFormat::new(name, parts, pairs) {
                Ok(format) => {
                    if let Some(group) = group.filter(|g| !format.regex.capture_names().flatten().any(|n| n == g)) {
                        c.error(at, "framing.text.pairs", format!("the expression has no group `{group}`"));
                    }
                    Some(format)
                }
                Err(error) => {
                    c.error(at, "framing.text.regex", error.to_string());
                    None
                }
            }
        })
    }

    fn pairs(&mut self, value: &Node<'_>) -> Option<(String, Pairs)> {
        let table = self.table(Some(value), "framing.text.pairs", &["group", "form"])?;
        let (group, _) = self.text(table.get("group"), "framing.text.pairs.group")?;
        let (name, at) = self.text(table.get("form"), "framing.text.pairs.form")?;
        let form = Pairs::FORMS.iter().find(|(known, _)| *known == name);
        if form.is_none() {
            let known: Vec<&str> = Pairs::FORMS.iter().map(|(known, _)| *known).collect();
            self.error(at, "framing.text.pairs.form", format!("`{name}` is not one of: {}", known.join(", ")));
        }
        form.map(|(_, form)| (group, *form))
    }

    fn noise(&mut self, item: &Node<'_>) -> Option<Noise> {
        let table = self.table(Some(item), "noise", &["name", "doc", "when"])?;
        let Some(when) = table.get("when") else {
            self.error(item.span().start, "noise.when", "a noise rule needs conditions");
            return None;
        };
        let (name, _) = self.text(table.get("name"), "noise.name").unwrap_or_default();
        let (doc, _) = self.text(table.get("doc"), "noise.doc").unwrap_or_default();
        if name.is_empty() || doc.is_empty() {
            self.error(item.span().start, "noise", "a noise rule needs a name and a doc that says why");
        }
        Some(Noise { name, doc, when: self.conditions(when, "noise.when") })
    }

    fn case(&mut self, item: &Node<'_>) -> Option<Case> {
        let table = self.table(Some(item), "cases", &["name", "when", "columns"])?;
        let (name, _) = self.text(table.get("name"), "cases.name").unwrap_or_default();
        let when = match table.get("when").map(|v| (v, v.get_ref().as_array())) {
            Some((_, Some(items))) => items.iter().map(|v| self.conditions(v, "cases.when")).collect(),
            Some((one, None)) => vec![self.conditions(one, "cases.when")],
            None => vec![Vec::new()],
        };
        let columns = self.columns(table.get("columns"), &format!("cases.{name}.columns"));
        Some(Case { when, columns })
    }

    fn columns(&mut self, value: Option<&Node<'_>>, under: &str) -> Vec<ColumnPlan> {
        let Some(value) = value else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.error(value.span().start, under, "expected a table");
            return Vec::new();
        };
        let mut columns = Vec::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            let path = format!("{under}.{name}");
            let at = key.span().start;
            if DERIVED.contains(&name) {
                self.error(at, &path, "the engine fills this column");
                continue;
            }
            let Some(index) = event::TABLE.columns.iter().position(|c| c.name == name) else {
                let near = nearest(name, event::TABLE.columns.iter().map(|c| c.name));
                self.error(at, &path, format!("unknown column{near}"));
                continue;
            };
            let terms = self.terms(value, &path);
            terms.iter().for_each(|term| self.check_values(index, term, at, &path));
            columns.push(ColumnPlan { index, kind: event::TABLE.columns[index].kind, terms });
        }
        columns.sort_by_key(|c| c.index);
        columns
    }

    /// Constants of a column with a closed set of values must be in the set.
    fn check_values(&mut self, index: usize, term: &Term, at: usize, path: &str) {
        match (&term.source, term.functions.last()) {
            (_, Some(Function::Lookup(table))) => {
                let values: Vec<String> = self.tables[*table].rows.iter().map(|row| row[0].clone()).collect();
                values.iter().for_each(|value| self.one_of(index, value, at, path));
            }
            (Source::Literal(text), None) => self.one_of(index, &text.clone(), at, path),
            _ => {}
        }
    }

    fn one_of(&mut self, index: usize, value: &str, at: usize, path: &str) {
        let column = &event::TABLE.columns[index];
        let closed = matches!(column.name, "actor_kind" | "user_kind" | "credential_kind" | "effect" | "outcome");
        let number = matches!(column.kind, Kind::I32 | Kind::I64) && value.parse::<i64>().is_err();
        if number || (closed && !column.unit.split(", ").any(|known| known == value)) {
            let allowed = if number { "a number" } else { column.unit };
            self.error(at, path, format!("`{value}` is not one of: {allowed}"));
        }
    }

    fn delegation(&mut self, value: Option<&Node<'_>>) -> Option<Delegation> {
        let table = self.table(value, "delegation", &["claims", "jwt", "list", "hops"])?;
        let mut place = |key: &str| {
            let name = format!("delegation.{key}");
            self.text(table.get(key), &name).map(|(path, at)| self.slot(&path, at, &name))
        };
        let (claims, jwt, list) = (place("claims"), place("jwt"), place("list"));
        let hops = self.each(table.get("hops"), "delegation.hops", |c, item| {
            let hop = c.table(Some(item), "delegation.hops", &["kind", "id", "issuer"])?;
            let part = |c: &mut Self, key: &str| hop.get(key).map_or_else(Vec::new, |v| c.terms(v, "delegation.hops"));
            Some(HopPlan { kind: part(c, "kind"), id: part(c, "id"), issuer: part(c, "issuer") })
        });
        Some(Delegation { claims, jwt, list, hops })
    }

    // Conditions and terms.

    fn conditions(&mut self, value: &Node<'_>, key: &str) -> Vec<Condition> {
        let Some(table) = value.get_ref().as_table() else {
            self.error(value.span().start, key, "expected conditions: { \"path\" = \"pattern\", … }");
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for (path, wanted) in table.iter() {
            let subject = match &**path.get_ref() {
                "$format" => Subject::Format,
                path_text => Subject::Slot(self.slot(path_text, path.span().start, key)),
            };
            let test = self.test(wanted, key);
            if matches!((&subject, &test), (Subject::Format, Test::Present(_) | Test::Empty)) {
                self.error(path.span().start, key, "`$format` is always there: `json`, or the name of a text form");
            }
            conditions.push(Condition { subject, test });
        }
        conditions
    }

    fn test(&mut self, wanted: &Node<'_>, key: &str) -> Test {
        match wanted.get_ref() {
            DeValue::Boolean(present) => Test::Present(*present),
            DeValue::Table(table) => {
                self.keys(table, key, &["not", "empty", "matches"]);
                match (table.get("not"), self.text(table.get("matches"), key)) {
                    (Some(not), _) => Test::Like { globs: self.strings(not, key), is: false },
                    (None, Some((pattern, at))) => match Regex::new(&pattern) {
                        Ok(regex) => Test::Matches(regex),
                        Err(error) => {
                            self.error(at, key, error.to_string());
                            Test::Empty
                        }
                    },
                    (None, None) => Test::Empty,
                }
            }
            _ => Test::Like { globs: self.strings(wanted, key), is: true },
        }
    }

    fn terms(&mut self, value: &Node<'_>, key: &str) -> Vec<Term> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().filter_map(|item| self.term(item, key)).collect(),
            _ => self.term(value, key).into_iter().collect(),
        }
    }

    fn term(&mut self, value: &Node<'_>, key: &str) -> Option<Term> {
        let at = value.span().start;
        let DeValue::Table(table) = value.get_ref() else {
            let text = self.text(Some(value), key)?.0;
            if !value.get_ref().is_str() {
                return Some(Term { when: Vec::new(), source: Source::Literal(text), functions: Vec::new() });
            }
            return self.expression(&text, at, key);
        };
        self.keys(table, key, &["when", "take", "join", "do"]);
        let when = table.get("when").map_or_else(Vec::new, |v| self.conditions(v, key));
        let mut term = match (table.get("take"), table.get("join")) {
            (Some(take), None) => self.term(take, key)?,
            (None, Some(join)) => Term {
                when: Vec::new(),
                source: Source::Join(self.terms(join, &format!("{key}.join"))),
                functions: Vec::new(),
            },
            _ => {
                self.error(at, key, "a table needs either `take` or `join`");
                return None;
            }
        };
        if let Some((functions, at)) = self.text(table.get("do"), key) {
            for function in functions.split(" | ") {
                term.functions.extend(self.function(function, at, key));
            }
        }
        term.when.extend(when);
        Some(term)
    }

    /// `path | function argument | …`; a literal stands in single quotes.
    fn expression(&mut self, text: &str, at: usize, key: &str) -> Option<Term> {
        let mut parts = text.split(" | ");
        let operand = parts.next().unwrap_or_default().trim();
        let source = match operand.strip_prefix('\'') {
            Some(literal) => Source::Literal(literal.strip_suffix('\'').unwrap_or(literal).to_owned()),
            None if operand == "$format" => Source::Format,
            None if operand == "$received" && !key.ends_with(".time") => {
                self.error(at, key, "`$received` is a time, for the column `time` alone");
                return None;
            }
            None if operand == "$received" => Source::Received,
            None => Source::Slot(self.slot(operand, at, key)),
        };
        let functions = parts.filter_map(|part| self.function(part, at, key)).collect();
        Some(Term { when: Vec::new(), source, functions })
    }

    fn slot(&mut self, path: &str, at: usize, key: &str) -> Slot {
        match path::parse(path) {
            Ok(steps) => self.trie.slot(&steps, self.flattened),
            Err(message) => {
                self.error(at, key, format!("`{path}`: {message}"));
                0
            }
        }
    }

    fn node_of(&mut self, path: &str, at: usize, key: &str) -> Option<NodeId> {
        match path::parse(path) {
            Ok(steps) => Some(self.trie.node(&steps, false)),
            Err(message) => {
                self.error(at, key, format!("`{path}`: {message}"));
                None
            }
        }
    }

    fn function(&mut self, text: &str, at: usize, key: &str) -> Option<Function> {
        let mut words = words(text);
        let name = if words.is_empty() { String::new() } else { words.remove(0) };
        let Some((_, count, _)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let near = nearest(&name, FUNCTIONS.iter().map(|f| f.0));
            self.error(at, key, format!("unknown function `{name}`{near}"));
            return None;
        };
        if words.len() != *count {
            self.error(at, key, format!("`{name}` takes {count} arguments, not {}", words.len()));
            return None;
        }
        match self.build(&name, &words) {
            Ok(function) => Some(function),
            Err(message) => {
                self.error(at, key, format!("`{name}`: {message}"));
                None
            }
        }
    }

    fn build(&mut self, name: &str, words: &[String]) -> Result<Function, String> {
        let first = words.first().cloned().unwrap_or_default();
        Ok(match name {
            "epoch" => Function::Epoch(match first.as_str() {
                "s" => Unit::Seconds,
                "ms" => Unit::Millis,
                "us" => Unit::Micros,
                "ns" => Unit::Nanos,
                _ => return Err("the unit is s, ms, us or ns".into()),
            }),
            "ip" => Function::Ip,
            "ip_only" => Function::IpOnly,
            "before" | "after" | "part" if first.is_empty() => return Err("the separator is empty".into()),
            "before" => Function::Before(Separator::new(&first)),
            "after" => Function::After(Separator::new(&first)),
            "last" => Function::Last(first),
            "part" => {
                Function::Part(Separator::new(&first), words[1].parse().map_err(|_| "the second argument is a number")?)
            }
            "split" => Function::Split(first.chars().collect()),
            "strip_prefix" => Function::StripPrefix(first),
            "strip_suffix" => Function::StripSuffix(first),
            "lower" => Function::Lower,
            "url_path" => Function::UrlPath,
            "route" => Function::Route,
            "upper" => Function::Upper,
            "replace" => Function::Replace(first, words[1].clone()),
            "pad" => Function::Pad(first.parse().map_err(|_| "the argument is a number")?),
            "times" => Function::Times(first.parse().map_err(|_| "the argument is a number")?),
            "lookup" => {
                let near = || nearest(&first, self.table_names.iter().map(String::as_str));
                let table = self.table_names.iter().position(|known| *known == first);
                Function::Lookup(table.ok_or_else(|| format!("there is no table `{first}`{}", near()))?)
            }
            "capture" => {
                let regex = Regex::new(&first).map_err(|error| error.to_string())?;
                if regex.captures_len() < 2 {
                    return Err("the regular expression has no group".into());
                }
                self.regexes.push(regex);
                Function::Capture(self.regexes.len() - 1)
            }
            "hash" => Function::Hash,
            "jwt" => Function::Jwt(first.split('.').map(str::to_owned).collect()),
            "base64" => Function::Base64(first.split('.').map(str::to_owned).collect()),
            _ => return Err("is listed and not built".into()),
        })
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Words of a text, where `'…'` is one word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, next) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = next.trim_start();
    }
    words
}
