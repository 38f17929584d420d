//! What the cluster says, reduced to what policy asks about.
//!
//! Kubernetes objects come in, facts stay. Knows nothing of rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cknet_kernel::nft::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

pub type Labels = BTreeMap<String, String>;

/// The label by which every namespace may be selected, whatever else it is labelled with.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Calico's notes on a node: its address on the wire (with a prefix length) and the tunnel's address.
const NODE_ADDRESS: &str = "projectcalico.org/IPv4Address";
const TUNNEL_ADDRESS: &str = "projectcalico.org/IPv4VXLANTunnelAddr";

/// Calico's note on a pod: its addresses, written by the CNI plugin before the kubelet reports them.
const POD_ADDRESSES: &str = "cni.projectcalico.org/podIPs";

/// Namespace and name of a pod, or of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
}

impl PodName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port that a container of a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub labels: Labels,
    /// Empty until the pod has a network.
    pub ips: Vec<IpAddr>,
    pub node: Option<String>,
    /// Policies neither select nor match pods in the host's network.
    pub host_network: bool,
    /// Named ports only.
    pub ports: Vec<ContainerPort>,
    /// Being deleted; keeps its connectivity until it is gone.
    pub terminating: bool,
    /// Succeeded or failed; its address may belong to another pod already.
    pub finished: bool,
}

impl Pod {
    /// Takes part in policy: as a subject, and as a peer.
    pub fn has_network(&self) -> bool {
        !self.host_network && !self.finished
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub ips: Vec<IpAddr>,
    pub vxlan_tunnel_ips: Vec<IpAddr>,
}

/// A range of pod addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub cidr: IpNet,
    /// What leaves all pools gets the node's address.
    pub nat_outgoing: bool,
}

/// Everything that policy depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub namespaces: BTreeMap<String, Labels>,
    pub pods: BTreeMap<PodName, Pod>,
    pub policies: BTreeMap<PodName, NetworkPolicySpec>,
    pub nodes: BTreeMap<String, Node>,
    pub pools: Vec<Pool>,
}

impl World {
    pub fn put_namespace(&mut self, namespace: &core::Namespace) {
        let Some(name) = namespace.metadata.name.clone() else { return };
        let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
        labels.entry(NAMESPACE_NAME_LABEL.into()).or_insert_with(|| name.clone());
        self.namespaces.insert(name, labels);
    }

    pub fn put_pod(&mut self, pod: &core::Pod) {
        if let Some(name) = name_of(&pod.metadata) {
            self.pods.insert(name, Pod::from(pod));
        }
    }

    pub fn put_policy(&mut self, policy: &NetworkPolicy) {
        if let (Some(name), Some(spec)) = (name_of(&policy.metadata), policy.spec.clone()) {
            self.policies.insert(name, spec);
        }
    }

    pub fn put_node(&mut self, node: &core::Node) {
        if let Some(name) = node.metadata.name.clone() {
            self.nodes.insert(name, Node::from(node));
        }
    }
}

fn name_of(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<PodName> {
    Some(PodName::new(metadata.namespace.clone()?, metadata.name.clone()?))
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let phase = status.and_then(|status| status.phase.as_deref());
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ips: pod_ips(pod),
            node: spec.and_then(|spec| spec.node_name.clone()),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            ports: spec.map(named_ports).unwrap_or_default(),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
        }
    }
}

fn pod_ips(pod: &core::Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let many = status.iter().flat_map(|status| status.pod_ips.iter().flatten()).map(|entry| entry.ip.as_str());
    let single = status.and_then(|status| status.pod_ip.as_deref());
    let mut ips: Vec<IpAddr> = many.chain(single).filter_map(|ip| ip.parse().ok()).collect();
    if ips.is_empty() {
        let noted = pod.metadata.annotations.iter().flatten().find(|(key, _)| *key == POD_ADDRESSES);
        let noted = noted.into_iter().flat_map(|(_, addresses)| addresses.split(','));
        ips.extend(noted.filter_map(|cidr| cidr.split('/').next()?.parse::<IpAddr>().ok()));
    }
    ips.sort_unstable();
    ips.dedup();
    ips
}

/// Ports of containers, and of init containers that stay (sidecars).
fn named_ports(spec: &core::PodSpec) -> Vec<ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(ContainerPort {
                name: port.name.clone()?,
                protocol: protocol(port.protocol.as_deref())?,
                port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// TCP where nothing is said; `None` for what Kubernetes does not know.
pub(crate) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::TCP),
        Some("UDP") => Some(Protocol::UDP),
        Some("SCTP") => Some(Protocol::SCTP),
        Some(_) => None,
    }
}

impl From<&core::Node> for Node {
    fn from(node: &core::Node) -> Self {
        let annotations = node.metadata.annotations.as_ref();
        let noted = |key| annotations.and_then(|notes| notes.get(key)).map(String::as_str);
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal =
            addresses.filter(|address| address.type_ == "InternalIP").map(|address| address.address.as_str());
        let mut ips: Vec<IpAddr> = noted(NODE_ADDRESS)
            .and_then(|cidr| cidr.split('/').next())
            .into_iter()
            .chain(internal)
            .filter_map(|ip| ip.parse().ok())
            .collect();
        ips.sort_unstable();
        ips.dedup();
        let tunnel = noted(TUNNEL_ADDRESS).and_then(|ip| ip.parse().ok());
        Self { ips, vxlan_tunnel_ips: tunnel.into_iter().collect() }
    }
}
