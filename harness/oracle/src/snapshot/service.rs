//! A Service, and the EndpointSlices that say where it leads.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::Metadata;
use crate::labels::Labels;
use crate::transport::{PortRef, Protocol};

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// The labels of its backends; empty when its endpoints are kept by hand.
    pub selector: Labels,
    pub exposure: Exposure,
    /// Addresses outside the cluster's ranges that nodes take as the Service's own: `externalIPs`
    /// and those of a load balancer.
    pub external_ips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    /// Which backends serve the cluster address (`internalTrafficPolicy`).
    pub internal: Reach,
    /// Which backends serve node ports and external addresses (`externalTrafficPolicy`).
    pub external: Reach,
    /// Whether backends get traffic before they are ready.
    pub publish_not_ready: bool,
}

/// What a client inside the cluster gets when it asks for the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// Virtual addresses, the primary one first.
    ClusterIps(Vec<IpAddr>),
    /// No virtual address: DNS answers with the backends' own addresses.
    Headless,
    /// A name somewhere else.
    ExternalName,
}

impl Default for Exposure {
    fn default() -> Self {
        Self::ClusterIps(Vec::new())
    }
}

/// Which of a Service's backends may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum Reach {
    /// Any backend of the cluster.
    #[default]
    Cluster,
    /// Only those on the node that translates.
    Local,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<String>,
    pub port: u16,
    pub protocol: Protocol,
    /// The port at the backend; the Service's own number when left out.
    pub target: PortRef,
    pub node_port: Option<u16>,
}

/// What one EndpointSlice says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireSlice")]
pub struct EndpointSlice {
    pub namespace: String,
    /// The Service it belongs to.
    pub service: String,
    pub endpoints: Vec<ServiceEndpoint>,
    /// Port name (empty when the Service's port has none), number, protocol.
    pub ports: Vec<(String, u16, Protocol)>,
}

/// One backend address of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoint {
    pub address: IpAddr,
    pub node: Option<String>,
    pub ready: bool,
}

impl Service {
    /// The Service's port that a client reaches at a number.
    pub fn port(&self, number: u16, protocol: Protocol) -> Option<&ServicePort> {
        let asked = |port: &&ServicePort| port.port == number && port.protocol == protocol;
        self.ports.iter().find(asked)
    }

    /// Its virtual addresses inside the cluster.
    pub fn cluster_ips(&self) -> &[IpAddr] {
        match &self.exposure {
            Exposure::ClusterIps(addresses) => addresses,
            Exposure::Headless | Exposure::ExternalName => &[],
        }
    }
}

/// `namespace/name`.
impl fmt::Display for Service {
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
    r#type: Option<String>,
    selector: Option<Labels>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<IpAddr>>,
    ports: Option<Vec<WirePort>>,
    internal_traffic_policy: Option<Reach>,
    external_traffic_policy: Option<Reach>,
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePort {
    name: Option<String>,
    port: u16,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default, deserialize_with = "number_or_name")]
    target_port: Option<PortRef>,
    node_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Vec<LoadBalancerIngress>,
}

#[derive(Deserialize)]
struct LoadBalancerIngress {
    ip: Option<IpAddr>,
}

fn number_or_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PortRef>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u16),
        Name(String),
    }
    Ok(Option::deserialize(from)?.map(|written| match written {
        Written::Number(number) => PortRef::Number(number),
        Written::Name(name) => PortRef::Name(name),
    }))
}

impl From<Wire> for Service {
    fn from(wire: Wire) -> Self {
        let Wire { mut metadata, spec, status } = wire;
        let balanced = status.load_balancer.ingress.into_iter();
        let mut external_ips = spec.external_ips.clone().unwrap_or_default();
        external_ips.extend(balanced.filter_map(|ingress| ingress.ip));
        Self {
            namespace: metadata.namespace(),
            name: metadata.name,
            exposure: spec.exposure(),
            external_ips,
            selector: spec.selector.unwrap_or_default(),
            ports: spec.ports.unwrap_or_default().into_iter().map(Into::into).collect(),
            internal: spec.internal_traffic_policy.unwrap_or_default(),
            external: spec.external_traffic_policy.unwrap_or_default(),
            publish_not_ready: spec.publish_not_ready_addresses,
        }
    }
}

impl Spec {
    fn exposure(&self) -> Exposure {
        if self.r#type.as_deref() == Some("ExternalName") {
            return Exposure::ExternalName;
        }
        let listed = self.cluster_ips.iter().flatten();
        let mut written: Vec<&str> = listed.map(String::as_str).collect();
        if written.is_empty() {
            written.extend(self.cluster_ip.as_deref());
        }
        if written.contains(&"None") {
            return Exposure::Headless;
        }
        let addresses = written.iter().filter_map(|address| address.parse().ok());
        Exposure::ClusterIps(addresses.collect())
    }
}

impl From<WirePort> for ServicePort {
    fn from(wire: WirePort) -> Self {
        Self {
            name: wire.name.filter(|name| !name.is_empty()),
            port: wire.port,
            protocol: wire.protocol,
            target: wire.target_port.unwrap_or(PortRef::Number(wire.port)),
            node_port: wire.node_port,
        }
    }
}

#[derive(Deserialize)]
struct WireSlice {
    metadata: Metadata,
    endpoints: Option<Vec<WireEndpoint>>,
    ports: Option<Vec<WireSlicePort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    node_name: Option<String>,
    #[serde(default)]
    conditions: WireConditions,
}

#[derive(Default, Deserialize)]
struct WireConditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct WireSlicePort {
    name: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    protocol: Protocol,
}

impl From<WireSlice> for EndpointSlice {
    fn from(mut wire: WireSlice) -> Self {
        let labels = wire.metadata.labels.take().unwrap_or_default();
        let ports = wire.ports.unwrap_or_default().into_iter();
        Self {
            namespace: wire.metadata.namespace(),
            service: labels.get("kubernetes.io/service-name").cloned().unwrap_or_default(),
            endpoints: wire.endpoints.unwrap_or_default().into_iter().filter_map(WireEndpoint::into_endpoint).collect(),
            ports: ports.filter_map(|port| Some((port.name.unwrap_or_default(), port.port?, port.protocol))).collect(),
        }
    }
}

impl WireEndpoint {
    /// Only the first address counts: consumers of slices must ignore any other. A host name in a
    /// slice of type `FQDN` is no address at all.
    fn into_endpoint(self) -> Option<ServiceEndpoint> {
        Some(ServiceEndpoint {
            address: self.addresses.first()?.parse().ok()?,
            node: self.node_name,
            // Absent means ready, by the API's own reading.
            ready: self.conditions.ready.unwrap_or(true),
        })
    }
}
