//! `cknet shell`: a shell, or one command, on a node or in a pod of a running cluster.
//!
//! A node is reached through its fabric, a pod through the API, as kubectl would.

use std::io::IsTerminal;
use std::path::Path;

use kube::api::{Api, AttachParams, TerminalSize};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::clusters::{Running, running};
use super::complain;
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
    /// A command instead of a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

pub async fn shell(options: Options) -> ExitCode {
    let clusters = match running() {
        Ok(clusters) => clusters,
        Err(problem) => return complain(ExitCode::Infrastructure, &problem),
    };
    let wanted = |cluster: &&Running| options.run.as_deref().is_none_or(|run| run == cluster.run.as_str());
    let Some(cluster) = clusters.iter().find(wanted) else {
        return complain(ExitCode::Usage, "no such cluster is running; make one: cknet up");
    };
    let argv = if options.command.is_empty() { vec![login_shell()] } else { options.command.clone() };
    let done = match options.target.split_once('/') {
        Some((namespace, pod)) => match cluster.kubeconfig() {
            Some(path) => in_pod(&path, namespace, pod, argv).await,
            None => Err("this cluster has no kubeconfig yet; pods can be entered on clusters of `cknet up`".into()),
        },
        None => on_node(cluster, &options.target, argv).await,
    };
    match done {
        Ok(0) => ExitCode::Passed,
        Ok(_) => ExitCode::Refuted,
        Err(problem) => complain(ExitCode::Infrastructure, &problem),
    }
}

/// The shell on every machine; bash where there is one.
fn login_shell() -> String {
    if Path::new("/bin/bash").exists() { "/bin/bash".into() } else { "/bin/sh".into() }
}

async fn on_node(cluster: &Running, node: &str, argv: Vec<String>) -> Result<i32, String> {
    let door = Door::open(&cluster.socket()).map_err(|error| format!("cannot reach the cluster: {error}"))?;
    door.run(node, argv).await.map_err(|error| error.to_string())
}

async fn in_pod(kubeconfig: &Path, namespace: &str, pod: &str, argv: Vec<String>) -> Result<i32, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let config = Kubeconfig::read_from(kubeconfig).map_err(|error| text(&error))?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.map_err(|error| text(&error))?).map_err(|error| text(&error))?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client, namespace);
    let terminal = std::io::stdin().is_terminal();
    let parameters = AttachParams::default().stdin(true).stdout(true).stderr(!terminal).tty(terminal);
    let mut process = pods.exec(pod, argv, &parameters).await.map_err(|error| text(&error))?;
    let status = process.take_status();
    if let (true, Some(mut sizes)) = (terminal, process.terminal_size())
        && let Some((width, height)) = cknet_kernel::terminal::size()
    {
        // Without its size the terminal only looks odd.
        let _ = futures::SinkExt::send(&mut sizes, TerminalSize { width, height }).await;
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
    let failed = status.is_some_and(|status| status.status.as_deref() != Some("Success"));
    Ok(i32::from(failed))
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
