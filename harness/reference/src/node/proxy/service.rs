//! What Services and EndpointSlices say, reduced to ports and the endpoints behind them.
//!
//! Kubernetes objects come in, facts stay. Knows nothing of rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cknet_kernel::nft::Protocol;
use k8s_openapi::api::core::v1::{Service, ServicePort as PortSpec, ServiceSpec};
use k8s_openapi::api::discovery::v1::{self, EndpointSlice};

use crate::node::policy::PodName;

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client stays with its endpoint where nothing else is said.
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// Whose endpoints may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    /// Only endpoints on the node where the traffic arrives.
    Local,
}

/// Whether an endpoint takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    Ready,
    /// Terminating but still serving: used where nothing is ready.
    Leaving,
    Unready,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
    pub node: Option<String>,
    pub readiness: Readiness,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub service: PodName,
    /// Empty for a service's only port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
    pub cluster_ips: Vec<IpAddr>,
    /// External addresses and those of load balancers.
    pub external_ips: Vec<IpAddr>,
    pub internal: TrafficPolicy,
    pub external: TrafficPolicy,
    /// Clients stay with an endpoint for this long after their last new connection.
    pub affinity: Option<Duration>,
    /// In order, each once.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// The endpoints that a new connection may go to: the ready ones; where none is, those that are leaving.
    pub fn usable(&self, version_v4: bool, node: Option<&str>) -> Vec<&Endpoint> {
        let here = |endpoint: &&Endpoint| node.is_none_or(|node| endpoint.node.as_deref() == Some(node));
        let of = |readiness| {
            let endpoints = self.endpoints.iter().filter(|endpoint| endpoint.ip.is_ipv4() == version_v4);
            endpoints.filter(move |endpoint| endpoint.readiness == readiness).filter(here).collect::<Vec<_>>()
        };
        Some(of(Readiness::Ready)).filter(|ready| !ready.is_empty()).unwrap_or_else(|| of(Readiness::Leaving))
    }
}

/// All ports of all services that have an address of their own, in order.
///
/// Headless services and those that are only a name elsewhere have none.
pub fn service_ports<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<PodName, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let (Some(namespace), Some(name)) = (&slice.metadata.namespace, name) {
            by_service.entry(PodName::new(namespace, name)).or_default().push(slice);
        }
    }
    let mut ports: Vec<_> = services
        .into_iter()
        .filter_map(|service| {
            let name = PodName::new(service.metadata.namespace.clone()?, service.metadata.name.clone()?);
            let slices = by_service.get(&name).map(Vec::as_slice).unwrap_or_default();
            Some(ports_of(name, service, slices))
        })
        .flatten()
        .collect();
    ports.sort_by(|left, right| {
        (&left.service, left.protocol, left.port).cmp(&(&right.service, right.protocol, right.port))
    });
    ports
}

fn ports_of(name: PodName, service: &Service, slices: &[&EndpointSlice]) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let cluster_ips = cluster_ips(spec);
    if cluster_ips.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let one = |port: &PortSpec| {
        let port_name = port.name.clone().unwrap_or_default();
        Some(ServicePort {
            service: name.clone(),
            protocol: crate::node::policy::protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            cluster_ips: cluster_ips.clone(),
            external_ips: external_ips(service, spec),
            internal: traffic_policy(spec.internal_traffic_policy.as_deref()),
            external: traffic_policy(spec.external_traffic_policy.as_deref()),
            affinity: affinity(spec),
            endpoints: endpoints(slices, &port_name),
            name: port_name,
        })
    };
    spec.ports.iter().flatten().filter_map(one).collect()
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    sorted(all.filter_map(|ip| ip.parse().ok()))
}

fn external_ips(service: &Service, spec: &ServiceSpec) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let balanced = balanced.filter_map(|ingress| ingress.ip.as_ref());
    sorted(spec.external_ips.iter().flatten().chain(balanced).filter_map(|ip| ip.parse().ok()))
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

fn traffic_policy(name: Option<&str>) -> TrafficPolicy {
    if name == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client| client.timeout_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Some(seconds.map_or(DEFAULT_AFFINITY, Duration::from_secs))
}

/// Endpoints of the slices' port of that name; names of slice ports follow those of service ports.
fn endpoints(slices: &[&EndpointSlice], port_name: &str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(number) = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in &slice.endpoints {
            // All addresses of one entry are the same endpoint; the first one stands for it.
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else { continue };
            let readiness = readiness(endpoint);
            endpoints.push(Endpoint { ip, port: number, node: endpoint.node_name.clone(), readiness });
        }
    }
    // While an endpoint moves from slice to slice it may be in two; the more ready entry comes first.
    endpoints.sort_unstable_by_key(|endpoint| (endpoint.ip, endpoint.port, endpoint.readiness));
    endpoints.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
    endpoints
}

/// What is not said counts as ready, and as serving what readiness says.
fn readiness(endpoint: &v1::Endpoint) -> Readiness {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, _) => Readiness::Ready,
        (false, true, true) => Readiness::Leaving,
        _ => Readiness::Unready,
    }
}
