//! A pod: who it is, where it runs, its addresses and its ports.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use super::Metadata;
use crate::labels::Labels;
use crate::transport::{PortOf, Protocol};

/// A pod as far as the network is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The node it is bound to.
    pub node: Option<String>,
    /// At most one address of each family, the primary one first.
    pub ips: Vec<IpAddr>,
    /// Whether it lives in its node's network and has the node's addresses.
    pub host_network: bool,
    /// What its containers declare. This names ports; it opens and closes none.
    pub ports: Vec<ContainerPort>,
    /// Whether Services send traffic to it.
    pub ready: bool,
    /// Succeeded or failed: its address may be somebody else's by now.
    pub finished: bool,
    /// Where something listens. `None` is "not known"; no manifest tells it.
    pub listening: Option<BTreeSet<PortOf>>,
}

/// One port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    pub name: Option<String>,
    #[serde(rename = "containerPort")]
    pub number: u16,
    #[serde(default)]
    pub protocol: Protocol,
    /// The port of the node that is forwarded here.
    pub host_port: Option<u16>,
}

impl ContainerPort {
    /// Its number and protocol.
    pub fn port(&self) -> PortOf {
        PortOf { number: self.number, protocol: self.protocol }
    }
}

impl Pod {
    /// The numbers that a port name stands for on this pod, for one protocol.
    pub fn numbers_of<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        self.ports
            .iter()
            .filter(move |port| port.protocol == protocol && port.name.as_deref() == Some(name))
            .map(|port| port.number)
    }

    /// Whether something answers on a port; `None` if that is not known.
    pub fn listens_on(&self, port: PortOf) -> Option<bool> {
        let listening = self.listening.as_ref()?;
        Some(port.protocol == Protocol::Icmp || listening.contains(&port))
    }
}

/// `namespace/name`.
impl fmt::Display for Pod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    ports: Option<Vec<ContainerPort>>,
    restart_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Address>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Address {
    ip: IpAddr,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl From<Wire> for Pod {
    fn from(wire: Wire) -> Self {
        let Wire { mut metadata, spec, status } = wire;
        let phase = status.phase.as_deref();
        Self {
            namespace: metadata.namespace(),
            ready: status.is_ready(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            node: spec.node_name.clone(),
            ips: status.addresses(),
            host_network: spec.host_network.unwrap_or(false),
            ports: spec.ports(),
            listening: None,
        }
    }
}

impl Spec {
    /// The ports of the containers that run as long as the pod: a sidecar is written as an init
    /// container that restarts always.
    fn ports(self) -> Vec<ContainerPort> {
        let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
        let sidecars = self.init_containers.unwrap_or_default().into_iter();
        self.containers
            .into_iter()
            .chain(sidecars.filter(is_sidecar))
            .flat_map(|container| container.ports.unwrap_or_default())
            .collect()
    }
}

impl Status {
    fn addresses(self) -> Vec<IpAddr> {
        let listed = self.pod_ips.unwrap_or_default();
        let mut addresses: Vec<_> = listed.into_iter().map(|address| address.ip).collect();
        if addresses.is_empty() {
            addresses.extend(self.pod_ip);
        }
        addresses
    }

    /// Ready unless a condition says otherwise, so that a snapshot written by hand needs none.
    fn is_ready(&self) -> bool {
        let mut conditions = self.conditions.iter().flatten();
        conditions.find(|condition| condition.r#type == "Ready").is_none_or(|condition| condition.status == "True")
    }
}
