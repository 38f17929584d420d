//! `cknet shell`: a shell, or one command, on a node or in a pod of a running cluster.
//!
//! A node is reached through its fabric, a pod through the API, as kubectl would. The exit code is that of the command.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode as ProcessExit;

use futures::{Sink, SinkExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, TerminalSize};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::clusters::{Running, running};
use super::complain;
use super::place::{self, Purpose};
use crate::cluster::objects;
use crate::exit::ExitCode;
use crate::provider::netns::door::Door;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A node's name, or NAMESPACE/POD.
    #[arg(value_name = "NODE|NAMESPACE/POD")]
    target: String,
    /// The run, as `cknet status` shows it; the newest unless given.
    #[arg(long)]
    run: Option<String>,
    /// A command instead of a shell; its exit code is that of `cknet shell`.
    #[arg(last = true)]
    command: Vec<String>,
}

pub async fn shell(options: Options) -> ProcessExit {
    match enter(options).await {
        // A process can say no more than eight bits.
        Ok(code) => ProcessExit::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err((code, problem)) => complain(code, &problem).into(),
    }
}

async fn enter(options: Options) -> Result<i32, (ExitCode, String)> {
    let clusters = running().map_err(|problem| (ExitCode::Infrastructure, problem))?;
    let cluster = choose(&clusters, options.run.as_deref()).map_err(|problem| (ExitCode::Usage, problem))?;
    let argv = if options.command.is_empty() { vec![login_shell()] } else { options.command };
    let done = match options.target.split_once('/') {
        Some((namespace, pod)) => {
            let path = cluster.kubeconfig().ok_or_else(|| {
                let problem = "pods can be entered on clusters of `cknet up` only; this is one of `cknet run`";
                (ExitCode::Usage, problem.to_string())
            })?;
            in_pod(&path, namespace, pod, argv).await
        }
        None if !cluster.nodes.is_empty() && !cluster.nodes.contains(&options.target) => {
            let nodes = cluster.nodes.join(", ");
            let target = &options.target;
            let problem = format!("no node `{target}`; there are {nodes}, and a pod is named NAMESPACE/POD");
            return Err((ExitCode::Usage, problem));
        }
        None => on_node(cluster, &options.target, argv).await,
    };
    done.map_err(|problem| (ExitCode::Infrastructure, problem))
}

fn choose<'a>(clusters: &'a [Running], run: Option<&str>) -> Result<&'a Running, String> {
    let found = clusters.iter().find(|cluster| run.is_none_or(|run| run == cluster.run.as_str()));
    found.ok_or_else(|| match run {
        Some(run) => format!("no cluster `{run}` is running; see: cknet status"),
        None => "no cluster is running; make one: cknet up".into(),
    })
}

/// The shell on every machine; bash where there is one.
fn login_shell() -> String {
    if Path::new("/bin/bash").exists() { "/bin/bash".into() } else { "/bin/sh".into() }
}

async fn on_node(cluster: &Running, node: &str, argv: Vec<String>) -> Result<i32, String> {
    let purpose = Purpose { run: cluster.run.as_str(), folder: &cluster.folder, way_out: false };
    let lasting = place::lasting(&purpose);
    let machines = lasting.iter().find(|provider| provider.name() == cluster.provider);
    if let Some(command) = machines.and_then(|provider| provider.enter(&cluster.key, node, &argv)) {
        return on_machine(command);
    }
    let door = Door::open(&cluster.socket()).map_err(|error| format!("cannot reach the cluster: {error}"))?;
    let program = argv.first().cloned().unwrap_or_default();
    door.run(node, argv).await.map_err(|error| format!("cannot run `{program}` on node `{node}`: {error}"))
}

/// By the provider's own program, which has the terminal as long as it runs.
fn on_machine(mut command: std::process::Command) -> Result<i32, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let ended = command.status().map_err(|error| format!("cannot start `{program}`: {error}"))?;
    ended.code().ok_or_else(|| format!("`{program}` ended with {ended}"))
}

async fn in_pod(kubeconfig: &Path, namespace: &str, pod: &str, argv: Vec<String>) -> Result<i32, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let config = Kubeconfig::read_from(kubeconfig).map_err(|error| text(&error))?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.map_err(|error| text(&error))?).map_err(|error| text(&error))?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, namespace);
    let terminal = std::io::stdin().is_terminal();
    let parameters = AttachParams::default().stdin(true).stdout(true).stderr(!terminal).tty(terminal);
    let started = pods.exec(pod, argv, &parameters).await;
    let mut process =
        started.map_err(|error| format!("cannot enter pod `{namespace}/{pod}`: {}", objects::answer(&error)))?;
    let status = process.take_status();
    if let (true, Some(sizes)) = (terminal, process.terminal_size()) {
        tokio::spawn(follow_window(sizes));
    }
    let _raw = terminal.then(cknet_kernel::terminal::Raw::enter).transpose().map_err(|error| text(&error))?;
    let input = process.stdin();
    tokio::spawn(async move {
        if let Some(mut input) = input {
            // The end of either side ends the copying.
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
            let _ = input.shutdown().await;
        }
    });
    let (stdout, stderr) = (process.stdout(), process.stderr());
    tokio::join!(pass_on(stdout, tokio::io::stdout()), pass_on(stderr, tokio::io::stderr()));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(0),
        Some(status) => {
            exit_code(&status).ok_or_else(|| status.message.unwrap_or_else(|| "no reason was given".into()))
        }
        None => Err("the connection ended before the command did".into()),
    }
}

/// Tells the size of our own terminal, now and whenever it changes.
async fn follow_window(mut sizes: impl Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = cknet_kernel::terminal::size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// The exit code of a command that failed (the cause `ExitCode` of a status of `exec`).
fn exit_code(status: &Status) -> Option<i32> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    cause.message.as_ref()?.parse().ok()
}

/// Copies what comes out as soon as it comes.
async fn pass_on(from: Option<impl tokio::io::AsyncRead + Unpin>, mut to: impl tokio::io::AsyncWrite + Unpin) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
