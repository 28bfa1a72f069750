//! Publish/subscribe, the reading side: where to begin, and waiting for more.
//!
//! A poll pulls once, waiting a while if there is nothing; a tail attaches to the topic and pulls
//! when it is notified and has room. Both read the same blocks from the queue, and go through them
//! with [`walk()`], which leaves out expired messages.

mod start;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::actors::directory::{TopicHandle, Unavailable};
use crate::actors::topic::{Attach, AwaitHead, Pending, Reader};
use crate::queue::{Queue, ReadBlock, ReadError, ReadLimits};
pub use start::{Beginning, Start};
pub use walk::{Found, walk};

/// Reads once from `from` on; if there is nothing, waits for the first new message up to `wait`, or
/// until `draining` becomes true. Empty if there still is nothing.
///
/// # Errors
/// [`ReadError`]: no such topic, not kept any more, beyond the head, or damaged.
pub async fn poll(
    queue: &Queue,
    topic: &TopicHandle,
    from: u64,
    limits: ReadLimits,
    wait: Duration,
    mut draining: watch::Receiver<bool>,
) -> Result<Vec<Arc<ReadBlock>>, ReadError> {
    let blocks = queue.read(topic.id(), from, limits).await?;
    if !blocks.is_empty() || wait.is_zero() {
        return Ok(blocks);
    }
    tokio::select! {
        advanced = tokio::time::timeout(wait, head_beyond(topic, from)) => match advanced {
            Ok(advanced) => advanced?,
            Err(_) => return Ok(Vec::new()),
        },
        // The sender of `draining` lives as long as the edge.
        _ = draining.wait_for(|draining| *draining) => return Ok(Vec::new()),
    }
    queue.read(topic.id(), from, limits).await
}

/// Returns once the topic's head is beyond `offset`, through any restart of its actor.
async fn head_beyond(topic: &TopicHandle, offset: u64) -> Result<(), ReadError> {
    loop {
        let actor = match topic.topic().running().await {
            Ok(actor) => actor,
            Err(Unavailable::Ended) => return Err(ReadError::NoSuchTopic(topic.id())),
            // A quarantined actor never signals, so wait until the caller's timeout.
            Err(Unavailable::Quarantined) => std::future::pending().await,
        };
        let (reply, answer) = oneshot::channel();
        actor.do_send(AwaitHead { offset, reply });
        if answer.await.is_ok() {
            return Ok(());
        }
    }
}

/// Attaches a reader to the topic's actor and returns when it has to attach anew, because that
/// actor died. Dropping the future detaches the reader.
///
/// # Errors
/// [`Unavailable`] when there is no actor to attach to and none will come.
pub async fn attach(
    topic: Arc<TopicHandle>,
    reader: Reader,
    pending: Pending,
) -> Result<(), Unavailable> {
    let actor = topic.topic().running().await?;
    let (attachment, ended) = oneshot::channel();
    // A notification that died with the last actor must not hold back the next one's.
    pending.take();
    actor.do_send(Attach { reader, pending, attachment });
    // Nothing is ever sent: it ends when the actor drops the sender.
    let _ = ended.await;
    Ok(())
}
