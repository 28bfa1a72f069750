//! `GET /v1/debug/echo`, in builds with the feature `faults` only: a socket that sends back what it
//! receives, through the same guard, fragments and session as all sockets, so that their handling
//! of RFC 6455 can be tested from outside.

use actix::Actor;
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext};

use actix::StreamHandler;

use super::ending::Ending;
use super::session::{self, Door, Session, send};
use crate::edge::wire::Frame;

pub(super) struct EchoSession {
    pub(super) door: Door,
}

impl Actor for EchoSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        session::started(self, context);
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for EchoSession {
    fn handle(&mut self, frame: Result<ws::Message, ProtocolError>, context: &mut Self::Context) {
        session::take_frame(self, frame, context);
    }

    fn finished(&mut self, context: &mut Self::Context) {
        session::no_more_frames(self, context);
    }
}

impl Session for EchoSession {
    fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    fn on_text(&mut self, text: &str, context: &mut Self::Context) {
        send(self, context, Frame::Text(text.to_owned()));
    }

    fn on_binary(&mut self, bytes: &[u8], context: &mut Self::Context) {
        send(self, context, Frame::Binary(bytes.to_vec()));
    }

    fn on_end(&mut self, ending: Ending, context: &mut Self::Context) {
        ending.carry_out(self, context);
    }
}
