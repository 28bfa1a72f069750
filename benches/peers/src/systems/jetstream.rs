//! NATS JetStream: a stream in files, publishing with a reply subject a message.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Configuration, Launch, System};
use crate::link::connect;
use crate::programs::Program;
use crate::publish::{Publisher, Ready, Taken};
use crate::wire::nats::{self, Said};
use crate::wire::{await_answer, field, lossy, number};

const STREAM: &str = r#"{"name":"T","subjects":["t"],"storage":"file","retention":"limits"}"#;

pub struct JetStream {
    /// Whether `sync_interval` is `always`; else it is left at its default.
    pub sync_always: bool,
}

impl System for JetStream {
    fn key(&self) -> String {
        format!("jetstream-{}", if self.sync_always { "always" } else { "default" })
    }

    fn name(&self) -> String {
        let interval = if self.sync_always { "always" } else { "2m" };
        format!("NATS JetStream, sync_interval {interval}")
    }

    fn synced(&self) -> &'static str {
        if self.sync_always { "before the ack" } else { "every 2 minutes" }
    }

    fn program(&self) -> Program {
        Program::Nats
    }

    fn launch(&self, directory: &Path, port: u16) -> Result<Launch> {
        let sync = if self.sync_always { "  sync_interval: always\n" } else { "" };
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{\n  store_dir: \"{}\"\n{sync}}}\n",
            directory.join("js").display()
        );
        Ok(Launch {
            program: Program::Nats,
            arguments: vec!["-c".into(), "nats.conf".into()],
            configuration: Some(Configuration { file: "nats.conf", text }),
        })
    }

    fn prepared(&self) -> Option<String> {
        Some(format!("$JS.API.STREAM.CREATE.T {STREAM}"))
    }

    fn prepare(&self, at: SocketAddr) -> Result<()> {
        let answer = ask(at, b"$JS.API.STREAM.CREATE.T", STREAM)?;
        ensure!(!answer.contains(r#""error""#), "the stream can't be made: {answer}");
        Ok(())
    }

    fn publisher(&self, at: SocketAddr, n: usize) -> Result<Ready> {
        let mut stream = greet(at)?;
        let inbox = format!("_INBOX.{n}.").into_bytes();
        stream.write_all(&[b"SUB ", &inbox[..], b"* 1\r\nPING\r\n"].concat())?;
        await_pong(&mut stream)?;
        Ok((stream, Box::new(Acknowledged { inbox, sent: 0, acknowledged: 0, last: 0 })))
    }

    fn stored(&self, at: SocketAddr, _acknowledged: u64) -> Result<Option<u64>> {
        let answer = ask(at, b"$JS.API.STREAM.INFO.T", "")?;
        Ok(Some(field(answer.as_bytes(), br#""messages":"#)?))
    }
}

/// A connection after its first words.
pub fn greet(at: SocketAddr) -> Result<TcpStream> {
    let mut stream = connect(at)?;
    await_answer(&mut stream, |came| Ok(nats::said(came)?.map(|(_, used)| ((), used))))?;
    stream.write_all(nats::CONNECT)?;
    await_pong(&mut stream)?;
    Ok(stream)
}

/// Waits for the answer to a PING, which says that everything before it is done.
pub fn await_pong(stream: &mut TcpStream) -> Result<()> {
    await_said(stream, |said| match said {
        Said::Pong => Ok(()),
        other => bail!("NATS said {other:?}"),
    })
}

/// Waits for what is no INFO; those may come at any time, also behind it.
fn await_said<T>(stream: &mut TcpStream, mut take: impl FnMut(Said) -> Result<T>) -> Result<T> {
    await_answer(stream, |came| {
        let (mut whole, mut answer) = (0, None);
        while let Some((said, used)) = nats::said(&came[whole..])? {
            whole += used;
            if said != Said::Info {
                answer = Some(take(said)?);
            }
        }
        // Half an INFO behind the answer is waited for.
        Ok(answer.filter(|_| whole == came.len()).map(|answer| (answer, whole)))
    })
}

/// Asks the server's API.
fn ask(at: SocketAddr, subject: &[u8], request: &str) -> Result<String> {
    let mut stream = greet(at)?;
    let mut out = b"SUB _INBOX.api.0 1\r\n".to_vec();
    nats::publish(&mut out, subject, Some((b"_INBOX.api.", 0)), request.as_bytes());
    stream.write_all(&out)?;
    await_said(&mut stream, |said| match said {
        Said::Message { payload, .. } => Ok(String::from_utf8_lossy(payload).into_owned()),
        other => bail!("NATS said {other:?}"),
    })
}

/// Every answer comes to the next message's reply subject and holds a sequence number, above the
/// one before.
struct Acknowledged {
    /// The start of its reply subjects; the message's number is the rest.
    inbox: Vec<u8>,
    sent: u64,
    acknowledged: u64,
    last: u64,
}

impl Publisher for Acknowledged {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        nats::publish(out, b"t", Some((&self.inbox, self.sent)), payload);
        self.sent += 1;
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((said, used)) = nats::said(&input[taken.used..])? {
            match said {
                Said::Message { subject, payload } => {
                    let n = subject.strip_prefix(&self.inbox[..]).context("another subject")?;
                    ensure!(number(n)? == self.acknowledged, "not the next message's answer");
                    let sequence = field(payload, br#""seq":"#)?;
                    ensure!(sequence > self.last, "not a rising number: {:?}", lossy(payload));
                    self.last = sequence;
                    self.acknowledged += 1;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_acknowledgement() {
        let mut client =
            Acknowledged { inbox: b"_INBOX.7.".to_vec(), sent: 2, acknowledged: 0, last: 0 };
        let good = b"MSG _INBOX.7.0 1 22\r\n{\"stream\":\"T\",\"seq\":1}\r\n";
        assert!(client.receive(&good[..30], &mut Vec::new()).unwrap().messages == 0);
        assert_eq!(client.receive(good, &mut Vec::new()).unwrap().messages, 1);
        let bad = b"MSG _INBOX.7.1 1 14\r\n{\"error\":\"no\"}\r\n";
        assert!(client.receive(bad, &mut Vec::new()).is_err());
    }
}
