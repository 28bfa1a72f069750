//! From requests to a commit: the machine fills a unit, the commit includes it whole.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::gathered::Gathered;
use super::{Writer, last_number};
use crate::journal::JournalError;
use crate::journal::command::Command;
use crate::journal::index::StreamIndex;
use crate::journal::machine::{Machine, StateReader, Turn};
use crate::journal::shared::StreamState;
use crate::journal::unit::{Unit, UnitAppend};
use crate::model::{OwnerId, StreamId};

impl<M: Machine> Writer<M> {
    /// Adds the machine's part of every commit.
    pub(super) fn begin_commit(&mut self, commit: &mut Gathered<M>) -> Result<(), JournalError> {
        let mut unit = self.take_unit();
        let streams = &self.streams;
        self.machine.begin(&|stream| last_number(streams, stream), &mut unit);
        self.take(&mut unit, commit)?;
        self.put_back_unit(unit);
        Ok(())
    }

    /// Applies a command; the commit will answer it.
    pub(super) fn apply(
        &mut self,
        turn: Turn,
        command: Command<M::Request>,
        commit: &mut Gathered<M>,
    ) -> Result<(), JournalError> {
        let request = match command {
            Command::Ask(request) => request,
            Command::Stop(reply) => {
                commit.stop = Some(reply);
                return Ok(());
            }
            // These are commits of their own.
            Command::Housekeeping(..) | Command::Snapshot(_) => return Ok(()),
        };
        let mut unit = self.take_unit();
        let state = StateReader(&self.shared.store);
        let machine = &mut self.machine;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            machine.apply(request, &commit.now, state, &mut unit)
        }));
        match applied {
            Ok(reply) => {
                commit.replies.push(reply?);
                self.take(&mut unit, commit)?;
            }
            // Nothing of the unit is kept; the dropped reply says that it was never handed over.
            Err(_) => {
                tracing::error!(?turn, "a request panicked; its owner is given up");
                self.machine.panicked(turn);
            }
        }
        self.put_back_unit(unit);
        Ok(())
    }

    /// A unit to be filled.
    pub(super) fn take_unit(&mut self) -> Unit {
        let mut unit = std::mem::take(&mut self.unit);
        unit.next_owner = self.positions.next_owner;
        unit
    }

    pub(super) fn put_back_unit(&mut self, mut unit: Unit) {
        unit.clear();
        self.unit = unit;
    }

    /// Adds a unit to a commit, whole.
    pub(super) fn take(
        &mut self,
        unit: &mut Unit,
        commit: &mut Gathered<M>,
    ) -> Result<(), JournalError> {
        self.positions.next_owner = self.positions.next_owner.max(unit.next_owner);
        commit.need = commit.need.and(unit.need);
        for (stream, log) in unit.opened.drain(..) {
            let index = StreamIndex::new(log);
            commit.written.extents.insert(stream, index.extent);
            self.enter_stream(stream, StreamState::new(index));
        }
        for (stream, limits) in unit.limits.drain(..) {
            if let Some(known) = self.streams.get(&stream) {
                known.set_limits(limits);
            }
        }
        for append in unit.appends.drain(..) {
            let UnitAppend { stream, header, block, .. } = &append;
            commit.messages += u64::from(header.count);
            commit.bytes += block.as_ref().map_or(0, |block| block.body().len());
            let known = self.streams.get(stream);
            let known = known.ok_or(JournalError::Internal("a unit appends to no stream"))?;
            commit.packer.add(append, known);
        }
        commit.written.state.extend(unit.state.drain(..));
        for (stream, first) in unit.trims.drain(..) {
            let furthest = commit.trims.entry(stream).or_default();
            *furthest = first.max(*furthest);
        }
        for owner in unit.deleted.drain(..) {
            self.take_deletion(owner, commit);
        }
        Ok(())
    }

    /// Shows a stream to readers.
    pub(super) fn enter_stream(&mut self, stream: StreamId, state: Arc<StreamState>) {
        self.shared.streams.insert(stream, state.clone());
        self.streams.insert(stream, state);
    }

    fn take_deletion(&mut self, owner: OwnerId, commit: &mut Gathered<M>) {
        commit.forget(owner);
        let stream = StreamId(owner.0);
        if let Some(known) = self.streams.remove(&stream) {
            self.shared.streams.remove(&stream);
            let first = known.read_index().tail.front().map(|entry| entry.sequence);
            let queue = &mut self.pages[known.log as usize];
            first.into_iter().for_each(|first| queue.remove(first, stream));
            self.going.insert(owner, known);
        }
        commit.deleted.push(owner);
    }
}
