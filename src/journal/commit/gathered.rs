//! One commit in the making: whole units of many requests, and their replies.

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::packer::Packer;
use super::pages::Written;
use crate::journal::JournalError;
use crate::journal::index::PageStart;
use crate::journal::machine::{Machine, Now};
use crate::journal::unit::SyncNeed;
use crate::model::{OwnerId, StreamId};

/// See the module.
pub(super) struct Gathered<M: Machine> {
    pub(super) packer: Packer,
    pub(super) messages: u64,
    pub(super) bytes: usize,
    pub(super) now: Now,
    pub(super) need: SyncNeed,
    /// State and extents; the last value of each key.
    pub(super) written: Written,
    /// The highest one of each stream.
    pub(super) trims: FxHashMap<StreamId, u64>,
    pub(super) deleted: Vec<OwnerId>,
    pub(super) replies: Vec<M::Reply>,
    /// A start has examined the content: every tail is written with this commit, and these pages,
    /// which were not built on, are removed.
    pub(super) examined: Option<Vec<(StreamId, PageStart)>>,
    pub(super) stop: Option<oneshot::Sender<Result<(), JournalError>>>,
}

impl<M: Machine> Gathered<M> {
    /// A commit that is expected to have about N requests.
    pub(super) fn new(now: Now, expected: usize) -> Self {
        Self {
            packer: Packer::with_capacity(expected),
            messages: 0,
            bytes: 0,
            now,
            need: SyncNeed::None,
            written: Written::default(),
            trims: FxHashMap::default(),
            deleted: Vec::new(),
            replies: Vec::with_capacity(expected),
            examined: None,
            stop: None,
        }
    }

    /// Nothing has to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.packer.is_empty()
            && self.written.state.is_empty()
            && self.written.extents.is_empty()
            && self.trims.is_empty()
            && self.deleted.is_empty()
            && self.examined.is_none()
    }

    /// Forgets the pending state of an owner that is deleted.
    pub(super) fn forget(&mut self, owner: OwnerId) {
        self.written.state.retain(|key, _| key.owner() != owner);
        self.written.extents.retain(|stream, _| OwnerId::from(*stream) != owner);
        self.trims.retain(|stream, _| OwnerId::from(*stream) != owner);
    }
}
