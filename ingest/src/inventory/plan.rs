//! A provider's lists, checked and compiled: paths parsed, columns by number, references by index.

use std::collections::BTreeMap;

use schemas::Kind;
use schemas::inventory::{TABLE, col};

use super::provider::{Conditions, Field, List, OneOrMany, Paging, Provider, Rows, Rule};
use super::value::{Condition, Take};
use crate::mapping::path::{self, Step};
use crate::mask::Masker;

/// What a row can be.
pub const KINDS: &[&str] = &["client", "service_principal", "credential", "grant", "activity"];
/// What a row can be flagged with.
pub const FLAGS: &[&str] = &["no_owner", "no_expiry", "never_used", "all_users"];
/// Columns that only the run fills.
const OWN: &[usize] = &[
    col::snapshot_id,
    col::seen_at,
    col::event_day,
    col::tenant,
    col::poll,
    col::provider,
    col::log_partition,
    col::log_offset,
    col::log_index,
    col::kind,
    col::flags,
    col::outcome,
    col::items,
    col::reason,
    col::raw,
];

/// A provider's lists, ready to be asked for.
pub(crate) struct Plan {
    pub(super) masker: Masker,
    pub(super) lists: Vec<ListPlan>,
    /// List and key of each index that `via` needs.
    pub(super) indexes: Vec<(usize, Vec<Step>)>,
}

pub(super) struct ListPlan {
    pub(super) name: String,
    pub(super) each: Option<usize>,
    pub(super) when: Vec<Condition>,
    pub(super) path: String,
    pub(super) paging: PagingPlan,
    pub(super) items: Vec<Step>,
    pub(super) keep: Vec<Condition>,
    pub(super) rows: Vec<RowPlan>,
    /// Whether a later list is asked for each of its items.
    pub(super) has_children: bool,
}

pub(super) enum PagingPlan {
    None,
    Link,
    Next(Vec<Step>),
    Cursor(Vec<Step>, String),
    Offset { parameter: String, total: Option<Vec<Step>> },
    Page { parameter: String, first: u64, total: Option<Vec<Step>> },
}

pub(super) struct RowPlan {
    pub(super) kind: String,
    pub(super) each: Option<Vec<Step>>,
    pub(super) when: Vec<Condition>,
    pub(super) columns: Vec<ColumnPlan>,
    pub(super) flags: Vec<(&'static str, Vec<Condition>)>,
}

pub(super) struct ColumnPlan {
    pub(super) column: usize,
    pub(super) kind: Kind,
    pub(super) take: Vec<Take>,
    pub(super) split: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) map: BTreeMap<String, String>,
    /// Index, and what is read from the item found.
    pub(super) via: Option<(usize, Vec<Take>)>,
    pub(super) empty: Option<&'static str>,
    pub(super) absent: Option<&'static str>,
}

impl Plan {
    /// The plan of the lists that `only` names (all, where it names none), or all that is wrong with the provider.
    pub(crate) fn new(provider: &Provider, only: &[String]) -> Result<Plan, Vec<String>> {
        let wanted = wanted(&provider.lists, only)?;
        let mut plan = Plan { masker: Masker::new(&provider.secrets, &[]), lists: Vec::new(), indexes: Vec::new() };
        let mut problems = Vec::new();
        for list in wanted {
            match plan.list(list) {
                Ok(list) => plan.lists.push(list),
                Err(problem) => problems.push(format!("list `{}`: {problem}", list.name)),
            }
        }
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    fn list(&mut self, list: &List) -> Result<ListPlan, String> {
        if list.name.is_empty() || self.position(&list.name).is_some() {
            return Err("its name is missing or taken".into());
        }
        if !list.path.starts_with('/') {
            return Err("path: must begin with `/`".into());
        }
        let each = list.each.as_deref().map(|name| self.earlier(name)).transpose()?;
        if let Some(parent) = each {
            self.lists[parent].has_children = true;
        }
        Ok(ListPlan {
            name: list.name.clone(),
            each,
            when: conditions(&list.when)?,
            path: list.path.clone(),
            paging: paging(&list.paging)?,
            items: optional(&list.items)?,
            keep: conditions(&list.keep)?,
            rows: list.rows.iter().map(|rows| self.rows(rows)).collect::<Result<_, _>>()?,
            has_children: false,
        })
    }

    fn rows(&mut self, rows: &Rows) -> Result<RowPlan, String> {
        if !KINDS.contains(&rows.kind.as_str()) {
            return Err(format!("kind: `{}` is none of {}", rows.kind, KINDS.join(", ")));
        }
        let flags = rows.flags.iter().map(|(name, when)| Ok((flag(name)?, conditions(when)?)));
        Ok(RowPlan {
            kind: rows.kind.clone(),
            each: rows.each.as_deref().map(path::parse).transpose()?,
            when: conditions(&rows.when)?,
            columns: rows.columns.iter().map(|(name, field)| self.column(name, field)).collect::<Result<_, _>>()?,
            flags: flags.collect::<Result<_, String>>()?,
        })
    }

    fn column(&mut self, name: &str, field: &Field) -> Result<ColumnPlan, String> {
        let column = TABLE.index_of(name).filter(|column| !OWN.contains(column));
        let column = column.ok_or_else(|| format!("columns: there is no column `{name}` to fill"))?;
        let rule = match field {
            Field::Rule(rule) => rule.clone(),
            Field::Take(take) => Rule { take: take.clone(), ..Rule::default() },
        };
        let via = rule.via.as_ref().map(|via| Ok::<_, String>((self.index(&via.list, &via.key)?, takes(&via.take)?)));
        Ok(ColumnPlan {
            column,
            kind: TABLE.columns[column].kind,
            take: takes(&rule.take)?,
            via: via.transpose()?,
            empty: rule.empty.as_deref().map(flag).transpose()?,
            absent: rule.absent.as_deref().map(flag).transpose()?,
            split: rule.split,
            prefix: rule.prefix,
            map: rule.map,
        })
    }

    fn index(&mut self, list: &str, key: &str) -> Result<usize, String> {
        let index = (self.earlier(list)?, path::parse(key)?);
        if let Some(known) = self.indexes.iter().position(|known| *known == index) {
            return Ok(known);
        }
        self.indexes.push(index);
        Ok(self.indexes.len() - 1)
    }

    fn earlier(&self, name: &str) -> Result<usize, String> {
        self.position(name).ok_or_else(|| format!("`{name}` is no earlier list"))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.lists.iter().position(|list| list.name == name)
    }
}

/// The lists asked for, and those that they need.
fn wanted<'a>(lists: &'a [List], only: &[String]) -> Result<Vec<&'a List>, Vec<String>> {
    let unknown = only.iter().filter(|name| !lists.iter().any(|list| list.name == **name));
    let unknown: Vec<String> = unknown.map(|name| format!("only: there is no list `{name}`")).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let mut names: Vec<&str> = only.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(lists.iter().collect());
    }
    for list in lists.iter().rev().filter(|list| !list.name.is_empty()) {
        if names.contains(&list.name.as_str()) {
            names.extend(list.each.as_deref());
            let fields = list.rows.iter().flat_map(|rows| rows.columns.values());
            let joined = fields.filter_map(|field| match field {
                Field::Rule(Rule { via: Some(via), .. }) => Some(via.list.as_str()),
                _ => None,
            });
            names.extend(joined.collect::<Vec<_>>());
        }
    }
    Ok(lists.iter().filter(|list| names.contains(&list.name.as_str())).collect())
}

fn flag(name: &str) -> Result<&'static str, String> {
    let known = FLAGS.iter().find(|known| **known == name).copied();
    known.ok_or_else(|| format!("flags: `{name}` is none of {}", FLAGS.join(", ")))
}

fn takes(all: &OneOrMany) -> Result<Vec<Take>, String> {
    all.all().iter().map(|text| Take::parse(text)).collect()
}

fn conditions(all: &Conditions) -> Result<Vec<Condition>, String> {
    all.iter().map(|(path, texts)| Ok(Condition { take: Take::parse(path)?, texts: texts.all().to_vec() })).collect()
}

fn optional(text: &str) -> Result<Vec<Step>, String> {
    if text.is_empty() { Ok(Vec::new()) } else { path::parse(text) }
}

fn paging(paging: &Paging) -> Result<PagingPlan, String> {
    let total = |total: &Option<String>| total.as_deref().map(path::parse).transpose();
    Ok(match paging {
        Paging::None => PagingPlan::None,
        Paging::Link => PagingPlan::Link,
        Paging::Next { path } => PagingPlan::Next(path::parse(path)?),
        Paging::Cursor { path, parameter } => PagingPlan::Cursor(path::parse(path)?, parameter.clone()),
        Paging::Offset { parameter, total: path } => {
            PagingPlan::Offset { parameter: parameter.clone(), total: total(path)? }
        }
        Paging::Page { parameter, first, total: path } => {
            PagingPlan::Page { parameter: parameter.clone(), first: *first, total: total(path)? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::provider::{built_in, names};
    use super::*;

    #[test]
    fn every_built_in_provider_compiles() {
        for (name, text) in schemas::sources::PROVIDERS {
            let provider: Provider = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(
                !provider.title.is_empty() && !provider.tried.is_empty() && !provider.permissions.is_empty(),
                "{name}"
            );
            Plan::new(&provider, &[]).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            for list in &provider.lists {
                let only = [list.name.clone()];
                Plan::new(&provider, &only).unwrap_or_else(|problems| panic!("{name} {only:?}: {problems:?}"));
            }
        }
        assert_eq!(names().collect::<Vec<_>>(), ["auth0", "aws", "entra", "keycloak", "kong", "okta"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut provider = built_in("kong").expect("is built in");
        provider.lists[1].name = "consumers".into();
        provider.lists[0].rows[0].kind = "person".into();
        let problems = Plan::new(&provider, &[]).err().expect("is wrong");
        assert!(problems[0].contains("`person` is none of"), "{problems:?}");
        let none = Plan::new(&provider, &["x".into()]).err().expect("is wrong");
        assert_eq!(none, ["only: there is no list `x`"]);
    }
}
