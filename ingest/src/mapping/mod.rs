//! Mappings: how a vendor's record becomes an event, declared in one TOML file a source.
//!
//! A file compiles once into a plan: a trie of all paths (one walk over a record finds them all), and for each column
//! the terms that are tried in order. `docs/mappings.md` describes the file for people who write one. Alternatives that
//! were not taken: a scripting language (slow, and nothing can be proved of it) and code a source (a rebuild for each).

mod compile;
pub(crate) mod decoded;
mod error;
pub(crate) mod expr;
pub(crate) mod function;
mod page;
pub(crate) mod path;
mod sources;
pub(crate) mod trie;

use std::sync::{Mutex, PoisonError};

use regex::Regex;
use schemas::table::Kind;

pub use error::MappingError;
pub(crate) use error::nearest;
pub(crate) use sources::mapping_files;
pub use sources::{Detection, Sources};

use crate::mask::Masker;
use crate::normalize::Scratch;
use crate::text::TextFormat;
use expr::{Absent, Condition, Record, Table, Term};
use trie::{NodeId, Slot, Trie};

/// A compiled mapping.
pub struct Mapping {
    name: String,
    file: String,
    version: String,
    title: String,
    systems: Vec<String>,
    verified: Option<String>,
    about: About,
    /// Each column, and the terms it is made of as the file spells them.
    column_texts: Vec<(String, String)>,
    pub(crate) unique_id: bool,
    /// Paths of the vendor's number of a record and of what the numbers run within, where none is left out.
    sequence: Option<[String; 2]>,
    flattened: bool,
    pub(crate) absent: Absent,
    /// Ways in which a record holds several events; the first that the record has counts.
    pub(crate) explode: Vec<Explode>,
    /// The first level of each of `explode`.
    pub(crate) explode_first: Vec<NodeId>,
    /// An array whose elements go with those of the first exploded one, by number.
    pub(crate) beside: Option<NodeId>,
    /// Where the key of an exploded object's entry is put.
    pub(crate) key_slot: Option<Slot>,
    /// Where records stand inside a wrapping object.
    pub(crate) envelopes: Vec<(Slot, Vec<String>)>,
    array_keys: Vec<String>,
    pub(crate) formats: Vec<TextFormat>,
    /// Fields of a JSON record that may hold a text line of one of `formats`.
    pub(crate) lines: Vec<Slot>,
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

/// The arrays, outermost first, whose elements become events.
#[derive(Debug)]
pub(crate) struct Explode {
    pub(crate) levels: Vec<Level>,
}

#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) node: NodeId,
    /// The node of an entry's value, where it is an object whose entries become events.
    pub(crate) entry: Option<NodeId>,
}

pub(crate) struct Noise {
    pub(crate) name: String,
    doc: String,
    pub(crate) when: Vec<Condition>,
}

/// Records of one kind: these columns, and the mapping's for the rest.
pub(crate) struct Case {
    /// Conditions of which one must hold.
    pub(crate) when: Vec<Vec<Condition>>,
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
    /// A JWT whose payload holds such claims.
    pub(crate) jwt: Option<Slot>,
    /// An array of `{kind, id, issuer}`, root first.
    pub(crate) list: Option<Slot>,
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
    /// Dotted paths of the vendor's number of a record, and of what the numbers run within: a number that does not come is
    /// a record that was lost on the way.
    pub fn sequence(&self) -> Option<&[String; 2]> {
        self.sequence.as_ref()
    }

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

    /// The systems whose records it reads.
    pub fn systems(&self) -> &[String] {
        &self.systems
    }

    /// Against what it was checked; none where no real record with a known result was to be had.
    pub fn verified(&self) -> Option<&str> {
        self.verified.as_deref()
    }

    /// The columns of the record's case.
    pub(crate) fn columns_of(&self, record: &Record<'_, '_>) -> &[ColumnPlan] {
        let fits = |case: &&Case| case.when.iter().any(|when| record.holds(when));
        self.cases.iter().find(fits).map_or(&self.columns, |case| &case.columns)
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
