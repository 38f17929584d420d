//! Owns what a scenario does to the cluster and its nodes between two looks at them.
//! Must not know how it is done.

use super::super::json::Json;
use super::super::late::{Late, Text};
use super::super::read::{Keys, Read, Reading, choice, record, words};
use super::super::tree::{Node as TreeNode, Value};
use super::{
    Address, Cidr, Connect, Firewall, Firewalld, HttpProxy, ImageRegistry, Labels, Manifest, Named, NamespaceName,
    NicName, NodeName, PortNumber, ProxySettings, Topology, Workload, WorkloadName,
};

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

/// A change of a device of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkChange {
    /// The node.
    pub node: NodeName,
    /// The device's name on the node.
    pub device: String,
    /// What happens to it.
    pub change: LinkState,
}

/// What happens to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It is set up.
    Up,
    /// It is set down.
    Down,
    /// It is deleted.
    Delete,
    /// Its MTU is changed, in bytes.
    Mtu(u16),
    /// It gets another name.
    Rename(String),
    /// It is made.
    Add(NewLink),
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
    "a new device";
    /// A VXLAN device as an administrator or another overlay makes it beside the CNI's.
    pub struct NewLink {
        /// Its kind.
        pub kind: NewLinkKind,
        /// Its VXLAN network identifier; this or `external`.
        pub vni: Option<u32>,
        /// Its UDP port.
        pub port: PortNumber,
        /// The device over which it sends; by the routes unless given.
        pub parent: Option<String>,
        /// The outer address of its other end.
        pub remote: Option<Late<Address>>,
        /// Its own address with the prefix length, `10.250.0.1/24`.
        pub address: Option<String>,
        /// Its MTU in bytes.
        pub mtu: Option<u16>,
        /// Whether it is in metadata mode: each packet says its VNI.
        #[schemars(default)]
        pub external: bool = false,
        /// Whether the kernel may refuse it because of another device; `links` tells whether it did.
        #[schemars(default)]
        pub may_be_refused: bool = false,
    }
}

words! {
    "a kind of device";
    /// What kind of device is made.
    pub enum NewLinkKind {
        /// A VXLAN device.
        Vxlan = "vxlan",
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

record! {
    "a link step";
    /// How a link step is written.
    pub struct LinkSpec {
        /// The node.
        pub node: NodeName,
        /// An interface of the topology; this or `device`.
        pub nic: Option<NicName>,
        /// Any device, mostly `${cni.overlayDevice}`; this or `nic`.
        pub device: Option<String>,
        /// `up`, `down` or `delete`; this or `mtu`.
        pub set: Option<LinkWord>,
        /// The new MTU in bytes; this, `set`, `rename` or `add`.
        pub mtu: Option<u16>,
        /// The new name; this, `set`, `mtu` or `add`.
        pub rename: Option<String>,
        /// The device is made; this, `set`, `mtu` or `rename`.
        pub add: Option<NewLink>,
    }
}

words! {
    "a state of a device";
    /// What happens to a device.
    pub enum LinkWord {
        /// It is set up.
        Up = "up",
        /// It is set down.
        Down = "down",
        /// It is deleted.
        Delete = "delete",
    }
}

impl Read for LinkChange {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let spec = LinkSpec::read(node, r)?;
        let change = match (spec.set, spec.mtu, spec.rename, spec.add) {
            (Some(LinkWord::Up), None, None, None) => LinkState::Up,
            (Some(LinkWord::Down), None, None, None) => LinkState::Down,
            (Some(LinkWord::Delete), None, None, None) => LinkState::Delete,
            (None, Some(mtu), None, None) => LinkState::Mtu(mtu),
            (None, None, Some(name), None) => LinkState::Rename(name),
            (None, None, None, Some(add)) => LinkState::Add(add),
            _ => {
                r.problem(node.point(), "a link step has one of `set`, `mtu`, `rename`, `add`");
                return None;
            }
        };
        let device = match (spec.nic, spec.device) {
            (Some(nic), None) => nic.to_string(),
            (None, Some(device)) => device,
            _ => {
                r.problem(node.point(), "a link step has one of `nic`, `device`");
                return None;
            }
        };
        Some(Self { node: spec.node, device, change })
    }
}

impl schemars::JsonSchema for LinkChange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LinkChange".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        LinkSpec::json_schema(generator)
    }
}

record! {
    "a change of a route";
    /// A route of a node's main table, set to what is given, or removed.
    pub struct RouteChange {
        /// The node.
        pub node: NodeName,
        /// The destination, exactly.
        pub destination: Late<Cidr>,
        /// The next hop; this, `dev` or both.
        pub via: Option<Late<Address>>,
        /// The device; that of the route to `via` unless given.
        pub dev: Option<Text>,
        /// Whether there is such a route afterwards; `true` unless given.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
    }
}

const fn yes() -> bool {
    true
}

record! {
    "a change of forwarding entries";
    /// A change of all forwarding entries of a VXLAN device that lead to one address.
    pub struct FdbChange {
        /// The node.
        pub node: NodeName,
        /// The device, mostly `${cni.overlayDevice}`.
        pub device: String,
        /// Where the entries lead: an address of the other node.
        pub leading_to: Late<Address>,
        /// Where they lead afterwards; without it they are removed.
        pub to: Option<Late<Address>>,
    }
}

record! {
    "a change of labels";
    /// A change of a workload's labels.
    pub struct Relabel {
        /// The workload.
        pub workload: WorkloadName,
        /// The labels that are set.
        #[schemars(default)]
        pub set: Labels = Default::default(),
        /// The keys of the labels that are removed.
        #[schemars(default)]
        pub remove: Vec<super::LabelKey> = Default::default(),
    }
}

/// Workloads that come or go while the scenario runs.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadChange {
    /// Workloads that are started.
    #[schemars(default)]
    pub add: Named<WorkloadName, Workload>,
    /// Workloads that are removed at once.
    #[schemars(default)]
    pub remove: Vec<WorkloadName>,
    /// Workloads that are told to end and are not waited for; they have `linger`.
    #[schemars(default)]
    pub terminate: Vec<WorkloadName>,
}

impl Read for WorkloadChange {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "a change of workloads", r)?;
        let add: Option<Named<_, _>> = keys.field_or("add", Named::default, r);
        let remove: Option<Vec<_>> = keys.field_or("remove", Vec::new, r);
        let terminate: Option<Vec<_>> = keys.field_or("terminate", Vec::new, r);
        keys.done(&[], r);
        let change = Self { add: add?, remove: remove?, terminate: terminate? };
        if change.add.is_empty() && change.remove.is_empty() && change.terminate.is_empty() {
            r.problem(node.point(), "a change of workloads has `add`, `remove` or `terminate`");
            return None;
        }
        Some(change)
    }
}
