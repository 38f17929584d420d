//! PID 1 of a fabric: serves requests of the runner and of other clients until the leash is closed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cknet_kernel::channel::{self, Channel, Listener, Message};
use cknet_kernel::space::{self, KernelFiles, Space};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::super::wire::{Envelope, Reply, Request, Spawn};
use super::reaper::Reaper;
use super::{CHANNEL, LEASH, LISTENER};

/// Before the listener is asked again that could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Everything the fabric holds.
#[derive(Default)]
struct Fabric {
    nodes: OnceLock<HashMap<String, Space>>,
    reaper: Reaper,
}

pub fn main() -> io::Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let leash = channel::inherited(LEASH)?;
    let (channel, listener) = (channel::inherited(CHANNEL)?, channel::inherited(LISTENER)?);
    std::thread::Builder::new().name("leash".into()).spawn(move || end_with(leash))?;
    space::keep_mounts_private()?;
    // In some containers parts of /proc are masked and a fresh one is refused; the old one shows more processes
    // than there are here and works as well.
    let _ = space::mount_kernel_files(KernelFiles::Proc, Path::new("/proc"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(channel, listener))?;
    Ok(ExitCode::SUCCESS)
}

/// Ends the process, and with it every process of the PID namespace, when the runner is gone.
#[expect(clippy::exit, reason = "this is how a fabric ends: PID 1 exits and the kernel frees the rest")]
fn end_with(leash: OwnedFd) {
    // Nothing is ever written to a leash: a read returns when its last other end is closed.
    let _ = File::from(leash).read(&mut [0]);
    std::process::exit(0);
}

async fn serve(first: OwnedFd, listener: OwnedFd) -> io::Result<()> {
    let fabric = Arc::new(Fabric::default());
    let mut children = signal(SignalKind::child())?;
    let reaper = fabric.reaper.clone();
    tokio::spawn(async move {
        while children.recv().await.is_some() {
            reaper.reap();
        }
    });
    let others = Listener::adopt(listener)?;
    let also = fabric.clone();
    tokio::spawn(async move {
        loop {
            match others.accept().await {
                Ok(channel) => drop(tokio::spawn(converse(also.clone(), channel))),
                // Descriptors have run out: the next client may have more luck.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    });
    converse(fabric, Channel::adopt(first)?).await;
    Ok(())
}

/// Answers one client until it is gone.
async fn converse(fabric: Arc<Fabric>, channel: Channel) {
    let channel = Arc::new(channel);
    while let Ok(Some(message)) = channel.receive().await {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(&message.bytes) else { return };
        let (fabric, channel) = (fabric.clone(), channel.clone());
        tokio::spawn(async move {
            let Envelope { id, request } = envelope;
            let answer = fabric.answer(id, request, message, &channel).await;
            let (reply, descriptor) = match answer {
                Ok(answer) => answer,
                Err(error) => (Reply::Failed { id, error: error.to_string() }, None),
            };
            say(&channel, &reply, descriptor).await;
        });
    }
}

async fn say(channel: &Channel, reply: &Reply, descriptor: Option<OwnedFd>) {
    let Ok(bytes) = serde_json::to_vec(reply) else { return };
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    // A client that is gone needs no answer.
    let _ = channel.send(&bytes, &descriptors).await;
}

type Answer = io::Result<(Reply, Option<OwnedFd>)>;

impl Fabric {
    fn node(&self, name: &str) -> io::Result<Space> {
        let nodes = self.nodes.get().ok_or_else(|| io::Error::other("no topology has been built"))?;
        nodes.get(name).cloned().ok_or_else(|| io::Error::other(format!("no node `{name}`")))
    }

    async fn answer(&self, id: u64, request: Request, message: Message, channel: &Arc<Channel>) -> Answer {
        let done = (Reply::Done { id }, None);
        let mut descriptors = message.descriptors.into_iter();
        let mut descriptor = || descriptors.next().ok_or_else(|| io::Error::other("the request lacks a descriptor"));
        match request {
            Request::Build(topology) => {
                let nodes = super::segments::build(&topology).await?;
                self.nodes.set(nodes).map_err(|_| io::Error::other("a topology was built before"))?;
                Ok(done)
            }
            Request::Spawn(spawn) => {
                let streams = [descriptor()?, descriptor()?, descriptor()?];
                self.spawn(id, spawn, streams, channel).await
            }
            Request::Signal { process, signal } => {
                let group = Pid::from_raw(i32::try_from(process).map_err(io::Error::other)?);
                killpg(group, Signal::try_from(signal)?)?;
                Ok(done)
            }
            Request::Put { node, path, mode } => {
                let (space, content) = (self.node(&node)?, descriptor()?);
                blocking(move || super::space::put(&space, &path, mode, content)).await?;
                Ok(done)
            }
            Request::Take { node, path } => {
                let space = self.node(&node)?;
                let file = blocking(move || super::space::take(&space, &path)).await?;
                Ok((Reply::Done { id }, Some(file)))
            }
            Request::Dial { node, address } => {
                let space = self.node(&node)?;
                let stream = blocking(move || super::space::dial(&space, address)).await?;
                Ok((Reply::Done { id }, Some(stream)))
            }
        }
    }

    /// Starts a program and tells the client when it ends.
    async fn spawn(&self, id: u64, spawn: Spawn, streams: [OwnedFd; 3], channel: &Arc<Channel>) -> Answer {
        let (space, reaper) = (self.node(&spawn.node)?, self.reaper.clone());
        let (process, ended) =
            blocking(move || reaper.started(|| super::space::spawn(&space, &spawn, streams))).await?;
        let channel = channel.clone();
        tokio::spawn(async move {
            if let Ok(exit) = ended.await {
                say(&channel, &Reply::Exited { process, exit }, None).await;
            }
        });
        Ok((Reply::Spawned { id, process }, None))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
