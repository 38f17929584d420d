//! The kubelet of the reference distribution: registers its node, runs the pods that the API binds to it, and
//! serves their logs and terminals.
//!
//! It knows of the cluster only what the API says and of the network only what [`network::PodNetwork`] promises.
//! Containers are personalities of our own executable ([`images`]), volumes are not mounted, and users, limits and
//! devices of a spec are ignored: a model of a kubelet for the network's sake.

mod backoff;
mod checks;
pub mod config;
mod console;
mod context;
mod dispatch;
mod environment;
mod events;
mod files;
mod images;
mod journal;
mod launch;
mod logs;
pub mod network;
mod node_object;
mod node_status;
mod pod;
mod probes;
mod publisher;
mod pull;
mod record;
mod registry;
mod runner;
mod server;
mod status;
mod until;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use config::{KUBELET_PORT, KubeletConfig, NodeIdentity};
use context::NodeContext;
use events::Recorder;

/// A kubelet could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error("cannot prepare `{path}`: {cause}")]
    Folder { path: String, cause: io::Error },
    #[error("cannot watch the network configuration in `{path}`: {cause}")]
    Network { path: String, cause: io::Error },
    #[error("cannot serve: {0}")]
    Server(#[from] server::ServerError),
}

/// Runs the kubelet until `shutdown`; its pods go on then, and the next kubelet with the same `pod_root` takes them
/// over. Needs to be root in the user namespace that owns the node's namespaces.
pub async fn run(config: KubeletConfig, shutdown: CancellationToken) -> Result<(), KubeletError> {
    for folder in [&config.pod_root, &config.netns_root] {
        fs::create_dir_all(folder).map_err(|cause| unprepared(folder, cause))?;
    }
    let listening = server::Listening::bind(&config)?;
    let folder = config.cni_config_dir.clone();
    let readiness = network::follow_readiness(Arc::clone(&config.network), folder)
        .map_err(|cause| KubeletError::Network { path: config.cni_config_dir.display().to_string(), cause })?;
    let events = Recorder::start(config.client.clone(), &config.node_name);
    let node = NodeContext::new(config, events, readiness, shutdown);
    let (store, bell) = dispatch::follow_pods(&node);
    tokio::join!(
        listening.serve(Arc::clone(&node), store.clone()),
        node_status::keep(Arc::clone(&node)),
        dispatch::dispatch(node, store, bell),
    );
    Ok(())
}

fn unprepared(path: &Path, cause: io::Error) -> KubeletError {
    KubeletError::Folder { path: path.display().to_string(), cause }
}
