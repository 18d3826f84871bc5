//! How far something is in the log: in each of its sequences one past the last frame.

use serde::{Deserialize, Serialize};

/// A position in each sequence. Written as a number where there is one sequence, which is what older versions wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Positions(Vec<u64>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(u64),
    Many(Vec<u64>),
}

impl From<Written> for Positions {
    fn from(written: Written) -> Self {
        match written {
            Written::One(next) => Positions(vec![next]),
            Written::Many(all) => Positions(all),
        }
    }
}

impl From<Positions> for Written {
    fn from(positions: Positions) -> Self {
        match positions.0.as_slice() {
            [] => Written::One(0),
            [next] => Written::One(*next),
            _ => Written::Many(positions.0),
        }
    }
}

impl FromIterator<u64> for Positions {
    fn from_iter<T: IntoIterator<Item = u64>>(all: T) -> Self {
        Positions(all.into_iter().collect())
    }
}

impl Positions {
    /// 0 where nothing is known of the sequence.
    pub fn get(&self, sequence: usize) -> u64 {
        self.0.get(sequence).copied().unwrap_or(0)
    }

    /// Moves on in one sequence, never back.
    pub fn pass(&mut self, sequence: usize, next: u64) {
        if self.0.len() <= sequence {
            self.0.resize(sequence + 1, 0);
        }
        self.0[sequence] = self.0[sequence].max(next);
    }

    /// Moves on to `other` wherever that is further.
    pub fn pass_all(&mut self, other: &Positions) {
        other.iter().for_each(|(sequence, next)| self.pass(sequence, next));
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0.iter().copied().enumerate()
    }

    /// Frames up to `end` that are still to come, over all sequences.
    pub fn behind(&self, end: &Positions) -> u64 {
        end.iter().map(|(sequence, end)| end.saturating_sub(self.get(sequence))).sum()
    }

    /// Whether nothing up to `end` is still to come.
    pub fn reaches(&self, end: &Positions) -> bool {
        self.behind(end) == 0
    }
}

impl std::fmt::Display for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (sequence, next) in self.iter() {
            write!(f, "{}{next}", if sequence > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sequence_is_written_as_a_number() {
        let one: Positions = serde_json::from_str("7").expect("reads");
        assert_eq!((one.get(0), one.get(1), serde_json::to_string(&one).expect("writes")), (7, 0, "7".to_owned()));
        let mut two: Positions = serde_json::from_str("[7,9]").expect("reads");
        two.pass(0, 5);
        two.pass(2, 1);
        assert_eq!(serde_json::to_string(&two).expect("writes"), "[7,9,1]");
        assert_eq!((one.behind(&two), two.reaches(&one), one.reaches(&two)), (10, true, false));
    }
}
