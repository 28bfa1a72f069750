//! A producer socket's blocks without an answer yet: go-back-N without timers.
//!
//! Every block has a place in the lane. A block that comes back (never handed over, or out of turn)
//! makes the window rewind: it sends nothing until everything in flight has been answered or has
//! come back too, then it sends all that is left again, in order. The writer's lane refuses every
//! block that would have overtaken, so nothing is stored twice or out of order (see
//! [`Lane`](crate::model::Lane)).
//!
//! The writer answers in the order of the lane, but the answers wake their waiter in any order; the
//! window returns them in the lane's.
//!
//! Invariants: entries leave the window in order and only by an answer; once a block is refused for
//! good, so is everything after it.

use std::collections::VecDeque;

use crate::model::{Appended, Block};

/// Blocks to hand over again, by place, in order.
pub type Resend = Vec<(u64, Block)>;

/// Tags of the blocks that will not be stored, in order.
pub type Refused<T> = Vec<T>;

/// See the module. `T` is what the sender needs to remember of a block.
#[derive(Debug)]
pub struct SendWindow<T> {
    entries: VecDeque<Entry<T>>,
    next_place: u64,
    rewinding: bool,
}

#[derive(Debug)]
struct Entry<T> {
    place: u64,
    block: Block,
    tag: T,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    /// Came back, or never sent because others had come back.
    ToSend,
    /// Stored; an earlier block's answer has not arrived yet.
    Stored(Appended),
}

impl<T> Default for SendWindow<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), next_place: 0, rewinding: false }
    }
}

impl<T> SendWindow<T> {
    /// The place of the next block.
    pub fn next_place(&self) -> u64 {
        self.next_place
    }

    /// Adds a block. Returns its place if it is to be handed over now; else a resend will include
    /// it.
    pub fn push(&mut self, block: Block, tag: T) -> Option<u64> {
        let place = self.next_place;
        self.next_place += 1;
        let now = !self.rewinding;
        let state = if now { State::UnderWay } else { State::ToSend };
        self.entries.push_back(Entry { place, block, tag, state });
        now.then_some(place)
    }

    /// The block was stored. Returns the tags of all blocks whose turn has come, and what to send
    /// again.
    pub fn stored(&mut self, place: u64, appended: Appended) -> (Vec<(T, Appended)>, Resend) {
        self.set(place, State::Stored(appended));
        let mut answered = Vec::new();
        let stored = |entry: &Entry<T>| matches!(entry.state, State::Stored(_));
        while self.entries.front().is_some_and(stored) {
            if let Some(Entry { tag, state: State::Stored(appended), .. }) =
                self.entries.pop_front()
            {
                answered.push((tag, appended));
            }
        }
        (answered, self.rewound())
    }

    /// The block was not stored and is to be sent again.
    pub fn came_back(&mut self, place: u64) -> Resend {
        if self.set(place, State::ToSend) {
            self.rewinding = true;
        }
        self.rewound()
    }

    /// The block was refused for good: it and everything after it leave the window. Nothing may be
    /// pushed after that, since the lane will not take it.
    pub fn refused(&mut self, place: u64) -> Refused<T> {
        let keep = self.entries.partition_point(|entry| entry.place < place);
        self.entries.split_off(keep).into_iter().map(|entry| entry.tag).collect()
    }

    /// No block is left to be answered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// False when the block has left the window.
    fn set(&mut self, place: u64, state: State) -> bool {
        let found = self.entries.binary_search_by_key(&place, |entry| entry.place);
        found.map(|n| self.entries[n].state = state).is_ok()
    }

    fn rewound(&mut self) -> Resend {
        let under_way = |entry: &Entry<T>| entry.state == State::UnderWay;
        if !self.rewinding || self.entries.iter().any(under_way) {
            return Vec::new();
        }
        self.rewinding = false;
        let send = |entry: &mut Entry<T>| {
            entry.state = State::UnderWay;
            (entry.place, entry.block.clone())
        };
        self.entries.iter_mut().map(send).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{AckLevel, BlockBuilder, Durability, Lane, LanePosition, Record};

    fn block() -> Block {
        let mut builder = BlockBuilder::default();
        builder.push(&Record::json(b"1")).unwrap();
        builder.finish().unwrap()
    }

    fn at() -> Appended {
        let durability = Durability { ack_level: AckLevel::Sync, loss_bound_ms: 0 };
        Appended { base_offset: 0, durability, not_stored: Arc::default() }
    }

    fn tags<T>(answered: Vec<(T, Appended)>) -> Vec<T> {
        answered.into_iter().map(|(tag, _)| tag).collect()
    }

    #[test]
    fn nothing_overtakes_a_block_that_came_back() {
        let mut window = SendWindow::default();
        assert_eq!(window.push(block(), 'a'), Some(0));
        assert_eq!(window.push(block(), 'b'), Some(1));
        assert!(window.came_back(0).is_empty(), "b is still in flight");
        assert_eq!(window.push(block(), 'c'), None, "no new one while rewinding");
        let places: Vec<_> = window.came_back(1).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(tags(window.stored(0, at()).0), ['a']);
    }

    #[test]
    fn answers_seen_in_another_order_are_given_out_in_the_lanes() {
        let mut window = SendWindow::default();
        for tag in ['a', 'b', 'c'] {
            window.push(block(), tag);
        }
        assert!(window.stored(1, at()).0.is_empty());
        assert_eq!(tags(window.stored(0, at()).0), ['a', 'b']);
        assert_eq!(tags(window.stored(2, at()).0), ['c']);
        assert!(window.is_empty());
    }

    #[test]
    fn a_refusal_takes_everything_after_it_along_and_leaves_what_came_before() {
        let mut window = SendWindow::default();
        for tag in ['a', 'b', 'c'] {
            window.push(block(), tag);
        }
        assert_eq!(window.refused(1), ['b', 'c']);
        assert!(window.came_back(2).is_empty());
        assert_eq!(tags(window.stored(0, at()).0), ['a']);
    }

    /// The path as the window sees it: two mailboxes that can be lost with everything in them, and
    /// the writer's lane at the end.
    #[derive(Default)]
    struct Path {
        first: VecDeque<u64>,
        second: VecDeque<u64>,
        lane: Arc<Lane>,
        stored: Vec<u64>,
    }

    enum Answer {
        Stored(u64),
        CameBack(u64),
    }

    impl Path {
        fn step(&mut self, action: u8) -> Vec<Answer> {
            match action {
                0 => self.second.extend(self.first.pop_front()),
                1 => {
                    if let Some(place) = self.second.pop_front() {
                        let taken = LanePosition::new(self.lane.clone(), place).take();
                        if taken {
                            self.stored.push(place);
                            return vec![Answer::Stored(place)];
                        }
                        return vec![Answer::CameBack(place)];
                    }
                }
                2 => return self.first.drain(..).map(Answer::CameBack).collect(),
                _ => return self.second.drain(..).map(Answer::CameBack).collect(),
            }
            Vec::new()
        }
    }

    proptest! {
        #[test]
        fn whatever_dies_on_the_way_everything_is_stored_once_and_in_order(
            actions in proptest::collection::vec((0u8..6, any::<usize>()), 0..200),
        ) {
            let mut window = SendWindow::default();
            let mut path = Path::default();
            let mut pushed = 0u64;
            let mut answered = Vec::new();
            // Answers that were sent and have not reached the window yet.
            let mut unseen = Vec::new();
            let finish = std::iter::repeat_n([0u8, 1, 5], 2_000).flatten().map(|action| (action, 0));
            for (action, which) in actions.into_iter().chain(finish) {
                match action {
                    4 => {
                        if let Some(place) = window.push(block(), pushed) {
                            path.first.push_back(place);
                        }
                        pushed += 1;
                    }
                    5 => {
                        if unseen.is_empty() {
                            continue;
                        }
                        let resend = match unseen.swap_remove(which % unseen.len()) {
                            Answer::Stored(place) => {
                                let (answers, resend) = window.stored(place, at());
                                answered.extend(tags(answers));
                                resend
                            }
                            Answer::CameBack(place) => window.came_back(place),
                        };
                        path.first.extend(resend.into_iter().map(|(place, _)| place));
                    }
                    other => unseen.extend(path.step(other)),
                }
            }
            let expected: Vec<u64> = (0..pushed).collect();
            prop_assert_eq!(&path.stored, &expected);
            prop_assert_eq!(&answered, &expected);
            prop_assert!(window.is_empty());
        }
    }
}
