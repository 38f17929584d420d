//! The runner's side of a fabric: requests with replies by number, and the ends of spawned programs.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cknet_kernel::channel::Channel;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::wire::{Envelope, Reply, Request};
use crate::provider::Exit;

/// A connection to a fabric; clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Arc<Channel>,
    next: Arc<AtomicU64>,
    state: Arc<Mutex<State>>,
    gone: CancellationToken,
}

#[derive(Default)]
struct State {
    gone: bool,
    waiting: HashMap<u64, oneshot::Sender<(Reply, Vec<OwnedFd>)>>,
    /// An end may be told before the reply that names the process.
    ends: HashMap<u32, watch::Sender<Option<Exit>>>,
}

impl Client {
    /// Speaks over a connected socket; needs a tokio runtime.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self::over(Channel::adopt(socket)?))
    }

    /// Connects to a fabric that another process holds.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self::over(Channel::connect(path)?))
    }

    fn over(channel: Channel) -> Self {
        let client = Self {
            channel: Arc::new(channel),
            next: Arc::default(),
            state: Arc::default(),
            gone: CancellationToken::new(),
        };
        tokio::spawn(client.clone().listen());
        client
    }

    /// Asks and waits for the reply. The fabric bounds its own work; when it dies the answer is an error at once.
    pub async fn ask(&self, request: Request, with: &[BorrowedFd<'_>]) -> io::Result<(Reply, Option<OwnedFd>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.locked();
            if state.gone {
                return Err(gone());
            }
            state.waiting.insert(id, tell);
        }
        let bytes = serde_json::to_vec(&Envelope { id, request }).map_err(io::Error::other)?;
        self.channel.send(&bytes, with).await?;
        let (reply, descriptors) = told.await.map_err(|_| gone())?;
        match reply {
            Reply::Failed { error, .. } => Err(io::Error::other(error)),
            reply => Ok((reply, descriptors.into_iter().next())),
        }
    }

    /// Asks for a program; returns its process id and the news of its end.
    pub async fn spawn(
        &self,
        request: Request,
        streams: [OwnedFd; 3],
    ) -> io::Result<(u32, watch::Receiver<Option<Exit>>)> {
        let borrowed = [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()];
        match self.ask(request, &borrowed).await? {
            (Reply::Spawned { process, .. }, _) => Ok((process, self.end_of(process))),
            _ => Err(io::Error::other("the fabric gave an answer to another question")),
        }
    }

    fn end_of(&self, process: u32) -> watch::Receiver<Option<Exit>> {
        self.locked().ends.entry(process).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    async fn listen(self) {
        while let Ok(Some(message)) = self.channel.receive().await {
            let Ok(reply) = serde_json::from_slice::<Reply>(&message.bytes) else { break };
            let mut state = self.locked();
            match reply {
                Reply::Exited { process, exit } => {
                    let sender = state.ends.entry(process).or_insert_with(|| watch::Sender::new(None));
                    sender.send_replace(Some(exit));
                }
                Reply::Done { id } | Reply::Spawned { id, .. } | Reply::Failed { id, .. } => {
                    if let Some(tell) = state.waiting.remove(&id) {
                        // Whoever asked may have stopped waiting.
                        let _ = tell.send((reply, message.descriptors));
                    }
                }
            }
        }
        let mut state = self.locked();
        state.gone = true;
        state.waiting.clear();
        // Dropping the senders tells every watcher that the machine is gone.
        state.ends.clear();
        self.gone.cancel();
    }

    /// Returns when the fabric is gone.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the fabric is gone")
}
