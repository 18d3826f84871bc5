//! One run of a poll: every list, page by page, into rows. Nothing is stored before the last item is there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use lake::clock::Clock;
use schemas::inventory::{TABLE, col};
use schemas::{RowBuilder, id};
use serde_json::Value;
use url::Url;

use super::calls::{Answer, Calls};
use super::config::{Config, Poll};
use super::error::PollError;
use super::plan::{ListPlan, PagingPlan, Plan, RowPlan};
use super::sigv4::encoded;
use super::value::{self, Cell, Index, Item};
use crate::mapping::path::{self, Step};
use crate::worker::PARTITIONS;

/// A batch of rows fits one append to the log, whose limits are wider.
const BATCH_ROWS_MAX: usize = 8_192;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What all rows of a run share.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) snapshot_id: String,
    pub(super) seen_at: i64,
    pub(super) tenant: String,
    pub(super) poll: String,
    pub(super) provider: String,
}

impl Stamp {
    pub(super) fn new(poll: &Poll, seen_at: i64) -> Stamp {
        let tenant = poll.tenant().to_owned();
        let parts = [tenant.as_bytes(), poll.name.as_bytes(), &seen_at.to_le_bytes()];
        Stamp {
            snapshot_id: id::digest(parts),
            seen_at,
            tenant,
            poll: poll.name.clone(),
            provider: poll.provider.clone(),
        }
    }

    /// Begins a row.
    pub(super) fn begin(&self, rows: &mut RowBuilder, kind: &str, item_id: &str, agent_id: Option<&str>) {
        rows.str(col::snapshot_id, &self.snapshot_id);
        rows.time(col::seen_at, self.seen_at);
        rows.date(col::event_day, id::day(self.seen_at));
        rows.str(col::tenant, &self.tenant);
        rows.str(col::poll, &self.poll);
        rows.str(col::provider, &self.provider);
        rows.i32(col::log_partition, id::partition(&self.tenant, agent_id, None, PARTITIONS));
        rows.i64(col::log_offset, 0);
        rows.i32(col::log_index, 0);
        rows.str(col::kind, kind);
        rows.str(col::item_id, item_id);
    }
}

/// What a complete run found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) items: usize,
    /// Rows of each kind.
    pub(super) kinds: std::collections::BTreeMap<String, usize>,
    pub(super) masked: u64,
    pub(super) requests: u64,
}

pub(super) async fn run(
    poll: &Poll,
    plan: &Plan,
    stamp: &Stamp,
    limits: &Config,
    clock: &Clock,
) -> Result<Found, PollError> {
    let calls = Calls::open(poll, limits, clock).await?;
    let mut run = Run {
        poll,
        plan,
        stamp,
        limits,
        calls,
        kept: plan.lists.iter().map(|_| Vec::new()).collect(),
        indexes: plan.indexes.iter().map(|_| Index::new()).collect(),
        rows: RowBuilder::new(&TABLE),
        rows_bytes: 0,
        seen: 0,
        seen_bytes: 0,
        found: Found::default(),
    };
    for (number, list) in plan.lists.iter().enumerate() {
        run.list(number, list).await?;
    }
    run.cut();
    run.found.requests = run.calls.requests;
    Ok(run.found)
}

struct Run<'a> {
    poll: &'a Poll,
    plan: &'a Plan,
    stamp: &'a Stamp,
    limits: &'a Config,
    calls: Calls<'a>,
    /// The items of each list that another is asked for.
    kept: Vec<Vec<Arc<Item>>>,
    indexes: Vec<Index>,
    rows: RowBuilder,
    rows_bytes: usize,
    seen: usize,
    seen_bytes: usize,
    found: Found,
}

impl Run<'_> {
    async fn list(&mut self, number: usize, list: &ListPlan) -> Result<(), PollError> {
        let Some(each) = list.each else {
            return match self.pages(number, list, None).await? {
                true => Ok(()),
                false => Err(PollError::Status { path: list.path.split('?').next().unwrap_or("").into(), status: 404 }),
            };
        };
        let parents: Vec<_> =
            self.kept[each].iter().filter(|item| value::all_hold(&list.when, item)).cloned().collect();
        let mut there = parents.is_empty();
        for parent in parents {
            there |= self.pages(number, list, Some(parent)).await?;
        }
        // One that was deleted in the meantime is no longer there; if none is there, the path is wrong.
        if there {
            return Ok(());
        }
        Err(PollError::List { list: list.name.clone(), problem: "answered 404 for every item".into() })
    }

    /// Takes all pages; says whether there was anything at the path.
    async fn pages(&mut self, number: usize, list: &ListPlan, parent: Option<Arc<Item>>) -> Result<bool, PollError> {
        let mut page = Page { path: self.path(list, parent.as_deref())?, ..Page::default() };
        page.number = if let PagingPlan::Page { first, .. } = list.paging { first } else { 0 };
        let mut url = self.first_url(list, &page)?;
        loop {
            let Some(answer) = self.calls.get(&url).await? else {
                if page.items == 0 {
                    return Ok(false);
                }
                return Err(PollError::Status { path: url.path().into(), status: 404 });
            };
            let items = items(list, &answer.value)?;
            let count = items.len();
            let next = self.next(list, &mut page, &url, &answer, count)?;
            for value in items {
                self.item(number, list, value, parent.clone())?;
            }
            match next {
                None => return Ok(true),
                Some(next) if next == url => {
                    let problem = "the next page is the page itself".into();
                    return Err(PollError::List { list: list.name.clone(), problem });
                }
                Some(next) => url = next,
            }
        }
    }

    fn first_url(&self, list: &ListPlan, page: &Page) -> Result<Url, PollError> {
        let url = self.calls.url(&page.path)?;
        Ok(match &list.paging {
            PagingPlan::Offset { parameter, .. } | PagingPlan::Page { parameter, .. } => {
                with(url, parameter, &page.number.to_string())
            }
            _ => url,
        })
    }

    fn next(
        &self,
        list: &ListPlan,
        page: &mut Page,
        url: &Url,
        answer: &Answer,
        count: usize,
    ) -> Result<Option<Url>, PollError> {
        page.items += count as u64;
        let counted = |parameter: &str, total: &Option<Vec<Step>>, next: u64| {
            let announced = match total {
                Some(path) => Some(self.total(list, answer, path)?),
                None => None,
            };
            if count == 0 && announced.is_some_and(|total| page.items < total) {
                let problem = format!("{} items were announced, {} came", announced.unwrap_or(0), page.items);
                return Err(PollError::List { list: list.name.clone(), problem });
            }
            // Without a total only an empty page is the end: a provider may give less than was asked for.
            let done = count == 0 || announced.is_some_and(|total| page.items >= total);
            Ok((!done).then(|| with(url.clone(), parameter, &next.to_string())))
        };
        match &list.paging {
            PagingPlan::None => Ok(None),
            PagingPlan::Link => link(&answer.headers).map(|text| self.calls.next(url, &text)).transpose(),
            PagingPlan::Next(path) => {
                value::first(&answer.value, path).map(|text| self.calls.next(url, &text)).transpose()
            }
            PagingPlan::Cursor(path, parameter) => {
                Ok(value::first(&answer.value, path).map(|cursor| with(url.clone(), parameter, &cursor)))
            }
            PagingPlan::Offset { parameter, total } => counted(parameter, total, page.items),
            PagingPlan::Page { parameter, total, .. } => {
                let next = page.number + 1;
                let url = counted(parameter, total, next)?;
                page.number = next;
                Ok(url)
            }
        }
    }

    fn total(&self, list: &ListPlan, answer: &Answer, path: &[Step]) -> Result<u64, PollError> {
        let total = value::first(&answer.value, path).and_then(|text| text.parse().ok());
        total.ok_or_else(|| PollError::List { list: list.name.clone(), problem: "the answer names no total".into() })
    }

    /// The list's path with its `{names}` filled.
    fn path(&self, list: &ListPlan, item: Option<&Item>) -> Result<String, PollError> {
        let mut out = String::new();
        let mut rest = list.path.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let own = self.poll.parameters.get(name).cloned();
            let field = || value::first(&item?.value, &path::parse(name).ok()?);
            let value = own.or_else(field).ok_or_else(|| PollError::List {
                list: list.name.clone(),
                problem: format!("there is no `{name}` for its path"),
            })?;
            out.push_str(before);
            out.push_str(&encoded(&value));
            rest = after;
        }
        Ok(out + rest)
    }

    fn item(
        &mut self,
        number: usize,
        list: &ListPlan,
        value: Value,
        parent: Option<Arc<Item>>,
    ) -> Result<(), PollError> {
        let item = Item { value, parent };
        if !value::all_hold(&list.keep, &item) {
            return Ok(());
        }
        let item = Arc::new(item);
        self.note(&item)?;
        for rows in &list.rows {
            let Some(each) = &rows.each else {
                self.row(rows, &item)?;
                continue;
            };
            for element in elements(value::select(&item.value, each)) {
                self.row(rows, &Item { value: element.clone(), parent: Some(item.clone()) })?;
            }
        }
        for (index, (of, key)) in self.plan.indexes.iter().enumerate() {
            if let Some(key) = (*of == number).then(|| value::first(&item.value, key)).flatten() {
                self.indexes[index].insert(key, item.clone());
            }
        }
        if list.has_children {
            self.kept[number].push(item);
        }
        Ok(())
    }

    fn note(&mut self, item: &Item) -> Result<(), PollError> {
        self.seen += 1;
        if self.seen > self.limits.items_max {
            return Err(PollError::Limit { name: "items_max", max: self.limits.items_max as u64 });
        }
        self.bytes(item.value.to_string().len())
    }

    fn bytes(&mut self, more: usize) -> Result<(), PollError> {
        self.seen_bytes += more;
        if self.seen_bytes > self.limits.run_bytes_max {
            return Err(PollError::Limit { name: "run_bytes_max", max: self.limits.run_bytes_max as u64 });
        }
        Ok(())
    }

    fn row(&mut self, plan: &RowPlan, item: &Item) -> Result<(), PollError> {
        if !value::all_hold(&plan.when, item) {
            return Ok(());
        }
        let mut flags = Vec::new();
        let columns = plan.columns.iter();
        let cells: Vec<_> =
            columns.filter_map(|column| Some((column.column, column.read(item, &self.indexes, &mut flags)?))).collect();
        flags.extend(plan.flags.iter().filter(|(_, when)| value::all_hold(when, item)).map(|(name, _)| *name));
        flags.sort_unstable();
        flags.dedup();
        let raw = item.value.to_string();
        let mut masked = String::new();
        self.found.masked += u64::from(self.plan.masker.mask(&raw, &mut masked));
        let raw = if masked.is_empty() { raw } else { masked };
        let text = |wanted: usize| {
            let found = cells.iter().find(|(column, _)| *column == wanted);
            found.and_then(|(_, cell)| if let Cell::Text(text) = cell { Some(text.clone()) } else { None })
        };
        // What has no id of its own is named by what it says.
        let item_id = text(col::item_id).unwrap_or_else(|| {
            id::digest([plan.kind.as_bytes(), raw.as_bytes(), text(col::user_id).unwrap_or_default().as_bytes()])
        });
        self.stamp.begin(&mut self.rows, &plan.kind, &item_id, text(col::agent_id).as_deref());
        for (column, cell) in cells.iter().filter(|(column, _)| *column != col::item_id) {
            match cell {
                Cell::Text(text) => self.rows.str(*column, text),
                Cell::Texts(texts) => self.rows.strs(*column, texts),
                Cell::Time(micros) => self.rows.time(*column, *micros),
                Cell::Bool(truth) => self.rows.bool(*column, *truth),
            }
        }
        if !flags.is_empty() {
            self.rows.strs(col::flags, &flags);
        }
        self.rows.str(col::raw, &raw);
        self.rows.end_row();
        *self.found.kinds.entry(plan.kind.clone()).or_default() += 1;
        self.found.items += 1;
        self.rows_bytes += raw.len();
        self.bytes(raw.len())?;
        if self.rows.rows() >= BATCH_ROWS_MAX || self.rows_bytes >= BATCH_BYTES_MAX {
            self.cut();
        }
        Ok(())
    }

    /// Ends the batch under construction.
    fn cut(&mut self) {
        if self.rows.rows() > 0 {
            self.found.batches.push(self.rows.finish());
            self.rows_bytes = 0;
        }
    }
}

/// Where a list is.
#[derive(Default)]
struct Page {
    path: String,
    number: u64,
    items: u64,
}

/// The items of an answer.
fn items(list: &ListPlan, answer: &Value) -> Result<Vec<Value>, PollError> {
    let found = value::select(answer, &list.items);
    if found.is_empty() && !value::exists(answer, &list.items) {
        let problem = "the answer does not hold the items where they should be".into();
        return Err(PollError::List { list: list.name.clone(), problem });
    }
    Ok(elements(found).into_iter().cloned().collect())
}

/// Values, lists taken apart, what is empty left out.
fn elements(values: Vec<&Value>) -> Vec<&Value> {
    let mut out = Vec::new();
    for value in values {
        match value {
            Value::Array(values) => out.extend(values),
            Value::Object(_) => out.push(value),
            _ => {} // an empty XML element is an empty text
        }
    }
    out
}

/// `url` with one parameter of its query set.
fn with(mut url: Url, parameter: &str, value: &str) -> Url {
    let kept = url.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let kept = kept.filter(|pair| pair.split('=').next() != Some(parameter)).map(str::to_owned);
    let mut pairs: Vec<String> = kept.collect();
    pairs.push(format!("{parameter}={}", encoded(value)));
    url.set_query(Some(&pairs.join("&")));
    url
}

/// The URL of `rel="next"` in `Link` headers (RFC 8288).
fn link(headers: &reqwest::header::HeaderMap) -> Option<String> {
    let values = headers.get_all(reqwest::header::LINK).iter().filter_map(|value| value.to_str().ok());
    for link in values.flat_map(|value| value.split('<').skip(1)) {
        let Some((target, parameters)) = link.split_once('>') else { continue };
        let is_next = |parameter: &str| {
            parameter.trim().trim_end_matches(',').split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
            })
        };
        if parameters.split(';').any(is_next) {
            return Some(target.to_owned());
        }
    }
    None
}
