//! One actor's supervision: a task that runs its context, awaits its end and runs the next one.
//!
//! Invariants: an incarnation is announced only once its factory has recovered it; the next one
//! is made only after the one before has wholly ended (its mailbox closed, its oneshots dropped).

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use actix::{Actor, AsyncContext, Context};
use tokio::sync::watch;

use super::budget::{RestartBudget, RestartPolicy, Verdict};
use crate::actors::directory::{Announcement, Slot, TopicHandle, Unavailable};
use crate::actors::ingest::Ingest;
use crate::actors::producer::{Close, Producer, Publish};
use crate::metrics;
use crate::model::Incarnation;

/// The supervised actor, and its restart policy.
pub(super) struct Child {
    pub(super) what: &'static str,
    pub(super) topic: Arc<TopicHandle>,
    pub(super) restarts: RestartPolicy,
    /// Quarantine can be left; else giving up is final.
    pub(super) recoverable: bool,
}

/// Why an incarnation ended.
enum End {
    /// It stopped by itself, or its topic was deleted.
    Final,
    Panicked,
}

/// Runs an actor on the calling thread until it stops in order, its topic is deleted or the
/// factory, which recovers each incarnation, returns none.
pub(super) fn supervise<A, F, S>(
    child: Child,
    announcer: watch::Sender<Announcement<A>>,
    factory: F,
) where
    A: Actor<Context = Context<A>>,
    F: Fn(Incarnation) -> S + 'static,
    S: Future<Output = Option<A>>,
{
    actix::spawn(async move {
        let Child { what, topic, restarts, recoverable } = child;
        let mut budget = RestartBudget::new(restarts);
        let mut incarnation = Incarnation(1);
        while let Some(actor) = factory(incarnation).await {
            if let End::Final = run(actor, &topic, &announcer).await {
                break;
            }
            incarnation = incarnation.next();
            topic.count_restart();
            metrics::restarted(what);
            let verdict = budget.died(Instant::now());
            tracing::error!(actor = what, topic = %topic.name(), ?verdict, "an actor panicked");
            match verdict {
                Verdict::RestartAfter(pause) => {
                    announcer.send_replace(Announcement::Recovering);
                    tokio::time::sleep(pause).await;
                }
                Verdict::GiveUp => {
                    let woken = topic.wake_supervision.notified();
                    announcer.send_replace(Announcement::Quarantined);
                    if !recoverable {
                        return;
                    }
                    if !topic.deleted.load(Ordering::Acquire) {
                        woken.await;
                    }
                    budget.reset();
                    announcer.send_replace(Announcement::Recovering);
                }
            }
            if topic.deleted.load(Ordering::Acquire) {
                break;
            }
        }
        announcer.send_replace(Announcement::Ended);
    });
}

async fn run<A: Actor<Context = Context<A>>>(
    actor: A,
    topic: &TopicHandle,
    announcer: &watch::Sender<Announcement<A>>,
) -> End {
    let context = Context::new();
    let address = context.address();
    let mut task = actix::spawn(context.into_future(actor));
    announcer.send_replace(Announcement::Running(address));
    loop {
        let woken = topic.wake_supervision.notified();
        if topic.deleted.load(Ordering::Acquire) {
            task.abort();
            return End::Final;
        }
        tokio::select! {
            ended = &mut task => return match ended {
                Err(error) if error.is_panic() => End::Panicked,
                _ => End::Final,
            },
            () = woken => {}
        }
    }
}

/// A session's handle on its producer. Dropping it ends the producer, after the blocks it holds.
pub struct ProducerHandle {
    slot: Slot<Producer>,
    _session: Arc<()>,
}

impl ProducerHandle {
    /// A handle, and something that ends with it.
    pub(super) fn new(slot: Slot<Producer>) -> (Weak<()>, Self) {
        let session = Arc::new(());
        (Arc::downgrade(&session), Self { slot, _session: session })
    }

    /// Hands a block over. While there is no producer the block's oneshot drops at once: wait for
    /// [`ProducerHandle::ready`], then send again.
    pub fn publish(&self, ingest: Ingest) {
        if let Some(producer) = self.slot.now() {
            producer.do_send(Publish(ingest));
        }
    }

    /// Waits until there is a producer.
    ///
    /// # Errors
    /// [`Unavailable`] when there will be none.
    pub fn ready(&self) -> impl Future<Output = Result<(), Unavailable>> + use<> {
        let slot = self.slot.clone();
        async move { slot.running().await.map(|_| ()) }
    }
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        if let Some(producer) = self.slot.now() {
            producer.do_send(Close);
        }
    }
}
