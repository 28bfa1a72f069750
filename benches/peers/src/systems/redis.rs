//! Redis Streams: XADD, pipelined, with the append-only file as the store.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::{Configuration, Launch, System};
use crate::link::connect;
use crate::programs::Program;
use crate::publish::{Publisher, Ready, Taken};
use crate::wire::await_answer;
use crate::wire::resp::{self, Answer};

pub struct Redis {
    /// `appendfsync`.
    pub fsync: &'static str,
}

impl System for Redis {
    fn key(&self) -> String {
        format!("redis-{}", self.fsync)
    }

    fn name(&self) -> String {
        format!("Redis Streams, appendfsync {}", self.fsync)
    }

    fn synced(&self) -> &'static str {
        match self.fsync {
            "always" => "before the ack",
            _ => "every second",
        }
    }

    fn program(&self) -> Program {
        Program::Redis
    }

    fn launch(&self, directory: &Path, port: u16) -> Result<Launch> {
        // The file is not rewritten while it is measured: a stream that is never trimmed would be
        // the same afterwards, and a second process would take processor time.
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nappendonly yes\nappendfsync {}\n\
             auto-aof-rewrite-percentage 0\nsave \"\"\n",
            directory.display(),
            self.fsync
        );
        Ok(Launch {
            program: Program::Redis,
            arguments: vec!["redis.conf".into()],
            configuration: Some(Configuration { file: "redis.conf", text }),
        })
    }

    fn publisher(&self, at: SocketAddr, _n: usize) -> Result<Ready> {
        Ok((connect(at)?, Box::new(Xadd { last: 0 })))
    }

    fn stored(&self, at: SocketAddr, _acknowledged: u64) -> Result<Option<u64>> {
        let mut stream = connect(at)?;
        let mut out = Vec::new();
        resp::command(&mut out, &[b"XLEN", b"t"]);
        stream.write_all(&out)?;
        await_answer(&mut stream, |came| match resp::answer(came)? {
            Some((Answer::Number(length), used)) => Ok(Some((Some(length), used))),
            Some((other, _)) => bail!("XLEN: {other:?}"),
            None => Ok(None),
        })
    }
}

/// Every answer is an id, above the one before.
struct Xadd {
    last: u128,
}

impl Publisher for Xadd {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        resp::command(out, &[b"XADD", b"t", b"*", b"d", payload]);
    }

    fn receive(&mut self, input: &[u8], _out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((answer, used)) = resp::answer(&input[taken.used..])? {
            let Answer::Text(id) = answer else { bail!("XADD: {answer:?}") };
            let id = resp::entry_id(id)?;
            ensure!(id > self.last, "an id that does not rise");
            self.last = id;
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
    fn ids_have_to_rise() {
        let mut xadd = Xadd { last: 0 };
        let taken = xadd.receive(b"$3\r\n5-0\r\n$3\r\n5-1\r\n$3\r\n5", &mut Vec::new()).unwrap();
        assert_eq!((taken.used, taken.messages), (18, 2));
        assert!(xadd.receive(b"$3\r\n5-1\r\n", &mut Vec::new()).is_err());
    }
}
