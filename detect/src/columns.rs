//! The columns of a batch that every row is cut out of, found and looked through once, so that cutting a row is plain indexing.
//!
//! Some rows at a time: their texts are read through one column after the other, as memory likes it, which also shows once
//! for all that they are UTF-8. A column in which these rows have nothing, as most have, is not looked at again.

use std::ops::Range;

use arrow::array::{Array, AsArray, ListArray, PrimitiveArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::ArrowPrimitiveType;
use schemas::Events;

/// The columns; rows are numbered as in the batch.
pub(crate) struct Columns<'a> {
    pub(crate) tenant: Texts<'a>,
    pub(crate) agent_id: Texts<'a>,
    pub(crate) action: Texts<'a>,
    pub(crate) effect: Texts<'a>,
    pub(crate) outcome: Texts<'a>,
    pub(crate) service: Texts<'a>,
    pub(crate) resource_type: Texts<'a>,
    pub(crate) resource_id: Texts<'a>,
    pub(crate) token_id: Texts<'a>,
    pub(crate) credential_id: Texts<'a>,
    pub(crate) session_id: Texts<'a>,
    pub(crate) conversation_id: Texts<'a>,
    pub(crate) purpose: Texts<'a>,
    pub(crate) grant_id: Texts<'a>,
    pub(crate) source: Texts<'a>,
    pub(crate) event_id: Texts<'a>,
    pub(crate) src_ip: Texts<'a>,
    pub(crate) src_country: Texts<'a>,
    pub(crate) user_agent: Texts<'a>,
    pub(crate) flags: Lists<'a>,
    pub(crate) scopes: Lists<'a>,
    pub(crate) scopes_used: Lists<'a>,
    pub(crate) delegation: Chains<'a>,
    pub(crate) time: Numbers<'a>,
    pub(crate) received_at: Numbers<'a>,
    pub(crate) token_issued_at: Numbers<'a>,
    pub(crate) token_expires_at: Numbers<'a>,
    pub(crate) src_asn: Numbers<'a>,
    pub(crate) records: Numbers<'a>,
    pub(crate) bytes_in: Numbers<'a>,
    pub(crate) bytes_out: Numbers<'a>,
    pub(crate) tokens_in: Numbers<'a>,
    pub(crate) tokens_out: Numbers<'a>,
    pub(crate) cost_micros: Numbers<'a>,
}

impl<'a> Columns<'a> {
    /// Of these rows of a batch.
    pub(crate) fn new(events: &Events<'a>, rows: &Range<usize>) -> Self {
        macro_rules! columns {
            ($($column:ident: $kind:ident),* $(,)?) => { Columns { $($column: $kind::new(events.$column, rows),)* } };
        }
        columns! {
            tenant: Texts, agent_id: Texts, action: Texts, effect: Texts, outcome: Texts, service: Texts,
            resource_type: Texts, resource_id: Texts, token_id: Texts,
            credential_id: Texts, session_id: Texts, conversation_id: Texts, purpose: Texts, grant_id: Texts,
            source: Texts, event_id: Texts, src_ip: Texts, src_country: Texts, user_agent: Texts, flags: Lists,
            scopes: Lists, scopes_used: Lists, delegation: Chains, time: Numbers, received_at: Numbers,
            token_issued_at: Numbers, token_expires_at: Numbers, src_asn: Numbers, records: Numbers,
            bytes_in: Numbers, bytes_out: Numbers, tokens_in: Numbers, tokens_out: Numbers, cost_micros: Numbers,
        }
    }
}

/// A column of texts.
pub(crate) struct Texts<'a> {
    nulls: Option<&'a NullBuffer>,
    /// Where these rows' texts begin in the column, and behind the last the end; and the texts, one behind the other.
    offsets: &'a [i32],
    text: &'a str,
    first_row: usize,
}

impl<'a> Texts<'a> {
    fn new(column: &'a StringArray, rows: &Range<usize>) -> Self {
        let offsets = &column.value_offsets()[rows.start..=rows.end];
        let bytes = &column.value_data()[offsets[0] as usize..offsets[rows.len()] as usize];
        let text = std::str::from_utf8(bytes).expect("a column of texts is UTF-8");
        Texts { nulls: column.nulls(), offsets, text, first_row: rows.start }
    }

    /// The text of a row, if it has one that is not empty.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        if self.text.is_empty() {
            return None;
        }
        self.of(row).filter(|text| !text.is_empty())
    }

    /// The same, empty where there is none.
    #[inline]
    pub(crate) fn or_empty(&self, row: usize) -> &'a str {
        self.get(row).unwrap_or_default()
    }

    #[inline]
    fn of(&self, row: usize) -> Option<&'a str> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let place = |at: usize| (self.offsets[at] - self.offsets[0]) as usize;
        let at = row - self.first_row;
        Some(&self.text[place(at)..place(at + 1)])
    }
}

/// A column of numbers or times.
pub(crate) struct Numbers<'a> {
    nulls: Option<&'a NullBuffer>,
    values: &'a [i64],
}

impl<'a> Numbers<'a> {
    fn new<T: ArrowPrimitiveType<Native = i64>>(column: &'a PrimitiveArray<T>, _: &Range<usize>) -> Self {
        let values = if column.null_count() == column.len() { &[] } else { &column.values()[..] };
        Numbers { nulls: column.nulls(), values }
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<i64> {
        let value = self.values.get(row)?;
        self.nulls.is_none_or(|nulls| nulls.is_valid(row)).then_some(*value)
    }

    /// The same, 0 where there is none.
    #[inline]
    pub(crate) fn or_0(&self, row: usize) -> i64 {
        self.get(row).unwrap_or_default()
    }
}

/// A column of lists: where the items of each row lie in another.
struct Items<'a> {
    nulls: Option<&'a NullBuffer>,
    offsets: &'a [i32],
    first_row: usize,
}

impl<'a> Items<'a> {
    /// And where those of all rows lie.
    fn new(column: &'a ListArray, rows: &Range<usize>) -> (Self, Range<usize>) {
        let offsets = &column.value_offsets()[rows.start..=rows.end];
        let all = offsets[0] as usize..offsets[rows.len()] as usize;
        (Items { nulls: column.nulls(), offsets, first_row: rows.start }, all)
    }

    #[inline]
    fn of(&self, row: usize) -> Range<usize> {
        let at = row - self.first_row;
        match self.nulls {
            Some(nulls) if nulls.is_null(row) => 0..0,
            _ => self.offsets[at] as usize..self.offsets[at + 1] as usize,
        }
    }
}

/// A column of lists of texts.
pub(crate) struct Lists<'a> {
    items: Items<'a>,
    texts: Texts<'a>,
}

impl<'a> Lists<'a> {
    fn new(column: &'a ListArray, rows: &Range<usize>) -> Self {
        let (items, all) = Items::new(column, rows);
        Lists { items, texts: Texts::new(column.values().as_string(), &all) }
    }

    #[inline]
    pub(crate) fn of(&self, row: usize) -> impl Iterator<Item = &'a str> {
        self.items.of(row).filter_map(|item| self.texts.of(item))
    }
}

/// A column of chains of delegation.
pub(crate) struct Chains<'a> {
    items: Items<'a>,
    kinds: Texts<'a>,
    ids: Texts<'a>,
}

impl<'a> Chains<'a> {
    fn new(column: &'a ListArray, rows: &Range<usize>) -> Self {
        let (items, all) = Items::new(column, rows);
        let hops = column.values().as_struct();
        Chains {
            items,
            kinds: Texts::new(hops.column(0).as_string(), &all),
            ids: Texts::new(hops.column(1).as_string(), &all),
        }
    }

    /// How many hops the chain has, and the last of them but one, which called, where that is no user.
    #[inline]
    pub(crate) fn of(&self, row: usize) -> (usize, Option<&'a str>) {
        let items = self.items.of(row);
        let caller = (items.len() > 1).then(|| items.end - 2).filter(|hop| self.kinds.of(*hop) != Some("user"));
        (items.len(), caller.map(|hop| self.ids.or_empty(hop)))
    }
}
