//! Offsets that hold no message: a gap, as clients receive it.

use serde::{Deserialize, Serialize};

/// A run of offsets, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The first offset without a message.
    pub from: u64,
    /// The last offset without a message.
    pub to: u64,
}

impl Gap {
    /// The gap from `from` up to, but not including, `end`; `None` when nothing is between them.
    pub fn before(from: u64, end: u64) -> Option<Self> {
        (from < end).then(|| Self { from, to: end - 1 })
    }

    /// The offset after it.
    pub fn end(&self) -> u64 {
        self.to + 1
    }

    /// How many offsets it spans.
    pub fn len(&self) -> u64 {
        self.end() - self.from
    }

    /// Never: a gap spans at least one offset.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The gap contains the offset.
    pub fn contains(&self, offset: u64) -> bool {
        (self.from..=self.to).contains(&offset)
    }

    /// The parts outside these, which are ordered by offset.
    pub fn without(self, others: &[Self]) -> Vec<Self> {
        let mut from = self.from;
        let mut rest = Vec::new();
        for other in others.iter().filter(|other| other.to >= self.from && other.from <= self.to) {
            rest.extend(Self::before(from, other.from));
            from = from.max(other.end());
        }
        rest.extend(Self::before(from, self.end()));
        rest
    }

    /// Adds a gap to a list ordered by offset, joining it with its neighbours.
    pub fn add_to(self, gaps: &mut Vec<Self>) {
        gaps.push(self);
        gaps.sort_unstable();
        gaps.dedup_by(|next, before| {
            let joins = next.from <= before.end();
            if joins {
                before.to = before.to.max(next.to);
            }
            joins
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_that_touch_become_one() {
        let mut gaps = Vec::new();
        Gap::before(10, 20).unwrap().add_to(&mut gaps);
        Gap::before(30, 40).unwrap().add_to(&mut gaps);
        assert_eq!(gaps.len(), 2);
        Gap::before(20, 30).unwrap().add_to(&mut gaps);
        assert_eq!(gaps, [Gap { from: 10, to: 39 }]);
        assert_eq!(Gap::before(5, 5), None);
    }

    #[test]
    fn what_others_have_is_left_out() {
        let others = [Gap { from: 5, to: 9 }, Gap { from: 12, to: 12 }];
        let left = Gap { from: 3, to: 14 }.without(&others);
        let expected = [Gap { from: 3, to: 4 }, Gap { from: 10, to: 11 }, Gap { from: 13, to: 14 }];
        assert_eq!(left, expected);
        assert!(Gap { from: 6, to: 8 }.without(&others).is_empty());
    }
}
