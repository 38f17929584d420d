//! A snapshot made searchable: who has a name, who has an address, what is behind a Service.
//!
//! Must not know policies.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::labels::{Labels, Selector};
use crate::prediction::{Identity, Party, Unknown};
use crate::snapshot::{EndpointSlice, Namespace, Node, Pod, Service, ServicePort, Snapshot};
use crate::transport::{PortOf, PortRef};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PodId(pub usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub usize);

/// Who stands at an end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A pod with a network of its own.
    Pod(PodId),
    /// A process in a node's network, perhaps of a hostNetwork pod.
    Host { node: NodeId, pod: Option<PodId> },
    /// Anybody else.
    Outside,
}

/// A pod with what belongs to it.
pub(crate) struct Member {
    pub pod: Arc<Pod>,
    pub namespace: Arc<Namespace>,
    pub node: NodeId,
}

/// The node of pods that name none, in snapshots made by hand.
const UNNAMED_NODE: &str = "unnamed";

/// One place where a Service's traffic may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    pub address: IpAddr,
    pub port: u16,
}

pub(crate) struct Cluster {
    members: Vec<Member>,
    nodes: Vec<Arc<Node>>,
    services: Vec<Arc<Service>>,
    pods_by_name: HashMap<String, HashMap<String, PodId>>,
    nodes_by_name: HashMap<String, NodeId>,
    owners: HashMap<IpAddr, Who>,
    slices: HashMap<(String, String), Vec<EndpointSlice>>,
    service_ranges: Vec<IpNet>,
}

impl Cluster {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut cluster = Self {
            members: Vec::new(),
            nodes: Vec::new(),
            services: snapshot.services.iter().cloned().map(Arc::new).collect(),
            pods_by_name: HashMap::new(),
            nodes_by_name: HashMap::new(),
            owners: HashMap::new(),
            slices: HashMap::new(),
            service_ranges: snapshot.service_ranges.clone(),
        };
        for node in &snapshot.nodes {
            cluster.add_node(node.clone());
        }
        cluster.add_pods(snapshot);
        for slice in &snapshot.endpoint_slices {
            let service = (slice.namespace.clone(), slice.service.clone());
            cluster.slices.entry(service).or_default().push(slice.clone());
        }
        cluster
    }

    fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len());
        for address in node.all_addresses() {
            self.owners.insert(address, Who::Host { node: id, pod: None });
        }
        self.nodes_by_name.insert(node.name.clone(), id);
        self.nodes.push(Arc::new(node));
        id
    }

    /// Pods that ran to their end are left out: they send nothing, and their addresses are free.
    fn add_pods(&mut self, snapshot: &Snapshot) {
        let mut namespaces: HashMap<&str, Arc<Namespace>> = HashMap::new();
        for namespace in &snapshot.namespaces {
            let complete = Namespace::new(namespace.name.clone(), namespace.labels.clone());
            namespaces.insert(&namespace.name, Arc::new(complete));
        }
        for pod in snapshot.pods.iter().filter(|pod| !pod.finished) {
            let namespace = namespaces
                .entry(&pod.namespace)
                .or_insert_with(|| Arc::new(Namespace::new(&pod.namespace, Labels::new())))
                .clone();
            let node = self.node_of(pod);
            let id = PodId(self.members.len());
            if !pod.host_network {
                let owned = pod.ips.iter().map(|address| (*address, Who::Pod(id)));
                self.owners.extend(owned);
            }
            self.pods_by_name.entry(pod.namespace.clone()).or_default().insert(pod.name.clone(), id);
            self.members.push(Member { pod: Arc::new(pod.clone()), namespace, node });
        }
    }

    /// The node of a pod; one that the snapshot does not list is known by what its pods say of it.
    fn node_of(&mut self, pod: &Pod) -> NodeId {
        let name = pod.node.as_deref().unwrap_or(UNNAMED_NODE);
        if let Some(node) = self.nodes_by_name.get(name) {
            return *node;
        }
        let addresses = if pod.host_network { pod.ips.clone() } else { Vec::new() };
        self.add_node(Node { name: name.to_owned(), addresses, tunnel_addresses: Vec::new() })
    }

    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = (PodId, &Member)> {
        let numbered = self.members.iter().enumerate();
        numbered.map(|(position, member)| (PodId(position), member))
    }

    pub(crate) fn member(&self, pod: PodId) -> &Member {
        &self.members[pod.0]
    }

    pub(crate) fn pod(&self, pod: PodId) -> &Pod {
        &self.members[pod.0].pod
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0]
    }

    pub(crate) fn node_shared(&self, node: NodeId) -> Arc<Node> {
        self.nodes[node.0].clone()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// A pod that has an address by now.
    pub(crate) fn find_pod(&self, namespace: &str, name: &str) -> Result<PodId, Unknown> {
        let found = self.pods_by_name.get(namespace).and_then(|pods| pods.get(name));
        let pod = || format!("{namespace}/{name}");
        let id = *found.ok_or_else(|| Unknown::Pod { pod: pod() })?;
        if self.pod(id).ips.is_empty() {
            return Err(Unknown::NoAddress { pod: pod() });
        }
        Ok(id)
    }

    pub(crate) fn find_node(&self, name: &str) -> Result<NodeId, Unknown> {
        let found = self.nodes_by_name.get(name).copied();
        found.ok_or_else(|| Unknown::Node { node: name.to_owned() })
    }

    pub(crate) fn find_service(&self, namespace: &str, name: &str) -> Result<&Arc<Service>, Unknown> {
        let named = |service: &&Arc<Service>| service.namespace == namespace && service.name == name;
        self.services.iter().find(named).ok_or_else(|| Unknown::Service { service: format!("{namespace}/{name}") })
    }

    /// Who a pod is on the network: a hostNetwork pod is somebody on its node.
    pub(crate) fn who(&self, pod: PodId) -> Who {
        let member = self.member(pod);
        if member.pod.host_network { Who::Host { node: member.node, pod: Some(pod) } } else { Who::Pod(pod) }
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Who {
        self.owners.get(&address).copied().unwrap_or(Who::Outside)
    }

    /// The node on which somebody is.
    pub(crate) fn node_beneath(&self, who: Who) -> Option<NodeId> {
        match who {
            Who::Pod(pod) => Some(self.member(pod).node),
            Who::Host { node, .. } => Some(node),
            Who::Outside => None,
        }
    }

    /// The hostNetwork pod to which a port of a node belongs, as far as one declares it.
    pub(crate) fn host_pod(&self, node: NodeId, port: PortOf) -> Option<PodId> {
        let declares = |pod: &Pod| {
            pod.ports.iter().any(|declared| declared.port() == port)
                || pod.listening.as_ref().is_some_and(|open| open.contains(&port))
        };
        let found =
            self.members().find(|(_, member)| member.node == node && member.pod.host_network && declares(&member.pod));
        found.map(|(id, _)| id)
    }

    /// The pod to which a node forwards one of its ports, and that pod's own port.
    pub(crate) fn host_port(&self, node: NodeId, port: PortOf) -> Option<(PodId, u16)> {
        self.members().find_map(|(id, member)| {
            if member.node != node || member.pod.host_network {
                return None;
            }
            let forwarded = member
                .pod
                .ports
                .iter()
                .find(|declared| declared.host_port == Some(port.number) && declared.protocol == port.protocol)?;
            Some((id, forwarded.number))
        })
    }

    /// Whether an address is kept for Services.
    pub(crate) fn is_service_range(&self, address: IpAddr) -> bool {
        self.service_ranges.iter().any(|range| range.contains(&address))
    }

    /// The ready backends of one port of a Service, in one family of addresses.
    pub(crate) fn backends(&self, service: &Service, port: &ServicePort, beside: IpAddr) -> Vec<Backend> {
        let key = (service.namespace.clone(), service.name.clone());
        let mut backends = match self.slices.get(&key) {
            Some(slices) => listed_backends(slices, port),
            None => self.selected_backends(service, port),
        };
        backends.retain(|backend| backend.address.is_ipv4() == beside.is_ipv4());
        backends.sort_unstable();
        backends.dedup();
        backends
    }

    fn selected_backends(&self, service: &Service, port: &ServicePort) -> Vec<Backend> {
        if service.selector.is_empty() {
            return Vec::new();
        }
        let selector = Selector::labels(&service.selector);
        let pods = self.members.iter().map(|member| &member.pod);
        pods.filter(|pod| pod.namespace == service.namespace && selector.matches(&pod.labels))
            .filter(|pod| pod.ready || service.publish_not_ready)
            .filter_map(|pod| Some((pod, target_on(pod, port)?)))
            .flat_map(|(pod, port)| pod.ips.iter().map(move |&address| Backend { address, port }))
            .collect()
    }

    /// Somebody with an address, in the words of a prediction.
    pub(crate) fn party(&self, who: Who, address: Option<IpAddr>) -> Party {
        let identity = match who {
            Who::Pod(pod) => {
                let member = self.member(pod);
                Identity::Pod { pod: member.pod.clone(), namespace: member.namespace.clone() }
            }
            Who::Host { node, pod: Some(pod) } => {
                Identity::HostPod { pod: self.member(pod).pod.clone(), node: self.nodes[node.0].clone() }
            }
            Who::Host { node, pod: None } => Identity::Node(self.nodes[node.0].clone()),
            Who::Outside => Identity::Outside,
        };
        Party { identity, address }
    }
}

fn listed_backends(slices: &[EndpointSlice], port: &ServicePort) -> Vec<Backend> {
    let name = port.name.as_deref().unwrap_or_default();
    let mut backends = Vec::new();
    for slice in slices {
        let numbers = slice.ports.iter();
        let numbers = numbers
            .filter(|(listed, _, protocol)| listed == name && *protocol == port.protocol)
            .map(|(_, number, _)| *number);
        for port in numbers {
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
            backends.extend(ready.map(|endpoint| Backend { address: endpoint.address, port }));
        }
    }
    backends
}

/// The port of a pod that a Service's port leads to. A pod without the name is no backend.
fn target_on(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => pod.numbers_of(name, port.protocol).next(),
    }
}
