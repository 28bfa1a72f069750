//! Request/acknowledge: publish, and be notified when it is safe.
//!
//! [`publish`] is for a single block whose sender waits (HTTP); a [`SendWindow`] keeps many in
//! flight in order (a producer socket). [`receipt`] gives a message's state later.
//!
//! Invariant: both send a block again only when it certainly was not stored: its oneshot dropped
//! (it never reached the writer) or the writer refused it as out of turn. So neither ever stores
//! a block twice.

pub mod receipt;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use receipt::Until;
pub use window::{Refused, Resend, SendWindow};

use crate::actors::directory::{TopicHandle, TopicState, Unavailable};
use crate::actors::ingest::Ingest;
use crate::actors::topic_service::TopicService;
use crate::model::{AppendError, Appended, Block, TopicName};
use crate::topics::TopicChangeError;

/// How long a publish waits for a topic that is being restarted before its sender is asked to
/// retry.
pub const RECOVERY_WAIT: Duration = Duration::from_secs(5);

/// Why a block was not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The topic is recovering and was not ready in time; nothing was handed over.
    #[error("the topic is recovering")]
    Recovering,
    /// The topic was deleted while the block was in flight; sent again, it goes into a new one.
    #[error("the topic was deleted meanwhile; what is sent again goes into a new one")]
    Deleted,
    /// The topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicChangeError),
    /// The writer or the producer refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl From<Unavailable> for PublishError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Append(match unavailable {
            Unavailable::Quarantined => AppendError::Quarantined,
            Unavailable::Ended => AppendError::TopicDeleted,
        })
    }
}

/// How long a publish that met a deletion waits for its end before it creates the topic anew.
const DELETION_WAIT: Duration = Duration::from_millis(1);

/// Stores one block in the topic of that name, created if the policy allows that, and waits until
/// it is safe at the topic's level. A deletion that it meets comes before it: the topic is created
/// anew.
///
/// # Errors
/// As [`publish`], and [`TopicChangeError`] if there is no topic and none can be created.
pub async fn publish_to(
    topics: &TopicService,
    name: &TopicName,
    block: Block,
) -> Result<(Arc<TopicHandle>, Appended), PublishError> {
    let begun = Instant::now();
    loop {
        let topic = topics.ensure(name).await?;
        match publish(&topic, block.clone()).await {
            Err(PublishError::Append(AppendError::TopicDeleted)) if topics.policy().auto_create => {
            }
            stored => return stored.map(|appended| (topic, appended)),
        }
        if begun.elapsed() > RECOVERY_WAIT {
            return Err(PublishError::Deleted);
        }
        tokio::time::sleep(DELETION_WAIT).await;
    }
}

/// Stores one block and waits until it is safe at the topic's level.
///
/// # Errors
/// [`PublishError`]; nothing of the block was stored then, unless the journal failed.
pub async fn publish(topic: &TopicHandle, block: Block) -> Result<Appended, PublishError> {
    loop {
        if topic.state() == TopicState::Quarantined {
            return Err(AppendError::Quarantined.into());
        }
        let ingest = tokio::time::timeout(RECOVERY_WAIT, topic.ingest().running())
            .await
            .map_err(|_| PublishError::Recovering)??;
        let (reply, answer) = oneshot::channel();
        ingest.do_send(Ingest { lane: None, block: block.clone(), reply });
        match answer.await {
            Ok(Ok(appended)) => return Ok(appended),
            Ok(Err(AppendError::OutOfTurn)) | Err(_) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}
