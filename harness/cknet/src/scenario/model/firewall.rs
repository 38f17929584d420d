//! Owns what a firewall step says.
//! Must not know how a node's firewall is made to do it.

use super::super::read::{Read, Reading, record, words};
use super::super::tree::{Node as TreeNode, Value};
use super::{Cidr, NicName, NodeSet, PortRange};

/// Opens or closes ports on nodes, on the way in unless said otherwise.
///
/// Unless `place` says otherwise, a packet is looked at after all rules of the CNI, so that none of them can save it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The nodes.
    pub nodes: NodeSet,
    /// What happens to the ports.
    pub change: FirewallChange,
    /// The ports.
    pub ports: Vec<PortRange>,
    /// In which direction packets are looked at.
    pub direction: Direction,
    /// Only packets from this block of addresses.
    pub from: Option<Cidr>,
    /// Only packets through this interface.
    pub nic: Option<NicName>,
    /// Where on their way inbound packets are looked at.
    pub place: Place,
}

/// What a firewall step does with its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirewallChange {
    /// Takes back what closed them.
    Open,
    /// Packets to them are dropped in silence.
    Drop,
    /// Packets to them are answered with a refusal.
    Reject,
    /// Whatever comes in from the network to any other port is dropped in silence.
    Only,
}

record! {
    "a firewall step";
    /// How a firewall step is written.
    pub struct FirewallSpec {
        /// The nodes.
        pub nodes: NodeSet,
        /// Ports that are let through again.
        #[schemars(default)]
        pub open: PortRanges = Default::default(),
        /// Ports to which packets are dropped.
        #[schemars(default)]
        pub close: PortRanges = Default::default(),
        /// Ports to which packets are answered with a refusal.
        #[schemars(default)]
        pub reject: PortRanges = Default::default(),
        /// The only ports on which something may come in from the network, besides answers, ICMP, and what the node
        /// passes on without having translated it; may be empty.
        pub only: Option<PortRanges>,
        /// In which direction packets are looked at; `in` unless given.
        #[schemars(default)]
        pub direction: Direction = Direction::default(),
        /// Only packets from this block of addresses.
        pub from: Option<Cidr>,
        /// Only packets through this interface, which each of the nodes has to have.
        pub nic: Option<NicName>,
        /// Where inbound packets are looked at; `filter` unless given.
        #[schemars(default)]
        pub place: Place = Place::default(),
    }
}

words! {
    "a place on the way of a packet";
    /// Where on their way through a node inbound packets are looked at.
    #[derive(Default)]
    pub enum Place {
        /// Where a host firewall sits: what is for the node, and what it translated, after all rules of the CNI.
        #[default]
        Filter = "filter",
        /// Before anything else of the node, connection tracking and tunnels included.
        Early = "early",
        /// Only what the node passes on, never what is for itself.
        Forward = "forward",
    }
}

words! {
    "a direction";
    /// In which direction packets are looked at.
    #[derive(Default)]
    pub enum Direction {
        /// To the node.
        #[default]
        In = "in",
        /// From the node.
        Out = "out",
        /// Both.
        Both = "both",
    }
}

/// One range of ports or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortRanges(pub Vec<PortRange>);

impl Read for PortRanges {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::read(node, r).map(Self),
            _ => Some(Self(vec![PortRange::read(node, r)?])),
        }
    }
}

impl schemars::JsonSchema for PortRanges {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortRanges".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<PortRange>();
        let many = generator.subschema_for::<Vec<PortRange>>();
        schemars::json_schema!({ "anyOf": [one, many] })
    }
}

impl Read for Firewall {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let before = r.problems.len();
        let spec = FirewallSpec::read(node, r)?;
        let only = spec.only.map(|only| (FirewallChange::Only, only.0));
        let given = [
            (FirewallChange::Open, spec.open.0),
            (FirewallChange::Drop, spec.close.0),
            (FirewallChange::Reject, spec.reject.0),
        ];
        let mut given = given.into_iter().filter(|(_, ports)| !ports.is_empty()).chain(only);
        let (first, second) = (given.next(), given.next());
        let Some((change, ports)) = first.filter(|_| second.is_none()) else {
            if r.problems.len() == before {
                r.problem(node.point(), "a firewall step has one of `open`, `close`, `reject`, `only`");
            }
            return None;
        };
        Some(Self {
            nodes: spec.nodes,
            change,
            ports,
            direction: spec.direction,
            from: spec.from,
            nic: spec.nic,
            place: spec.place,
        })
    }
}

impl schemars::JsonSchema for Firewall {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Firewall".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FirewallSpec::json_schema(generator)
    }
}
