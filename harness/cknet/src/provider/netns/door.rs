//! A way into a fabric that another process holds: programs on its nodes with our own standard streams.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cknet_kernel::terminal::{self, Raw};
use nix::pty::openpty;
use tokio::signal::unix::{SignalKind, signal};

use super::client::Client;
use super::wire::{Request, Spawn};
use crate::provider::Exit;

/// An open connection to a fabric.
pub struct Door {
    client: Client,
}

impl Door {
    /// Connects to the fabric that listens at `socket`; needs a tokio runtime.
    pub fn open(socket: &Path) -> io::Result<Self> {
        Ok(Self { client: Client::connect(socket)? })
    }

    /// Runs a program on a node, on a terminal of its own where we have one; returns its exit code, or 128 and the
    /// number of the signal that ended it.
    pub async fn run(&self, node: &str, argv: Vec<String>) -> io::Result<i32> {
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let environment = std::env::var("TERM").map(|term| ("TERM".to_string(), term)).into_iter().collect();
        let spawn = Spawn { node: node.to_string(), argv, environment, terminal };
        if !terminal {
            let own = |stream: std::os::fd::BorrowedFd<'_>| stream.try_clone_to_owned();
            let streams = [own(io::stdin().as_fd())?, own(io::stdout().as_fd())?, own(io::stderr().as_fd())?];
            return self.wait(spawn, streams).await;
        }
        let pair = openpty(terminal::window().as_ref(), None)?;
        let slave = [pair.slave.try_clone()?, pair.slave.try_clone()?, pair.slave];
        let raw = Raw::enter()?;
        let _input = copy(io::stdin().as_fd().try_clone_to_owned()?, pair.master.try_clone()?)?;
        let _follower = AbortOnDrop(tokio::spawn(follow_window(pair.master.try_clone()?)));
        let output = copy(pair.master, io::stdout().as_fd().try_clone_to_owned()?)?;
        let code = self.wait(spawn, slave).await;
        // The last words of the program come before the prompt of the caller's shell.
        let _ = tokio::task::spawn_blocking(move || output.join()).await;
        drop(raw);
        code
    }

    async fn wait(&self, spawn: Spawn, streams: [OwnedFd; 3]) -> io::Result<i32> {
        let (_, mut ending) = self.client.spawn(Request::Spawn(spawn), streams).await?;
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the cluster is gone");
        Ok(match *ending.wait_for(Option::is_some).await.map_err(gone)? {
            Some(Exit::Code(code)) => code,
            Some(Exit::Signal(signal)) => 128 + signal,
            None => 0,
        })
    }
}

/// Keeps the size of a terminal that of our own.
async fn follow_window(terminal: OwnedFd) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        if let Some(size) = terminal::window() {
            // Without its size a program only looks odd.
            let _ = terminal::resize(terminal.as_fd(), &size);
        }
    }
}

/// Ends a task with what it serves.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Copies one side of a terminal to the other until either ends.
fn copy(from: OwnedFd, to: OwnedFd) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("terminal".into()).spawn(move || {
        let (mut from, mut to) = (File::from(from), File::from(to));
        // The end of a terminal is an error for its reader (EIO).
        let _ = io::copy(&mut from, &mut to).and_then(|_| to.flush());
    })
}
