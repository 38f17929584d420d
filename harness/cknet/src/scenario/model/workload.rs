//! Owns what runs in the cluster before the first step: namespaces, workloads, services.
//! Must not know how a distribution starts them.

use super::super::read::{Read, Reading, record, text, words};
use super::super::tree::Node;
use super::{Named, NamespaceName, NodeName, PortName, PortNumber, PortProto, VariableName, Wait};

/// Labels by key.
pub type Labels = Named<LabelKey, String>;

/// The key of a label, with or without a prefix: `app`, `kubernetes.io/arch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(String);

impl LabelKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for LabelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

text!(LabelKey, "LabelKey", "a label's key, like `app` or `kubernetes.io/arch`",
pattern r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$",
parse |text: &str| {
    let name = text.rsplit('/').next().unwrap_or_default();
    let good = (1..=63).contains(&name.len())
        && text.len() <= 317
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && text.matches('/').count() <= 1;
    if good {
        Ok(Self(text.to_owned()))
    } else {
        Err(format!("`{text}` is not {}", Self::WANTED))
    }
});

record! {
    "a namespace";
    /// A namespace of the cluster.
    pub struct Namespace {
        /// Its labels, besides `kubernetes.io/metadata.name`.
        #[schemars(default)]
        pub labels: Labels = Default::default(),
    }
}

record! {
    "a workload";
    /// A pod on a given node that listens on ports and from which flows are sent.
    pub struct Workload {
        /// The node on which it runs.
        pub node: NodeName,
        /// Its namespace; `default` unless given.
        #[schemars(default)]
        pub namespace: NamespaceName = NamespaceName::default_namespace(),
        /// Its labels.
        #[schemars(default)]
        pub labels: Labels = Default::default(),
        /// The ports on which it answers.
        #[schemars(default)]
        pub listen: Vec<PortProto> = Default::default(),
        /// Whether it has the node's network instead of one of its own.
        #[schemars(default)]
        pub host_network: bool = false,
        /// Names of ports, for policies and services that use them.
        #[schemars(default)]
        pub named_ports: Named<PortName, PortProto> = Default::default(),
        /// Ports of its node that lead to it.
        #[schemars(default)]
        pub host_ports: Vec<HostPort> = Default::default(),
        /// Variables that its pod sets, for commands in it.
        #[schemars(default)]
        pub environment: Named<VariableName, String> = Default::default(),
        /// How long it goes on answering after it was told to end; not at all unless given.
        pub linger: Option<Wait>,
    }
}

record! {
    "a host port";
    /// A port of a node that leads to a pod on it (`hostPort`).
    pub struct HostPort {
        /// The port of the node.
        pub port: PortProto,
        /// The port of the pod; the same unless given.
        pub target: Option<PortNumber>,
    }
}

impl HostPort {
    /// The port of the pod to which it leads.
    #[must_use]
    pub fn own(&self) -> PortProto {
        PortProto { port: self.target.unwrap_or(self.port.port), ..self.port }
    }
}

impl Workload {
    /// The port of its node that leads to one of its own.
    #[must_use]
    pub fn host_port(&self, port: PortProto) -> Option<PortProto> {
        self.host_ports.iter().find(|known| known.own() == port).map(|known| known.port)
    }
}

record! {
    "a service";
    /// A service of the cluster.
    pub struct Service {
        /// Its namespace; `default` unless given.
        #[schemars(default)]
        pub namespace: NamespaceName = NamespaceName::default_namespace(),
        /// The labels that its pods have.
        pub selector: Labels,
        /// Its ports.
        pub ports: Vec<ServicePort>,
        /// Where it can be reached.
        #[schemars(default)]
        pub service_type as "type": ServiceType = ServiceType::default(),
        /// Whether it has no virtual address.
        #[schemars(default)]
        pub headless: bool = false,
        /// Which workloads serve what comes from outside of the cluster, at ports of nodes.
        pub external_traffic_policy: Option<TrafficPolicy>,
    }
}

record! {
    "a port of a service";
    /// One port of a service.
    pub struct ServicePort {
        /// Its name; needed if there are several.
        pub name: Option<PortName>,
        /// The port of the virtual address.
        pub port: PortProto,
        /// The port of the pods, by number or name; the same as `port` unless given.
        pub target: Option<TargetPort>,
        /// The port of each node, for a service of type `NodePort`.
        pub node_port: Option<PortNumber>,
    }
}

words! {
    "a type of service";
    /// Where a service can be reached.
    #[derive(Default)]
    pub enum ServiceType {
        /// Inside of the cluster.
        #[default]
        ClusterIp = "ClusterIP",
        /// Also at a port of each node.
        NodePort = "NodePort",
        /// Also at an address that something outside of the cluster provides.
        LoadBalancer = "LoadBalancer",
    }
}

words! {
    "a traffic policy";
    /// Which workloads serve what comes from outside of the cluster.
    pub enum TrafficPolicy {
        /// Those of all nodes; the sender's address may be replaced by a node's.
        Cluster = "Cluster",
        /// Those of the node at which it arrives; the sender's address is kept.
        Local = "Local",
    }
}

/// The port of a pod, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(PortNumber),
    /// By the name that the pod gives it.
    Name(PortName),
}

impl Read for TargetPort {
    fn read(node: &Node, r: &mut Reading<'_>) -> Option<Self> {
        let numeric = node.text().is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()));
        if numeric { PortNumber::read(node, r).map(Self::Number) } else { PortName::read(node, r).map(Self::Name) }
    }
}

impl schemars::JsonSchema for TargetPort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TargetPort".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A port of a pod by number or name",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[a-z0-9-]{1,15}$" },
            ],
        })
    }
}
