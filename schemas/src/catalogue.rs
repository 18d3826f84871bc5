//! The catalogue of actions: what an action can do at worst, by its name.
//!
//! `effect` says what a call does (read, write …); the catalogue says more where the name is known: that this write moves
//! money, that this read takes data away, that this change of a setting is routine. It is data, `schemas/catalogue.toml`, and a
//! file of the same form of one's own comes before it. The first entry that fits counts. An entry can also say that the
//! action needs a human approval, which the record must then name.
//!
//! ```toml
//! [[actions]]
//! of = "our payment gateway"            # for people only
//! kind = "payment"
//! match = ["POST /v1/payouts", "payouts.*"]
//! needs_approval = true
//! ```

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use toml::Spanned;

use crate::glob::like;
use crate::problem::Problem;

static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::parse("catalogue.toml", include_str!("../catalogue.toml")).expect("the built-in catalogue is right")
});

/// Patterns of a file at most.
const PATTERNS_MAX: usize = 10_000;
/// Bytes of a pattern at most.
const PATTERN_BYTES_MAX: usize = 256;

/// What an action can do at worst; the meaning of each is its [`doc`](Self::doc).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    Payment,
    Credential,
    Permission,
    Egress,
    Delete,
    Message,
    Execute,
    Write,
    Read,
    Routine,
}

impl Impact {
    pub const ALL: [Impact; 10] = [
        Impact::Payment,
        Impact::Credential,
        Impact::Permission,
        Impact::Egress,
        Impact::Delete,
        Impact::Message,
        Impact::Execute,
        Impact::Write,
        Impact::Read,
        Impact::Routine,
    ];

    /// Name, weight and meaning.
    fn about(self) -> (&'static str, f64, &'static str) {
        match self {
            Impact::Payment => ("payment", 1.0, "money moves, or is told where to go"),
            Impact::Credential => ("credential", 1.0, "a secret, key or token is made, or given out"),
            Impact::Permission => ("permission", 1.0, "somebody may do more than before, or a safeguard goes"),
            Impact::Egress => ("egress", 1.0, "data leaves: an export, a download, a share, a rule that forwards"),
            Impact::Delete => ("delete", 0.8, "something is gone"),
            Impact::Message => ("message", 0.8, "a message goes out in somebody's name"),
            Impact::Execute => ("execute", 0.8, "code runs where it can do more than the call shows"),
            Impact::Write => ("write", 0.5, "a thing inside is made or changed"),
            Impact::Read => ("read", 0.2, "somebody looks at something"),
            Impact::Routine => ("routine", 0.1, "of no consequence however rare, like a health check"),
        }
    }

    pub fn name(self) -> &'static str {
        self.about().0
    }

    /// What surprise is multiplied with.
    pub fn weight(self) -> f64 {
        self.about().1
    }

    pub fn doc(self) -> &'static str {
        self.about().2
    }
}

/// What the catalogue says of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub impact: Impact,
    pub needs_approval: bool,
}

/// Entries as a file has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    actions: Vec<Actions>,
}

/// One entry: patterns of the same meaning.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actions {
    /// Where such actions come from; for people.
    pub of: String,
    pub kind: Impact,
    #[serde(rename = "match")]
    patterns: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub needs_approval: bool,
}

impl Actions {
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.get_ref().iter().map(|pattern| pattern.get_ref().as_str())
    }
}

/// All entries, made ready for looking up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<Entries>);

#[derive(Debug)]
struct Entries {
    digest: String,
    actions: Vec<Actions>,
    rules: Vec<(String, Known)>,
    /// Numbers of the rules whose pattern begins with this byte (in lower case); those that begin with a star are everywhere.
    by_first: Vec<Vec<u32>>,
}

impl Default for Catalogue {
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl PartialEq for Catalogue {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Catalogue {
    /// Reads a catalogue file, reporting every problem; `file` names it in them.
    pub fn parse(file: &str, text: &str) -> Result<Catalogue, Vec<Problem>> {
        let read: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            vec![Problem::at(file, text, at, "", error.message())]
        })?;
        let problems = problems(file, text, &read.actions);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Catalogue::new(crate::id::digest([text.as_bytes()]), read.actions))
    }

    fn new(digest: String, actions: Vec<Actions>) -> Catalogue {
        let mut rules = Vec::new();
        for entry in &actions {
            let known = Known { impact: entry.kind, needs_approval: entry.needs_approval };
            rules.extend(entry.patterns().map(|pattern| (pattern.to_owned(), known)));
        }
        let mut by_first = vec![Vec::new(); 256];
        for (number, (pattern, _)) in (0..).zip(&rules) {
            match pattern.as_bytes().first().map(u8::to_ascii_lowercase) {
                Some(b'*') | None => by_first.iter_mut().for_each(|rules| rules.push(number)),
                Some(first) => by_first[usize::from(first)].push(number),
            }
        }
        Catalogue(Arc::new(Entries { digest, actions, rules, by_first }))
    }

    /// This catalogue where it says something, else `other`.
    pub fn before(&self, other: &Catalogue) -> Catalogue {
        let digest = crate::id::digest([self.digest().as_bytes(), other.digest().as_bytes()]);
        Catalogue::new(digest, [self.actions(), other.actions()].concat())
    }

    /// What is known of the action. Takes about a microsecond: ask once a name, not once a call.
    pub fn find(&self, action: &str) -> Option<Known> {
        let first = action.as_bytes().first().map_or(0, u8::to_ascii_lowercase);
        let mut rules = self.0.by_first[usize::from(first)].iter().map(|number| &self.0.rules[*number as usize]);
        rules.find(|(pattern, _)| like(pattern, action)).map(|(_, known)| *known)
    }

    pub fn actions(&self) -> &[Actions] {
        &self.0.actions
    }

    /// Tells versions apart.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }
}

fn problems(file: &str, text: &str, actions: &[Actions]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, entry) in actions.iter().enumerate() {
        let key = format!("actions[{number}].match");
        let (patterns, at) = (entry.patterns.get_ref(), entry.patterns.span().start);
        if patterns.is_empty() {
            problems.push(Problem::at(file, text, at, &key, "names no action"));
        }
        for pattern in patterns {
            let bytes = pattern.get_ref().len();
            if !(1..=PATTERN_BYTES_MAX).contains(&bytes) {
                let message = format!("a pattern must have 1 to {PATTERN_BYTES_MAX} bytes");
                problems.push(Problem::at(file, text, pattern.span().start, &key, message));
            }
        }
    }
    let patterns: usize = actions.iter().map(|entry| entry.patterns.get_ref().len()).sum();
    if patterns > PATTERNS_MAX {
        let message = format!("{patterns} patterns, the limit is {PATTERNS_MAX}");
        problems.push(Problem::of_file(file, message));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impact(action: &str) -> Option<&'static str> {
        Catalogue::default().find(action).map(|known| known.impact.name())
    }

    #[test]
    fn grave_actions_of_the_built_in_sources_are_known() {
        for (action, expected) in [
            ("iam:CreateAccessKey", "credential"),
            ("refund.created", "payment"),
            ("POST /v1/payouts", "payment"),
            ("system.api_token.create", "credential"),
            ("New-InboxRule", "egress"),
            ("GET /customers/export", "egress"),
            ("create pods/exec", "execute"),
            ("send_email", "message"),
            ("stripe.create_refund", "payment"),
            ("sts:GetCallerIdentity", "routine"),
        ] {
            assert_eq!(impact(action), Some(expected), "{action}");
        }
        assert_eq!((impact("GET /invoices"), impact(""), impact("monkeys.list")), (None, None, None));
    }

    #[test]
    fn ones_own_entries_come_first() {
        let own = "[[actions]]\nof = 'x'\nkind = 'routine'\nmatch = ['iam:Create*']\nneeds_approval = true\n";
        let own = Catalogue::parse("own.toml", own).expect("a right file");
        let all = own.before(&Catalogue::default());
        let known = Known { impact: Impact::Routine, needs_approval: true };
        assert_eq!(all.find("iam:CreateAccessKey"), Some(known));
        assert_eq!(all.find("refund.created"), Catalogue::default().find("refund.created"));
        assert_ne!(all, Catalogue::default());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, message) in [
            ("[[actions]]\nof = 'x'\nkind = 'paymnet'\nmatch = ['a']\n", 3, "unknown variant"),
            ("[[actions]]\nof = 'x'\nkind = 'payment'\nmatch = []\n", 4, "names no action"),
            ("[[actions]]\nof = 'x'\nkind = 'payment'\nmatch = ['a', '']\n", 4, "1 to 256 bytes"),
            ("[[action]]\n", 1, "unknown field"),
        ] {
            let problems = Catalogue::parse("own.toml", text).expect_err("a wrong file");
            assert_eq!((problems.len(), problems[0].line), (1, line), "{problems:?}");
            assert!(problems[0].message.contains(message), "{problems:?}");
        }
    }
}
