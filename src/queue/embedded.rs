//! The tier in front of the journal.
//!
//! The journal's writer feeds it ([`Feed`]): committed blocks go into the tail cache first, then
//! the topics' watchers are notified. Reads use the cache and go to the journal on a miss.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use tokio::sync::Semaphore;

use super::read_cache::ReadCache;
use super::read_threads::ReadThreads;
use super::tail_cache::TailCache;
use super::{Damage, HeadWatcher, ReadBlock, ReadError, ReadLimits, TopicExtent};
use crate::journal::{JournalError, JournalObserver};
use crate::model::{Gap, JournalAge, PlacedBlock, Timestamp, TopicId};
use crate::topics::{CatalogueEvent, Topics, TopicsObserver};

/// What the journal's writer and the readers share.
#[derive(Clone)]
pub struct Feed {
    cache: Arc<TailCache>,
    watchers: Arc<DashMap<TopicId, HeadWatcher>>,
    /// The journal writes no more.
    failed: Arc<AtomicBool>,
}

impl Feed {
    /// A feed whose tail cache holds at most `tail_cache_bytes_max` bytes.
    pub fn new(tail_cache_bytes_max: usize) -> Self {
        let cache = Arc::new(TailCache::new(tail_cache_bytes_max));
        Self { cache, watchers: Arc::default(), failed: Arc::default() }
    }

    /// The observer for [`Topics::open`]; `failed` is called when the journal can write no more.
    pub fn observer(
        &self,
        failed: impl Fn(&JournalError) + Send + Sync + 'static,
    ) -> Arc<dyn TopicsObserver> {
        Arc::new(FeedObserver { feed: self.clone(), failed: Box::new(failed) })
    }
}

struct FeedObserver {
    feed: Feed,
    failed: Box<dyn Fn(&JournalError) + Send + Sync>,
}

impl JournalObserver for FeedObserver {
    fn committed(&self, blocks: &[Arc<PlacedBlock>]) {
        self.feed.cache.push(blocks);
        let mut told = None;
        for block in blocks {
            // A topic's blocks are consecutive, so each topic is notified once.
            let topic = TopicId::of_outgoing(block.stream);
            if told.replace(topic) == Some(topic) {
                continue;
            }
            let watcher = self.feed.watchers.get(&topic).map(|w| w.clone());
            if let Some(watcher) = watcher {
                watcher();
            }
        }
    }

    fn failed(&self, error: &JournalError) {
        // First: the broker is not ready from here on, however long it takes to log why and to
        // exit.
        self.feed.failed.store(true, Ordering::Release);
        (self.failed)(error);
    }
}

impl TopicsObserver for FeedObserver {
    fn changed(&self, _: &CatalogueEvent) {}
}

/// The journal as a queue.
#[derive(Clone)]
pub struct Embedded {
    topics: Topics,
    feed: Feed,
    reads: Arc<Semaphore>,
    threads: Arc<ReadThreads>,
    recent: Arc<ReadCache>,
}

/// Concurrent reads of the disk: each holds the whole chunk of its message, which is as large as a
/// request's body may be.
const READS_MAX: usize = 4;

impl Embedded {
    /// Reads from `topics`, which must have been opened with `feed`'s observer.
    ///
    /// # Errors
    /// There is no thread for reads.
    pub fn new(topics: Topics, feed: Feed) -> io::Result<Self> {
        // One more for lookups of offsets by time.
        let threads = Arc::new(ReadThreads::start(READS_MAX + 1)?);
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Ok(Self { topics, feed, reads, threads, recent: Arc::default() })
    }

    pub(super) fn extent(&self, topic: TopicId) -> Option<TopicExtent> {
        self.topics.extent(topic)
    }

    pub(super) fn age(&self) -> JournalAge {
        self.topics.age()
    }

    pub(super) fn is_storage_full(&self) -> bool {
        self.topics.is_storage_full()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.feed.failed.load(Ordering::Acquire)
    }

    pub(super) fn gaps(&self, topic: TopicId) -> Vec<Gap> {
        self.topics.gaps(topic)
    }

    pub(super) fn damage(&self, topic: TopicId) -> Vec<Damage> {
        self.topics.damage(topic)
    }

    pub(super) fn watch(&self, topic: TopicId, watcher: HeadWatcher) {
        self.feed.watchers.insert(topic, watcher);
    }

    pub(super) fn forget(&self, topic: TopicId) {
        self.feed.watchers.remove(&topic);
        self.feed.cache.forget(topic);
        self.recent.forget(topic);
    }

    pub(super) fn read_cached(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Option<Vec<Arc<ReadBlock>>> {
        let extent = self.topics.extent(topic)?;
        if from < extent.first {
            return None;
        }
        if from == extent.head {
            return Some(Vec::new());
        }
        self.feed.cache.read(topic, from, limits)
    }

    pub(super) async fn read(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Result<Vec<Arc<ReadBlock>>, ReadError> {
        if let Some(blocks) = self.read_cached(topic, from, limits) {
            return Ok(blocks);
        }
        if let Some(blocks) = self.recent(topic, from, limits) {
            return Ok(blocks);
        }
        let turn = self.reads.clone().acquire_owned().await;
        // The reader before may have read the same.
        if let Some(blocks) = self.recent(topic, from, limits) {
            return Ok(blocks);
        }
        let topics = self.topics.clone();
        // The turn ends with the read, even if its caller has gone.
        let blocks = self.threads.run(move || {
            let read = topics.read(topic, from, limits);
            drop(turn);
            read
        });
        let blocks: Vec<_> = blocks.await?.into_iter().map(ReadBlock::new).collect();
        self.recent.push(&blocks);
        Ok(blocks)
    }

    /// Blocks that were read before, if they are still kept.
    fn recent(&self, topic: TopicId, from: u64, limits: ReadLimits) -> Option<Vec<Arc<ReadBlock>>> {
        let extent = self.topics.extent(topic)?;
        let kept = (extent.first..extent.head).contains(&from) && !extent.damaged;
        kept.then(|| self.recent.read(topic, from, limits)).flatten()
    }

    pub(super) async fn offset_at(
        &self,
        topic: TopicId,
        time: Timestamp,
    ) -> Result<u64, ReadError> {
        let topics = self.topics.clone();
        self.threads.run(move || topics.offset_at(topic, time)).await
    }
}
