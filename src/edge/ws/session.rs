//! What every WebSocket session has in common: its handshake, its pulse, its end.
//!
//! A session is written as a [`Session`]: it receives whole messages, and is notified when to
//! drain. The functions here turn actix-web-actors' frames into those calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_web_actors::ws::{CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use tokio::sync::watch;

use super::ending::Ending;
use super::fragments::{Fragments, Refused, Whole};
use super::guard::Budget;
use super::header::{HEADER_BYTES_MAX, Refusal};
use super::pulse::{Beat, Pulse};
use crate::edge::Edge;
use crate::edge::connections::ReadingEnd;
use crate::edge::wire::Frame;

/// Most bytes discarded while a client has not answered our Close. What it sent before it
/// received ours is up to what the buffers of both systems hold; if that were left unread, the
/// kernel would reset the connection, and the client would not see its last acknowledgements.
const DISCARDED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long a client may send nothing before it has answered our Close.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
/// How long it may continue to send before it has.
const GOODBYE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes of frames a session is given before it has taken the ones it has.
pub(crate) const IN_HAND_BYTES_MAX: usize = 64 * 1024;
/// Bytes of answers beyond which reading stops until they are taken.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A session's side of the connection.
pub(super) struct Door {
    budget: Rc<Budget>,
    fragments: Fragments,
    pulse: Pulse,
    /// Nothing more is accepted.
    pub(super) ended: bool,
    /// We have sent Close, and wait for the client's.
    closing: bool,
    /// What was written since the connection last had room.
    answer_bytes: usize,
    /// Bytes that arrived after we had sent Close.
    discarded: usize,
    /// The client's input can't be read any more.
    deaf: bool,
    draining: watch::Receiver<bool>,
    reading_end: Option<ReadingEnd>,
    /// Counts the session as open until it is dropped.
    _open: watch::Receiver<()>,
}

impl Door {
    pub(super) fn new(edge: &Edge, reading_end: Option<ReadingEnd>) -> Self {
        let limits = &edge.limits;
        Self {
            budget: Budget::charging(
                limits.frame_bytes_max,
                IN_HAND_BYTES_MAX,
                Some(edge.unfinished.clone()),
            ),
            fragments: Fragments::new(
                limits.frame_bytes_max,
                limits.fragments_max,
                Some(edge.unfinished.clone()),
            ),
            pulse: Pulse::new(
                Duration::from_millis(limits.ping_interval_ms),
                Duration::from_millis(limits.silence_timeout_ms),
                Duration::from_millis(limits.body_timeout_ms),
                Instant::now(),
            ),
            ended: false,
            closing: false,
            answer_bytes: 0,
            discarded: 0,
            deaf: false,
            draining: edge.draining.clone(),
            reading_end,
            _open: edge.sessions.subscribe(),
        }
    }

    /// Nothing is read any more, not even a Close.
    pub(super) fn stop_hearing(&mut self) {
        self.deaf = true;
    }

    /// We have sent Close: nothing is sent any more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// To end the connection from outside.
    pub(super) fn reading_end(&self) -> Option<ReadingEnd> {
        self.reading_end.clone()
    }

    pub(super) fn budget(&self) -> Rc<Budget> {
        self.budget.clone()
    }

    /// Stops reading the socket, or continues.
    pub(super) fn pause(&mut self, paused: bool) {
        // While reading is stopped no pong can arrive either.
        self.pulse.heard(Instant::now());
        self.budget.pause(paused);
    }
}

impl Door {
    /// Ends the connection as soon as what is written has gone out.
    fn leave<S: Session>(&self, context: &mut WebsocketContext<S>) {
        if let Some(reading_end) = &self.reading_end {
            reading_end.end();
        }
        context.stop();
    }
}

impl Ending {
    /// Ends the session.
    pub(super) fn carry_out<S: Session>(self, session: &mut S, context: &mut WebsocketContext<S>) {
        let door = session.door();
        if door.closing {
            // We have sent Close, and send it once.
            return;
        }
        door.ended = true;
        match self {
            Self::Goodbye(reason) => {
                context.close(reason.map(|reason| CloseReason { description: None, ..reason }));
                door.leave(context);
            }
            Self::Gone => context.stop(),
            Self::Close(code, why) => {
                context.close(Some(CloseReason { code, description: Some(why.to_owned()) }));
                let refused = door.budget.refused();
                if refused == Some(Refusal::TooLarge) {
                    // Nothing is read any more, but earlier acknowledgements must arrive:
                    // actix-http discards further input for a second.
                    return context.stop();
                }
                if door.deaf || refused.is_some() {
                    // No answer can arrive, and RFC 6455 (§7.1.7) has a broken connection end.
                    return door.leave(context);
                }
                door.closing = true;
                door.budget.pause(false);
                let since = Instant::now();
                let mut discarded = 0;
                context.run_interval(GOODBYE_WAIT, move |session, context| {
                    let door = session.door();
                    let quiet = std::mem::replace(&mut discarded, door.discarded) == door.discarded;
                    if quiet || since.elapsed() > GOODBYE_WAIT_MAX {
                        context.stop();
                    }
                });
            }
        }
    }
}

/// A kind of session.
pub(super) trait Session:
    Actor<Context = WebsocketContext<Self>> + StreamHandler<Result<Message, ProtocolError>>
{
    fn door(&mut self) -> &mut Door;

    /// A whole text message; it is valid UTF-8.
    fn on_text(&mut self, text: &str, context: &mut WebsocketContext<Self>);

    /// A whole binary message.
    fn on_binary(&mut self, bytes: &[u8], context: &mut WebsocketContext<Self>);

    /// Nothing more is accepted: finish what was, then end as it says.
    fn on_end(&mut self, ending: Ending, context: &mut WebsocketContext<Self>);
}

/// Writes a frame. Once many answers wait, the socket is not read until the connection has taken
/// them: small frames can cause large answers.
pub(super) fn send<S: Session>(session: &mut S, context: &mut WebsocketContext<S>, frame: Frame) {
    let door = session.door();
    let waited = door.answer_bytes;
    door.answer_bytes += match &frame {
        Frame::Text(text) => text.len(),
        Frame::Binary(bytes) => bytes.len(),
    };
    if waited < ANSWER_BYTES_MAX && door.answer_bytes >= ANSWER_BYTES_MAX {
        door.budget.unheard(true);
        // The connection polls us again when it has room to write.
        let taken = tokio::task::yield_now();
        context.spawn(taken.into_actor(session).map(|(), session, _| {
            let door = session.door();
            door.answer_bytes = 0;
            door.pulse.heard(Instant::now());
            door.budget.unheard(false);
        }));
    }
    match frame {
        Frame::Text(text) => context.text(text),
        Frame::Binary(bytes) => context.binary(bytes),
    }
}

/// To be called when the session starts.
pub(super) fn started<S: Session>(session: &mut S, context: &mut WebsocketContext<S>) {
    let pulse = &mut session.door().pulse;
    pulse.start(Instant::now());
    context.run_interval(pulse.interval, |session, context| {
        let door = session.door();
        if door.ended {
            return;
        }
        let coming = [door.budget.unfinished_since(), door.fragments.unfinished_since()];
        let oldest = coming.into_iter().flatten().min();
        let reading = !door.budget.is_paused() && door.answer_bytes < ANSWER_BYTES_MAX;
        match door.pulse.beat(Instant::now(), oldest, reading) {
            Beat::Ping => context.ping(b""),
            Beat::Behind => {}
            Beat::Unfinished => session.on_end(Ending::UNFINISHED, context),
            // No client is left to read a close frame.
            Beat::Silent => context.stop(),
        }
    });
    let mut draining = session.door().draining.clone();
    let drain = async move { draining.wait_for(|draining| *draining).await.is_ok() };
    context.spawn(drain.into_actor(session).map(|draining, session, context| {
        if draining && !session.door().ended {
            session.on_end(Ending::DRAINING, context);
        }
    }));
}

/// To be called with every frame.
pub(super) fn take_frame<S: Session>(
    session: &mut S,
    frame: Result<Message, ProtocolError>,
    context: &mut WebsocketContext<S>,
) {
    let door = session.door();
    if door.ended {
        // Frames behind a close frame, or during the end, are ignored.
        if frame.is_ok() {
            door.budget.took_frame();
        }
        door.discarded += match &frame {
            Ok(Message::Text(text)) => text.len(),
            Ok(Message::Binary(bytes)) => bytes.len(),
            _ => HEADER_BYTES_MAX,
        };
        let enough = door.discarded > DISCARDED_BYTES_MAX;
        if door.closing && (enough || matches!(frame, Ok(Message::Close(_)) | Err(_))) {
            door.leave(context);
        }
        return;
    }
    door.pulse.heard(Instant::now());
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => {
            // The codec would give the same error again and again.
            context.cancel_future(context.handle());
            door.deaf = true;
            return session.on_end(Ending::broken(&error), context);
        }
    };
    door.budget.took_frame();
    // A panic would end the connection silently. What it leaves half done is dropped with the
    // session; the client resends what was not acknowledged.
    let caught = catch_unwind(AssertUnwindSafe(|| dispatch(session, frame, context)));
    if caught.is_err() {
        Ending::Close(CloseCode::Error, "internal").carry_out(session, context);
    }
}

fn dispatch<S: Session>(session: &mut S, frame: Message, context: &mut WebsocketContext<S>) {
    match frame {
        Message::Text(text) => session.on_text(&text, context),
        Message::Binary(bytes) => session.on_binary(&bytes, context),
        Message::Continuation(item) => match session.door().fragments.add(item) {
            Ok(None) => {}
            Ok(Some(Whole::Binary(bytes))) => session.on_binary(&bytes, context),
            Ok(Some(Whole::Text(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => session.on_text(text, context),
                Err(_) => session.on_end(Ending::NOT_UTF8, context),
            },
            Err(Refused::Overloaded) => session.on_end(Ending::OVERLOADED, context),
            Err(Refused::TooLarge) => {
                session.on_end(Ending::FRAGMENTS_TOO_LARGE, context);
            }
        },
        Message::Ping(bytes) => context.pong(&bytes),
        Message::Pong(_) | Message::Nop => {}
        Message::Close(reason) => session.on_end(Ending::Goodbye(reason), context),
    }
}

/// To be called when the stream of frames has ended.
pub(super) fn no_more_frames<S: Session>(session: &mut S, context: &mut WebsocketContext<S>) {
    if session.door().closing {
        return context.stop();
    }
    let refused = session.door().budget.refused();
    let ending = refused.map_or(Ending::Gone, Ending::refused);
    session.on_end(ending, context);
}
