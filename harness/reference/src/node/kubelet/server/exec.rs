//! A program beside a running container, for `kubectl exec`: its streams over the channels of a WebSocket.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use cknet_kernel::child::{Child, Exit};
use cknet_kernel::pty::{self, Pty};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::{container_not_found, find, not_started, outcome, refusal};
use super::channel::{Incoming, Outgoing, PROTOCOLS};
use super::session::{In, Out, hold};
use crate::node::kubelet::journal::journal;
use crate::node::kubelet::launch::{LaunchError, Program, Streams, launch};
use crate::node::kubelet::registry::Running;

const BLOCK: usize = 32 * 1024;
/// Pieces of input that wait for a program to read them.
const INPUT_QUEUE: usize = 8;
/// What a program left running may still write after it has ended itself, before its output is taken for complete.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ExecRequest {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl ExecRequest {
    /// Reads a query with the names of the kubelet (`input`) or of the API (`stdin`).
    fn parse(query: &str) -> Self {
        let mut request = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_set = matches!(&*value, "1" | "true" | "True");
            match &*key {
                "command" => request.command.push(value.into_owned()),
                "input" | "stdin" => request.stdin = is_set,
                "output" | "stdout" => request.stdout = is_set,
                "error" | "stderr" => request.stderr = is_set,
                "tty" => request.tty = is_set,
                _ => {}
            }
        }
        request
    }
}

/// Agrees on a protocol with a client that wants channels.
pub(super) fn agree(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Box<Response>> {
    let refused = |text: &str| Box::new(refusal(StatusCode::BAD_REQUEST, "BadRequest", text));
    let upgrade =
        upgrade.map_err(|_| refused("unable to upgrade: the reference distribution streams over WebSocket only"))?;
    let upgrade = upgrade.protocols(PROTOCOLS);
    if upgrade.selected_protocol().is_none() {
        return Err(refused(&format!("unable to negotiate a protocol: the server speaks {}", PROTOCOLS.join(", "))));
    }
    Ok(upgrade)
}

pub(super) async fn exec(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let request = ExecRequest::parse(query.as_deref().unwrap_or_default());
    if request.command.is_empty() {
        return refusal(StatusCode::BAD_REQUEST, "BadRequest", "you must specify at least 1 command for the container");
    }
    let entry = match find(&shared.node.registry, &namespace, &pod, &container) {
        Ok(entry) => entry,
        Err(refused) => return *refused,
    };
    let Some(running) = entry.running() else {
        return container_not_found(&container);
    };
    match agree(upgrade) {
        Ok(upgrade) => upgrade.on_upgrade(move |socket| async move {
            hold(socket, |out, input| converse(running, request, out, input)).await;
        }),
        Err(refused) => *refused,
    }
}

/// Starts the program and stays with it; `None` when the client went first.
async fn converse(running: Running, request: ExecRequest, out: Out, mut input: In) -> (Option<Value>, In) {
    let outcome = match start(&running, &request).await {
        Ok(process) => process.accompany(out, &mut input).await,
        Err(problem) => Some(not_started(&problem.to_string())),
    };
    (outcome, input)
}

async fn start(running: &Running, request: &ExecRequest) -> Result<Process, LaunchError> {
    let program = |variables| Program {
        argv: request.command.clone(),
        variables,
        folder: running.folder.clone(),
        executable: running.executable.clone(),
    };
    let failed = |error: io::Error| LaunchError::Failed { program: request.command.concat(), cause: error.to_string() };
    let mut variables = running.variables.clone();
    if request.tty {
        if !variables.iter().any(|(name, _)| name == "TERM") {
            variables.push(("TERM".into(), "xterm".into()));
        }
        let (pty, terminal) = pty::open().map_err(failed)?;
        let started = launch(&running.sandbox, program(variables), Streams::Terminal(terminal)).await?;
        return Ok(Process { leader: Leader(Some(started.child)), streams: Attached::Terminal(Arc::new(pty)) });
    }
    let streams = Streams::Pipes { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
    let started = launch(&running.sandbox, program(variables), streams).await?;
    let leader = Leader(Some(started.child));
    let streams = Attached::Pipes {
        stdin: started.stdin.map(ChildStdin::from_std).transpose().map_err(failed)?,
        stdout: started.stdout.map(ChildStdout::from_std).transpose().map_err(failed)?,
        stderr: started.stderr.map(ChildStderr::from_std).transpose().map_err(failed)?,
    };
    Ok(Process { leader, streams })
}

struct Process {
    leader: Leader,
    streams: Attached,
}

enum Attached {
    Terminal(Arc<Pty>),
    Pipes { stdin: Option<ChildStdin>, stdout: Option<ChildStdout>, stderr: Option<ChildStderr> },
}

/// The started program. Whoever drops it early kills it with its group.
struct Leader(Option<Child>);

impl Leader {
    async fn ended(&self) {
        if let Some(child) = &self.0 {
            // An error means that it cannot be watched, which is as good as its end.
            let _ = child.ended().await;
        }
    }

    /// How it ended. What it left running stays, as in a real container.
    fn collect(mut self) -> i32 {
        match self.0.take().map(Child::collect) {
            Some(Ok(Exit::Code(code))) => code,
            Some(Ok(Exit::Signal(signal))) => 128 + signal,
            _ => 137,
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(child) = self.0.take() else { return };
        if let Err(error) = child.signal(Signal::SIGKILL) {
            journal(format_args!("cannot kill process group {}: {error}", child.pid()));
        }
        tokio::spawn(async move {
            let _ = child.ended().await;
            let _ = child.reap();
        });
    }
}

impl Process {
    async fn accompany(self, out: Out, input: &mut In) -> Option<Value> {
        let Self { leader, streams } = self;
        let ended = CancellationToken::new();
        let (typed, keyboard) = mpsc::channel(INPUT_QUEUE);
        let terminal = match &streams {
            Attached::Terminal(pty) => Some(Arc::clone(pty)),
            Attached::Pipes { .. } => None,
        };
        let work = async {
            let mut carrying = pin!(carry(streams, keyboard, &out, &ended));
            tokio::select! {
                // Whoever closes its output early is still waited for.
                () = &mut carrying => leader.ended().await,
                () = leader.ended() => {
                    ended.cancel();
                    carrying.await;
                }
            }
        };
        tokio::select! {
            () = work => Some(outcome(leader.collect())),
            // Dropping the leader kills it.
            () = listen(input, typed, terminal) => None,
        }
    }
}

/// Takes in what the client says until it leaves.
async fn listen(input: &mut In, typed: mpsc::Sender<Vec<u8>>, terminal: Option<Arc<Pty>>) {
    let mut typed = Some(typed);
    loop {
        match input.next().await {
            Incoming::Stdin(bytes) => {
                if let Some(queue) = &typed
                    && queue.send(bytes).await.is_err()
                {
                    // The program reads no more; what is typed goes nowhere.
                    typed = None;
                }
            }
            Incoming::Closed(0) => typed = None,
            Incoming::Resize { rows, columns } => {
                if let Some(Err(error)) = terminal.as_ref().map(|pty| pty.resize(rows, columns)) {
                    journal(format_args!("cannot resize a terminal: {error}"));
                }
            }
            Incoming::Closed(_) | Incoming::Other => {}
            Incoming::Leaving => return,
        }
    }
}

/// Moves output and input until the output ends.
async fn carry(streams: Attached, keyboard: mpsc::Receiver<Vec<u8>>, out: &Out, ended: &CancellationToken) {
    match streams {
        Attached::Terminal(pty) => {
            tokio::select! {
                () = show(&pty, out, ended) => {}
                () = type_in(&pty, keyboard) => show(&pty, out, ended).await,
            }
        }
        Attached::Pipes { stdin, stdout, stderr } => {
            let output = async {
                tokio::join!(pump(stdout, Outgoing::Stdout, out, ended), pump(stderr, Outgoing::Stderr, out, ended))
            };
            let mut output = pin!(output);
            tokio::select! {
                _ = &mut output => {}
                () = feed(stdin, keyboard) => drop(output.await),
            }
        }
    }
}

async fn show(pty: &Pty, out: &Out, ended: &CancellationToken) {
    let mut block = vec![0; BLOCK];
    loop {
        let count = tokio::select! {
            biased;
            count = pty.read(&mut block) => count.unwrap_or(0),
            () = is_late(ended) => 0,
        };
        if count == 0 || !out.send(Outgoing::Stdout, &block[..count]).await {
            return;
        }
    }
}

async fn type_in(pty: &Pty, mut keyboard: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = keyboard.recv().await {
        if pty.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn pump(reader: Option<impl AsyncRead + Unpin>, channel: Outgoing, out: &Out, ended: &CancellationToken) {
    let Some(mut reader) = reader else { return };
    let mut block = vec![0; BLOCK];
    loop {
        let count = tokio::select! {
            biased;
            count = reader.read(&mut block) => count.unwrap_or(0),
            () = is_late(ended) => 0,
        };
        if count == 0 || !out.send(channel, &block[..count]).await {
            return;
        }
    }
}

/// Some time after the program has ended.
async fn is_late(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(LAST_OUTPUT).await;
}

async fn feed(stdin: Option<ChildStdin>, mut keyboard: mpsc::Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = keyboard.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_either_set_of_names() {
        let expected = ExecRequest {
            command: vec!["sh".into(), "-c".into(), "echo a b; exit 3".into()],
            stdin: true,
            stdout: true,
            stderr: false,
            tty: false,
        };
        let kubelet = "command=sh&command=-c&command=echo+a+b%3B+exit+3&input=1&output=1&tty=0";
        assert_eq!(ExecRequest::parse(kubelet), expected);
        let api = "command=sh&command=-c&command=echo%20a%20b%3B%20exit%203&stdin=true&stdout=true&stderr=false";
        assert_eq!(ExecRequest::parse(api), expected);
    }
}
