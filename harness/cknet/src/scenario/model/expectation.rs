//! Owns what a scenario expects to see.
//! Must not know how it is looked at and judged.

use super::super::json::Json;
use super::super::late::{Late, Text};
use super::super::nearest::listed;
use super::super::read::{Keys, Read, Reading, choice, record, words};
use super::super::tree::{Node as TreeNode, Value};
use super::{
    Address, Cidr, ClaimId, Command, Connection, Endpoint, ExpectationId, Log, Matrix, NamespaceName, NodeName, Ping,
    Point, PortNumber, PortProto, Refused, SegmentName, Selector, ServiceName, Via, Wait,
};

/// One thing that is expected, and the line in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// Its id, unique in its phase.
    pub id: ExpectationId,
    /// The claim of the document on which it decides.
    pub claim: Option<ClaimId>,
    /// The claim that is wrong if this holds; this or `claim`.
    pub refutes: Option<ClaimId>,
    /// It may become true as late as that; without it, it is judged at once.
    pub within: Option<Wait>,
    /// Once true it has to stay true for as long as that.
    #[schemars(rename = "for")]
    pub hold: Option<Wait>,
    /// The points of checklists that it covers.
    #[schemars(default)]
    pub covers: Vec<Point>,
    /// No specification says what happens here: what is written is what Calico does, and where another CNI does
    /// otherwise, that is noted and no failure.
    #[schemars(default)]
    pub undefined: bool,
    /// What is expected.
    #[schemars(flatten)]
    pub check: Check,
    /// Line in the scenario file, from 1.
    #[schemars(skip)]
    pub line: usize,
}

choice! {
    "an expectation", "an expectation's kind";
    /// What can be expected.
    pub enum Check {
        /// What becomes of one flow.
        Connectivity(Connectivity) as "connectivity",
        /// What becomes of many flows.
        Matrix(Matrix) as "matrix",
        /// In which state nodes are.
        Nodes(NodeStates) as "nodes",
        /// What objects of the cluster look like.
        Resource(Resource) as "resource",
        /// Which way a node sends packets.
        Routes(Route) as "routes",
        /// What a device of a node looks like.
        Links(Link) as "links",
        /// Which addresses something has.
        Addresses(Addresses) as "addresses",
        /// Whether a port is listened on.
        Listening(Listening) as "listening",
        /// Whether a service leads to its workloads.
        Service(ServiceAnswers) as "service",
        /// What a name is answered with.
        Dns(Dns) as "dns",
        /// How a command ends and what it prints.
        Command(Command) as "command",
        /// What stands in a log.
        Log(Log) as "log",
        /// An object that the API does not take.
        Refused(Refused) as "refused",
        /// What has become of a connection.
        Connection(Connection) as "connection",
        /// What becomes of an echo request.
        Ping(Ping) as "ping",
        /// How large a packet may be.
        PathMtu(PathMtu) as "pathMtu",
        /// How a flow looks on the way.
        Wire(Wire) as "wire",
    }
}

const COMMON: [&str; 7] = ["id", "claim", "refutes", "within", "for", "covers", "undefined"];

impl Read for Expectation {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "an expectation", r)?;
        let id = keys.field("id", r);
        let claim = keys.take("claim").map(|node| known_claim(node, r));
        let refutes = keys.take("refutes").map(|node| known_claim(node, r));
        if let (Some(entry), true) = (node.entry("refutes"), claim.is_some()) {
            r.problem(entry.key_span, "an expectation decides on one claim: it has `claim` or `refutes`");
        }
        let within: Option<Option<Wait>> = keys.field("within", r);
        let hold: Option<Option<Wait>> = keys.field("for", r);
        let covers: Option<Vec<Point>> = keys.field_or("covers", Vec::new, r);
        let undefined: Option<bool> = keys.field_or("undefined", || false, r);
        let check = check(node, r);
        keys.done(Check::KINDS, r);
        Some(Self {
            id: id?,
            claim: claim.flatten(),
            refutes: refutes.flatten(),
            within: within.flatten(),
            hold: hold.flatten(),
            covers: covers?,
            undefined: undefined?,
            check: check?,
            line: r.line(node),
        })
    }
}

fn known_claim(node: &TreeNode, r: &mut Reading<'_>) -> Option<ClaimId> {
    let id = ClaimId::read(node, r)?;
    if !r.declared.claims.contains(&id.as_str()) {
        let known = r.declared.claims.clone();
        r.no_such(node.span, "claim", id.as_str(), &known);
        return None;
    }
    Some(id)
}

/// The one key of an expectation that says what is expected.
fn check(node: &TreeNode, r: &mut Reading<'_>) -> Option<Check> {
    let mut kinds = node.entries().iter().filter(|entry| Check::KINDS.contains(&entry.key.as_str()));
    let (first, second) = (kinds.next(), kinds.next());
    if let (Some(first), Some(second)) = (first, second) {
        let message = format!("an expectation has one kind, and `{}` is given already", first.key);
        r.problem(second.key_span, message);
    }
    if let Some(kind) = first {
        return Check::read_kind(&kind.key, kind.key_span, &kind.value, r);
    }
    // A key that is unknown is told as such: it was meant to be the kind.
    if node.entries().iter().all(|entry| COMMON.contains(&entry.key.as_str())) {
        r.problem(
            node.point(),
            format!("says nothing about what is expected; give {}", listed(Check::KINDS.iter().copied())),
        );
    }
    None
}

words! {
    "an outcome";
    /// What becomes of a flow.
    pub enum Outcome {
        /// It arrives and is answered.
        Allowed = "allowed",
        /// Silence.
        Dropped = "dropped",
        /// It is refused by something on the way.
        Rejected = "rejected",
        /// It arrives where nothing listens.
        Closed = "closed",
        /// There is no way to it.
        Unreachable = "unreachable",
        /// Dropped or rejected: what a NetworkPolicy is free to do.
        Denied = "denied",
    }
}

impl Outcome {
    /// Whether this says that nothing gets through, so that a broken probe would look the same.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        !matches!(self, Self::Allowed | Self::Closed)
    }
}

record! {
    "`connectivity`";
    /// What becomes of one flow.
    pub struct Connectivity {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where it is sent.
        pub to: Endpoint,
        /// To which port.
        pub port: PortProto,
        /// What becomes of it.
        pub is: Outcome,
        /// By which address it goes; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
        /// Whose address the target sees as the sender's.
        pub source_address: Option<SourceAddress>,
    }
}

words! {
    "a source address";
    /// Whose address a target sees.
    pub enum SourceAddress {
        /// That of the sending pod.
        Pod = "pod",
        /// One of the sending pod's node.
        Node = "node",
    }
}

/// In which state nodes are: `{all: Ready}` or `{cp1: Ready, w1: NotReady}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStates {
    /// The state of each node that is not named.
    pub all: Option<NodeState>,
    /// The states of named nodes.
    pub named: Vec<(NodeName, NodeState)>,
}

words! {
    "a state of a node";
    /// The condition `Ready` of a node.
    pub enum NodeState {
        /// Ready.
        Ready = "Ready",
        /// Not ready, or of unknown state.
        NotReady = "NotReady",
    }
}

impl Read for NodeStates {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            r.problem(node.point(), "this wants a mapping, `{all: Ready}` or `{NODE: Ready}`");
            return None;
        };
        let mut states = Self { all: None, named: Vec::new() };
        let known = r.declared.node_names();
        for entry in entries {
            let state = NodeState::read(&entry.value, r);
            if entry.key == "all" {
                states.all = state;
            } else if !known.contains(&entry.key.as_str()) {
                r.no_such(entry.key_span, "node", &entry.key, &known);
            } else {
                states.named.extend(entry.key.parse().ok().zip(state));
            }
        }
        if entries.is_empty() {
            r.problem(node.span, "no node is given; write `all` or the names of nodes");
        }
        Some(states)
    }
}

impl schemars::JsonSchema for NodeStates {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NodeStates".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let state = generator.subschema_for::<NodeState>();
        schemars::json_schema!({
            "description": "The state of `all` nodes, of named nodes, or both",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": state,
        })
    }
}

record! {
    "`resource`";
    /// What objects of the cluster look like. At least one has to be there unless `count` says 0.
    pub struct Resource {
        /// `apiVersion` of the objects.
        pub api_version: String,
        /// `kind` of the objects.
        pub kind: String,
        /// Their namespace, if they have one.
        pub namespace: Option<NamespaceName>,
        /// The name of the one object; this, `selector`, or all objects of the kind.
        pub name: Option<String>,
        /// The labels of the objects; this, `name`, or all objects of the kind.
        pub selector: Option<Selector>,
        /// Fields by which the API can choose, like `involvedObject.name=web,reason=Killing` of events.
        pub field_selector: Option<Selector>,
        /// What each of them has, perhaps beside more: keys of mappings, items of lists in order.
        pub matches: Option<Json>,
        /// How many there are.
        pub count: Option<u16>,
    }
}

record! {
    "`routes`";
    /// Which way a node sends packets for a block of addresses.
    pub struct Route {
        /// The node.
        pub node: NodeName,
        /// The destination of the route, exactly.
        pub destination: Late<Cidr>,
        /// The next hop.
        pub via: Option<Late<Address>>,
        /// The device.
        pub dev: Option<Text>,
        /// Its kind as `ip route` names it: `unicast`, `blackhole`, `unreachable`.
        pub kind: Option<String>,
        /// Who laid it: `bird`, `static`, `kernel`, or a number; Felix's is 80.
        pub protocol: Option<String>,
        /// Whether there is such a route; `true` unless given.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
    }
}

record! {
    "`links`";
    /// What a device of a node looks like.
    pub struct Link {
        /// The node.
        pub node: NodeName,
        /// The device's name.
        pub device: String,
        /// Its kind, `vxlan`, `veth`.
        pub kind: Option<String>,
        /// Whether it is up.
        pub up: Option<bool>,
        /// Its MTU in bytes.
        pub mtu: Option<u16>,
        /// Its VXLAN network identifier.
        pub vni: Option<u32>,
        /// Its UDP port.
        pub port: Option<PortNumber>,
        /// The device over which it sends.
        pub parent: Option<String>,
        /// Whether it computes the checksums of what it sends itself (`tx-checksumming` of ethtool).
        pub checksum_offload: Option<bool>,
        /// Whether there is such a device; `true` unless given.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
    }
}

const fn yes() -> bool {
    true
}

record! {
    "`addresses`";
    /// Which addresses a workload, a node or a service has.
    pub struct Addresses {
        /// Whose.
        pub of: Endpoint,
        /// Of a node: only those of this device.
        pub device: Option<String>,
        /// The block in which each of them is.
        pub within: Cidr,
        /// How many there are; at least one unless given.
        pub count: Option<u16>,
    }
}

record! {
    "`listening`";
    /// Whether something listens on a port, seen from inside.
    pub struct Listening {
        /// Where: a workload or `node:NAME`.
        pub at: Endpoint,
        /// The port.
        pub port: PortProto,
        /// Whether it is listened on.
        pub is: Ear,
    }
}

words! {
    "a state of a port";
    /// Whether a port is listened on.
    pub enum Ear {
        /// Something listens.
        Open = "open",
        /// Nothing listens.
        Closed = "closed",
    }
}

record! {
    "`service`";
    /// Whether a service leads to its workloads.
    pub struct ServiceAnswers {
        /// The service.
        pub name: ServiceName,
        /// From where it is asked: workloads or `node:NAME`.
        pub reachable_from: Vec<Endpoint>,
        /// The port of its virtual address.
        pub port: PortProto,
        /// How many different workloads answer; at least one unless given.
        pub backends: Option<u16>,
    }
}

record! {
    "`dns`";
    /// What a name is answered with: one of `answers`, `count`, `nxdomain`, `unanswered`.
    pub struct Dns {
        /// From where it is asked: a workload or `node:NAME`.
        pub from: Endpoint,
        /// The name, as a program would ask for it.
        pub name: Text,
        /// The addresses, in any order.
        #[schemars(default)]
        pub answers: Vec<Late<Address>> = Default::default(),
        /// How many addresses.
        pub count: Option<u16>,
        /// Whether the answer is that there is no such name.
        #[schemars(default)]
        pub nxdomain: bool = false,
        /// Whether no answer comes, because the name server cannot be reached.
        #[schemars(default)]
        pub unanswered: bool = false,
    }
}

record! {
    "`pathMtu`";
    /// The largest packet that passes between two ends whole, there and back.
    pub struct PathMtu {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where: a workload, `node:NAME` or an address.
        pub to: Endpoint,
        /// Its size in bytes, with the IP header; at least 68.
        pub is: PacketSize,
        /// What becomes of larger ones; either unless given.
        pub larger: Option<Beyond>,
    }
}

words! {
    "an end of a packet";
    /// What becomes of a packet that is too large.
    pub enum Beyond {
        /// The sender learns of it: from its own kernel, or from a router.
        Reported = "reported",
        /// It vanishes: a black hole.
        Silent = "silent",
    }
}

/// The size of an IPv4 packet in bytes, from 68 (RFC 791: what every link carries whole) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketSize(u16);

impl PacketSize {
    /// Its bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for PacketSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Read for PacketSize {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        const SMALLEST: u16 = 68;
        let size = u16::read(node, r)?;
        if size < SMALLEST {
            r.problem(node.span, format!("`{size}` is no packet size; those are {SMALLEST} to {}", u16::MAX));
            return None;
        }
        Some(Self(size))
    }
}

impl schemars::JsonSchema for PacketSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PacketSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The size of an IPv4 packet in bytes, with its header",
            "type": "integer",
            "minimum": 68,
            "maximum": 65535,
        })
    }
}

record! {
    "`wire`";
    /// How the packets of a flow look where they pass: the flow is sent while somebody watches. A flow of which
    /// nothing is seen there refutes this, unless `present` is false.
    pub struct Wire {
        /// From where it is sent: a workload or `node:NAME`.
        pub from: Endpoint,
        /// To where it is sent. Only packets in this direction are looked at.
        pub to: Endpoint,
        /// To which port.
        pub port: PortProto,
        /// By which address it goes; `pod` unless given.
        #[schemars(default)]
        pub via: Via = Via::default(),
        /// Where its packets are watched.
        pub on: WatchPoint,
        /// What they are wrapped in.
        pub encapsulated: Option<Encapsulated>,
        /// The VXLAN network identifier, mostly `${cni.overlayVni}`.
        pub vni: Option<u32>,
        /// The UDP port to which the tunnel sends, mostly `${cni.overlayPort}`.
        pub outer_port: Option<PortNumber>,
        /// Whose address the tunnel sends from.
        pub outer_from: Option<Late<Address>>,
        /// Whose address the tunnel sends to.
        pub outer_to: Option<Late<Address>>,
        /// Whether the flow passes there; `true` unless given. One that does not has to be answered all the same:
        /// it takes another way.
        #[schemars(default = "yes")]
        pub present: bool = yes(),
    }
}

words! {
    "an encapsulation of packets";
    /// What packets are wrapped in.
    pub enum Encapsulated {
        /// VXLAN.
        Vxlan = "vxlan",
        /// Nothing.
        None = "none",
    }
}

/// Where packets are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchPoint {
    /// Everywhere on a segment: at each interface that is attached to it.
    Segment(SegmentName),
    /// At one device of a node.
    Device(DeviceOf),
}

record! {
    "a device of a node";
    /// A device of a node.
    pub struct DeviceOf {
        /// The node.
        pub node: NodeName,
        /// The device, mostly `${cni.overlayDevice}`.
        pub device: String,
    }
}

impl std::fmt::Display for WatchPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(name) => write!(f, "segment {name}"),
            Self::Device(DeviceOf { node, device }) => write!(f, "{node} {device}"),
        }
    }
}

impl Read for WatchPoint {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => DeviceOf::read(node, r).map(Self::Device),
            _ => SegmentName::read(node, r).map(Self::Segment),
        }
    }
}

impl schemars::JsonSchema for WatchPoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WatchPoint".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let segment = generator.subschema_for::<SegmentName>();
        let device = generator.subschema_for::<DeviceOf>();
        schemars::json_schema!({
            "description": "Where packets are watched: a segment, or `{node, device}`",
            "anyOf": [segment, device],
        })
    }
}

impl Wire {
    /// What the packets are expected to look like, in words.
    #[must_use]
    pub fn look(&self) -> String {
        let mut text = match self.encapsulated {
            _ if !self.present => return "not seen".into(),
            Some(Encapsulated::Vxlan) => "in VXLAN".to_owned(),
            Some(Encapsulated::None) => return "not encapsulated".into(),
            None => return "seen".into(),
        };
        let mut add = |what: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(", {what} {value}"));
            }
        };
        add("VNI", self.vni.map(|vni| vni.to_string()));
        add("UDP", self.outer_port.map(|port| port.to_string()));
        add("from", self.outer_from.as_ref().map(ToString::to_string));
        add("to", self.outer_to.as_ref().map(ToString::to_string));
        text
    }
}
