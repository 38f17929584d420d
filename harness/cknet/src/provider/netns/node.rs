//! A node of the fabric behind the [`Node`] seam.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::client::Client;
use super::wire::{Request, Spawn};
use crate::provider::{Conversation, Exit, Invocation, Node, NodeError, Output, pipes};

/// Before a listener is asked again that could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

type Ending = watch::Receiver<Option<Exit>>;

/// One node of a fabric.
pub struct NetnsNode {
    name: String,
    addresses: BTreeMap<String, Ipv4Net>,
    client: Client,
    services: Mutex<HashMap<String, (u32, Ending)>>,
}

impl NetnsNode {
    pub fn new(name: String, addresses: BTreeMap<String, Ipv4Net>, client: Client) -> Self {
        Self { name, addresses, client, services: Mutex::default() }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
        let (node, doing) = (self.name.clone(), doing.into());
        move |cause| match cause.kind() {
            io::ErrorKind::BrokenPipe => NodeError::Gone { node },
            _ => NodeError::Failed { node, doing, cause: cause.to_string() },
        }
    }

    async fn spawn(&self, invocation: &Invocation, streams: [OwnedFd; 3]) -> Result<(u32, Ending), NodeError> {
        let spawn = Spawn {
            node: self.name.clone(),
            argv: invocation.argv.clone(),
            environment: invocation.environment.clone(),
            terminal: false,
        };
        let started = self.client.spawn(Request::Spawn(spawn), streams).await;
        started.map_err(self.failed(format!("start `{invocation}`")))
    }

    async fn kill(&self, process: u32) {
        // The group may have ended by itself.
        let _ = self.client.ask(Request::Signal { process, signal: nix::libc::SIGKILL }, &[]).await;
    }

    fn service(&self, service: &str) -> Option<(u32, Ending)> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }
}

impl Node for NetnsNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn addresses(&self) -> &BTreeMap<String, Ipv4Net> {
        &self.addresses
    }

    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>> {
        async move {
            let doing = format!("run `{invocation}`");
            let stdin = memory(&invocation.stdin).map_err(self.failed(doing.clone()))?;
            let (stdout, stdout_end) = pipes::output().map_err(self.failed(doing.clone()))?;
            let (stderr, stderr_end) = pipes::output().map_err(self.failed(doing.clone()))?;
            let late = || {
                let (node, command) = (self.name.clone(), invocation.to_string());
                NodeError::Deadline { node, command, deadline }
            };
            let started = self.spawn(&invocation, [stdin, stdout_end, stderr_end]);
            let (process, ending) = tokio::time::timeout(deadline, started).await.map_err(|_| late())??;
            let all = async { tokio::join!(ended(ending), read_all(stdout), read_all(stderr)) };
            let Ok((exit, stdout, stderr)) = tokio::time::timeout(deadline, all).await else {
                self.kill(process).await;
                return Err(late());
            };
            let exit = exit.ok_or_else(|| NodeError::Gone { node: self.name.clone() })?;
            Ok(Output { exit, stdout, stderr })
        }
        .boxed()
    }

    fn start(&self, service: &str, invocation: Invocation) -> BoxFuture<'_, Result<(), NodeError>> {
        let service = service.to_string();
        async move {
            let doing = format!("start `{invocation}`");
            let log = format!("/run/cknet/log/{service}.log");
            let shell = Invocation {
                argv: ["cknet", "logged", log.as_str()]
                    .into_iter()
                    .map(String::from)
                    .chain(invocation.argv.iter().cloned())
                    .collect(),
                ..invocation
            };
            let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
            let streams = (|| Ok([null()?, null()?, null()?]))().map_err(self.failed(doing))?;
            let started = self.spawn(&shell, streams).await?;
            self.services.lock().unwrap_or_else(PoisonError::into_inner).insert(service, started);
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>> {
        let found = self.service(service);
        async move {
            if let Some((process, ending)) = found {
                self.kill(process).await;
                ended(ending).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn ended(&self, service: &str) -> BoxFuture<'_, Option<Exit>> {
        let found = self.service(service);
        async move { found.and_then(|(_, ending)| *ending.borrow()) }.boxed()
    }

    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>> {
        async move {
            let doing = format!("talk with `{invocation}`");
            let (stdin_end, stdin) = pipes::input().map_err(self.failed(doing.clone()))?;
            let (stdout, stdout_end) = pipes::output().map_err(self.failed(doing.clone()))?;
            let null = File::options().write(true).open("/dev/null").map_err(self.failed(doing))?;
            let (process, _) = self.spawn(&invocation, [stdin_end, stdout_end, null.into()]).await?;
            let leash = Box::new(Leash { process, client: self.client.clone() });
            Ok(Conversation { stdin, stdout, leash })
        }
        .boxed()
    }

    fn put(&self, path: &str, mode: u32, content: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>> {
        let path = path.to_string();
        async move {
            let doing = format!("write `{path}`");
            let content = memory(&content).map_err(self.failed(doing.clone()))?;
            let request = Request::Put { node: self.name.clone(), path, mode };
            self.client.ask(request, &[content.as_fd()]).await.map_err(self.failed(doing))?;
            Ok(())
        }
        .boxed()
    }

    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>> {
        let path = path.to_string();
        async move {
            let doing = format!("read `{path}`");
            let request = Request::Take { node: self.name.clone(), path };
            let (_, file) = self.client.ask(request, &[]).await.map_err(self.failed(doing.clone()))?;
            let mut content = Vec::new();
            let file = file.ok_or_else(|| io::Error::other("no descriptor came back"));
            file.and_then(|file| File::from(file).read_to_end(&mut content)).map_err(self.failed(doing))?;
            Ok(content)
        }
        .boxed()
    }

    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>> {
        async move {
            let doing = format!("forward port {port}");
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(self.failed(doing.clone()))?;
            let address = listener.local_addr().map_err(self.failed(doing))?;
            tokio::spawn(relay(listener, self.client.clone(), self.name.clone(), port));
            Ok(address)
        }
        .boxed()
    }
}

/// Kills a program's group when nobody talks with it any more.
struct Leash {
    process: u32,
    client: Client,
}

impl Drop for Leash {
    fn drop(&mut self) {
        let (process, client) = (self.process, self.client.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let signal = nix::libc::SIGKILL;
            let _ = client.ask(Request::Signal { process, signal }, &[]).await;
        });
    }
}

/// Carries each connection into the node, until the fabric is gone.
async fn relay(listener: TcpListener, client: Client, node: String, port: u16) {
    let target = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = client.gone() => return,
        };
        let Ok((mut outside, _)) = accepted else {
            // Descriptors have run out, or a caller gave up while it waited: the next one may have more luck.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let (client, node) = (client.clone(), node.clone());
        tokio::spawn(async move {
            let dialled = client.ask(Request::Dial { node, address: target }, &[]).await;
            let Ok((_, Some(socket))) = dialled else { return };
            let inside = std::net::TcpStream::from(socket);
            let Ok(()) = inside.set_nonblocking(true) else { return };
            let Ok(mut inside) = TcpStream::from_std(inside) else { return };
            let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
            // Each way on its own: a server that refuses a long request and closes still has to be heard.
            let ((outside_in, outside_out), (inside_in, inside_out)) = (outside.split(), inside.split());
            tokio::join!(one_way(outside_in, inside_out), one_way(inside_in, outside_out));
        });
    }
}

/// Copies until either end is gone, and then says that nothing more will come.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // Whatever ended it, the other side has only to know that it has ended.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// The end of a program, or `None` when the whole fabric is gone.
async fn ended(mut ending: Ending) -> Option<Exit> {
    ending.wait_for(Option::is_some).await.ok().and_then(|exit| *exit)
}

async fn read_all(mut pipe: pipe::Receiver) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A broken pipe is the end of the output.
    let _ = pipe.read_to_end(&mut bytes).await;
    bytes
}

/// An anonymous file with this content, positioned at its start.
fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("cknet", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}
