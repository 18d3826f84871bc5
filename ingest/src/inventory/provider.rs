//! What a provider's inventory looks like: which lists to ask for, how they are paged, and which field becomes which column.
//!
//! One TOML file a provider in `schemas/inventory/`, or the same in configuration under `generic`. This is the form as
//! written; [`Plan`](super::plan::Plan) is what it means. Paths are those of mapping files (`a."b.c"[x=y].d[]`); `^.`
//! before one goes to the item that a list was asked for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Name for people.
    pub title: String,
    /// An example of the URL before all paths.
    pub base_url: String,
    /// What the token must be allowed.
    pub permissions: String,
    /// What it was tried against.
    pub tried: String,
    /// What a reader has to know.
    pub quirks: Vec<String>,
    /// Names of values that the poll's `parameters` must hold, for `{name}` in paths.
    pub parameters: Vec<String>,
    /// Form of the answers.
    pub format: Form,
    /// How a request says who asks.
    pub auth: Auth,
    /// Further names of fields whose value is a secret, masked before anything is stored.
    pub secrets: Vec<String>,
    /// What is asked for, in this order.
    pub lists: Vec<List>,
}

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    #[default]
    Json,
    /// Elements become fields, those named `member` become lists.
    Xml,
}

/// How a request says who asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Header that holds the token.
    pub header: String,
    /// Its value, with `{token}` in it.
    pub value: String,
    /// Its value where the token comes from `oauth`.
    pub oauth_value: String,
    /// `aws`: requests are signed with Signature Version 4 instead.
    pub sign: Option<Sign>,
    /// Service that is signed for.
    pub service: String,
    /// Region that is signed for.
    pub region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    Aws,
}

impl Default for Auth {
    fn default() -> Self {
        let (value, oauth_value) = ("Bearer {token}".into(), "Bearer {token}".into());
        let (service, region) = (String::new(), String::new());
        Auth { header: "authorization".into(), value, oauth_value, sign: None, service, region }
    }
}

/// One list that is asked for, page by page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    pub name: String,
    /// Asked once for each item of this earlier list, whose fields then fill `{field}` in the path.
    pub each: Option<String>,
    /// Only for items of that list of which this holds.
    pub when: Conditions,
    /// Path and query behind the base URL; `{name}` is a parameter of the poll or a field of the item.
    pub path: String,
    pub paging: Paging,
    /// Path of the items in an answer; empty: the answer itself, a list or one item.
    pub items: String,
    /// Only items of which this holds.
    pub keep: Conditions,
    /// What becomes of an item; none where it is only asked for the sake of another list.
    pub rows: Vec<Rows>,
}

/// How the next page is found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paging {
    /// There is one page.
    #[default]
    None,
    /// The header `Link` with `rel="next"`.
    Link,
    /// A URL or path in the answer, at `path`.
    Next { path: String },
    /// A value in the answer, at `path`, goes into the query as `parameter`.
    Cursor { path: String, parameter: String },
    /// `parameter` counts items from 0, until `total` (a path in the answer) is reached, or else a page is empty.
    Offset { parameter: String, total: Option<String> },
    /// `parameter` counts pages from 0 (or `first`), until `total` items are there, or else a page is empty.
    Page {
        parameter: String,
        #[serde(default)]
        first: u64,
        total: Option<String>,
    },
}

/// Path → the texts of which one must be there. `"*"`: anything; `""`: nothing; `"!x"`: not x, whatever else.
pub type Conditions = BTreeMap<String, OneOrMany>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn all(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

/// A row that an item becomes, or, with `each`, one for each element of a list in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rows {
    /// `client`, `service_principal`, `credential`, `grant` or `activity`.
    pub kind: String,
    /// Path of a list in the item; `^.` then is the item.
    pub each: Option<String>,
    pub when: Conditions,
    /// Column of the table `inventory` → where its value stands.
    pub columns: BTreeMap<String, Field>,
    /// Flag → what must hold; nothing: it always holds.
    pub flags: BTreeMap<String, Conditions>,
}

/// Where a column's value stands: a path or a text in single quotes, several of which the first with a value counts (in a
/// list column all), or a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Field {
    Take(OneOrMany),
    Rule(Rule),
}

/// A value that needs more than a path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub take: OneOrMany,
    /// Cuts a text into a list.
    pub split: Option<String>,
    /// Only texts that begin so count, without this beginning.
    pub prefix: Option<String>,
    /// Text → what it becomes; others become nothing.
    pub map: BTreeMap<String, String>,
    /// The text names an item of another list.
    pub via: Option<Via>,
    /// Flag of the row where the field is there and holds nothing.
    pub empty: Option<String>,
    /// Flag of the row where the field is not there.
    pub absent: Option<String>,
}

/// The item of `list` whose `key` is the text; `take` is read from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Via {
    pub list: String,
    pub key: String,
    pub take: OneOrMany,
}

/// A built-in provider; none of that name, where there is none.
pub fn built_in(name: &str) -> Option<Provider> {
    let (_, text) = schemas::sources::PROVIDERS.iter().find(|(known, _)| *known == name)?;
    Some(toml::from_str(text).expect("a test reads every built-in provider"))
}

/// Names of the built-in providers.
pub fn names() -> impl Iterator<Item = &'static str> {
    schemas::sources::PROVIDERS.iter().map(|(name, _)| *name)
}
