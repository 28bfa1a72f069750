//! weir: a message broker for the collection tier of streaming systems.
//!
//! This page is the map: follow a message from socket to disk to socket.
//!
//! ```text
//!  producer ─frames─► edge::ws::producer          guard: 64 KiB + one frame in hand
//!                       │  wire: JSON, MessagePack credit: 4,096 messages / 4 MiB a socket
//!                       │  one Block a wake-up     admission: 32 MiB of all clients together
//!                       ▼
//!                     patterns::request_acknowledge::SendWindow   what is not answered yet
//!                       │  Publish(block, lane place, oneshot)
//!                       ▼
//!                     actors::producer             one a socket; holds ≤ the socket's credit
//!                       │  Ingest
//!                       ▼
//!                     actors::ingest               one a topic; stamps its incarnation
//!                       │  Append
//!                       ▼
//!                     journal::commit              one thread: topics take turns
//!                       │  topics: the machine     one request, one unit: offsets, stamps, what
//!                       │  it hosts                is new, settings; a fold over block headers
//!                       │  units, packed           a commit has ≤ 2,000 messages or 1 MiB:
//!                       │                          chunks of ~32 KiB, index pages, state;
//!                       │                          one fjall batch, one sync
//!          ┌────────────┼─────────────────────┐
//!          ▼            ▼                     ▼
//!       oneshot      queue: tail cache     HeadAdvanced ─► actors::topic    one a topic
//!       "stored"     32 MiB, shared Arcs                     │ HeadAdvanced, at most one
//!          │            │                                    ▼ pending a reader
//!          ▼            └──── blocks, pulled ──────►  edge::ws::tail, event streams, polls
//!       acks                                          encoded once a block, one frame ahead
//! ```
//!
//! An HTTP publish joins at `actors::ingest`, and so does a one-way message, which is not
//! acknowledged; an HTTP poll and an event stream read from the queue as a tail does. A receipt
//! names its message's position, so its state is found without an index.
//!
//! **Where it runs.** A connection and its producer stay on one of the edge's threads. Ingest
//! loggers and topics have a thread of their own, where no flood of requests delays another topic's
//! messages (on the edge's threads bystanders of a flood waited several times as long).
//!
//! **What a client can't do.** Every connection passes `edge::connections` (how many, from where,
//! one request at a time; the kernel disconnects clients that read nothing), every request
//! `edge::http::request_guard` (size of its head, `Host`, `Origin`), every frame the guard in
//! `edge::ws`, every incoming byte `edge::admission`, and every outgoing byte `edge::outgoing`:
//! answers are sent piece by piece, and between two pieces no part of them is held. Blocks that the
//! tail cache no longer has are read from the journal, on another thread.
//!
//! **Why nothing acknowledged is lost or stored twice.** The oneshot travels with the block. An
//! actor that dies drops it, which shows the sender that the block was never handed over; the
//! writer answers every block it received. A block sent again keeps its place in the producer's
//! lane, and the writer accepts each place once, in order. A restarted ingest logger fences its
//! predecessor before it takes its first block ([`actors::supervisor`]).
//!
//! **What survives the process.** [`journal`]'s own page follows a commit to the disk and a start
//! back from it: salvage, recovery, reclaiming, and every byte of the format. It keeps streams of
//! blocks and small state, and writes a unit of both whole or not at all; [`topics`] defines their
//! meaning: epochs and gaps, second lives, quarantine, remembered ids, retention.
//!
//! **Failures beside the data** can't stop it: `journal::commit`'s disk space uses a reserve when
//! other programs have filled the disk, `broker` divides the limit on open files, [`log`] drops
//! lines that nothing reads, and messages age by the journal's use, not by the machine's clock.
//!
//! **Reading order** is message order:
//! 1. [`model`]: topic, record, block, lane, receipt. Plain values.
//! 2. [`journal`]: streams of blocks and state in fjall, group commit, index, recovery, reclaiming.
//!    Threads, no actors, no topics.
//! 3. [`topics`]: what a topic is; the plain machine that the journal's thread hosts.
//! 4. [`queue`]: what consumers read from; the topics with a tail cache before them.
//! 5. [`actors`]: producer, ingest logger, topic; the directory, the supervisor and the topic
//!    service.
//! 6. [`patterns`]: publish and be acknowledged, or not; receipts; poll and tail.
//! 7. [`edge`]: HTTP, WebSocket, what messages look like, bounds, the one table of errors.
//! 8. [`broker`] puts it together; [`config`] reads broker.toml; [`cli`] is the program, `weir
//!    bench` among it, which measures all this from outside.
//!
//! [`clock`] gives the time, [`metrics`] counts, and [`faults`] breaks things on purpose; anything
//! may use them. [`log`] writes log lines without anything waiting for them. `exposed` opens
//! private codecs to the fuzz targets (`tests/fuzz`) and the benches, and is built for them only.
//!
//! Architecture invariant: a module uses only modules before it in this list (a test reads the
//! source to hold this). Actors appear in [`actors`] and [`edge`], fjall only in [`journal`],
//! actix-web-actors only in [`edge::ws`].

pub mod actors;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod edge;
#[cfg(any(fuzzing, feature = "exposed"))]
pub mod exposed;
pub mod faults;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod model;
pub mod patterns;
pub mod queue;
pub mod topics;
