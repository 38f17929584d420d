//! Owns what is changed of a node's devices, routes and forwarding entries.

use super::super::{Address, Cidr, NicName, NodeName, PortNumber};
use crate::scenario::late::{Late, Text};
use crate::scenario::read::{Read, Reading, record, words};
use crate::scenario::tree::Node as TreeNode;

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
