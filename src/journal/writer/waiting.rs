//! What waits for the writer, and whose turn it is.
//!
//! Blocks are taken topic by topic in turn, so that a flood on one topic delays the others by a
//! round, not by all that it has sent (round robin as in fair queueing, Nagle, RFC 970). What is
//! asked about one topic keeps its order, which is what fences, producers' ids, lanes and changes
//! of its settings rely on; what is asked about the journal as a whole, or about a topic that is not
//! there yet, goes first, a stop last.
//!
//! Invariants: a topic stands in the ring once while something of it waits, and not at all
//! otherwise; nothing is dropped.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::journal::JournalError;
use crate::journal::command::Command;
use crate::model::{TopicId, TopicName};

#[derive(Default)]
pub(super) struct Waiting {
    first: VecDeque<Command>,
    topics: FxHashMap<TopicId, VecDeque<Command>>,
    ring: VecDeque<TopicId>,
    stop: Option<Command>,
}

impl Waiting {
    /// Lets a command wait; `named` finds topics by name.
    pub(super) fn enter(
        &mut self,
        command: Command,
        named: impl Fn(&TopicName) -> Option<TopicId>,
    ) {
        let topic = match &command {
            Command::Append(append) => Some(append.topic),
            Command::Fence { topic, .. } | Command::LastId { topic, .. } => Some(*topic),
            Command::Damaged(topic, _) => Some(*topic),
            Command::ChangeTopic(change, _) => named(change.name()),
            Command::Stop(_) => {
                self.stop = Some(command);
                return;
            }
            Command::Snapshot(_) | Command::Housekeeping(..) => None,
        };
        let Some(topic) = topic else { return self.first.push_back(command) };
        let queue = self.topics.entry(topic).or_default();
        if queue.is_empty() {
            self.ring.push_back(topic);
        }
        queue.push_back(command);
    }

    /// The command whose turn it is.
    pub(super) fn next(&mut self) -> Option<Command> {
        if let Some(command) = self.first.pop_front() {
            return Some(command);
        }
        let Some(topic) = self.ring.pop_front() else { return self.stop.take() };
        let queue = self.topics.get_mut(&topic)?;
        let command = queue.pop_front();
        if queue.is_empty() {
            self.topics.remove(&topic);
        } else {
            self.ring.push_back(topic);
        }
        command
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.ring.is_empty() && self.stop.is_none()
    }

    /// The next command is a commit of its own.
    pub(super) fn next_is_alone(&self) -> bool {
        matches!(self.first.front(), Some(Command::Housekeeping(..) | Command::Snapshot(_)))
    }

    /// Nothing can be done any more.
    pub(super) fn refuse(&mut self, error: &JournalError) {
        while let Some(command) = self.next() {
            command.refuse(error.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::journal::Append;
    use crate::model::{BlockBuilder, Incarnation, Record};

    fn append(topic: u32, messages: u32) -> Command {
        let mut builder = BlockBuilder::default();
        (0..messages).for_each(|_| builder.push(&Record::json(b"1")).unwrap());
        let block = builder.finish().unwrap();
        let (topic, incarnation, reply) = (TopicId(topic), Incarnation(1), oneshot::channel().0);
        Command::Append(Append { topic, incarnation, lane: None, block, reply })
    }

    fn told(command: Option<Command>) -> String {
        match command {
            Some(Command::Append(append)) => format!("{}x{}", append.topic, append.block.count()),
            Some(Command::Fence { topic, .. }) => format!("fence {topic}"),
            Some(Command::Snapshot(_)) => "snapshot".into(),
            Some(Command::Stop(_)) => "stop".into(),
            Some(_) => "?".into(),
            None => "nothing".into(),
        }
    }

    #[test]
    fn topics_take_turns_and_each_keeps_its_order() {
        let mut waiting = Waiting::default();
        let mut enter = |command| waiting.enter(command, |_| None);
        (1..=3).for_each(|n| enter(append(1, n)));
        let (topic, incarnation) = (TopicId(1), Incarnation(2));
        enter(Command::Fence { topic, incarnation, reply: oneshot::channel().0 });
        enter(Command::Stop(oneshot::channel().0));
        (4..=5).for_each(|n| enter(append(2, n)));
        enter(Command::Snapshot(oneshot::channel().0));
        assert!(waiting.next_is_alone());
        let order: Vec<_> = (0..9).map(|_| told(waiting.next())).collect();
        let expected =
            ["snapshot", "1x1", "2x4", "1x2", "2x5", "1x3", "fence 1", "stop", "nothing"];
        assert_eq!(order, expected);
        assert!(waiting.topics.is_empty() && waiting.ring.is_empty());
    }
}
