//! All paths of a mapping as one trie: the walk over a record visits each key once and skips what no path names.
//!
//! A node may be reached by several keys (`actor.id`, and `actor_id_s` in a flattened export), so nodes are shared.

use ahash::AHashMap;

use super::path::Step;

/// Index of a place where the walk puts what it finds.
pub(crate) type Slot = u16;
pub(crate) type NodeId = u32;

pub(crate) const ROOT: NodeId = 0;

#[derive(Debug, Default)]
pub(crate) struct Node {
    keys: Keys,
    pub(crate) picks: Vec<Pick>,
    /// The picks by a field's text, once sealed: a list of attributes is asked for dozens of names.
    pub(crate) named: Vec<Named>,
    pub(crate) slot: Option<Slot>,
}

/// A selector on the elements of an array.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) by: Step,
    pub(crate) node: NodeId,
}

/// Nodes of elements by the text of one of their fields.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) key: String,
    pub(crate) nodes: AHashMap<String, Vec<NodeId>>,
}

#[derive(Debug, Default)]
pub(crate) struct Trie {
    pub(crate) nodes: Vec<Node>,
    pub(crate) slots: usize,
    /// Objects in which a record may stand whole.
    wrapped: Vec<NodeId>,
}

impl Node {
    #[inline]
    pub(crate) fn child(&self, key: &str) -> Option<NodeId> {
        self.keys.get(key.as_bytes())
    }

    /// Whether anything below this node is wanted.
    pub(crate) fn is_inner(&self) -> bool {
        !self.keys.entries.is_empty() || !self.picks.is_empty() || !self.named.is_empty()
    }

    /// Makes picks by a field's text quick to look up.
    fn name_picks(&mut self) {
        self.picks.retain(|pick| {
            let Step::Field { key, values, is: true } = &pick.by else { return true };
            let at = self.named.iter().position(|named| named.key == *key).unwrap_or_else(|| {
                self.named.push(Named { key: key.clone(), nodes: AHashMap::new() });
                self.named.len() - 1
            });
            for value in values {
                self.named[at].nodes.entry(value.clone()).or_default().push(pick.node);
            }
            false
        });
    }
}

/// Suffixes by which Log Analytics tells the type of a flattened key.
const FLATTENED_SUFFIXES: [&str; 5] = ["_s", "_d", "_b", "_t", "_g"];

impl Trie {
    pub(crate) fn new() -> Trie {
        Trie { nodes: vec![Node::default()], slots: 0, wrapped: Vec::new() }
    }

    /// The slot of a path, made where it is new.
    pub(crate) fn slot(&mut self, steps: &[Step], flattened: bool) -> Slot {
        let node = self.node(steps, flattened);
        let slots = &mut self.slots;
        *self.nodes[node as usize].slot.get_or_insert_with(|| {
            *slots += 1;
            (*slots - 1) as Slot
        })
    }

    /// The node of a path, made where it is new. With `flattened`, `a.b.c` is also found at the key `a_b_c_s`.
    pub(crate) fn node(&mut self, steps: &[Step], flattened: bool) -> NodeId {
        let mut at = ROOT;
        let mut flat = String::new();
        for (i, step) in steps.iter().enumerate() {
            at = self.step(at, step);
            let Step::Key(key) = step else { continue };
            if flattened && steps[..i].iter().all(|s| matches!(s, Step::Key(_))) {
                flat.push_str(if i == 0 { "" } else { "_" });
                flat.push_str(key);
                for suffix in FLATTENED_SUFFIXES {
                    self.nodes[ROOT as usize].keys.insert(&format!("{flat}{suffix}"), at);
                }
            }
        }
        at
    }

    fn step(&mut self, at: NodeId, step: &Step) -> NodeId {
        let next = self.nodes.len() as NodeId;
        let node = &mut self.nodes[at as usize];
        let known = match step {
            Step::Key(key) => node.child(key),
            pick => node.picks.iter().find(|p| p.by == *pick).map(|p| p.node),
        };
        if let Some(known) = known {
            return known;
        }
        match step {
            Step::Key(key) => node.keys.insert(key, next),
            pick => node.picks.push(Pick { by: pick.clone(), node: next }),
        }
        self.nodes.push(Node::default());
        next
    }

    /// Whether any path begins with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.nodes[ROOT as usize].child(key).is_some()
    }

    /// A record may stand whole in the object at this path.
    pub(crate) fn wrap(&mut self, steps: &[Step]) {
        let node = self.node(steps, false);
        self.wrapped.push(node);
    }

    /// Whether a record may stand whole here; several of them in an array do not.
    pub(crate) fn is_wrapped(&self, node: NodeId) -> bool {
        self.wrapped.contains(&node)
    }

    /// Call once all paths are in: makes the keys quick to look up.
    pub(crate) fn seal(&mut self) {
        let root: Vec<(Box<[u8]>, NodeId)> =
            self.nodes[ROOT as usize].keys.entries.iter().map(|k| (k.text.clone(), k.node)).collect();
        for node in &self.wrapped {
            for (text, child) in &root {
                self.nodes[*node as usize].keys.insert_bytes(text, *child);
            }
        }
        for node in &mut self.nodes {
            node.keys.seal();
            node.name_picks();
        }
    }
}

/// Keys of a node: a table of buckets by [`tag`], since a mapping's keys are few and known beforehand.
#[derive(Debug, Default)]
struct Keys {
    entries: Vec<Key>,
    /// `entries[starts[b]..starts[b + 1]]` are the keys of bucket `b`; empty until sealed.
    starts: Vec<u16>,
}

#[derive(Debug)]
struct Key {
    tag: u32,
    node: NodeId,
    /// As the mapping spells it.
    text: Box<[u8]>,
}

impl Keys {
    fn insert(&mut self, key: &str, node: NodeId) {
        assert!(self.starts.is_empty(), "keys are inserted before they are sealed");
        self.insert_bytes(key.as_bytes(), node);
    }

    fn insert_bytes(&mut self, text: &[u8], node: NodeId) {
        if !self.entries.iter().any(|k| k.text.eq_ignore_ascii_case(text)) {
            self.entries.push(Key { tag: tag(text), node, text: text.into() });
        }
    }

    fn seal(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let buckets = (self.entries.len() * 4).next_power_of_two();
        self.entries.sort_by_key(|key| bucket(key.tag, buckets));
        let start = |b| self.entries.partition_point(|key| bucket(key.tag, buckets) < b) as u16;
        self.starts = (0..=buckets).map(start).collect();
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<NodeId> {
        let tag = tag(key);
        let entries = if self.starts.is_empty() {
            &self.entries[..]
        } else {
            let b = bucket(tag, self.starts.len() - 1);
            &self.entries[self.starts[b] as usize..self.starts[b + 1] as usize]
        };
        let fits = |k: &&Key| k.tag == tag && (*k.text == *key || k.text.eq_ignore_ascii_case(key));
        entries.iter().find(fits).map(|k| k.node)
    }
}

/// Length and three letters of a key, without case: nearly all keys that no path names differ in these.
#[inline]
fn tag(key: &[u8]) -> u32 {
    let fold = |b: u8| u32::from(b | 0x20);
    let [first, .., last] = key else { return key.first().map_or(0, |b| fold(*b)) };
    (key.len() as u32) << 24 | fold(*first) << 16 | fold(key[key.len() / 2]) << 8 | fold(*last)
}

#[inline]
fn bucket(tag: u32, buckets: usize) -> usize {
    (tag.wrapping_mul(0x9e37_79b1) >> 12) as usize & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::path;

    #[test]
    fn keys_are_found_in_any_case_and_flattened() {
        let mut trie = Trie::new();
        let slot = trie.slot(&path::parse("actor.alternateId").expect("a path"), true);
        trie.seal();
        let at = |node: NodeId, key| trie.nodes[node as usize].child(key);
        let actor = at(ROOT, "ACTOR").expect("case does not count");
        let id = at(actor, "alternateid").expect("case does not count");
        assert_eq!(at(ROOT, "actor_alternateId_s"), Some(id));
        assert_eq!(trie.nodes[id as usize].slot, Some(slot));
        assert_eq!(at(ROOT, "acto"), None);
        assert_eq!(at(ROOT, ""), None);
    }
}
