//! One event row: the mapping's columns, then who acted (`who`), then what the engine derives from them.

use std::borrow::Cow;

use ahash::AHashMap;
use schemas::event::col;
use schemas::table::{Hop, Kind};
use schemas::{RowBuilder, id};
use simd_json::{Buffers, Node, Tape};

use super::record::Walked;
use super::who::{self, Filled};
use super::{MEMORY_MAX, Memory, Refusal, Run, Texts};
use crate::context::Reason;
use crate::mapping::decoded::jwt_payload;
use crate::mapping::expr::{Record, Source, Value};
use crate::mapping::trie::Slot;
use crate::mapping::{ColumnPlan, Delegation, Mapping};
use crate::time::{self, Unit};
use crate::walk::{key_of, size, text_of};

/// A time so much later than its receipt is flagged.
const AHEAD_MICROS_MAX: i64 = 600 * 1_000_000;
/// A longer chain of `act` claims is cut, its root end kept out.
const HOPS_MAX: usize = 16;
/// OCSF API Activity, activity Other: an action that no pattern knows.
const UNKNOWN_CLASS: (&str, i32, i32) = ("unknown", 6003, 99);

/// Without these there is no event.
pub(super) struct Required<'a> {
    time: i64,
    /// The record carries no time: it is the one at which it came in.
    received: bool,
    action: Cow<'a, str>,
}

pub(super) fn required<'a>(record: &Record<'a, '_>, columns: &'a [ColumnPlan]) -> Result<Required<'a>, Refusal> {
    let terms = |index| columns.iter().find(|c| c.index == index).map_or(&[][..], |c| &c.terms);
    let time = record.first(terms(col::time), |term, value| {
        let time = micros(value).ok_or_else(|| {
            let found: String = value.as_text().unwrap_or_default().chars().take(40).collect();
            (Reason::BadTime, Some("time"), format!("`{found}` is no time"))
        });
        time.map(|time| (time, matches!(term.source, Source::Received)))
    });
    let (time, received) =
        time.ok_or_else(|| (Reason::NoTime, Some("time"), "the record has no time".to_owned())).flatten()?;
    let action = record.eval(terms(col::action)).into_text();
    let action = action.ok_or_else(|| (Reason::NoAction, Some("action"), "the record has no action".to_owned()))?;
    Ok(Required { time, received, action })
}

pub(super) fn micros(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Text(text) => time::from_text(text, Unit::BySize),
        value => value.number().and_then(|n| time::from_epoch(n, Unit::BySize)),
    }
}

impl Run<'_> {
    /// Fills and ends one row. `masked` says that the scratch holds the raw record with secrets masked.
    pub(super) fn fill(
        &mut self,
        walked: &Walked<'_, '_>,
        record: &Record<'_, '_>,
        columns: &[ColumnPlan],
        Required { time, received, action }: Required<'_>,
        index: i32,
        masked: bool,
    ) {
        let rows = &mut self.builders.events;
        let texts = &mut self.scratch.texts;
        texts.clear();
        let masker = masked.then_some(&self.mapping.masker);
        rows.time(col::time, time);
        let mut text_of_column = String::new();
        let mut clean =
            |text: &str| masker.is_some_and(|m| m.mask(text, &mut text_of_column) > 0).then(|| text_of_column.clone());
        rows.str(col::action, clean(&action).as_deref().unwrap_or(&action));
        for column in columns {
            if !record.is_blank(&column.terms) && !rows.is_set(column.index) {
                set(rows, column, record, texts, &mut clean);
            }
        }
        let mut hops = self.mapping.delegation.as_ref().map_or_else(Vec::new, |delegation| hops(delegation, record));
        let of = (self.context, self.mapping);
        let mut filled = who::who(rows, texts, of, self.joins, &mut hops, (&action, time), &mut clean);
        let effect = derive(rows, texts, self.mapping, &action, &mut self.scratch.memory);
        if !hops.is_empty() {
            rows.hops(col::delegation, &hops);
            rows.i32(col::delegation_depth, hops.len() as i32);
        }
        self.learn(record, columns, (effect, &action), &hops, &mut filled);
        let flags = flags(self, record, (time, received), &filled);
        let rows = &mut self.builders.events;
        if flags.clone().next().is_some() {
            rows.strs(col::flags, flags);
        }
        self.place_row(walked.offset, time, index);
        let raw = if masked { &self.scratch.masked } else { walked.raw };
        let rows = &mut self.builders.events;
        rows.str(col::raw, raw);
        rows.end_row();
    }

    /// The columns that name the event and say where it goes.
    fn place_row(&mut self, offset: u64, time: i64, index: i32) {
        let context = self.context;
        let event_id = id::hex_digits(self.event_id(offset, index));
        let event_id = std::str::from_utf8(&event_id).expect("hex digits are ASCII");
        let Texts { agent, user, .. } = &self.scratch.texts;
        let (some_agent, some_user) = (some(agent), some(user));
        let partitions = self.scratch.memory.partitions(context.tenant);
        let partition = partitions.get(agent.as_str()).copied().unwrap_or_else(|| {
            let partition = id::partition(context.tenant, some_agent, some_user, context.partitions);
            if !agent.is_empty() && partitions.len() < MEMORY_MAX {
                partitions.insert(agent.clone(), partition);
            }
            partition
        });
        let rows = &mut self.builders.events;
        rows.str(col::event_id, event_id);
        rows.date(col::event_day, id::day(time));
        rows.i32(col::event_index, index);
        rows.i32(col::log_partition, partition);
    }

    /// Fills the columns that are the same in all rows.
    pub(super) fn same_in_all(&mut self) {
        let rows = &mut self.builders.events;
        rows.all_time(col::received_at, self.context.received_at);
        rows.all_str(col::tenant, self.context.tenant);
        rows.all_str(col::source, self.mapping.name());
        rows.all_str(col::door, self.context.door);
        rows.all_i64(col::log_offset, 0);
        rows.all_i32(col::log_index, 0);
    }

    fn event_id(&self, offset: u64, index: i32) -> u128 {
        let Texts { vendor_id, .. } = &self.scratch.texts;
        let (tenant, instance) = (self.context.tenant.as_bytes(), self.context.instance.as_bytes());
        let number = index.to_le_bytes();
        let name = self.mapping.name().as_bytes();
        if self.mapping.unique_id && !vendor_id.is_empty() {
            return id::digest_bytes([tenant, instance, b"id", name, vendor_id.as_bytes(), &number]);
        }
        let place = self.place(offset);
        id::digest_bytes([tenant, instance, name, &place[0], &place[1], &place[2], &place[3], &number])
    }
}

/// A text that says something.
fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Texts {
    fn clear(&mut self) {
        let Texts { agent, user, user_kind, vendor_id, token, credential, effect, outcome, resource } = self;
        for text in [agent, user, user_kind, vendor_id, token, credential, effect, outcome, resource] {
            text.clear();
        }
    }

    /// Keeps what later columns rest on; says whether the column is written later, when all that it rests on is known.
    fn keep(&mut self, column: usize, text: &str) -> bool {
        let (kept, later) = match column {
            col::agent_id => (&mut self.agent, true),
            col::user_id => (&mut self.user, true),
            col::user_kind => (&mut self.user_kind, false),
            col::source_event_id => (&mut self.vendor_id, false),
            col::token_id => (&mut self.token, false),
            col::credential_id => (&mut self.credential, false),
            col::effect => (&mut self.effect, false),
            col::outcome => (&mut self.outcome, false),
            col::resource_id => (&mut self.resource, false),
            _ => return false,
        };
        kept.push_str(text);
        later
    }
}

fn set(
    rows: &mut RowBuilder,
    column: &ColumnPlan,
    record: &Record<'_, '_>,
    texts: &mut Texts,
    clean: &mut impl FnMut(&str) -> Option<String>,
) {
    if column.kind == Kind::Strs {
        let list = record.list(&column.terms);
        if !list.is_empty() {
            rows.strs(column.index, list);
        }
        return;
    }
    record.first(&column.terms, |_, value| set_value(rows, column, value, texts, clean));
}

#[inline(always)]
fn set_value(
    rows: &mut RowBuilder,
    column: &ColumnPlan,
    value: &Value<'_>,
    texts: &mut Texts,
    clean: &mut impl FnMut(&str) -> Option<String>,
) {
    match column.kind {
        Kind::Str => {
            let Some(text) = value.as_text() else { return };
            if texts.keep(column.index, &text) {
                return;
            }
            match clean(&text) {
                Some(masked) => rows.str(column.index, &masked),
                None => rows.str(column.index, &text),
            }
        }
        Kind::Time => {
            if let Some(time) = micros(value) {
                rows.time(column.index, time);
            }
        }
        Kind::I64 => {
            if let Some(number) = value.int() {
                rows.i64(column.index, number);
            }
        }
        Kind::I32 => {
            if let Some(number) = value.int().and_then(|n| i32::try_from(n).ok()) {
                rows.i32(column.index, number);
            }
        }
        Kind::Strs | Kind::F64 | Kind::Bool | Kind::Date | Kind::Hops | Kind::Bytes => {
            debug_assert!(false, "the event has no column of this kind that a mapping fills");
        }
    }
}

/// Fills what follows from the mapping's columns, where the mapping did not say it; gives the effect.
fn derive<'m>(
    rows: &mut RowBuilder,
    texts: &Texts,
    mapping: &'m Mapping,
    action: &str,
    memory: &mut Memory,
) -> &'m str {
    let (effect, class_uid, activity_id) = class(mapping, action, &mut memory.classes);
    let mut text = |column, value| {
        if !rows.is_set(column) {
            rows.str(column, value);
        }
    };
    text(col::effect, effect);
    text(col::outcome, "unknown");
    let service = texts.user_kind == "service" || texts.user_kind == "system";
    text(
        col::actor_kind,
        match (texts.agent.is_empty(), texts.user.is_empty()) {
            (false, _) => "agent",
            (true, false) if service => "service",
            (true, false) => "user",
            (true, true) => "unknown",
        },
    );
    rows.str(
        col::attribution,
        match (texts.agent.is_empty(), texts.user.is_empty()) {
            (false, false) => "both",
            (false, true) => "agent_only",
            (true, false) => "user_only",
            (true, true) => "none",
        },
    );
    let mut number = |column, value| {
        if !rows.is_set(column) {
            rows.i32(column, value);
        }
    };
    number(col::class_uid, class_uid);
    number(col::activity_id, activity_id);
    number(col::severity_id, 0);
    effect
}

/// Effect, class and activity of an action, remembered since actions repeat.
fn class<'m>(mapping: &'m Mapping, action: &str, known: &mut AHashMap<String, Option<usize>>) -> (&'m str, i32, i32) {
    let row = match known.get(action) {
        Some(row) => *row,
        None => {
            let row = mapping.classify.find(action);
            if known.len() < MEMORY_MAX {
                known.insert(action.to_owned(), row);
            }
            row
        }
    };
    row.map_or(UNKNOWN_CLASS, |row| {
        let class = &mapping.classes[row];
        (class.effect.as_str(), class.class_uid, class.activity_id)
    })
}

/// A flag says what the record lacks: not what the registry or the token's issuance knew.
fn flags(
    run: &Run<'_>,
    record: &Record<'_, '_>,
    (time, received): (i64, bool),
    filled: &Filled,
) -> impl Iterator<Item = &'static str> + Clone + use<> {
    let holds = |when: &Option<Vec<_>>| when.as_ref().is_some_and(|when| record.holds(when));
    let ahead = time.saturating_sub(run.context.received_at) > AHEAD_MICROS_MAX;
    let own = [
        ahead.then_some("time_ahead"),
        received.then_some("time_received"),
        (!run.context.live).then_some("backfill"),
        (!filled.expiry && holds(&run.mapping.no_expiry)).then_some("no_expiry"),
        (!filled.owner && holds(&run.mapping.no_owner)).then_some("no_owner"),
    ];
    own.into_iter().chain(filled.flags()).flatten()
}

/// The chain of delegation, root first: from claims with `act`, else from what the mapping spells out.
fn hops<'a>(delegation: &'a Delegation, record: &Record<'a, '_>) -> Vec<Hop> {
    if let Some(chain) = delegation.jwt.and_then(|slot| jwt_hops(record, slot)) {
        return chain;
    }
    if let Some(list) = delegation.list.and_then(|slot| record.container(slot)) {
        return listed_hops(record.tape, list);
    }
    if let Some(claims) = delegation.claims.and_then(|slot| record.container(slot)) {
        let chain = claim_hops(record.tape, claims);
        if !chain.is_empty() {
            return chain;
        }
    }
    let mut chain = Vec::new();
    for plan in &delegation.hops {
        let Some(id) = record.eval(&plan.id).into_text() else { continue };
        let kind = record.eval(&plan.kind).into_text().map_or_else(|| "service".to_owned(), |k| k.into_owned());
        let issuer = record.eval(&plan.issuer).into_text().map(|i| i.into_owned());
        chain.push(Hop { kind, id: id.into_owned(), issuer });
    }
    if chain.len() > 1 { chain } else { Vec::new() }
}

/// The chain that the payload of a JWT names.
fn jwt_hops(record: &Record<'_, '_>, slot: Slot) -> Option<Vec<Hop>> {
    let mut payload = jwt_payload(&record.slot(slot).into_text()?)?;
    let mut tape = Tape(Vec::new());
    simd_json::fill_tape(&mut payload, &mut Buffers::default(), &mut tape).ok()?;
    Some(claim_hops(&tape.0, 0)).filter(|chain| !chain.is_empty())
}

/// A chain that the record spells out, root first.
fn listed_hops(tape: &[Node<'_>], list: usize) -> Vec<Hop> {
    let Node::Array { len, .. } = tape[list] else { return Vec::new() };
    let mut at = list + 1;
    let mut chain = Vec::new();
    for _ in 0..len.min(HOPS_MAX) {
        if let Some(id) = text_of(tape, at, "id") {
            let kind = text_of(tape, at, "kind").unwrap_or("unknown").to_owned();
            chain.push(Hop { kind, id: id.to_owned(), issuer: text_of(tape, at, "issuer").map(str::to_owned) });
        }
        at += size(&tape[at]);
    }
    chain
}

/// RFC 8693 section 4.1: `sub` is the root, the outermost `act` the current actor, nested ones came before it.
fn claim_hops(tape: &[Node<'_>], claims: usize) -> Vec<Hop> {
    let Some(mut act) = key_of(tape, claims, "act") else { return Vec::new() };
    let issuer = text_of(tape, claims, "iss").map(str::to_owned);
    let mut actors = Vec::new();
    while actors.len() < HOPS_MAX - 1 {
        let names = ["sub", "client_id", "azp"];
        let Some(id) = names.iter().find_map(|name| text_of(tape, act, name)) else { break };
        let issuer = text_of(tape, act, "iss").map(str::to_owned).or_else(|| issuer.clone());
        actors.push(Hop { kind: "agent".to_owned(), id: id.to_owned(), issuer });
        match key_of(tape, act, "act") {
            Some(inner) => act = inner,
            None => break,
        }
    }
    if actors.is_empty() {
        return Vec::new();
    }
    let root = text_of(tape, claims, "sub").map(|sub| Hop { kind: "user".to_owned(), id: sub.to_owned(), issuer });
    root.into_iter().chain(actors.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use schemas::event::TABLE;

    use super::*;

    #[test]
    fn every_column_a_mapping_fills_has_a_kind_it_can_fill() {
        let fillable = |kind| matches!(kind, Kind::Str | Kind::Strs | Kind::Time | Kind::I32 | Kind::I64);
        assert!(
            TABLE.columns.iter().filter(|c| c.name != "event_day" && c.name != "delegation").all(|c| fillable(c.kind))
        );
    }
}
