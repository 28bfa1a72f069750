//! Client processes, from the parent's side.

use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::client::{Found, Saying, Word};
use super::plan::Plan;

/// A client process; it is killed with its handle.
pub(super) struct Client {
    child: Child,
    words: ChildStdin,
    sayings: Lines<BufReader<ChildStdout>>,
    done: u64,
}

impl Client {
    /// Starts one, and waits until it has all its connections.
    pub(super) async fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "client"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let words = child.stdin.take().context("a child's input")?;
        let out = child.stdout.take().context("a child's output")?;
        let mut client = Self { child, words, sayings: BufReader::new(out).lines(), done: 0 };
        client.tell(&Word::Plan(Box::new(plan))).await?;
        match client.hear().await? {
            Saying::Ready => Ok(client),
            other => bail!("a client begins with {other:?}"),
        }
    }

    pub(super) async fn tell(&mut self, word: &Word) -> anyhow::Result<()> {
        let line = serde_json::to_string(word)? + "\n";
        Ok(self.words.write_all(line.as_bytes()).await?)
    }

    async fn hear(&mut self) -> anyhow::Result<Saying> {
        match self.sayings.next_line().await? {
            Some(line) => serde_json::from_str(&line).context("a client's line"),
            // It has said on standard error why.
            None => bail!("a client ended with {}", self.child.wait().await?),
        }
    }

    /// Waits until it has sent everything and received every answer: messages by topic. `progress`
    /// receives how many more messages there are, with each report.
    pub(super) async fn produced(
        &mut self,
        mut progress: impl FnMut(u64),
    ) -> anyhow::Result<Vec<u64>> {
        loop {
            match self.hear().await? {
                Saying::Progress(done) => {
                    progress(done.saturating_sub(self.done));
                    self.done = done;
                }
                Saying::Produced(topics) => return Ok(topics),
                other => bail!("a client says {other:?} while it works"),
            }
        }
    }

    /// Its results, once its consumers have everything.
    pub(super) async fn found(&mut self) -> anyhow::Result<Found> {
        match self.hear().await? {
            Saying::Found(found) => Ok(*found),
            other => bail!("a client ends with {other:?}"),
        }
    }
}
