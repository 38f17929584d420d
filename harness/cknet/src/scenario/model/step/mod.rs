//! Owns what a scenario does to the cluster and its nodes between two looks at them.
//! Must not know how it is done.

mod network;
mod workload;

pub use self::network::{FdbChange, LinkChange, LinkState, NewLink, NewLinkKind, RouteChange};
pub use self::workload::{Relabel, WorkloadChange};

use super::{
    Connect, Firewall, Firewalld, HttpProxy, ImageRegistry, Manifest, NamespaceName, NodeName, ProxySettings, Topology,
};
use crate::scenario::json::Json;
use crate::scenario::late::Text;
use crate::scenario::read::{Read, Reading, choice, record, words};
use crate::scenario::tree::{Node as TreeNode, Value};

/// One thing that is done, and the line in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(transparent)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Line in the scenario file, from 1.
    #[schemars(skip)]
    pub line: usize,
}

choice! {
    "a step", "an action";
    /// What a step does. A step is done when its effect can be seen, not before.
    pub enum Action {
        /// Creates objects, or changes them to what is given.
        Apply(Manifest) as "apply",
        /// Changes a part of one object.
        Patch(Patch) as "patch",
        /// Deletes objects and waits until they are gone.
        Delete(Manifest) as "delete",
        /// Opens or closes ports of nodes.
        Firewall(Firewall) as "firewall",
        /// Puts nodes behind firewalld and tells it what to open.
        Firewalld(Firewalld) as "firewalld",
        /// Runs a command on a node.
        NodeRun(NodeRun) as "nodeRun",
        /// Stops a component on nodes.
        StopComponent(Component) as "stopComponent",
        /// Starts a component that was stopped.
        StartComponent(Component) as "startComponent",
        /// Changes a device of a node.
        Link(LinkChange) as "link",
        /// Starts BIRD on a machine that is no member of the cluster.
        Bird(Bird) as "bird",
        /// Starts an HTTP proxy on a machine.
        Proxy(HttpProxy) as "proxy",
        /// Starts an image registry on a machine.
        Registry(ImageRegistry) as "registry",
        /// Has the programs of nodes use a proxy.
        ProxySettings(ProxySettings) as "proxySettings",
        /// Installs or removes a CNI configuration on nodes.
        InstallCni(InstallCni) as "installCni",
        /// Sets or removes a route of a node.
        Route(RouteChange) as "route",
        /// Sends what a tunnel device forwards to one address to another one, or nowhere.
        Fdb(FdbChange) as "fdb",
        /// Opens a connection that stays open.
        Connect(Connect) as "connect",
        /// Changes labels of a workload.
        Label(Relabel) as "label",
        /// Adds workloads or removes them.
        Workload(WorkloadChange) as "workload",
    }
}

impl Action {
    /// Whether nodes keep what it does when the scenario's objects are deleted and firewalls are open again. Of objects
    /// that is not known here.
    #[must_use]
    pub fn marks_nodes(&self) -> bool {
        match self {
            Self::NodeRun(_)
            | Self::StopComponent(_)
            | Self::Link(_)
            | Self::Bird(_)
            | Self::InstallCni(_)
            | Self::Route(_)
            | Self::Fdb(_) => true,
            Self::Apply(_)
            | Self::Patch(_)
            | Self::Delete(_)
            | Self::Firewall(_)
            | Self::Firewalld(_)
            | Self::StartComponent(_)
            | Self::Proxy(_)
            | Self::Registry(_)
            | Self::ProxySettings(_)
            | Self::Connect(_)
            | Self::Label(_)
            | Self::Workload(_) => false,
        }
    }
}

impl Read for Step {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        Some(Self { line: r.line(node), action: Action::read(node, r)? })
    }
}

record! {
    "a patch";
    /// A change of a part of one object.
    pub struct Patch {
        /// `apiVersion` of the object.
        pub api_version: String,
        /// `kind` of the object.
        pub kind: String,
        /// Its namespace, if it has one.
        pub namespace: Option<NamespaceName>,
        /// Its name.
        pub name: String,
        /// How `patch` is laid over the object; `merge` unless given.
        #[schemars(default)]
        pub patch_type as "type": PatchType = PatchType::default(),
        /// What changes; for `json` a list of operations.
        pub patch: Json,
    }
}

words! {
    "a type of patch";
    /// How a patch is laid over an object.
    #[derive(Default)]
    pub enum PatchType {
        /// JSON merge patch, RFC 7396.
        #[default]
        Merge = "merge",
        /// Kubernetes' strategic merge patch.
        Strategic = "strategic",
        /// JSON patch, RFC 6902.
        Json = "json",
    }
}

/// All nodes or some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeSet {
    /// `all`: all members of the cluster.
    All,
    /// A list of names.
    Named(Vec<NodeName>),
}

impl NodeSet {
    /// The names of the nodes, in the order of the topology.
    #[must_use]
    pub fn of<'t>(&self, topology: &'t Topology) -> Vec<&'t NodeName> {
        match self {
            Self::All => topology.members().collect(),
            Self::Named(names) => topology.nodes.names().filter(|name| names.contains(name)).collect(),
        }
    }
}

impl Read for NodeSet {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if text == "all" => Some(Self::All),
            Value::List(items) if items.is_empty() => {
                r.problem(node.span, "no node is given; write `all` or a list of nodes");
                None
            }
            Value::List(_) => Vec::read(node, r).map(Self::Named),
            _ => {
                r.problem(node.point(), "this wants `all` or a list of nodes");
                None
            }
        }
    }
}

impl schemars::JsonSchema for NodeSet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodeSet".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = generator.subschema_for::<Vec<NodeName>>();
        schemars::json_schema!({
            "description": "All nodes or a list of nodes",
            "anyOf": [{ "const": "all" }, names],
        })
    }
}

record! {
    "a command on a node";
    /// A command that is run on a node.
    pub struct NodeRun {
        /// The node.
        pub node: NodeName,
        /// The program and its arguments; no shell reads them.
        pub argv: Vec<Text>,
        /// The exit code without which the step fails; 0 unless given.
        #[schemars(default)]
        pub expect_exit: u8 = 0,
    }
}

record! {
    "a component";
    /// A component of the cluster on some nodes.
    pub struct Component {
        /// Its name, mostly `${cni.daemonSet}`.
        pub component: String,
        /// The nodes.
        pub nodes: NodeSet,
    }
}

record! {
    "`bird`";
    /// A router with which nodes can speak BGP: BIRD with a configuration of its own.
    pub struct Bird {
        /// The machine.
        pub node: NodeName,
        /// The whole configuration, as BIRD 2 reads it.
        pub config: Text,
    }
}

record! {
    "a CNI configuration";
    /// A file in /etc/cni/net.d of nodes, of which the container runtime takes the first by name.
    pub struct InstallCni {
        /// The nodes.
        pub nodes: NodeSet,
        /// The file's name, `05-other.conflist`.
        pub file: String,
        /// What it holds; this, `text` or `remove`.
        pub config: Option<Json>,
        /// What it holds, letter by letter, for a file that is broken.
        pub text: Option<Text>,
        /// The file is taken away.
        #[schemars(default)]
        pub remove: bool = false,
    }
}
