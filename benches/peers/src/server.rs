//! A server under way: started in a directory of its own, ended by its id.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, absolute};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::systems::System;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);
const LOG: &str = "server.log";

/// Ends the server and removes its directory when it is dropped.
pub struct Server {
    child: Child,
    pub at: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts `system` in a new directory in `parent`, and waits until it takes connections.
    pub fn start(system: &dyn System, parent: &Path) -> Result<Self> {
        // What the one before left to write is not to be this one's burden.
        rustix::fs::syncfs(File::open(parent)?)?;
        let directory = tempfile::Builder::new().prefix(&system.key()).tempdir_in(parent)?;
        let port = free_port()?;
        let launch = system.launch(directory.path(), port)?;
        if let Some(configuration) = &launch.configuration {
            fs::write(directory.path().join(configuration.file), &configuration.text)?;
        }
        let program = launch.program.path().context("the program is gone")?;
        // No symbolic link is followed: Redis' program is several, and goes by the name it is called.
        let log = File::create(directory.path().join(LOG))?;
        let child = Command::new(absolute(program)?)
            .args(&launch.arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", launch.program.name()))?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { child, at, directory };
        server.await_start()?;
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn await_start(&mut self) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.at).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once, {status}; it said: {}", self.log());
            }
            if start.elapsed() > START {
                bail!("it does not listen after {START:?}; it said: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let text = fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        let end = &text[text.len().saturating_sub(600)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM)?;
        }
        let start = Instant::now();
        while start.elapsed() < STOP {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("ending the server {}: {error:#}", self.child.id());
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
