//! nchan, nginx's module: publishing by HTTP, and WebSockets for fan-out.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Configuration, Launch, System};
use crate::fanout::{Published, Subscribed, Subscriber};
use crate::link::connect;
use crate::payload::Body;
use crate::programs::{Program, as_root, nchan_module};
use crate::publish::{Publisher, Ready, Taken};
use crate::wire::websocket::{self, BINARY, PING, PONG, TEXT};
use crate::wire::{field, http, lossy, number};

/// Messages that the channel keeps, in shared memory.
const BUFFER: u64 = 1_000;

pub struct Nchan {
    /// Whether publishers use a WebSocket; else HTTP.
    pub socket: bool,
    /// nginx's processes.
    pub workers: usize,
}

impl System for Nchan {
    fn key(&self) -> String {
        "nchan".into()
    }

    fn name(&self) -> String {
        let plural = if self.workers == 1 { "" } else { "s" };
        format!("nginx with nchan, {} worker{plural}", self.workers)
    }

    fn synced(&self) -> &'static str {
        "no; memory"
    }

    fn program(&self) -> Program {
        Program::Nginx
    }

    fn launch(&self, directory: &Path, port: u16) -> Result<Launch> {
        let user = if as_root() { "user root;\n" } else { "" };
        let module = nchan_module().context("nchan's module is not where nginx keeps them")?;
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("  {name}_temp_path {name};\n"))
            .concat();
        // Connections are kept; by default they end after 1,000 requests. The first message is the
        // oldest, as with weir's tails: a worker that does not own the channel asks the owner for
        // the newest a moment after it has let the subscriber in, and may miss some.
        let text = format!(
            "load_module {};\n{user}worker_processes {};\ndaemon off;\npid nginx.pid;\n\
             error_log error.log warn;\nevents {{ worker_connections 8192; }}\nhttp {{\n\
             \x20 access_log off;\n{paths}  tcp_nodelay on;\n  keepalive_requests 1000000000;\n\
             \x20 nchan_shared_memory_size 512M;\n  nchan_message_buffer_length {BUFFER};\n\
             \x20 nchan_message_timeout 1h;\n  server {{\n    listen 127.0.0.1:{port};\n\
             \x20   location = /pub {{ nchan_publisher http websocket; nchan_channel_id t; }}\n\
             \x20   location = /sub {{\n      nchan_subscriber websocket;\n\
             \x20     nchan_channel_id t;\n      nchan_subscriber_first_message oldest;\n    }}\n\
             \x20   location = /status {{ nchan_stub_status; }}\n  }}\n}}\n",
            module.display(),
            self.workers
        );
        Ok(Launch {
            program: Program::Nginx,
            arguments: vec![
                "-p".into(),
                directory.display().to_string(),
                "-c".into(),
                "nginx.conf".into(),
            ],
            configuration: Some(Configuration { file: "nginx.conf", text }),
        })
    }

    fn body(&self) -> Body {
        Body::Json
    }

    fn publisher(&self, at: SocketAddr, n: usize) -> Result<Ready> {
        let mut stream = connect(at)?;
        let ids = Ids::default();
        if self.socket {
            websocket::open(&mut stream, at, "/pub", None, false)?;
            let mask = (n as u32).wrapping_mul(0x9e37_79b9).to_ne_bytes();
            return Ok((stream, Box::new(Frames { mask, ids })));
        }
        let head = format!(
            "POST /pub HTTP/1.1\r\nhost: {at}\r\naccept: text/plain\r\n\
             content-type: application/json\r\n"
        );
        Ok((stream, Box::new(Post { head: head.into_bytes(), ids })))
    }

    fn subscriber(&self, at: SocketAddr, n: usize) -> Result<Subscribed> {
        let mut stream = connect(at)?;
        websocket::open(&mut stream, at, "/sub", None, false)?;
        Ok((stream, Box::new(Socket { next: 0, mask: (n as u32).to_ne_bytes() })))
    }

    /// It keeps no more than its buffer, but counts.
    fn stored(&self, at: SocketAddr, _acknowledged: u64) -> Result<Option<u64>> {
        let (status, body) = http::call(at, "GET", "/status", "")?;
        ensure!(status == 200, "{status} {body}");
        Ok(Some(field(body.as_bytes(), b"total published messages: ")?))
    }
}

/// Every answer ends with the id of a message: a second, which never falls, and a number within
/// it, which goes round at 16 bits.
#[derive(Default)]
struct Ids {
    last: (u64, u64),
}

impl Ids {
    fn check(&mut self, answer: &[u8]) -> Result<()> {
        let id = message_id(answer)?;
        let next = id.0 >= self.last.0 && id != self.last;
        ensure!(next, "the id {id:?} after {:?}", self.last);
        self.last = id;
        Ok(())
    }
}

/// What stands after `last message id: `.
fn message_id(answer: &[u8]) -> Result<(u64, u64)> {
    let name = b"last message id: ";
    let read = || {
        let at = answer.windows(name.len()).position(|part| part == name)?;
        let id = answer[at + name.len()..].trim_ascii_end();
        let colon = id.iter().position(|byte| *byte == b':')?;
        let within = id[colon + 1..].strip_prefix(b"-").unwrap_or(&id[colon + 1..]);
        let negative = u64::from(within.len() < id.len() - colon - 1) << 32;
        Some((number(&id[..colon]).ok()?, number(within).ok()? | negative))
    };
    read().with_context(|| format!("no message's id in {:?}", lossy(answer)))
}

/// Publishes by requests.
struct Post {
    head: Vec<u8>,
    ids: Ids,
}

impl Publisher for Post {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        http::request(out, &self.head, payload);
    }

    fn receive(&mut self, input: &[u8], _out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((response, used)) = http::response(&input[taken.used..])? {
            // 201 with subscribers, 202 without.
            ensure!(
                matches!(response.status, 201 | 202),
                "{} {}",
                response.status,
                lossy(response.body)
            );
            self.ids.check(response.body)?;
            taken.used += used;
            taken.messages += 1;
        }
        Ok(taken)
    }
}

/// Publishes by frames, each of which is answered as a request would be.
struct Frames {
    mask: [u8; 4],
    ids: Ids,
}

impl Publisher for Frames {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        websocket::frame(out, TEXT, self.mask, payload);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((frame, used)) = websocket::received(&input[taken.used..])? {
            match frame.opcode {
                TEXT => {
                    self.ids.check(frame.payload)?;
                    taken.messages += 1;
                }
                PING => websocket::frame(out, PONG, self.mask, frame.payload),
                other => bail!("a frame with opcode {other}"),
            }
            taken.used += used;
        }
        Ok(taken)
    }
}

struct Socket {
    next: u64,
    mask: [u8; 4],
}

impl Subscriber for Socket {
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, published: &Published) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((frame, used)) = websocket::received(&input[taken.used..])? {
            match frame.opcode {
                TEXT | BINARY => {
                    published.check(self.next, frame.payload)?;
                    self.next += 1;
                    taken.messages += 1;
                }
                PING => websocket::frame(out, PONG, self.mask, frame.payload),
                other => bail!("a frame with opcode {other}"),
            }
            taken.used += used;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let answer = b"queued messages: 4\r\nlast message id: 1461622867:3";
        assert_eq!(message_id(answer).unwrap(), (1_461_622_867, 3));
        assert_ne!(message_id(b"last message id: 1:-3").unwrap(), (1, 3));
        assert!(message_id(b"queued messages: 4\r\n").is_err());
    }
}
