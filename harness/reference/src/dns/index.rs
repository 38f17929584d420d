//! What cluster DNS knows: services, their endpoints and namespaces, arranged for being asked. Pure.
//!
//! It knows nothing of messages; [`super::zone`] reads it.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// All that can be asked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The cluster's domain, in small letters, such as `cluster.local`.
    pub(super) domain: String,
    pub(super) namespaces: HashSet<String>,
    /// By namespace and name.
    services: HashMap<String, HashMap<String, Entry>>,
    /// Full names by address.
    pub(super) names: HashMap<Ipv4Addr, Vec<String>>,
    /// The address of this DNS itself as a service.
    pub(super) own: Option<Ipv4Addr>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) ports: Vec<Port>,
    pub(super) endpoints: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Cluster(Ipv4Addr),
    Headless,
    External(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Port {
    pub(super) name: String,
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: String,
    pub(super) number: u16,
}

/// An endpoint that is ready.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Its own name below that of the service.
    pub(super) label: String,
    pub(super) address: Ipv4Addr,
    pub(super) ports: Vec<Port>,
}

impl Index {
    pub(super) fn build(
        domain: &str,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        namespaces: &[Arc<Namespace>],
    ) -> Self {
        let mut index = Self {
            domain: domain.to_owned(),
            namespaces: namespaces.iter().map(|namespace| namespace.name_any()).collect(),
            ..Self::default()
        };
        let mut targets = targets(slices);
        // In a fixed order, so that an address with several names gives them in the same one each time.
        let mut sorted: Vec<&Arc<Service>> = services.iter().collect();
        sorted.sort_by_key(|service| (service.namespace(), service.name_any()));
        for service in sorted {
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            let endpoints = targets.remove(&key).unwrap_or_default();
            if let Some(entry) = entry(service, endpoints) {
                index.add(key, entry);
            }
        }
        index
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(namespace)?.get(name)
    }

    fn add(&mut self, (namespace, name): (String, String), entry: Entry) {
        let full = format!("{name}.{namespace}.svc.{}", self.domain);
        if let Kind::Cluster(address) = entry.kind {
            if (namespace.as_str(), name.as_str()) == ("kube-system", "kube-dns") {
                self.own = Some(address);
            }
            self.names.entry(address).or_default().push(full);
        } else {
            for target in &entry.endpoints {
                let name = format!("{}.{full}", target.label);
                self.names.entry(target.address).or_default().push(name);
            }
        }
        self.services.entry(namespace).or_default().insert(name, entry);
    }
}

fn entry(service: &Service, endpoints: Vec<Target>) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    let kind = match spec.cluster_ip.as_deref() {
        _ if spec.type_.as_deref() == Some("ExternalName") => {
            Kind::External(spec.external_name.clone()?.trim_end_matches('.').to_lowercase())
        }
        Some("None") => Kind::Headless,
        address => Kind::Cluster(address?.parse().ok()?),
    };
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|one| port(one.name.as_deref(), one.protocol.as_deref(), Some(one.port)));
    Some(Entry { kind, ports: ports.collect(), endpoints })
}

fn port(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
        number: u16::try_from(number?).ok()?,
    })
}

/// The endpoints that are ready, by namespace and name of their service.
fn targets(slices: &[Arc<EndpointSlice>]) -> HashMap<(String, String), Vec<Target>> {
    let mut targets: HashMap<_, Vec<Target>> = HashMap::new();
    for slice in slices {
        let Some(service) = slice.labels().get(SERVICE_LABEL) else {
            continue;
        };
        let ports =
            slice.ports.iter().flatten().filter_map(|one| port(one.name.as_deref(), one.protocol.as_deref(), one.port));
        let ports: Vec<Port> = ports.collect();
        let ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
        let found = ready.flat_map(|endpoint| ends(endpoint, &ports));
        let key = (slice.namespace().unwrap_or_default(), service.clone());
        targets.entry(key).or_default().extend(found);
    }
    for found in targets.values_mut() {
        found.sort_by_key(|target| target.address);
    }
    targets
}

/// A readiness that nobody tells of counts as ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

fn ends(endpoint: &Endpoint, ports: &[Port]) -> Vec<Target> {
    let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
    let target = |address: Ipv4Addr| Target {
        label: match endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
            Some(hostname) => hostname.to_lowercase(),
            None => address.to_string().replace('.', "-"),
        },
        address,
        ports: ports.to_vec(),
    };
    addresses.map(target).collect()
}
