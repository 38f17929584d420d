//! The process that makes a machine a node: kubelet and service proxy. (calico-node is a pod, as on a real node.)

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::cni::Plugins;
use super::kubelet::{self, KubeletConfig, NodeIdentity};
use super::proxy;
use crate::control_plane::{log, terminated};
use crate::watched::client_from;

/// Where the node's identity towards the API server lies.
pub const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";

/// Where the configuration lies.
pub const CONFIG: &str = "/etc/kubernetes/node.json";

/// Where CNI configurations lie.
const CNI_CONFIG: &str = "/etc/cni/net.d";

/// What a node is told when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub name: String,
    pub address: Ipv4Addr,
    pub control_plane: bool,
    pub kubelet_token: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub cluster_dns: Ipv4Addr,
    pub pod_cidr: Ipv4Net,
}

/// The hidden command line `cknet node FILE`.
pub fn main(arguments: &[String]) -> ExitCode {
    let path = arguments.first().map_or(CONFIG, String::as_str);
    match start(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log("node", &problem);
            ExitCode::FAILURE
        }
    }
}

fn start(path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    let config: Config = serde_json::from_str(&text).map_err(|error| format!("cannot use `{path}`: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(run(config))
}

/// Runs until SIGTERM; pods go on then, as they do when a kubelet ends.
async fn run(config: Config) -> Result<(), String> {
    let client = client_from(Path::new(KUBECONFIG)).await.map_err(|error| error.to_string())?;
    let shutdown = CancellationToken::new();
    let proxy = proxy::run(client.clone(), config.name.clone(), config.address, config.pod_cidr);
    tokio::spawn(async move {
        if let Err(error) = proxy.await {
            log("kube-proxy", &error.to_string());
        }
    });
    let plugins = Arc::new(Plugins::new(client.clone(), config.name.clone(), CNI_CONFIG.into()));
    let mut kubelet = KubeletConfig::new(
        NodeIdentity {
            name: config.name.clone(),
            address: config.address,
            kubelet_token: config.kubelet_token.clone(),
            cert_pem: config.cert_pem.clone(),
            key_pem: config.key_pem.clone(),
        },
        client,
        plugins,
    );
    kubelet.cluster_dns = config.cluster_dns;
    let role = if config.control_plane { "control-plane" } else { "worker" };
    kubelet.labels.insert(format!("node-role.kubernetes.io/{role}"), String::new());
    // Where the rest of a machine's mounts are shared, as systemd makes them, this changes nothing.
    let pins = kubelet.netns_root.clone();
    let shared = std::fs::create_dir_all(&pins).and_then(|()| cknet_kernel::space::share_mounts_below(&pins));
    shared.map_err(|error| format!("cannot share what is pinned in `{}`: {error}", pins.display()))?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        // Without signals the kubelet ends with its machine.
        let _ = terminated().await;
        stop.cancel();
    });
    kubelet::run(kubelet, shutdown).await.map_err(|error| error.to_string())
}
