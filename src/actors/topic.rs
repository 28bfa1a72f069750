//! The topic actor: notifies a topic's readers that there is more to read.
//!
//! Notify, then pull: the journal's writer notifies the topic that its head advanced, the topic
//! notifies its readers, and these read from the queue as fast as they can. No payload passes here.
//! A notification is dropped while the one before it has not been taken, so mailboxes stay short
//! however slow a reader is.
//!
//! Invariants: a reader that attaches is notified at once, so nothing between its last read and its
//! attachment is missed; when the actor dies every reader notices (its [`Attachment`] ends) and
//! attaches to the successor.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use tokio::sync::oneshot;

use crate::faults::{self, Seam};
use crate::model::TopicId;
use crate::queue::Queue;

/// There is more to read than before.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct HeadAdvanced;

/// A topic's reader, as the receiver of notifications.
pub type Reader = Recipient<HeadAdvanced>;

/// "Notified and not yet taken", shared by notifier and reader.
#[derive(Clone, Debug, Default)]
pub struct Pending(Arc<AtomicBool>);

impl Pending {
    /// The notifier: true when a notification is due.
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The reader, before it checks for new messages.
    pub fn take(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Notify this reader from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    /// The reader's address.
    pub reader: Reader,
    /// Shared with the reader.
    pub pending: Pending,
    /// Held as long as the reader is notified; its drop shows the reader that it is no longer
    /// attached.
    pub attachment: Attachment,
}

/// See [`Attach`]; nothing is ever sent on it.
pub type Attachment = oneshot::Sender<Infallible>;

/// Answer when the head is beyond `offset`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AwaitHead {
    /// The offset to be read.
    pub offset: u64,
    /// Dropped unanswered when the actor dies: ask its successor.
    pub reply: oneshot::Sender<()>,
}

/// See the module.
pub struct Topic {
    id: TopicId,
    queue: Queue,
    pending: Pending,
    listening: Listening,
    readers: HashMap<u64, Attach>,
    next_reader: u64,
    waiting: Vec<AwaitHead>,
}

/// A reader waits for the topic's news. Without it the writer need not wake the actor.
#[derive(Clone, Debug, Default)]
struct Listening(Arc<AtomicBool>);

impl Listening {
    /// To be called before the reader first checks the head: either it sees what the writer has
    /// shown by then, or the writer, which checks this flag after that, sees the reader.
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// The writer, once readers can see the new head.
    fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}

impl Topic {
    /// The actor for a topic; its readers attach by themselves.
    pub fn new(id: TopicId, queue: Queue) -> Self {
        Self {
            id,
            queue,
            pending: Pending::default(),
            listening: Listening::default(),
            readers: HashMap::new(),
            next_reader: 0,
            waiting: Vec::new(),
        }
    }

    fn head(&self) -> u64 {
        self.queue.extent(self.id).map_or(0, |extent| extent.head)
    }
}

impl Actor for Topic {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (topic, pending) = (ctx.address(), self.pending.clone());
        let listening = self.listening.clone();
        self.queue.watch(
            self.id,
            Arc::new(move || {
                if listening.is_wanted() && pending.raise() {
                    topic.do_send(HeadAdvanced);
                }
            }),
        );
        // Deletion removes the topic before it forgets the watchers: whichever of the two runs last
        // cleans up.
        if self.queue.extent(self.id).is_none() {
            self.queue.forget(self.id);
        }
    }
}

impl Handler<HeadAdvanced> for Topic {
    type Result = ();

    fn handle(&mut self, _: HeadAdvanced, _: &mut Context<Self>) {
        self.pending.take();
        faults::pass(Seam::TopicHeadAdvanced);
        self.readers.retain(|_, attached| {
            if attached.attachment.is_closed() {
                return false;
            }
            if attached.pending.raise() {
                attached.reader.do_send(HeadAdvanced);
            }
            true
        });
        let head = self.head();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.offset < head) {
            // A requester that stopped waiting needs no answer.
            let _ = waiting.reply.send(());
        }
        if self.readers.is_empty() && self.waiting.is_empty() {
            self.listening.end();
        }
        faults::pass(Seam::TopicReadersTold);
    }
}

impl Handler<Attach> for Topic {
    type Result = ();

    fn handle(&mut self, attach: Attach, _: &mut Context<Self>) {
        faults::pass(Seam::TopicReaderAttaching);
        self.listening.begin();
        if attach.pending.raise() {
            attach.reader.do_send(HeadAdvanced);
        }
        // Readers that left are dropped here too, so that a topic without news does not keep them.
        self.readers.retain(|_, attached| !attached.attachment.is_closed());
        self.readers.insert(self.next_reader, attach);
        self.next_reader += 1;
    }
}

impl Handler<AwaitHead> for Topic {
    type Result = ();

    fn handle(&mut self, wanted: AwaitHead, _: &mut Context<Self>) {
        self.listening.begin();
        if wanted.offset < self.head() {
            let _ = wanted.reply.send(());
            return;
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        self.waiting.push(wanted);
    }
}
