//! The vocabulary of all other modules: topics, messages, blocks, receipts.
//!
//! Invariants: values of these types are valid once built (a [`TopicName`] has been checked, a
//! [`Block`] holds exactly the records it counts). Nothing here does I/O, reads a clock or knows
//! an actor, so every other part may depend on it.

mod ack;
mod age;
mod block;
mod content_type;
mod gap;
mod header;
mod lane;
mod message_id;
mod placed_block;
mod position;
mod reading;
mod receipt;
mod record;
mod stage;
mod stream;
mod timestamp;
mod topic;
mod trace;

pub use ack::{AppendError, Appended, Durability, NotStored, Outcome};
pub use age::JournalAge;
pub use block::{BLOCK_BYTES_MAX, Block, BlockBuilder, NamedRun};
pub use content_type::PayloadKind;
pub use gap::Gap;
pub use header::{
    BlockHeader, BlockKind, HeaderExtras, InputOutcome, LastId, Origin, OutcomeRun,
    POSITION_BYTES_MAX, Run, WindowSettings,
};
pub use lane::{Lane, LanePosition};
pub use message_id::{Fingerprint, MessageIdKey};
pub use placed_block::{PlacedBlock, RecordPlace, Records};
pub use position::{NoPosition, Position};
pub use reading::{Damage, ReadError, ReadLimits, TopicExtent};
pub use receipt::{Receipt, ReceiptKey, ReceiptLife};
pub use record::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX,
    MESSAGE_ID_BYTES_MAX, Record, RecordError,
};
pub use stage::Stage;
pub use stream::{Log, OwnerId, StreamId};
pub use timestamp::Timestamp;
pub use topic::{
    AckLevel, Epoch, Incarnation, Mode, NameError, Sequence, TopicId, TopicName, TopicSettings,
    TopicSettingsChange,
};
pub use trace::TraceParent;
