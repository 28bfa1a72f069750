//! weir: published to by WebSocket or HTTP at a level, read from by tails.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::weir_publishers::{Acked, Post, PutFrame};
use super::weir_tail::{Known, Tail};
use super::{Launch, System};
use crate::fanout::Subscribed;
use crate::link::connect;
use crate::payload::Body;
use crate::programs::Program;
use crate::publish::Ready;
use crate::wire::{field, http, websocket};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `weir.raw.v1`: a binary frame a message.
    Raw,
    /// `weir.v1`: a JSON text frame a message.
    Json,
    /// The same, and tails for subscribers.
    Tail,
    /// A request a message.
    Http,
}

pub struct Weir {
    pub way: Way,
    /// `ack_level`.
    pub level: &'static str,
    known: Rc<RefCell<Known>>,
}

impl Weir {
    pub fn new(way: Way, level: &'static str) -> Self {
        Self { way, level, known: Rc::default() }
    }

    fn settings(&self) -> String {
        format!(r#"{{"ack_level":"{}"}}"#, self.level)
    }
}

impl System for Weir {
    fn key(&self) -> String {
        let way = match self.way {
            Way::Raw => "raw",
            Way::Json => "json",
            Way::Tail => "tail",
            Way::Http => "http",
        };
        format!("weir-{way}-{}", self.level)
    }

    fn name(&self) -> String {
        let way = match self.way {
            Way::Raw => "weir.raw.v1",
            Way::Json => "weir.v1 JSON",
            Way::Tail => "JSON tails",
            Way::Http => "HTTP",
        };
        format!("weir, {way}, level {}", self.level)
    }

    fn synced(&self) -> &'static str {
        match self.level {
            "sync" => "before the ack",
            _ => "every second",
        }
    }

    fn program(&self) -> Program {
        Program::Weir
    }

    fn launch(&self, directory: &Path, port: u16) -> Result<Launch> {
        let data = directory.join("data");
        let arguments =
            ["serve", "--listen", &format!("127.0.0.1:{port}"), "--data", &data.to_string_lossy()]
                .map(String::from)
                .to_vec();
        Ok(Launch { program: Program::Weir, arguments, configuration: None })
    }

    fn body(&self) -> Body {
        if self.way == Way::Raw { Body::Raw } else { Body::Json }
    }

    fn prepared(&self) -> Option<String> {
        Some(format!("PUT /v1/topics/t {}", self.settings()))
    }

    fn prepare(&self, at: SocketAddr) -> Result<()> {
        let (status, body) = http::call(at, "PUT", "/v1/topics/t", &self.settings())?;
        ensure!(status == 201, "the topic can't be made: {status} {body}");
        self.known.borrow_mut().forget();
        Ok(())
    }

    fn publisher(&self, at: SocketAddr, n: usize) -> Result<Ready> {
        let mut stream = connect(at)?;
        let protocol = match self.way {
            Way::Http => return Ok((stream, Box::new(Post::new(at)))),
            Way::Raw => "weir.raw.v1",
            Way::Json | Way::Tail => "weir.v1",
        };
        let path = "/v1/topics/t/producer?acks=range";
        let welcome = websocket::open(&mut stream, at, path, Some(protocol), true)?;
        ensure!(welcome.starts_with(br#"{"welcome":"#), "no welcome");
        let mask = (n as u32).wrapping_mul(0x9e37_79b9).to_ne_bytes();
        let frame = if self.way == Way::Raw { PutFrame::Raw } else { PutFrame::Json };
        Ok((stream, Box::new(Acked::new(frame, mask))))
    }

    fn subscriber(&self, at: SocketAddr, n: usize) -> Result<Subscribed> {
        let mut stream = connect(at)?;
        websocket::open(&mut stream, at, "/v1/topics/t/tail?from=earliest", None, false)?;
        Ok((stream, Box::new(Tail::new(n, self.known.clone()))))
    }

    fn stored(&self, at: SocketAddr, _acknowledged: u64) -> Result<Option<u64>> {
        let (status, body) = http::call(at, "GET", "/v1/topics/t", "")?;
        ensure!(status == 200, "{status} {body}");
        let (first, head) =
            (field(body.as_bytes(), br#""first":"#)?, field(body.as_bytes(), br#""head":"#)?);
        Ok(Some(head - first))
    }
}
