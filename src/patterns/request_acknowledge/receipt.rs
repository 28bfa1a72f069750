//! The state of a message: the stages that its receipt shows.
//!
//! A receipt names topic and offset, so everything is found in the queue without an index of
//! receipts. Of a message that retention has removed only its stage is known.

use std::time::Duration;

use tokio::sync::watch;

use crate::actors::directory::TopicHandle;
use crate::model::{Stage, Timestamp};
use crate::queue::{Queue, ReadError, ReadLimits};

/// A stage that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It is stored.
    Logged,
    /// Consumers can see it.
    Queued,
    /// A subscription has sent it to a consumer.
    Delivered,
    /// A consumer has acknowledged it.
    Acked,
}

/// The stage that a message has reached, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The stage.
    pub stage: Stage,
    /// Every stage so far, in order, and when it was reached if that is known.
    pub history: Vec<(Stage, Option<Timestamp>)>,
    /// When its time to live ends.
    expires_in: Option<Duration>,
}

impl Story {
    fn of(end: Option<(Stage, Option<Timestamp>)>, published_at: Option<Timestamp>) -> Self {
        // Without a processor a message is visible as soon as it is stored.
        let stages = [Stage::Accepted, Stage::Logged, Stage::Queued];
        let mut history: Vec<_> = stages.map(|stage| (stage, published_at)).into();
        history.extend(end);
        let stage = history.last().map_or(Stage::Accepted, |(stage, _)| *stage);
        Self { stage, history, expires_in: None }
    }

    /// The wait is over.
    fn satisfies(&self, until: Until) -> bool {
        self.stage.is_end()
            || match until {
                Until::Logged => self.stage >= Stage::Logged,
                Until::Queued => self.stage >= Stage::Queued,
                // This stage needs subscriptions.
                Until::Delivered | Until::Acked => false,
            }
    }
}

/// The message's stage; `None` when no message has that offset.
///
/// # Errors
/// [`ReadError`]: the topic was deleted, or the message can't be read.
pub async fn story(
    queue: &Queue,
    topic: &TopicHandle,
    offset: u64,
) -> Result<Option<Story>, ReadError> {
    let lost = || Some(Story::of(Some((Stage::Lost, None)), None));
    if queue.gaps(topic.id()).iter().any(|gap| gap.contains(offset)) {
        return Ok(lost());
    }
    let limits = ReadLimits { messages: 1, bytes: 1 };
    let blocks = match queue.read(topic.id(), offset, limits).await {
        Err(ReadError::Ahead { .. }) => return Ok(None),
        // Retention has removed it; it existed.
        Err(ReadError::Gone { .. }) => return Ok(Some(Story::of(None, None))),
        read => read?,
    };
    let Some(block) = blocks.first() else { return Ok(None) };
    let mut records = block.records_from(offset).filter_map(Result::ok);
    let Some((_, record)) = records.next() else { return Ok(lost()) };
    let published_at = block.published_at;
    let expires_at = record.ttl_ms.map(|ttl_ms| Timestamp(published_at.0.saturating_add(ttl_ms)));
    let now = queue.age();
    let expired = record.has_expired(block.age, now).then_some((Stage::Expired, expires_at));
    let left = |ttl_ms: u64| block.age.0.saturating_add(ttl_ms).saturating_sub(now.0);
    let expires_in = record.ttl_ms.map(|ttl_ms| Duration::from_millis(left(ttl_ms)));
    Ok(Some(Story { expires_in, ..Story::of(expired, Some(published_at)) }))
}

/// The message's stage once it has reached the wanted one or a final one, `wait` has passed, or the
/// broker stops.
///
/// # Errors
/// As [`story`]; a message that does not exist was lost.
pub async fn reached(
    queue: &Queue,
    topic: &TopicHandle,
    offset: u64,
    until: Until,
    wait: Duration,
    mut draining: watch::Receiver<bool>,
) -> Result<Story, ReadError> {
    let look = async || {
        let story = story(queue, topic, offset).await?;
        Ok(story.unwrap_or_else(|| Story::of(Some((Stage::Lost, None)), None)))
    };
    let found: Story = look().await?;
    if wait.is_zero() || found.satisfies(until) {
        return Ok(found);
    }
    let wait = found.expires_in.map_or(wait, |left| wait.min(left));
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        // The sender of `draining` lives as long as the edge.
        _ = draining.wait_for(|draining| *draining) => {}
    }
    look().await
}
