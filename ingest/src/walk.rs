//! One walk over a parsed record: for each path of the mapping, where on the tape its value is.
//!
//! A text that stands where the mapping wants an object or array is nested JSON and is parsed and walked too; what is
//! found there is copied, since its tape does not outlive the walk.

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use crate::mapping::function::Places;
use crate::mapping::path::Step;
use crate::mapping::trie::{NodeId, ROOT, Slot, Trie};
use crate::raw::value_end;

/// What the walk found for a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Found {
    #[default]
    Nothing,
    /// Index on the tape.
    Tape(u32),
    /// A value of nested JSON, copied: index among the texts.
    Text(u32),
    /// The field is there and holds nothing: `[]`, `{}`, and in nested JSON `null`.
    Empty,
}

/// What was found for every path; kept from record to record.
#[derive(Default)]
pub(crate) struct Slots {
    pub(crate) first: Vec<Found>,
    /// Further values of paths that pick several elements.
    pub(crate) more: Vec<(Slot, Found)>,
    pub(crate) texts: Vec<String>,
    touched: Vec<Slot>,
    /// The node and place of the array or object whose elements become events.
    pub(crate) exploded: Option<(NodeId, usize)>,
    /// Where the array stands whose elements go with the exploded ones.
    pub(crate) beside: Option<usize>,
    spare: Spare,
    pub(crate) places: Places,
}

/// What parsing nested JSON needs, kept.
struct Spare {
    bytes: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for Spare {
    fn default() -> Self {
        Spare { bytes: Vec::new(), buffers: Buffers::default(), tape: Tape(Vec::new()) }
    }
}

/// Nested JSON in nested JSON stops here.
const NESTED_DEPTH_MAX: u8 = 3;

/// Size of a value on the tape, in nodes.
pub(crate) fn size(node: &Node<'_>) -> usize {
    match node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// Where the walk is: which trie, which tape, and how deep in nested JSON.
struct Place<'a, 't> {
    trie: &'a Trie,
    tape: &'a [Node<'t>],
    explode: &'a [NodeId],
    beside: Option<NodeId>,
    nested: u8,
}

impl Slots {
    pub(crate) fn clear(&mut self, slots: usize) {
        self.first.resize_with(slots, Found::default);
        for slot in self.touched.drain(..) {
            self.first[slot as usize] = Found::Nothing;
        }
        self.more.clear();
        self.texts.clear();
        self.exploded = None;
        self.beside = None;
    }

    /// Walks the record. What stands at the nodes `explode` and `beside` is left for the caller.
    pub(crate) fn walk(&mut self, trie: &Trie, tape: &[Node<'_>], explode: &[NodeId], beside: Option<NodeId>) {
        let place = Place { trie, tape, explode, beside, nested: 0 };
        self.object(&place, 0, ROOT);
        if self.exploded.is_none() {
            self.walk_beside((trie, tape), beside);
        }
    }

    /// Walks all elements of the array that goes with exploded ones, where there are none of these.
    pub(crate) fn walk_beside(&mut self, (trie, tape): (&Trie, &[Node<'_>]), beside: Option<NodeId>) {
        if let (Some(node), Some(at)) = (beside, self.beside.take()) {
            self.value(&Place { trie, tape, explode: &[], beside: None, nested: 0 }, at, node);
        }
    }

    /// What was found so far, for [`undo`](Self::undo).
    pub(crate) fn mark(&self) -> [usize; 3] {
        [self.touched.len(), self.more.len(), self.texts.len()]
    }

    /// Walks one element of the array of `node`; `explode` is left for the caller.
    pub(crate) fn walk_element(
        &mut self,
        (trie, tape): (&Trie, &[Node<'_>]),
        at: usize,
        node: NodeId,
        number: usize,
        explode: &[NodeId],
    ) {
        let place = Place { trie, tape, explode, beside: None, nested: 0 };
        self.object(&place, at, node);
        self.element(&place, at, node, number);
    }

    /// Walks the value of an entry of an exploded object.
    pub(crate) fn walk_entry(&mut self, (trie, tape): (&Trie, &[Node<'_>]), at: usize, node: NodeId) {
        self.value(&Place { trie, tape, explode: &[], beside: None, nested: 0 }, at, node);
    }

    /// Puts a text that stands in no value: the key of an entry.
    pub(crate) fn put_text(&mut self, slot: Slot, text: &str) {
        self.put(slot, Found::Text(self.texts.len() as u32));
        self.texts.push(text.to_owned());
    }

    pub(crate) fn undo(&mut self, [touched, more, texts]: [usize; 3]) {
        for slot in self.touched.drain(touched..) {
            self.first[slot as usize] = Found::Nothing;
        }
        self.more.truncate(more);
        self.texts.truncate(texts);
    }

    fn object(&mut self, place: &Place<'_, '_>, at: usize, node: u32) {
        let Node::Object { len, .. } = place.tape[at] else { return };
        let keys = &place.trie.nodes[node as usize];
        let mut at = at + 1;
        for _ in 0..len {
            let Node::String(key) = place.tape[at] else { return };
            at += 1;
            if let Some(child) = keys.child(key) {
                self.value(place, at, child);
            }
            at += size(&place.tape[at]);
        }
    }

    fn value(&mut self, place: &Place<'_, '_>, at: usize, node: u32) {
        let is_left = place.nested == 0 && (place.beside == Some(node) || place.explode.contains(&node));
        if is_left && matches!(place.tape[at], Node::Array { .. } | Node::Object { .. }) {
            if place.beside == Some(node) {
                self.beside = Some(at);
            } else if self.exploded.is_none() {
                self.exploded = Some((node, at));
            }
            return;
        }
        let wanted = &place.trie.nodes[node as usize];
        if let Some(slot) = wanted.slot {
            self.found(place, at, slot);
        }
        if !wanted.is_inner() {
            return;
        }
        match place.tape[at] {
            Node::Object { .. } => {
                self.object(place, at, node);
                self.element(place, at, node, 0);
            }
            Node::Array { .. } if place.trie.is_wrapped(node) => {}
            Node::Array { len, .. } => self.array(place, at, node, len),
            Node::String(text) => self.nested(place, text, node),
            Node::Static(_) => {}
        }
    }

    fn array(&mut self, place: &Place<'_, '_>, at: usize, node: u32, len: usize) {
        let mut at = at + 1;
        for number in 0..len {
            self.object(place, at, node);
            self.element(place, at, node, number);
            at += size(&place.tape[at]);
        }
    }

    /// Offers an element to the selectors of its array. The first that fits a selector is the one that counts.
    fn element(&mut self, place: &Place<'_, '_>, at: usize, node: u32, number: usize) {
        for named in &place.trie.nodes[node as usize].named {
            let nodes = text_of(place.tape, at, &named.key).and_then(|text| named.nodes.get(text));
            for node in nodes.into_iter().flatten() {
                self.value(place, at, *node);
            }
        }
        for pick in &place.trie.nodes[node as usize].picks {
            let fits = match &pick.by {
                Step::All => true,
                Step::Number(wanted) => *wanted == number,
                Step::Field { key, values, is } => {
                    text_of(place.tape, at, key).is_some_and(|found| values.iter().any(|v| v == found) == *is)
                }
                Step::Key(_) => false,
            };
            if fits {
                self.value(place, at, pick.node);
            }
        }
    }

    fn found(&mut self, place: &Place<'_, '_>, at: usize, slot: Slot) {
        if place.nested > 0 {
            return self.copied(place.tape, at, slot);
        }
        let empty = matches!(place.tape[at], Node::Object { len: 0, .. } | Node::Array { len: 0, .. });
        self.put(slot, if empty { Found::Empty } else { Found::Tape(at as u32) });
    }

    fn copied(&mut self, tape: &[Node<'_>], at: usize, slot: Slot) {
        match tape[at] {
            Node::String(text) => self.put_text(slot, text),
            Node::Static(StaticNode::Null) | Node::Object { len: 0, .. } | Node::Array { len: 0, .. } => {
                self.put(slot, Found::Empty);
            }
            Node::Object { .. } => {}
            Node::Static(value) => self.put_text(slot, &value.to_string()),
            Node::Array { len, .. } => {
                let mut at = at + 1;
                for _ in 0..len {
                    if !matches!(tape[at], Node::Array { .. }) {
                        self.copied(tape, at, slot);
                    }
                    at += size(&tape[at]);
                }
            }
        }
    }

    #[inline]
    fn put(&mut self, slot: Slot, found: Found) {
        let first = &mut self.first[slot as usize];
        match (*first, found) {
            (Found::Nothing | Found::Empty, _) => {
                *first = found;
                self.touched.push(slot);
            }
            (_, Found::Empty) => {}
            _ => self.more.push((slot, found)),
        }
    }

    #[cold]
    fn nested(&mut self, place: &Place<'_, '_>, text: &str, node: u32) {
        if place.nested >= NESTED_DEPTH_MAX || !text.trim_start().starts_with(['{', '[']) {
            return;
        }
        let text = text.trim_start();
        if !self.nested_value(place, text, node) {
            // Some add words of their own behind it.
            let end = value_end(text.as_bytes(), 0);
            let _ = end < text.len() && self.nested_value(place, &text[..end], node);
        }
    }

    /// Walks JSON text; whether it is such.
    fn nested_value(&mut self, place: &Place<'_, '_>, text: &str, node: u32) -> bool {
        let Spare { mut bytes, mut buffers, tape } = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = tape.reset();
        let parsed = simd_json::fill_tape_padded(&mut bytes, text.len(), &mut buffers, &mut tape).is_ok();
        if parsed {
            let inner = Place { trie: place.trie, tape: &tape.0, explode: &[], beside: None, nested: place.nested + 1 };
            self.value(&inner, 0, node);
        }
        let tape = tape.reset();
        self.spare = Spare { bytes, buffers, tape };
        parsed
    }
}

/// The text of a key of the object at `at`.
pub(crate) fn text_of<'t>(tape: &[Node<'t>], at: usize, key: &str) -> Option<&'t str> {
    match tape[key_of(tape, at, key)?] {
        Node::String(text) => Some(text),
        _ => None,
    }
}

/// Where the value of a key of the object at `at` stands.
pub(crate) fn key_of(tape: &[Node<'_>], at: usize, key: &str) -> Option<usize> {
    let Node::Object { len, .. } = tape[at] else { return None };
    let mut at = at + 1;
    for _ in 0..len {
        let Node::String(found) = tape[at] else { return None };
        if found.eq_ignore_ascii_case(key) {
            return Some(at + 1);
        }
        at += 1 + size(&tape[at + 1]);
    }
    None
}
