//! What a kubelet is told when it starts. Data only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;

use super::network::PodNetwork;

/// Where a real kubelet listens.
pub const KUBELET_PORT: u16 = 10250;

/// Everything about one node that is not read from the API.
#[derive(Clone)]
pub struct KubeletConfig {
    pub node_name: String,
    pub node_ip: Ipv4Addr,
    /// A client of the API server with the node's identity.
    pub client: kube::Client,
    /// The bearer token that the API server shows to this kubelet.
    pub kubelet_token: String,
    /// The certificate (PEM, leaf first) and key of the streaming server; the cluster's authority signed it for the
    /// node's address and name.
    pub cert_pem: String,
    pub key_pem: String,
    /// Added to the labels that every node has.
    pub labels: BTreeMap<String, String>,
    /// The taints a node that is not known to the API yet registers with.
    pub taints: Vec<Taint>,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    /// Reported as the node's `kubeletVersion`.
    pub kubelet_version: String,
    /// Where the records, files and logs of the pods are kept. Private to the node.
    pub pod_root: PathBuf,
    /// Where network namespaces are pinned; `ip netns` looks in `/run/netns`.
    pub netns_root: PathBuf,
    /// The folder whose first configuration decides which plugin is used; watched for changes.
    pub cni_config_dir: PathBuf,
    pub network: Arc<dyn PodNetwork>,
    /// What containers run: one executable with many personalities.
    pub executable: PathBuf,
    pub port: u16,
}

impl KubeletConfig {
    /// The configuration of a node of this distribution; what has a default can be changed afterwards.
    pub fn new(identity: NodeIdentity, client: kube::Client, network: Arc<dyn PodNetwork>) -> Self {
        Self {
            node_name: identity.name,
            node_ip: identity.address,
            client,
            kubelet_token: identity.kubelet_token,
            cert_pem: identity.cert_pem,
            key_pem: identity.key_pem,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            cluster_dns: Ipv4Addr::new(10, 152, 183, 10),
            cluster_domain: "cluster.local".into(),
            kubelet_version: "v1.33.13".into(),
            pod_root: "/run/cknet/pods".into(),
            netns_root: "/run/netns".into(),
            cni_config_dir: "/etc/cni/net.d".into(),
            network,
            executable: own_executable(),
            port: KUBELET_PORT,
        }
    }
}

/// Who a node is and how it proves it.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    pub name: String,
    pub address: Ipv4Addr,
    pub kubelet_token: String,
    pub cert_pem: String,
    pub key_pem: String,
}

/// The path of this program. The path on disk gives processes a readable name; the link in /proc is right even when
/// the file was replaced since.
fn own_executable() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    match std::fs::read_link(link) {
        Ok(path) if path.exists() => path,
        _ => link.into(),
    }
}
