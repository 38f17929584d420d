//! Owns segments and nodes, and which address each interface gets.
//! Must not know who makes the nodes.

use std::net::IpAddr;

use super::super::premises::Premises;
use super::super::read::{Read, Reading, record, words};
use super::super::source::Span;
use super::super::tree::{Node as TreeNode, Value};
use super::{Address, Cidr, Named, NicName, NodeName, SegmentName};

/// The nodes and the networks that join them.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// The networks that join nodes.
    pub segments: Named<SegmentName, Segment>,
    /// The machines: those of the cluster, routers between segments, and machines outside.
    pub nodes: Named<NodeName, Node>,
}

record! {
    "a segment";
    /// A network that joins nodes on layer 2.
    pub struct Segment {
        /// The block from which interfaces get addresses.
        pub cidr: Cidr,
        /// Largest packet in bytes; 1500 unless given.
        pub mtu: Option<u16>,
    }
}

record! {
    "a node";
    /// A machine.
    pub struct Node {
        /// What it does.
        pub role: Role,
        /// Its interfaces; the first one is that of the default route.
        pub nics: Named<NicName, Nic>,
    }
}

words! {
    "a role";
    /// What a machine does.
    pub enum Role {
        /// A member of the cluster: runs the control plane, and pods.
        ControlPlane = "control-plane",
        /// A member of the cluster: runs pods.
        Worker = "worker",
        /// No member: forwards between its segments. The other machines on them reach the rest through it.
        Router = "router",
        /// No member: a machine that sends to the cluster and answers it from outside.
        Outside = "outside",
    }
}

impl Role {
    /// Whether a machine of this role is a member of the cluster.
    #[must_use]
    pub const fn is_member(self) -> bool {
        matches!(self, Self::ControlPlane | Self::Worker)
    }
}

/// An interface of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The segment to which it is attached.
    pub segment: SegmentName,
    /// Its address: given in the file, or the next free one of the segment from .11 on.
    pub address: IpAddr,
    /// How many bits of the address are the segment's.
    pub prefix_len: u8,
}

record! {
    "an interface";
    /// The long way to write an interface.
    pub struct NicSpec {
        /// The segment to which it is attached.
        pub segment: SegmentName,
        /// Its address; the next free one of the segment from .11 on unless given.
        pub address: Option<Address>,
    }
}

impl Node {
    /// The first interface; each node of a checked scenario has one.
    #[must_use]
    pub fn first_nic(&self) -> Option<(&NicName, &Nic)> {
        self.nics.iter().next()
    }

    /// The interface of that name.
    #[must_use]
    pub fn nic(&self, name: &str) -> Option<&Nic> {
        self.nics.iter().find(|(nic, _)| **nic == *name).map(|(_, nic)| nic)
    }
}

impl Topology {
    /// Whether the machine is a member of the cluster.
    #[must_use]
    pub fn is_member(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|node| node.role.is_member())
    }

    /// The names of the members of the cluster.
    pub fn members(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(|(_, node)| node.role.is_member()).map(|(name, _)| name)
    }

    /// The address of the node's first interface.
    #[must_use]
    pub fn address(&self, node: &NodeName) -> Option<IpAddr> {
        self.nodes.get(node)?.first_nic().map(|(_, nic)| nic.address)
    }
}

/// The host part of the first address that is given to an interface.
const FIRST_HOST: u128 = 11;
/// What an interface has until its segment gives it an address.
const UNASSIGNED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

impl Read for Nic {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let spec = match &node.value {
            Value::Scalar { .. } => NicSpec { segment: SegmentName::read(node, r)?, address: None },
            _ => NicSpec::read(node, r)?,
        };
        Some(Self {
            segment: spec.segment,
            address: spec.address.map_or(UNASSIGNED, |address| address.0),
            prefix_len: 0,
        })
    }
}

impl schemars::JsonSchema for Nic {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Nic".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let segment = generator.subschema_for::<SegmentName>();
        let spec = generator.subschema_for::<NicSpec>();
        schemars::json_schema!({
            "description": "An interface: the name of its segment, or segment and address",
            "anyOf": [segment, spec],
        })
    }
}

impl Read for Topology {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = super::super::read::Keys::of(node, "`topology`", r)?;
        let segments = keys.field("segments", r);
        let nodes = keys.field("nodes", r);
        keys.done(&[], r);
        let mut topology = Self { segments: segments?, nodes: nodes? };
        topology.assign_addresses(node, r);
        topology.settle(r.premises);
        Some(topology)
    }
}

impl Topology {
    /// On a cluster that is there already nodes have the addresses that they have.
    fn settle(&mut self, premises: Option<&Premises>) {
        let Some((premises, seats)) = premises.and_then(|premises| Some((premises, premises.seats(self).ok()?))) else {
            return;
        };
        for (_, segment) in self.segments.iter_mut() {
            segment.cidr = premises.network;
        }
        for (name, node) in self.nodes.iter_mut() {
            let Some(member) = seats.get(name) else { continue };
            for (_, nic) in node.nics.iter_mut() {
                nic.address = member.address;
                nic.prefix_len = premises.network.net().prefix_len();
            }
        }
    }

    /// Gives each interface without an address the next free one of its segment.
    fn assign_addresses(&mut self, tree: &TreeNode, r: &mut Reading<'_>) {
        let mut taken: Vec<IpAddr> = Vec::new();
        for (name, node) in self.nodes.iter() {
            for (nic, place) in node.nics.iter() {
                let span = nic_span(tree, name, nic);
                taken.extend(given_address(&self.segments, place, &taken, span, r));
            }
        }
        let segments = &self.segments;
        self.nodes = std::mem::take(&mut self.nodes)
            .into_iter()
            .map(|(name, mut node)| {
                node.nics = std::mem::take(&mut node.nics)
                    .into_iter()
                    .filter_map(|(nic, mut place)| {
                        let cidr = segments.get(&place.segment)?.cidr;
                        place.prefix_len = cidr.net().prefix_len();
                        if place.address == UNASSIGNED {
                            place.address = next_free(cidr, &taken).or_else(|| {
                                r.problem(nic_span(tree, &name, &nic), format!("`{cidr}` has no address left"));
                                None
                            })?;
                            taken.push(place.address);
                        }
                        Some((nic, place))
                    })
                    .collect();
                (name, node)
            })
            .collect();
    }
}

/// The address that the file gives to an interface, if it can have it.
fn given_address(
    segments: &Named<SegmentName, Segment>,
    nic: &Nic,
    taken: &[IpAddr],
    span: Span,
    r: &mut Reading<'_>,
) -> Option<IpAddr> {
    let cidr = segments.get(&nic.segment)?.cidr;
    if nic.address == UNASSIGNED {
        return None;
    }
    let net = cidr.net();
    if !cidr.contains(nic.address) || nic.address == net.network() || nic.address == net.broadcast() {
        let message = format!("`{}` is no address for a host of segment `{}`, `{cidr}`", nic.address, nic.segment);
        r.problem(span, message);
    } else if taken.contains(&nic.address) {
        r.problem(span, format!("`{}` is the address of another interface already", nic.address));
    }
    Some(nic.address)
}

/// Where an interface's address is written, or the interface.
fn nic_span(tree: &TreeNode, node: &NodeName, nic: &NicName) -> Span {
    tree.get("nodes")
        .and_then(|nodes| nodes.get(node.as_str()))
        .and_then(|node| node.get("nics"))
        .and_then(|nics| nics.get(nic.as_str()))
        .map_or_else(|| tree.point(), |nic| nic.get("address").unwrap_or(nic).point())
}

/// The first address from .11 on that nobody has.
fn next_free(cidr: Cidr, taken: &[IpAddr]) -> Option<IpAddr> {
    let net = cidr.net();
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let address = |number: u128| match net.network() {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|n| IpAddr::from(n.to_be_bytes())),
        IpAddr::V6(_) => Some(IpAddr::from(number.to_be_bytes())),
    };
    let last = number(net.broadcast());
    let first = number(net.network()).checked_add(FIRST_HOST)?;
    (first..last).filter_map(address).find(|free| !taken.contains(free))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn addresses_start_at_eleven_and_end_with_the_block() {
        let cidr: Cidr = "192.0.2.0/28".parse().unwrap();
        let mut taken = Vec::new();
        while let Some(address) = next_free(cidr, &taken) {
            taken.push(address);
        }
        let text: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14"]);
        let six = next_free("fd00::/64".parse().unwrap(), &[]).unwrap();
        assert_eq!(six.to_string(), "fd00::b");
    }
}
