//! Owns what is expected of what is inside of a machine: its routes, devices, addresses and listening ports.
//! Must not know how the machine is asked.

use super::yes;
use crate::scenario::late::{Late, Text};
use crate::scenario::model::{Address, Cidr, Endpoint, NodeName, PortNumber, PortProto};
use crate::scenario::read::{record, words};

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
