//! Cluster DNS: the role that CoreDNS plays in a cluster, as a process of its own in a pod.
//!
//! It answers from an index of services and endpoints that it follows through the API, and hands on what is outside
//! the cluster. It knows nothing of the other parts of the distribution.

mod answer;
mod client;
mod forward;
mod health;
mod index;
mod options;
mod query;
mod serve;
mod service;
mod zone;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher;
use tokio::signal::unix::{SignalKind, signal};

use crate::watched::{Bell, follow};
use index::Index;
use options::Options;
use serve::Server;

/// Runs cluster DNS until SIGTERM or SIGINT. `args` are those after the personality's name:
/// `[--domain cluster.local] [--listen 0.0.0.0:53] [--health 0.0.0.0:8080] [--ready 0.0.0.0:8181] [--log]`.
///
/// The API is found through the kubeconfig file that `KUBECONFIG` names, or `/etc/kubernetes/kubelet.conf`; in a pod
/// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` replace the address in it.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let outcome = Options::parse(args).map_err(DnsError::from).and_then(|options| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(DnsError::Runtime)?.block_on(run(options))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            log("ERROR", format_args!("{cause}"));
            ExitCode::FAILURE
        }
    }
}

/// Why cluster DNS did not start.
#[derive(Debug, thiserror::Error)]
enum DnsError {
    #[error(transparent)]
    Options(#[from] options::OptionError),
    #[error(transparent)]
    Client(#[from] client::DnsClientError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot listen on `{address}`: {cause}")]
    Listen { address: std::net::SocketAddr, cause: std::io::Error },
}

async fn run(options: Options) -> Result<(), DnsError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DnsError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DnsError::Signals)?;
    let client = client::client().await?;
    let server = Arc::new(Server::new(&options));
    let ready = server.clone();
    health::listen(options.health, "/health", || true).await?;
    health::listen(options.ready, "/ready", move || ready.is_ready()).await?;
    serve::listen(server.clone(), options.listen).await?;
    log("INFO", format_args!("serving {} on {}", options.domain, options.listen));
    tokio::select! {
        () = keep_index(client, &server, &options.domain) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Follows the API and rebuilds the index at each change.
async fn keep_index(client: Client, server: &Server, domain: &str) {
    answering(&client).await;
    let bell = Bell::default();
    let config = watcher::Config::default;
    let services = follow::<Service>(Api::all(client.clone()), config(), &bell);
    let slices = follow::<EndpointSlice>(Api::all(client.clone()), config(), &bell);
    let namespaces = follow::<Namespace>(Api::all(client), config(), &bell);
    // A store whose writer is gone ends with the runtime.
    let _ = tokio::join!(services.wait_until_ready(), slices.wait_until_ready(), namespaces.wait_until_ready());
    loop {
        server.set_index(Index::build(domain, &services.state(), &slices.state(), &namespaces.state()));
        bell.rung().await;
    }
}

/// Waits until the API answers: a watch that starts earlier would wait most of a second before it tries again.
async fn answering(client: &Client) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let mut delay = Duration::from_millis(10);
    loop {
        match tokio::time::timeout(DEADLINE, client.apiserver_version()).await {
            Ok(Ok(_)) => return,
            Ok(Err(cause)) => log("WARNING", format_args!("waiting for the API: {cause}")),
            Err(_) => log("WARNING", format_args!("waiting for the API: no answer within 2 s")),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(1));
    }
}

/// One line in the form of CoreDNS. A closed stderr is no reason to stop answering.
fn log(level: &str, message: std::fmt::Arguments<'_>) {
    let line = format!("[{level}] {message}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
