//! A journal to measure on, and what fills it.

use rand::RngCore;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use weir::model::{
    AckLevel, Block, BlockBuilder, Incarnation, Record, TopicId, TopicName, TopicSettings,
};
use weir::topics::{Append, TopicChange, Topics};

/// A runtime to wait for the journal's answers on.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A block of messages with payloads that nothing can compress.
pub fn block(messages: u64, payload_bytes: usize, random: &mut StdRng) -> Block {
    let mut payload = vec![0; payload_bytes];
    let mut builder = BlockBuilder::default();
    for _ in 0..messages {
        random.fill_bytes(&mut payload);
        builder.push(&Record::of("application/octet-stream", &payload)).expect("within limits");
    }
    builder.finish().expect("at least one message")
}

/// New topics whose acknowledgements don't wait for the disk, since filling is not what is measured.
pub fn topics(runtime: &Runtime, journal: &Topics, count: usize) -> Vec<TopicId> {
    let settings = TopicSettings { ack_level: AckLevel::Os, ..TopicSettings::default() };
    let asked: Vec<_> = (0..count)
        .map(|n| {
            let name = TopicName::new(&format!("topic-{n}")).expect("a name");
            let change = TopicChange::Ensure { name, settings, topics_max: usize::MAX };
            let journal = journal.clone();
            async move { journal.change(change).await.expect("a topic").record.id }
        })
        .collect();
    runtime.block_on(futures_util::future::join_all(asked))
}

/// Appends these blocks, all under way at once.
pub fn append(journal: &Topics, blocks: impl Iterator<Item = (TopicId, Block)>) {
    let answers: Vec<_> = blocks
        .map(|(topic, block)| {
            let (reply, answer) = oneshot::channel();
            let incarnation = Incarnation(0);
            journal.append(Append { topic, incarnation, lane: None, block, reply });
            answer
        })
        .collect();
    for answer in answers {
        answer.blocking_recv().expect("an answer").expect("stored");
    }
}
