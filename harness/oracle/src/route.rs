//! From a flow to its paths: Services, node ports and host ports.
//!
//! Owns kube-proxy's rules of choosing backends and of rewriting the source. Must not know policies.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Backend, Cluster, NodeId, Who};
use crate::flow::{Flow, Target};
use crate::path::{Client, Path, Paths, Translation};
use crate::prediction::{NoAnswer, Translator, Unknown};
use crate::snapshot::{Exposure, Reach, Service, ServicePort};
use crate::transport::{PortOf, Protocol};

/// All the ways a flow may go.
pub(crate) fn paths(cluster: &Cluster, client: &Client, flow: &Flow) -> Result<Paths, Unknown> {
    let resolver = Resolver { cluster, client, dialled: flow.dialled() };
    match &flow.to {
        Target::Pod(pod) => resolver.pod(&pod.namespace, &pod.name),
        Target::Ip(address) => Ok(resolver.address(address.to_canonical())),
        Target::Service { namespace, name } => {
            let service = cluster.find_service(namespace, name)?;
            Ok(resolver.service(service))
        }
        Target::Node(name) => {
            let node = cluster.find_node(name)?;
            Ok(resolver.node_by_name(node))
        }
    }
}

struct Resolver<'a> {
    cluster: &'a Cluster,
    client: &'a Client,
    dialled: PortOf,
}

impl Resolver<'_> {
    fn direct(&self, server: Who, address: IpAddr) -> Paths {
        if !self.client.speaks_to(self.cluster, address) {
            return Err(NoAnswer::NoCommonFamily);
        }
        Ok(vec![self.straight(server, address)])
    }

    fn straight(&self, server: Who, address: IpAddr) -> Path {
        Path { server, address, port: self.dialled, translation: None }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Paths, Unknown> {
        let id = self.cluster.find_pod(namespace, name)?;
        let pod = self.cluster.pod(id);
        let server = self.cluster.who(id);
        Ok(match self.shared_family(&pod.ips) {
            Some(address) => self.direct(server, address),
            None => Err(NoAnswer::NoCommonFamily),
        })
    }

    fn shared_family(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let mut addresses = addresses.iter().copied();
        addresses.find(|address| self.client.speaks_to(self.cluster, *address))
    }

    fn address(&self, address: IpAddr) -> Paths {
        if address.is_loopback() {
            return Ok(vec![self.straight(self.client.who, address)]);
        }
        match self.cluster.owner(address) {
            pod @ Who::Pod(_) => return self.direct(pod, address),
            Who::Host { node, .. } => return self.node(node, address),
            Who::Outside => {}
        }
        for service in self.cluster.services() {
            if service.cluster_ips().contains(&address) {
                return self.cluster_ip(service, address);
            }
            if service.external_ips.contains(&address) {
                return self.external_ip(service, address);
            }
        }
        if self.cluster.is_service_range(address) {
            return Err(NoAnswer::NoSuchService { address });
        }
        self.direct(Who::Outside, address)
    }

    fn service(&self, service: &Arc<Service>) -> Paths {
        match &service.exposure {
            Exposure::ClusterIps(addresses) => match self.shared_family(addresses) {
                Some(address) => self.cluster_ip(service, address),
                None => Err(NoAnswer::NoCommonFamily),
            },
            Exposure::Headless => self.headless(service),
            Exposure::ExternalName => Err(NoAnswer::ExternalName { service: service.clone() }),
        }
    }

    /// DNS leads straight to the backends; nothing translates the port.
    fn headless(&self, service: &Arc<Service>) -> Paths {
        let mut paths = Vec::new();
        for port in &service.ports {
            for family in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
                for backend in self.cluster.backends(service, port, family) {
                    let who = self.cluster.owner(backend.address);
                    paths.extend(self.direct(who, backend.address).unwrap_or_default());
                }
            }
        }
        paths.sort_by_key(|path| path.address);
        paths.dedup_by_key(|path| path.address);
        if paths.is_empty() {
            return Err(NoAnswer::NoBackend { service: service.clone() });
        }
        Ok(paths)
    }

    fn cluster_ip(&self, service: &Arc<Service>, address: IpAddr) -> Paths {
        let port = self.service_port(service)?;
        let Some(node) = self.own_node() else {
            return Err(NoAnswer::ClusterIpFromOutside { service: service.clone() });
        };
        let backends = self.backends(service, port, address)?;
        let translate = Translate { service, address, node, masquerade: false };
        match service.internal {
            Reach::Cluster => Ok(self.translated(&translate, backends)),
            Reach::Local => self.local(&translate, backends),
        }
    }

    fn node_by_name(&self, node: NodeId) -> Paths {
        match self.shared_family(&self.cluster.node(node).addresses) {
            Some(address) => self.node(node, address),
            None => Err(NoAnswer::NoCommonFamily),
        }
    }

    /// A node's own address: a node port, a host port, or the node itself.
    fn node(&self, node: NodeId, address: IpAddr) -> Paths {
        if let Some((service, port)) = self.node_port() {
            return self.exposed(service, port, node, address);
        }
        if let Some((pod, number)) = self.cluster.host_port(node, self.dialled) {
            let ips = self.cluster.pod(pod).ips.iter().copied();
            let backends =
                ips.filter(|ip| ip.is_ipv4() == address.is_ipv4()).map(|address| Backend { address, port: number });
            return Ok(backends
                .map(|backend| self.through(Translator::HostPort, address, node, false, backend))
                .collect());
        }
        let pod = self.cluster.host_pod(node, self.dialled);
        self.direct(Who::Host { node, pod }, address)
    }

    fn node_port(&self) -> Option<(&Arc<Service>, &ServicePort)> {
        self.cluster.services().find_map(|service| {
            let port = service
                .ports
                .iter()
                .find(|port| port.node_port == Some(self.dialled.number) && port.protocol == self.dialled.protocol)?;
            Some((service, port))
        })
    }

    /// An external address of a Service. Inside the cluster the client's own node translates it;
    /// from outside it may come in through any node.
    fn external_ip(&self, service: &Arc<Service>, address: IpAddr) -> Paths {
        let port = self.service_port(service)?;
        if let Some(node) = self.own_node() {
            return self.exposed(service, port, node, address);
        }
        let mut paths = Vec::new();
        let mut reason = None;
        for node in self.cluster.nodes() {
            match self.exposed(service, port, node, address) {
                Ok(through) => paths.extend(through),
                Err(why) => reason = Some(why),
            }
        }
        match reason {
            Some(why) if paths.is_empty() => Err(why),
            _ => Ok(paths),
        }
    }

    /// Traffic to an exposed port that a node takes in, under `externalTrafficPolicy`.
    ///
    /// With `Cluster` the node puts its own address in place of the source. With `Local` the source
    /// stays and only the node's own backends serve, save that what starts on this very node is
    /// treated like traffic to the cluster address.
    fn exposed(&self, service: &Arc<Service>, port: &ServicePort, node: NodeId, address: IpAddr) -> Paths {
        let backends = self.backends(service, port, address)?;
        let starts_here = self.own_node() == Some(node);
        let from_host = matches!(self.client.who, Who::Host { .. });
        let masquerade = match service.external {
            Reach::Cluster => true,
            Reach::Local => starts_here && from_host,
        };
        let translate = Translate { service, address, node, masquerade };
        match service.external {
            Reach::Local if !starts_here => self.local(&translate, backends),
            Reach::Local | Reach::Cluster => Ok(self.translated(&translate, backends)),
        }
    }

    fn service_port<'s>(&self, service: &'s Arc<Service>) -> Result<&'s ServicePort, NoAnswer> {
        if self.dialled.protocol == Protocol::Icmp {
            return Err(NoAnswer::IcmpToService { service: service.clone() });
        }
        let found = service.port(self.dialled.number, self.dialled.protocol);
        found.ok_or_else(|| NoAnswer::NoSuchPort { service: service.clone(), port: self.dialled })
    }

    fn backends(&self, service: &Arc<Service>, port: &ServicePort, address: IpAddr) -> Result<Vec<Backend>, NoAnswer> {
        let backends = self.cluster.backends(service, port, address);
        if backends.is_empty() {
            return Err(NoAnswer::NoBackend { service: service.clone() });
        }
        Ok(backends)
    }

    fn local(&self, translate: &Translate<'_>, mut backends: Vec<Backend>) -> Paths {
        backends.retain(|backend| {
            let owner = self.cluster.owner(backend.address);
            self.cluster.node_beneath(owner) == Some(translate.node)
        });
        if backends.is_empty() {
            return Err(NoAnswer::NoLocalBackend {
                service: translate.service.clone(),
                node: self.cluster.node_shared(translate.node),
            });
        }
        Ok(self.translated(translate, backends))
    }

    fn translated(&self, translate: &Translate<'_>, backends: Vec<Backend>) -> Vec<Path> {
        let Translate { service, address, node, masquerade } = *translate;
        let by = || Translator::Service(service.clone());
        backends.into_iter().map(|backend| self.through(by(), address, node, masquerade, backend)).collect()
    }

    fn through(&self, by: Translator, address: IpAddr, node: NodeId, masquerade: bool, backend: Backend) -> Path {
        let port = PortOf { number: backend.port, protocol: self.dialled.protocol };
        let server = match self.cluster.owner(backend.address) {
            Who::Host { node, .. } => Who::Host { node, pod: self.cluster.host_pod(node, port) },
            other => other,
        };
        Path {
            server,
            address: backend.address,
            port,
            translation: Some(Translation { by, address, port: self.dialled, node, masquerade }),
        }
    }

    fn own_node(&self) -> Option<NodeId> {
        self.cluster.node_beneath(self.client.who)
    }
}

/// A Service's translation on one node, before a backend is chosen.
struct Translate<'a> {
    service: &'a Arc<Service>,
    address: IpAddr,
    node: NodeId,
    masquerade: bool,
}
