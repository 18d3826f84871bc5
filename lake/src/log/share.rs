//! Which sequences of the log are this process's, where several processes share a role.

use std::sync::Arc;

use tokio::sync::watch;

/// A division of the sequences, until the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Counts the divisions: what was given back and taken again in between shows.
    pub number: u64,
    mine: Arc<[bool]>,
}

impl Turn {
    pub fn has(&self, sequence: usize) -> bool {
        self.mine.get(sequence).copied().unwrap_or(false)
    }

    /// Whether nobody else has any.
    pub fn is_whole(&self) -> bool {
        !self.mine.is_empty() && !self.mine.contains(&false)
    }

    pub fn is_empty(&self) -> bool {
        !self.mine.contains(&true)
    }

    pub fn sequences(&self) -> impl Iterator<Item = usize> + '_ {
        self.mine.iter().enumerate().filter(|(_, mine)| **mine).map(|(sequence, _)| sequence)
    }
}

/// A process's share of a role, as it changes. Nobody's word that it is alone: two processes may both believe for a moment
/// that a sequence is theirs, so what they write must bear it.
#[derive(Clone, Debug)]
pub struct Share(watch::Receiver<Turn>);

impl Share {
    /// All of `count` sequences, for ever.
    pub fn whole(count: usize) -> Share {
        let (_, turns) = watch::channel(Turn { number: 1, mine: vec![true; count].into() });
        Share(turns)
    }

    pub fn now(&self) -> Turn {
        self.0.borrow().clone()
    }

    /// Resolves when the division is another than `turn`; never, where nobody divides any more.
    pub async fn other_than(&mut self, turn: &Turn) {
        if self.0.wait_for(|now| now.number != turn.number).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Whoever divides tells the share of it: the role's group, or a test.
#[derive(Debug)]
pub struct Divider(watch::Sender<Turn>);

impl Divider {
    /// None of `count` sequences are the share's yet.
    pub fn new(count: usize) -> (Divider, Share) {
        let (sender, turns) = watch::channel(Turn { number: 0, mine: vec![false; count].into() });
        (Divider(sender), Share(turns))
    }

    pub fn divide(&self, mine: impl Fn(usize) -> bool) {
        self.0.send_modify(|turn| {
            turn.number += 1;
            turn.mine = (0..turn.mine.len()).map(mine).collect();
        });
    }

    /// Nobody looks at the share any more.
    pub(super) fn is_idle(&self) -> bool {
        self.0.receiver_count() == 0
    }
}
