//! Taking commands into a commit: who is refused at once, what each one adds.

use tracing::Span;

use super::Writer;
use super::catalogue::{Edit, TopicChange, TopicChangeError, TopicChanged};
use super::commit::{Commit, Removed};
use super::sift::{self, Sifted};
use crate::journal::command::{Answer, Append, Appended, Command, Worth};
use crate::journal::{AppendError, JournalError};
use crate::model::{Gap, TopicId};

impl Writer {
    /// Takes a command; the commit will answer it.
    pub(super) fn take(
        &mut self,
        command: Command,
        commit: &mut Commit,
    ) -> Result<(), JournalError> {
        match command {
            Command::Append(append) => self.take_append(append, commit)?,
            Command::ChangeTopic(change, reply) => match self.take_change(change, commit) {
                Ok(changed) => commit.answers.push(Answer::TopicChanged(reply, changed)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Fence { topic, incarnation, reply } => match self.catalogue.get_mut(topic) {
                Some(known) => {
                    known.incarnation = known.incarnation.max(incarnation);
                    commit.answers.push(Answer::Fenced(reply, known.next_offset));
                }
                None => drop(reply.send(Err(AppendError::TopicDeleted))),
            },
            Command::LastId { topic, name, reply } => match self.last_id(topic, &name) {
                Ok(last) => commit.answers.push(Answer::LastId(reply, last)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Damaged(topic, gap) => self.take_damage(topic, gap, commit),
            Command::Stop(reply) => commit.stop = Some(reply),
            Command::Housekeeping(..) | Command::Snapshot(_) => {}
        }
        Ok(())
    }

    fn take_append(&mut self, append: Append, commit: &mut Commit) -> Result<(), JournalError> {
        let Append { topic, incarnation, lane, block, reply } = append;
        if let Some(full) = &commit.full {
            let _ = reply.send(Err(full.clone()));
            return Ok(());
        }
        // A name that can't be read costs its own producer, and no one else.
        let unreadable = block.named().and_then(|run| self.last_id(topic, &run.name).err());
        let refusal = match self.catalogue.get(topic) {
            None => Some(AppendError::TopicDeleted),
            Some(_) if unreadable.is_some() => unreadable,
            Some(known) if !known.record.damage.is_empty() => Some(AppendError::Quarantined),
            Some(known) if incarnation < known.incarnation => Some(AppendError::OutOfTurn),
            Some(_) if lane.is_some_and(|place| !place.take()) => Some(AppendError::OutOfTurn),
            Some(_) => None,
        };
        let (None, Some(known)) = (&refusal, self.catalogue.get_mut(topic)) else {
            let _ = reply.send(Err(refusal.unwrap_or(AppendError::TopicDeleted)));
            return Ok(());
        };
        let stage = block.trace().map_or_else(Span::none, |trace| {
            tracing::debug_span!("commit", trace_id = trace.trace_id(), topic = topic.0)
        });
        let store = &self.shared.store;
        let Sifted { block, exceptions } = sift::sift(known, block, store, self.names_max, commit)?;
        let base_offset = known.next_offset;
        if let Some(block) = block {
            known.next_offset += u64::from(block.count());
            commit.messages += u64::from(block.count());
            commit.bytes += block.body().len();
            commit.packer.add(topic, known.record.epoch, base_offset, block);
        }
        commit.secure(known);
        let worth = Worth::of(&known.record.settings);
        let appended = Appended { base_offset, worth, exceptions };
        commit.answers.push(Answer::Appended { reply, appended, _stage: stage });
        Ok(())
    }

    /// A named producer's last id; from then on it is known without the store.
    fn last_id(&mut self, topic: TopicId, name: &str) -> Result<Option<u64>, AppendError> {
        let known = self.catalogue.get_mut(topic).ok_or(AppendError::TopicDeleted)?;
        Ok(known.named.last(&self.shared.store, topic, name)?)
    }

    fn take_change(
        &mut self,
        change: TopicChange,
        commit: &mut Commit,
    ) -> Result<TopicChanged, TopicChangeError> {
        let may_create = matches!(change, TopicChange::Ensure { .. } | TopicChange::Replace { .. });
        if may_create && self.look_at_space().is_some() {
            self.catalogue.create_nothing(&change)?;
        }
        let (changed, edit) = self.catalogue.change(change)?;
        commit.sync |= !matches!(edit, Edit::None);
        match edit {
            Edit::None => {}
            Edit::Put(record) => drop(commit.topics_put.insert(record.id, record)),
            Edit::Remove(topic, state) => {
                if let Some(entry) = state.read_index().tail.front() {
                    self.pages.remove(entry.sequence, topic);
                }
                let name = changed.record.name.clone();
                commit.remove_topic(Removed { id: topic, name, state });
            }
        }
        Ok(changed)
    }

    fn take_damage(&mut self, topic: TopicId, gap: Gap, commit: &mut Commit) {
        let Some(known) = self.catalogue.get_mut(topic) else { return };
        if known.damaged(gap) {
            let (name, from, to) = (&known.record.name, gap.from, gap.to);
            tracing::error!(topic = %name, from, to, "messages are damaged; the topic is quarantined");
            commit.topics_put.insert(topic, known.record.clone());
            commit.sync = true;
        }
    }
}
