//! NATS without JetStream: what is published goes to who is subscribed, and nothing is kept.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};

use super::jetstream::{await_pong, greet};
use super::{Configuration, Launch, System};
use crate::fanout::{Published, Subscribed, Subscriber};
use crate::payload::Body;
use crate::programs::Program;
use crate::publish::{Publisher, Ready, Taken};
use crate::wire::nats::{self, Said};

pub struct NatsCore;

impl System for NatsCore {
    fn key(&self) -> String {
        "nats".into()
    }

    fn name(&self) -> String {
        "NATS core".into()
    }

    fn synced(&self) -> &'static str {
        "no; not stored"
    }

    fn program(&self) -> Program {
        Program::Nats
    }

    fn launch(&self, _directory: &Path, port: u16) -> Result<Launch> {
        Ok(Launch {
            program: Program::Nats,
            arguments: vec!["-c".into(), "nats.conf".into()],
            configuration: Some(Configuration {
                file: "nats.conf",
                text: format!("listen: \"127.0.0.1:{port}\"\n"),
            }),
        })
    }

    fn body(&self) -> Body {
        Body::Json
    }

    fn acknowledges(&self) -> bool {
        false
    }

    fn publisher(&self, at: SocketAddr, _n: usize) -> Result<Ready> {
        Ok((greet(at)?, Box::new(Core { next: 0 })))
    }

    fn subscriber(&self, at: SocketAddr, _n: usize) -> Result<Subscribed> {
        let mut stream = greet(at)?;
        stream.write_all(b"SUB t 1\r\nPING\r\n")?;
        await_pong(&mut stream)?;
        Ok((stream, Box::new(Core { next: 0 })))
    }
}

struct Core {
    next: u64,
}

impl Publisher for Core {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        nats::publish(out, b"t", None, payload);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken> {
        each(input, out, |_| bail!("a message for the producer"))
    }
}

impl Subscriber for Core {
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, published: &Published) -> Result<Taken> {
        each(input, out, |payload| {
            published.check(self.next, payload)?;
            self.next += 1;
            Ok(())
        })
    }
}

fn each(
    input: &[u8],
    out: &mut Vec<u8>,
    mut message: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Taken> {
    let mut taken = Taken::default();
    while let Some((said, used)) = nats::said(&input[taken.used..])? {
        match said {
            Said::Message { payload, .. } => {
                message(payload)?;
                taken.messages += 1;
            }
            Said::Ping => out.extend_from_slice(b"PONG\r\n"),
            Said::Info => {}
            Said::Pong => bail!("an answer to no PING"),
        }
        taken.used += used;
    }
    Ok(taken)
}
