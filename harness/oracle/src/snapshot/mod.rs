//! A cluster at one moment: what the oracle is told, and nothing that it concludes.
//!
//! Types read the JSON that the Kubernetes API serves. Must not know policies' effect on a flow.

mod node;
mod object;
mod pod;
mod service;

use ipnet::IpNet;
use serde::Deserialize;

use crate::labels::{Labels, NAMESPACE_NAME_LABEL};
use crate::policy::NetworkPolicy;

pub use node::Node;
pub use object::Object;
pub use pod::{ContainerPort, Pod};
pub use service::{EndpointSlice, Exposure, Reach, Service, ServiceEndpoint, ServicePort};

/// A cluster at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub nodes: Vec<Node>,
    pub services: Vec<Service>,
    /// Where a Service has slices, they say its backends; where not, its selector does.
    pub endpoint_slices: Vec<EndpointSlice>,
    pub policies: Vec<NetworkPolicy>,
    /// The ranges that pods get addresses from, where known. Used in advice only.
    pub pod_ranges: Vec<IpNet>,
    /// The ranges that Services get addresses from, where known: an address in them that no
    /// Service has leads nowhere.
    pub service_ranges: Vec<IpNet>,
}

/// A namespace. One that pods are in but that the snapshot does not list is taken to have no label
/// but its automatic one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Named")]
pub struct Namespace {
    pub name: String,
    pub labels: Labels,
}

impl Namespace {
    /// A namespace with these labels and the automatic `kubernetes.io/metadata.name`.
    pub fn new(name: impl Into<String>, labels: Labels) -> Self {
        let mut namespace = Self { name: name.into(), labels };
        let key = NAMESPACE_NAME_LABEL.to_owned();
        namespace.labels.insert(key, namespace.name.clone());
        namespace
    }
}

#[derive(Deserialize)]
struct Named {
    metadata: Metadata,
}

impl From<Named> for Namespace {
    fn from(wire: Named) -> Self {
        Self::new(wire.metadata.name, wire.metadata.labels.unwrap_or_default())
    }
}

/// The part of `metadata` that means something here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub name: String,
    pub namespace: Option<String>,
    pub labels: Option<Labels>,
    pub annotations: Option<Labels>,
}

impl Metadata {
    fn namespace(&mut self) -> String {
        self.namespace.take().unwrap_or_else(|| "default".to_owned())
    }
}
