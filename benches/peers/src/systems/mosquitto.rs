//! mosquitto: QoS 1 into the queue of a durable subscriber that is away, QoS 0 for fan-out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{Configuration, Launch, System};
use crate::fanout::{Published, Subscribed, Subscriber};
use crate::link::connect;
use crate::payload::Body;
use crate::programs::{Program, as_root};
use crate::publish::{Publisher, Ready, Taken};
use crate::wire::await_answer;
use crate::wire::mqtt::{self, Packet};

/// How long nothing more may come before a queue counts as empty.
const QUIET: Duration = Duration::from_millis(500);

pub struct Mosquitto {
    /// With QoS 1 publishers are acknowledged and messages kept for the one who is away.
    pub qos: u8,
}

impl System for Mosquitto {
    fn key(&self) -> String {
        format!("mosquitto-qos{}", self.qos)
    }

    fn name(&self) -> String {
        match self.qos {
            0 => "mosquitto, QoS 0".into(),
            _ => "mosquitto, QoS 1, persistence".into(),
        }
    }

    fn synced(&self) -> &'static str {
        match self.qos {
            0 => "no; not stored",
            _ => "no; saved every 30 min",
        }
    }

    fn program(&self) -> Program {
        Program::Mosquitto
    }

    fn launch(&self, directory: &Path, port: u16) -> Result<Launch> {
        // Started by root it would become a user who may not write to the directory. Its queues
        // are bounded by default; what does not fit is dropped after the acknowledgement.
        let user = if as_root() { "user root\n" } else { "" };
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\n{user}persistence {}\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 0\n\
             set_tcp_nodelay true\nlog_type error\nlog_type warning\n",
            self.qos > 0,
            directory.display()
        );
        Ok(Launch {
            program: Program::Mosquitto,
            arguments: vec!["-c".into(), "mosquitto.conf".into()],
            configuration: Some(Configuration { file: "mosquitto.conf", text }),
        })
    }

    fn body(&self) -> Body {
        if self.qos == 0 { Body::Json } else { Body::Raw }
    }

    fn acknowledges(&self) -> bool {
        self.qos > 0
    }

    fn prepared(&self) -> Option<String> {
        let text = "a subscriber at QoS 1 with a session that is kept comes and goes, so that \
                    what is published is stored, and counted when it comes back";
        (self.qos > 0).then(|| text.into())
    }

    fn prepare(&self, at: SocketAddr) -> Result<()> {
        if self.qos == 0 {
            return Ok(());
        }
        let (mut stream, present) = greet(at, "keeper", false)?;
        ensure!(!present, "the subscriber is there already");
        subscribe(&mut stream, 1)?;
        let mut out = Vec::new();
        mqtt::disconnect(&mut out);
        Ok(stream.write_all(&out)?)
    }

    fn publisher(&self, at: SocketAddr, n: usize) -> Result<Ready> {
        let (stream, _) = greet(at, &format!("publisher-{n}"), true)?;
        let publisher: Box<dyn Publisher> =
            if self.qos == 0 { Box::new(Qos0 { next: 0 }) } else { Box::new(Qos1::default()) };
        Ok((stream, publisher))
    }

    fn subscriber(&self, at: SocketAddr, n: usize) -> Result<Subscribed> {
        let (mut stream, _) = greet(at, &format!("subscriber-{n}"), true)?;
        subscribe(&mut stream, 0)?;
        Ok((stream, Box::new(Qos0 { next: 0 })))
    }

    /// The one who was away takes what was kept.
    fn stored(&self, at: SocketAddr, acknowledged: u64) -> Result<Option<u64>> {
        if self.qos == 0 {
            return Ok(None);
        }
        let mut stream = connect(at)?;
        let mut out = Vec::new();
        mqtt::connect(&mut out, "keeper", false);
        stream.write_all(&out)?;
        let (mut came, mut part, mut count) = (Vec::new(), vec![0; 256 * 1024], 0);
        loop {
            if count >= acknowledged {
                stream.set_read_timeout(Some(QUIET))?;
            }
            match stream.read(&mut part) {
                Ok(0) => bail!("the broker closed the connection after {count} messages"),
                Ok(n) => came.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(count)),
                Err(error) => return Err(error.into()),
            }
            let mut used = 0;
            out.clear();
            while let Some((packet, length)) = mqtt::packet(&came[used..])? {
                match packet {
                    Packet::Connack { session_present } => {
                        ensure!(session_present, "the subscriber's queue is gone");
                    }
                    Packet::Publish { id: Some(id), .. } => {
                        count += 1;
                        mqtt::puback(&mut out, id);
                    }
                    other => bail!("the broker said {other:?}"),
                }
                used += length;
            }
            came.drain(..used);
            stream.write_all(&out)?;
        }
    }
}

/// A connection, and whether the broker knew the client.
fn greet(at: SocketAddr, client: &str, clean: bool) -> Result<(TcpStream, bool)> {
    let mut stream = connect(at)?;
    let mut out = Vec::new();
    mqtt::connect(&mut out, client, clean);
    stream.write_all(&out)?;
    let present = await_answer(&mut stream, |came| match mqtt::packet(came)? {
        Some((Packet::Connack { session_present }, used)) => Ok(Some((session_present, used))),
        Some((other, _)) => bail!("the broker said {other:?}"),
        None => Ok(None),
    })?;
    Ok((stream, present))
}

fn subscribe(stream: &mut TcpStream, qos: u8) -> Result<()> {
    let mut out = Vec::new();
    mqtt::subscribe(&mut out, "t", qos);
    stream.write_all(&out)?;
    await_answer(stream, |came| match mqtt::packet(came)? {
        Some((Packet::Suback, used)) => Ok(Some(((), used))),
        Some((other, _)) => bail!("the broker said {other:?}"),
        None => Ok(None),
    })
}

/// Every acknowledgement is for the next message, as the standard asks.
#[derive(Default)]
struct Qos1 {
    sent: u64,
    acknowledged: u64,
}

/// 1 to 65,535, over and over.
fn packet_id(n: u64) -> u16 {
    (n % 65_535 + 1) as u16
}

impl Publisher for Qos1 {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        mqtt::publish(out, "t", Some(packet_id(self.sent)), payload);
        self.sent += 1;
    }

    fn receive(&mut self, input: &[u8], _out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((packet, used)) = mqtt::packet(&input[taken.used..])? {
            let next = packet_id(self.acknowledged);
            ensure!(packet == Packet::Puback(next), "not the answer to {next}: {packet:?}");
            self.acknowledged += 1;
            taken.used += used;
            taken.messages += 1;
        }
        Ok(taken)
    }
}

struct Qos0 {
    next: u64,
}

impl Publisher for Qos0 {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        mqtt::publish(out, "t", None, payload);
    }

    fn receive(&mut self, _input: &[u8], _out: &mut Vec<u8>) -> Result<Taken> {
        bail!("an answer at QoS 0")
    }
}

impl Subscriber for Qos0 {
    fn receive(
        &mut self,
        input: &[u8],
        _out: &mut Vec<u8>,
        published: &Published,
    ) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((packet, used)) = mqtt::packet(&input[taken.used..])? {
            let Packet::Publish { id: None, payload } = packet else {
                bail!("the broker said {packet:?}")
            };
            published.check(self.next, payload)?;
            self.next += 1;
            taken.used += used;
            taken.messages += 1;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_come_in_order() {
        let mut client = Qos1 { sent: 3, acknowledged: 0 };
        assert_eq!(client.receive(&[0x40, 2, 0, 1, 0x40, 2], &mut Vec::new()).unwrap().used, 4);
        assert!(client.receive(&[0x40, 2, 0, 3], &mut Vec::new()).is_err());
        assert_eq!((packet_id(0), packet_id(65_534), packet_id(65_535)), (1, 65_535, 1));
    }
}
