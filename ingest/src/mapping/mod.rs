//! Mappings: how a vendor's record becomes an event, declared in one TOML file a source.
//!
//! A file compiles once into a plan: a trie of all paths (one walk over a record finds them all), and for each column
//! the terms that are tried in order. `docs/mappings.md` describes the file for people who write one. Alternatives that
//! were not taken: a scripting language (slow, and nothing can be proved of it) and code a source (a rebuild for each).

mod compile;
mod error;
pub(crate) mod expr;
pub(crate) mod function;
pub(crate) mod path;
mod sources;
pub(crate) mod trie;

use std::sync::{Mutex, PoisonError};

use regex::Regex;
use schemas::table::Kind;

pub use error::MappingError;
pub(crate) use error::nearest;
pub use sources::Sources;
pub(crate) use sources::mapping_files;

use crate::mask::Masker;
use crate::normalize::Scratch;
use expr::{Condition, Record, Table, Term};
use trie::{NodeId, Slot, Trie};

/// A compiled mapping.
pub struct Mapping {
    name: String,
    file: String,
    version: String,
    title: String,
    about: About,
    pub(crate) unique_id: bool,
    flattened: bool,
    pub(crate) absent: Vec<String>,
    pub(crate) explode: Option<NodeId>,
    /// Where records stand inside a wrapping object.
    pub(crate) envelopes: Vec<(Slot, Vec<String>)>,
    array_keys: Vec<String>,
    pub(crate) formats: Vec<TextFormat>,
    pub(crate) recognise: Vec<Vec<Condition>>,
    pub(crate) noise: Vec<Noise>,
    pub(crate) cases: Vec<Case>,
    pub(crate) columns: Vec<ColumnPlan>,
    pub(crate) delegation: Option<Delegation>,
    pub(crate) no_expiry: Option<Vec<Condition>>,
    pub(crate) no_owner: Option<Vec<Condition>>,
    /// Which records say what was issued; none: the engine tells by their effect.
    pub(crate) issuance: Option<Vec<Condition>>,
    pub(crate) classify: Table,
    pub(crate) classes: Vec<Class>,
    pub(crate) masker: Masker,
    pub(crate) trie: Trie,
    pub(crate) tables: Vec<Table>,
    pub(crate) regexes: Vec<Regex>,
    /// Builders and buffers of earlier calls.
    pool: Mutex<Vec<Scratch>>,
}

/// What a reader of the reference page wants to know.
#[derive(Debug, Default)]
struct About {
    agent: String,
    user: String,
    delegation: String,
    credential: String,
    caveats: Vec<String>,
}

pub(crate) struct TextFormat {
    pub(crate) name: String,
    pub(crate) regex: Regex,
}

pub(crate) struct Noise {
    pub(crate) name: String,
    doc: String,
    pub(crate) when: Vec<Condition>,
}

/// Records of one kind: these columns, and the mapping's for the rest.
pub(crate) struct Case {
    pub(crate) when: Vec<Condition>,
    pub(crate) columns: Vec<ColumnPlan>,
}

#[derive(Clone)]
pub(crate) struct ColumnPlan {
    pub(crate) index: usize,
    pub(crate) kind: Kind,
    pub(crate) terms: Vec<Term>,
}

pub(crate) struct Delegation {
    /// An object with `sub` and nested `act` (RFC 8693 section 4.1).
    pub(crate) claims: Option<Slot>,
    /// Hops that the mapping spells out, root first; taken where two or more are there.
    pub(crate) hops: Vec<HopPlan>,
}

pub(crate) struct HopPlan {
    pub(crate) kind: Vec<Term>,
    pub(crate) id: Vec<Term>,
    pub(crate) issuer: Vec<Term>,
}

pub(crate) struct Class {
    pub(crate) effect: String,
    pub(crate) class_uid: i32,
    pub(crate) activity_id: i32,
}

/// So many idle sets of builders and buffers are kept.
const POOL_MAX: usize = 8;

/// So many digits of a file's digest tell its versions apart.
const VERSION_DIGITS: usize = 12;

/// The version of a mapping: a digest of its file's text.
pub(crate) fn version_of(text: &str) -> String {
    schemas::id::digest([text.as_bytes()])[..VERSION_DIGITS].to_owned()
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Mapping {
    /// Compiles a mapping; `file` names it in errors.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Mapping, Vec<MappingError>> {
        compile::compile(name, file, text)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn is_built_in(&self) -> bool {
        self.file.starts_with(sources::BUILT_IN)
    }

    /// Digest of the file's text: another version has another.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    /// The reference page, in Markdown.
    pub fn describe(&self) -> String {
        let About { agent, user, delegation, credential, caveats } = &self.about;
        let mut page = format!("# {} (`{}`)\n\n| | where it comes from |\n| --- | --- |\n", self.title, self.name);
        for (what, text) in [("agent", agent), ("user", user), ("delegation", delegation), ("credential", credential)] {
            page.push_str(&format!("| {what} | {} |\n", if text.is_empty() { "not in these records" } else { text }));
        }
        let id = if self.unique_id { "the vendor's record id" } else { "the record's place in its file or request" };
        page.push_str(&format!("\nAn event's id rests on {id}.\n"));
        let envelopes: Vec<String> = self.envelopes.iter().map(|(_, path)| format!("`{}`", path.join("."))).collect();
        page.push_str("\n## Accepted forms\n\n- JSON lines, or a JSON array of records\n");
        if !envelopes.is_empty() {
            page.push_str(&format!("- records wrapped in {}\n", envelopes.join(", ")));
        }
        if self.flattened {
            page.push_str("- the flattened Log Analytics export (`actor_id_s` for `actor.id`)\n");
        }
        self.formats.iter().for_each(|f| page.push_str(&format!("- text lines of the form `{}`\n", f.name)));
        if !self.noise.is_empty() {
            page.push_str("\n## Noise: counted by rule, not kept as events\n\n");
            self.noise.iter().for_each(|n| page.push_str(&format!("- `{}`: {}\n", n.name, n.doc)));
        }
        if !caveats.is_empty() {
            page.push_str("\n## Caveats\n\n");
            caveats.iter().for_each(|c| page.push_str(&format!("- {c}\n")));
        }
        page
    }

    /// The columns of the record's case.
    pub(crate) fn columns_of(&self, record: &Record<'_, '_>) -> &[ColumnPlan] {
        self.cases.iter().find(|case| record.holds(&case.when)).map_or(&self.columns, |case| &case.columns)
    }

    /// The keys by which an envelope's array may begin a body.
    pub fn array_keys(&self) -> &[String] {
        &self.array_keys
    }

    pub(crate) fn take_scratch(&self) -> Scratch {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.pop().unwrap_or_default()
    }

    pub(crate) fn give_scratch(&self, scratch: Scratch) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOL_MAX {
            pool.push(scratch);
        }
    }
}
