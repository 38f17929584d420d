//! A machine behind the [`Node`] seam: every request is a program of this machine that reaches it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Transport, script};
use crate::provider::{Conversation, Exit, Invocation, Node, NodeError, Output, pipes};

/// Longest time for what the machine's shell does by itself.
const QUICK: Duration = Duration::from_secs(60);

/// Longest time for a file to come over, where nobody has said another.
const COPY: Duration = Duration::from_secs(300);

/// What the way there and back may add to a deadline.
const WAY: Duration = Duration::from_secs(10);

/// Before a listener is asked again that could not accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// One machine.
pub struct MachineNode {
    name: String,
    addresses: BTreeMap<String, Ipv4Net>,
    transport: Arc<dyn Transport>,
    /// It was there before the run and is there after it.
    outlives: bool,
    /// Ends what relays to this node.
    relays: CancellationToken,
    _end: DropGuard,
}

impl MachineNode {
    pub fn new(
        name: String,
        addresses: BTreeMap<String, Ipv4Net>,
        transport: Arc<dyn Transport>,
        outlives: bool,
    ) -> Self {
        let relays = CancellationToken::new();
        Self { name, addresses, transport, outlives, _end: relays.clone().drop_guard(), relays }
    }

    fn failed(&self, doing: &str, cause: impl std::fmt::Display) -> NodeError {
        NodeError::Failed { node: self.name.clone(), doing: doing.into(), cause: cause.to_string() }
    }

    /// Runs lines of `sh` to their end, for what a provider does on a machine; `doing` is what they do, in words.
    pub async fn script(&self, doing: &str, script: &str, deadline: Duration) -> Result<Output, NodeError> {
        self.line(doing, &format!("( {script} )"), Vec::new(), deadline).await
    }

    /// Runs a line of `sh` to its end and tells how it ended.
    async fn line(&self, doing: &str, line: &str, stdin: Vec<u8>, deadline: Duration) -> Result<Output, NodeError> {
        let mark = mark();
        self.marked(doing, &script::marked(line, &mark), &mark, stdin, deadline).await
    }

    async fn marked(
        &self,
        doing: &str,
        script: &str,
        mark: &str,
        stdin: Vec<u8>,
        deadline: Duration,
    ) -> Result<Output, NodeError> {
        let mut command = quiet(self.transport.shell(script));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.failed(doing, error))?;
        let mut input = child.stdin.take();
        let feed = async move {
            if let Some(input) = &mut input {
                // A program that does not read its input may end before it was written.
                let _ = input.write_all(&stdin).await;
                let _ = input.shutdown().await;
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let Ok(ended) = tokio::time::timeout(deadline + WAY, both).await else {
            let (node, command) = (self.name.clone(), doing.to_string());
            return Err(NodeError::Deadline { node, command, deadline });
        };
        let ended = ended.map_err(|error| self.failed(doing, error))?;
        match script::ended(&ended.stderr, mark) {
            Some((stderr, exit)) => Ok(Output { exit, stdout: ended.stdout, stderr }),
            None => {
                let said = String::from_utf8_lossy(&ended.stderr);
                let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                Err(self.failed(doing, format_args!("the way to the machine broke ({}): {last}", ended.status)))
            }
        }
    }

    /// A line that has to succeed.
    async fn must(&self, doing: &str, line: &str, stdin: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, NodeError> {
        let output = self.line(doing, line, stdin, deadline).await?;
        if output.succeeded() { Ok(output.stdout) } else { Err(self.failed(doing, output.complaint())) }
    }
}

impl Node for MachineNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn addresses(&self) -> &BTreeMap<String, Ipv4Net> {
        &self.addresses
    }

    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>> {
        async move {
            let (doing, mark) = (format!("run `{invocation}`"), mark());
            let script = script::run(&invocation, deadline, &mark);
            let started = std::time::Instant::now();
            let output = self.marked(&doing, &script, &mark, invocation.stdin.clone(), deadline).await?;
            if output.exit == Exit::Signal(nix::libc::SIGKILL) && started.elapsed() >= deadline {
                let (node, command) = (self.name.clone(), invocation.to_string());
                return Err(NodeError::Deadline { node, command, deadline });
            }
            Ok(output)
        }
        .boxed()
    }

    fn start(&self, service: &str, invocation: Invocation) -> BoxFuture<'_, Result<(), NodeError>> {
        let line = script::start(script::RUN, service, &invocation);
        async move { self.must(&format!("start `{invocation}`"), &line, Vec::new(), QUICK).await.map(|_| ()) }.boxed()
    }

    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>> {
        let (doing, line) = (format!("stop `{service}`"), script::stop(script::RUN, service));
        async move { self.must(&doing, &line, Vec::new(), QUICK).await.map(|_| ()) }.boxed()
    }

    fn ended(&self, service: &str) -> BoxFuture<'_, Option<Exit>> {
        let line = script::look(script::RUN, service);
        async move {
            // A machine that cannot be asked has not said that it ended.
            let said = self.must("look at a service", &line, Vec::new(), QUICK).await.ok()?;
            match String::from_utf8_lossy(&said).trim() {
                "running" | "never" => None,
                "gone" => Some(Exit::Signal(nix::libc::SIGKILL)),
                code => code.parse().ok().map(script::exit),
            }
        }
        .boxed()
    }

    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>> {
        async move {
            let command = self.transport.shell(&script::exec(&invocation));
            converse(command).map_err(|error| self.failed(&format!("talk with `{invocation}`"), error))
        }
        .boxed()
    }

    fn put(&self, path: &str, mode: u32, content: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>> {
        self.put_within(path, mode, content, COPY)
    }

    fn put_within(
        &self,
        path: &str,
        mode: u32,
        content: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), NodeError>> {
        let (doing, line) = (format!("write `{path}`"), script::put(path, mode, content.len(), &mark()));
        let path = path.to_string();
        async move {
            // Our own folders go as a whole.
            if self.outlives && !path.starts_with(super::FOLDER) && !path.starts_with(script::RUN) {
                self.must("keep a file as it is", &script::keep(&path), Vec::new(), QUICK).await?;
            }
            self.must(&doing, &line, content, deadline).await.map(|_| ())
        }
        .boxed()
    }

    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>> {
        let (doing, line) = (format!("read `{path}`"), format!("cat -- {}", script::quoted(path)));
        async move { self.must(&doing, &line, Vec::new(), COPY).await }.boxed()
    }

    fn undo<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        async move {
            if self.outlives {
                let line = script::remember_undo(line);
                self.must("note how to undo a change", &line, Vec::new(), QUICK).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>> {
        async move {
            let doing = format!("forward port {port}");
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| self.failed(&doing, error))?;
            let address = listener.local_addr().map_err(|error| self.failed(&doing, error))?;
            tokio::spawn(relay(listener, self.transport.clone(), port, self.relays.clone()));
            Ok(address)
        }
        .boxed()
    }
}

/// A word that no program prints.
fn mark() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("cknet-{:x}-{number:x}", std::process::id())
}

/// A program of this machine that ends with its handle, and that a Ctrl-C in the terminal does not reach.
fn quiet(mut command: Command) -> tokio::process::Command {
    cknet_kernel::child::with_default_signals(&mut command);
    let mut command = tokio::process::Command::from(command);
    command.process_group(0).kill_on_drop(true);
    command
}

fn converse(command: Command) -> io::Result<Conversation> {
    let (stdin_end, stdin) = pipes::input()?;
    let (stdout, stdout_end) = pipes::output()?;
    let null = File::options().write(true).open("/dev/null")?;
    let mut command = quiet(command);
    let child = command.stdin(stdin_end).stdout(stdout_end).stderr(null).spawn()?;
    Ok(Conversation { stdin, stdout, leash: Box::new(child) })
}

/// Carries each connection to the machine, until its node is dropped.
async fn relay(listener: TcpListener, transport: Arc<dyn Transport>, port: u16, end: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        let Ok((outside, _)) = accepted else {
            // Descriptors have run out, or a caller gave up while it waited: the next one may have more luck.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(inside) = converse(transport.dial(port)) else { continue };
        let end = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = carry(outside, inside) => {}
                () = end.cancelled() => {}
            }
        });
    }
}

/// Each way on its own: a server that refuses a long request and closes still has to be heard.
async fn carry(mut outside: TcpStream, inside: Conversation) {
    let _ = outside.set_nodelay(true);
    let (mut from_outside, mut to_outside) = outside.split();
    let Conversation { mut stdin, mut stdout, leash } = inside;
    let there = async {
        // Whatever ended it, the other side has only to know that it has ended.
        let _ = tokio::io::copy(&mut from_outside, &mut stdin).await;
        drop(stdin);
    };
    let back = async {
        let _ = tokio::io::copy(&mut stdout, &mut to_outside).await;
        let _ = to_outside.shutdown().await;
    };
    tokio::join!(there, back);
    drop(leash);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::Instant;

    use super::*;

    /// A machine to which nothing comes through.
    struct Stuck;

    impl Transport for Stuck {
        fn shell(&self, _: &str) -> Command {
            let mut command = Command::new("sleep");
            command.arg("4244");
            command
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_come_over_is_given_up_when_its_own_time_is_over() {
        let node = MachineNode::new("w1".into(), BTreeMap::new(), Arc::new(Stuck), false);
        for wanted in [Duration::from_secs(5), Duration::from_secs(900)] {
            let started = Instant::now();
            let late = node.put_within("/snap", 0o644, vec![0], wanted).await.unwrap_err();
            assert!(matches!(late, NodeError::Deadline { deadline, .. } if deadline == wanted), "{late}");
            assert!(started.elapsed() >= wanted && started.elapsed() < wanted + 2 * WAY, "{:?}", started.elapsed());
        }
    }
}
