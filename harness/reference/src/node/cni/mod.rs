//! The CNI plugins of a node: which configuration wins, and how a sandbox gets its link, address and routes.
//!
//! The order is that of the container runtime: the lexicographically first file of /etc/cni/net.d decides, and the
//! `type` of its first plugin says which of the built-in ones it is: `calico`, `bridge`, or `flannel`. Enforcing policy
//! on a link is Felix's business, and Felix knows only the links that `calico` makes.

mod bridge;
pub mod config;
pub mod flannel;
mod host_local;
pub mod ipam;
pub mod plumbing;
pub mod portmap;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cknet_kernel::link::NetlinkError;
use cknet_kernel::ns::NetNs;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use self::bridge::Bridge;
use self::config::Config;
use self::host_local::HostLocal;
use self::ipam::{Ipam, IpamError};
use self::portmap::HostPort;
use crate::node::calico::endpoint_status::{self, await_programmed};

/// Longest wait for Felix to program a new pod: `policy_setup_timeout_seconds` of Calico's plugin.
const POLICY_SETUP: Duration = Duration::from_secs(1);

/// A pod's sandbox as the runtime hands it to a plugin.
#[derive(Clone, Copy)]
pub struct PodSandbox<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub container_id: &'a str,
    pub netns: &'a NetNs,
    /// Ports of the node that lead to it (the capability `portMappings`).
    pub ports: &'a [HostPort],
}

/// What a sandbox got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub address: Ipv4Addr,
    pub host_interface: String,
}

/// A sandbox could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    #[error("cni plugin not initialized")]
    NotInitialized,
    #[error("failed to load CNI config file {path}: {cause}")]
    Config { path: String, cause: String },
    #[error("failed to find plugin \"{0}\" in path [/opt/cni/bin]")]
    UnknownPlugin(String),
    #[error("plugin type=\"calico\" failed (add): {0}")]
    Ipam(#[from] IpamError),
    #[error("plugin type=\"calico\" failed (add): {0}")]
    Link(#[from] NetlinkError),
    #[error("plugin type=\"calico\" failed (add): {0}")]
    System(#[from] std::io::Error),
    #[error("plugin type=\"calico\" failed (add): error updating pod: {0}")]
    Annotate(#[from] kube::Error),
    #[error("plugin type=\"{plugin}\" failed (add): {cause}")]
    Plugin { plugin: &'static str, cause: String },
}

/// The plugins of one node.
#[derive(Clone)]
pub struct Plugins {
    client: Client,
    ipam: Ipam,
    node: Arc<str>,
    config_dir: Arc<PathBuf>,
}

impl Plugins {
    pub fn new(client: Client, node: String, config_dir: PathBuf) -> Self {
        Self { ipam: Ipam::new(client.clone(), &node), client, node: node.into(), config_dir: Arc::new(config_dir) }
    }

    /// The file that wins, or why the network is not ready (the runtime's own words). A first file that cannot be used
    /// is as good as none: the runtime does not go on to the next.
    pub fn readiness(&self) -> Result<PathBuf, String> {
        let usable = config::winner(&self.config_dir).filter(|path| Config::read(path).is_ok());
        usable.ok_or_else(|| CniError::NotInitialized.to_string())
    }

    /// Attaches a sandbox to the network of the configuration that wins.
    pub async fn add(&self, sandbox: &PodSandbox<'_>) -> Result<Attachment, CniError> {
        let config = self.config()?;
        let attachment = match config.plugin.as_str() {
            "calico" => self.add_calico(sandbox, &config).await,
            "bridge" => add_bridge(sandbox, &config).await,
            "flannel" => add_bridge(sandbox, &flannel::delegate(&config)?).await,
            other => Err(CniError::UnknownPlugin(other.to_string())),
        }?;
        if config.maps_ports
            && let Err(error) = portmap::open(sandbox.container_id, attachment.address, sandbox.ports)
        {
            // As a runtime does with a list that fails in the middle.
            let _ = self.delete(sandbox).await;
            return Err(CniError::Plugin { plugin: "portmap", cause: error.to_string() });
        }
        Ok(attachment)
    }

    async fn add_calico(&self, sandbox: &PodSandbox<'_>, config: &Config) -> Result<Attachment, CniError> {
        let address = self.calico_address(sandbox, config).await?;
        let host_interface = interface_name(sandbox.namespace, sandbox.name);
        // Felix may hear of the address before the link is there: it looks again when the link comes.
        let plumbed = plumbing::connect(sandbox.netns, &host_interface, address, config.mtu());
        let (plumbed, annotated) = tokio::join!(plumbed, self.annotate(sandbox, address));
        if let Err(error) = plumbed.and(annotated.map_err(CniError::from)) {
            // The address would be lost for as long as the block lives.
            let _ = self.release(sandbox).await;
            return Err(error);
        }
        // Without a Felix that runs, the pod starts all the same and waits for its packets to pass.
        await_programmed(Path::new(endpoint_status::FOLDER), sandbox.container_id, POLICY_SETUP).await;
        Ok(Attachment { address, host_interface })
    }

    /// From Calico's blocks, or from the node's own part of the pod network where another CNI carries the packets.
    async fn calico_address(&self, sandbox: &PodSandbox<'_>, config: &Config) -> Result<Ipv4Addr, CniError> {
        let ipam = config.ipam();
        if ipam.get("type").and_then(serde_json::Value::as_str) == Some("host-local") {
            let store = HostLocal::of(&config.network, &ipam, self.pod_cidr().await?);
            let address = store.and_then(|store| store.assign(sandbox.container_id));
            return address.map_err(|error| CniError::Plugin { plugin: "calico", cause: error.to_string() });
        }
        let attributes = [("namespace", sandbox.namespace), ("pod", sandbox.name)];
        Ok(self.ipam.assign(&handle_of(sandbox), &attributes).await?)
    }

    /// The part of the pod network that the cluster has given this node, if it gives any.
    async fn pod_cidr(&self) -> Result<Option<Ipv4Net>, kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let own = nodes.get(&self.node).await?.spec.and_then(|spec| spec.pod_cidr);
        Ok(own.and_then(|cidr| cidr.parse().ok()))
    }

    /// Undoes [`Plugins::add`], whichever plugin that was; doing it twice, or without an add before, is no failure.
    ///
    /// The link is taken from inside of the sandbox, as Calico does: the host's end has the name of namespace and pod,
    /// and may by now be that of a later pod of the same name.
    pub async fn delete(&self, sandbox: &PodSandbox<'_>) -> Result<(), CniError> {
        if !sandbox.ports.is_empty() {
            portmap::close(sandbox.container_id)
                .map_err(|error| CniError::Plugin { plugin: "portmap", cause: error.to_string() })?;
        }
        plumbing::disconnect(sandbox.netns).await?;
        self.release(sandbox).await
    }

    async fn release(&self, sandbox: &PodSandbox<'_>) -> Result<(), CniError> {
        host_local::release(sandbox.container_id)?;
        Ok(self.ipam.release(&handle_of(sandbox)).await?)
    }

    fn config(&self) -> Result<Config, CniError> {
        let path = config::winner(&self.config_dir).ok_or(CniError::NotInitialized)?;
        Config::read(&path)
            .map_err(|cause| CniError::Config { path: path.display().to_string(), cause: cause.to_string() })
    }

    /// Tells Felix on every node which address the pod has, before the kubelet tells the world.
    async fn annotate(&self, sandbox: &PodSandbox<'_>, address: Ipv4Addr) -> Result<(), kube::Error> {
        let annotations = json!({
            "cni.projectcalico.org/containerID": sandbox.container_id,
            "cni.projectcalico.org/podIP": format!("{address}/32"),
            "cni.projectcalico.org/podIPs": format!("{address}/32"),
        });
        let patch = json!({"metadata": {"annotations": annotations, "uid": sandbox.uid}});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), sandbox.namespace);
        pods.patch_status(sandbox.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

async fn add_bridge(sandbox: &PodSandbox<'_>, config: &Config) -> Result<Attachment, CniError> {
    let failed = |cause: String| CniError::Plugin { plugin: "bridge", cause };
    let store = HostLocal::of(&config.network, &config.ipam(), None).map_err(|error| failed(error.to_string()))?;
    let address = store.assign(sandbox.container_id).map_err(|error| failed(error.to_string()))?;
    let bridge = Bridge {
        name: config.text("bridge").unwrap_or(bridge::DEFAULT).to_string(),
        subnet: store.subnet,
        gateway: store.gateway(),
        mtu: config.mtu(),
        is_gateway: config.is("isGateway") || config.is("isDefaultGateway"),
        masquerade: config.is("ipMasq"),
    };
    match bridge.connect(sandbox, address).await {
        Ok(host_interface) => Ok(Attachment { address, host_interface }),
        Err(error) => {
            let _ = host_local::release(sandbox.container_id);
            Err(failed(error.to_string()))
        }
    }
}

fn handle_of(sandbox: &PodSandbox<'_>) -> String {
    format!("k8s-pod-network.{}", sandbox.container_id)
}

/// The name of the host's end of a pod's link: `cali` and 11 hexadecimal digits of a digest of `namespace.name`.
///
/// Calico takes them from SHA-1; here SHA-256 serves, so the digits differ from a real node's.
pub fn interface_name(namespace: &str, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{namespace}.{name}").as_bytes());
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("cali{}", &digits[..11])
}
