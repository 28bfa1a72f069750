//! The writer's queue, and the order of turns.
//!
//! Requests are taken owner by owner in turn, so that a flood on one topic delays the others by a
//! round, not by all that it has sent (round robin as in fair queueing, Nagle, RFC 970). Requests
//! about one owner keep their order, which fences, producers' ids, lanes and changes of settings
//! rely on; requests about the journal as a whole go first, a stop last.
//!
//! Invariants: an owner is in the ring once while a request of it waits, and not at all otherwise;
//! nothing is dropped.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::journal::JournalError;
use crate::journal::command::Command;
use crate::journal::machine::{Request, Turn};
use crate::model::OwnerId;

pub(super) struct FairQueue<R> {
    first: VecDeque<Command<R>>,
    owners: FxHashMap<OwnerId, Waiting<R>>,
    ring: VecDeque<OwnerId>,
    stop: Option<Command<R>>,
}

/// The waiting requests of one owner. Mostly that is one, which needs no list.
struct Waiting<R> {
    next: Command<R>,
    rest: VecDeque<Command<R>>,
}

impl<R> Default for FairQueue<R> {
    fn default() -> Self {
        let (first, ring) = (VecDeque::new(), VecDeque::new());
        Self { first, owners: FxHashMap::default(), ring, stop: None }
    }
}

impl<R: Request> FairQueue<R> {
    /// Queues a command; `turn` gives the turn that a request takes.
    pub(super) fn enter(&mut self, command: Command<R>, turn: impl FnOnce(&R) -> Turn) {
        let owner = match &command {
            Command::Ask(request) => match turn(request) {
                Turn::Owner(owner) => owner,
                Turn::First => return self.first.push_back(command),
            },
            Command::Stop(_) => {
                self.stop = Some(command);
                return;
            }
            Command::Snapshot(_) | Command::Housekeeping(..) => {
                return self.first.push_back(command);
            }
        };
        match self.owners.entry(owner) {
            Entry::Occupied(waiting) => waiting.into_mut().rest.push_back(command),
            Entry::Vacant(vacant) => {
                vacant.insert(Waiting { next: command, rest: VecDeque::new() });
                self.ring.push_back(owner);
            }
        }
    }

    /// The next command, and the turn that it had.
    pub(super) fn next(&mut self) -> Option<(Turn, Command<R>)> {
        if let Some(command) = self.first.pop_front() {
            return Some((Turn::First, command));
        }
        let Some(owner) = self.ring.pop_front() else {
            return self.stop.take().map(|stop| (Turn::First, stop));
        };
        let Entry::Occupied(mut waiting) = self.owners.entry(owner) else { return None };
        let command = match waiting.get_mut().rest.pop_front() {
            None => waiting.remove().next,
            Some(next) => {
                self.ring.push_back(owner);
                std::mem::replace(&mut waiting.get_mut().next, next)
            }
        };
        Some((Turn::Owner(owner), command))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.ring.is_empty() && self.stop.is_none()
    }

    /// The next command is a commit of its own.
    pub(super) fn next_is_alone(&self) -> bool {
        matches!(self.first.front(), Some(Command::Housekeeping(..) | Command::Snapshot(_)))
    }

    /// No command can be processed any more.
    pub(super) fn refuse(&mut self, error: &JournalError) {
        while let Some((_, command)) = self.next() {
            command.refuse(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    struct Asked(u32, u32);

    impl Request for Asked {
        fn refuse(self, _: &JournalError) {}
    }

    fn name(next: Option<(Turn, Command<Asked>)>) -> String {
        match next.map(|(_, command)| command) {
            Some(Command::Ask(Asked(owner, n))) => format!("{owner}x{n}"),
            Some(Command::Snapshot(_)) => "snapshot".into(),
            Some(Command::Stop(_)) => "stop".into(),
            Some(Command::Housekeeping(..)) => "housekeeping".into(),
            None => "nothing".into(),
        }
    }

    #[test]
    fn owners_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::default();
        let turn = |asked: &Asked| match asked.0 {
            0 => Turn::First,
            owner => Turn::Owner(OwnerId(owner)),
        };
        let mut enter = |command| queue.enter(command, turn);
        (1..=4).for_each(|n| enter(Command::Ask(Asked(1, n))));
        enter(Command::Stop(oneshot::channel().0));
        (5..=6).for_each(|n| enter(Command::Ask(Asked(2, n))));
        enter(Command::Snapshot(oneshot::channel().0));
        enter(Command::Ask(Asked(0, 9)));
        assert!(queue.next_is_alone());
        let order: Vec<_> = (0..10).map(|_| name(queue.next())).collect();
        let expected =
            ["snapshot", "0x9", "1x1", "2x5", "1x2", "2x6", "1x3", "1x4", "stop", "nothing"];
        assert_eq!(order, expected);
        assert!(queue.owners.is_empty() && queue.ring.is_empty());
    }
}
