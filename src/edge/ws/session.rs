//! What every WebSocket session has in common: its door, its pulse, its end.
//!
//! A session is written as a [`Session`]: it is given whole messages, and told when to drain. The
//! functions here turn actix-web-actors' frames into those calls.

use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, StreamHandler, WrapFuture};
use actix_web_actors::ws::{CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use tokio::sync::watch;

use super::fragments::{Fragments, Whole};
use super::guard::Budget;
use crate::edge::Edge;

/// How often the server pings (API.md).
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// A client that has sent nothing at all, pongs included, for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of frames a session is given before it has taken the ones it has.
const IN_HAND_BYTES_MAX: usize = 64 * 1024;

/// A session's side of the connection.
pub(super) struct Door {
    budget: Rc<Budget>,
    fragments: Fragments,
    last_heard: Instant,
    draining: watch::Receiver<bool>,
    /// Counts the session as open until it is dropped.
    _open: watch::Receiver<()>,
}

impl Door {
    pub(super) fn new(edge: &Edge) -> Self {
        let limits = &edge.limits;
        Self {
            budget: Budget::new(limits.frame_bytes_max, IN_HAND_BYTES_MAX),
            fragments: Fragments::new(limits.frame_bytes_max, limits.fragments_max),
            last_heard: Instant::now(),
            draining: edge.draining.clone(),
            _open: edge.sessions.subscribe(),
        }
    }

    pub(super) fn budget(&self) -> Rc<Budget> {
        self.budget.clone()
    }

    /// Stops reading the socket, or goes on.
    pub(super) fn pause(&mut self, paused: bool) {
        // While we don't read we can't hear a pong either.
        self.last_heard = Instant::now();
        self.budget.pause(paused);
    }
}

/// A kind of session.
pub(super) trait Session:
    Actor<Context = WebsocketContext<Self>> + StreamHandler<Result<Message, ProtocolError>>
{
    fn door(&mut self) -> &mut Door;

    fn door_ref(&self) -> &Door;

    /// A whole text message; it is valid UTF-8.
    fn on_text(&mut self, text: &str, context: &mut WebsocketContext<Self>);

    /// A whole binary message.
    fn on_binary(&mut self, bytes: &[u8], context: &mut WebsocketContext<Self>);

    /// The client has sent its last frame, or is gone.
    fn on_end(&mut self, context: &mut WebsocketContext<Self>);

    /// The broker stops: finish, then [`close`] with "away".
    fn on_drain(&mut self, context: &mut WebsocketContext<Self>);
}

/// To be called when the session starts.
pub(super) fn started<S: Session>(session: &mut S, context: &mut WebsocketContext<S>) {
    context.run_interval(PING_INTERVAL, |session, context| {
        let door = session.door();
        if door.last_heard.elapsed() > SILENCE_MAX && !door.budget.is_paused() {
            // Nobody is there to read a close frame.
            context.stop();
            return;
        }
        context.ping(b"");
    });
    let mut draining = session.door().draining.clone();
    let drain = async move { draining.wait_for(|draining| *draining).await.is_ok() };
    context.spawn(drain.into_actor(session).map(|draining, session, context| {
        if draining {
            session.on_drain(context);
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
    door.last_heard = Instant::now();
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => {
            let (code, why) = close_code(&error, door.budget.refused());
            session.on_end(context);
            return close(context, code, why);
        }
    };
    door.budget.took_frame();
    match frame {
        Message::Text(text) => session.on_text(&text, context),
        Message::Binary(bytes) => session.on_binary(&bytes, context),
        Message::Continuation(item) => match door.fragments.add(item) {
            Ok(None) => {}
            Ok(Some(Whole::Binary(bytes))) => session.on_binary(&bytes, context),
            Ok(Some(Whole::Text(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => session.on_text(text, context),
                Err(_) => {
                    session.on_end(context);
                    close(context, CloseCode::Invalid, "text is not UTF-8");
                }
            },
            Err(_) => {
                session.on_end(context);
                close(context, CloseCode::Size, "fragments are more than is allowed");
            }
        },
        Message::Ping(bytes) => context.pong(&bytes),
        Message::Pong(_) | Message::Nop => {}
        Message::Close(reason) => {
            session.on_end(context);
            context.close(reason.map(|reason| CloseReason { description: None, ..reason }));
            context.stop();
        }
    }
}

/// Sends a close frame and ends the session.
pub(super) fn close<S: Session>(context: &mut WebsocketContext<S>, code: CloseCode, why: &str) {
    context.close(Some(CloseReason { code, description: Some(why.to_owned()) }));
    context.stop();
}

/// How a broken protocol is answered (RFC 6455 §7.4.1).
fn close_code(error: &ProtocolError, refused: bool) -> (CloseCode, &'static str) {
    if refused || matches!(error, ProtocolError::Overflow) {
        return (CloseCode::Size, "the frame is larger than is allowed");
    }
    // actix-web-actors tells text that isn't UTF-8 only by the text of the error.
    if matches!(error, ProtocolError::Io(io) if io.to_string().contains("utf-8")) {
        return (CloseCode::Invalid, "text is not UTF-8");
    }
    (CloseCode::Protocol, "the frame breaks RFC 6455")
}
