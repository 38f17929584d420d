//! Taps: which packets of some flows pass the interfaces of a node and of the pods on it, and what the node is like
//! meanwhile.
//!
//! A tap looks and changes nothing: packet sockets, and questions to the kernel. It ends by itself, when its stream
//! closes or at its deadline. Owns the words that travel between whoever asks and the tap; what a sighting means for
//! a claim is decided elsewhere.

mod decode;
mod run;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::run::{TapError, on_standard_streams, run};
use crate::facts::Facts;
use crate::firewall::drops::Drop;

/// The version of these types, in [`Reply::Open`].
pub const VERSION: u32 = 1;

/// Sightings kept of one tap; more than these are counted only.
pub const MOST_SIGHTINGS: usize = 4096;

/// What a tap is asked, in the one frame that it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub places: Vec<Place>,
    pub flows: Vec<Wanted>,
    /// UDP ports whose datagrams are looked into as VXLAN.
    pub tunnels: Vec<u16>,
    /// The tap ends then at the latest.
    pub deadline: Duration,
    /// Tell also what each place is like, before and after.
    pub surroundings: bool,
}

/// A network namespace to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Chosen by the caller; sightings carry it.
    pub name: String,
    /// A word of [`crate::netns`].
    pub netns: String,
}

/// The packets that belong to a question: between two of the addresses, of the protocol, from or to one of the ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub addresses: Vec<Ipv4Addr>,
    pub protocol: Protocol,
    /// Of TCP, UDP and SCTP.
    pub ports: Vec<u16>,
}

/// A protocol above IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Icmp,
    Tcp,
    Udp,
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Who sent a packet to whom. Ports are 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tuple {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: Protocol,
    pub source_port: u16,
    pub destination_port: u16,
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, protocol, source_port, destination_port } = self;
        match protocol {
            Protocol::Icmp => write!(f, "{source} -> {destination} icmp"),
            _ => write!(f, "{source}:{source_port} -> {destination} {destination_port}/{protocol}"),
        }
    }
}

/// What a packet was wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outer {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// UDP port that it was sent to.
    pub port: u16,
    pub vni: u32,
}

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VXLAN, VNI {}, UDP {}, {} -> {}", self.vni, self.port, self.source, self.destination)
    }
}

/// Which way a packet passed an interface, seen from its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Entering,
    Leaving,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entering => "entering",
            Self::Leaving => "leaving",
        })
    }
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "lowercase")]
pub enum Says {
    /// Anything but what follows.
    Data,
    /// A TCP segment that wants a connection.
    Syn,
    /// A TCP segment that refuses or breaks a connection.
    Reset,
    /// An ICMP error about a packet of the flow, which is in [`Sighting::tuple`].
    Error {
        #[serde(rename = "type")]
        kind: u8,
        code: u8,
        /// Who says so.
        by: Ipv4Addr,
        /// The MTU that would do, of `fragmentation needed`.
        mtu: u16,
    },
}

/// A packet of a wanted flow that passed an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The name of the place.
    pub place: String,
    pub device: String,
    pub direction: Direction,
    /// Addressed to the hardware address of somebody else.
    #[serde(default, skip_serializing_if = "is_false")]
    pub for_another: bool,
    /// Microseconds since 1970 by the clock of the node.
    pub at_us: u64,
    /// The innermost packet; of an ICMP error, the packet that it is about.
    pub tuple: Tuple,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<Outer>,
    #[serde(flatten)]
    pub says: Says,
    /// Bytes of the innermost packet with its IP header.
    pub length: u16,
}

/// What a place is like: facts of the kernel, and what its packet filters have ended so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    pub place: String,
    pub facts: Facts,
    #[serde(default)]
    pub drops: Vec<Drop>,
}

/// What a tap answers, a frame each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// All is looked at from now on, but for what could not be.
    Open {
        version: u32,
        /// Places that cannot be looked at, and why.
        blind: Vec<(String, String)>,
    },
    Seen(Seen),
}

/// All that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub sightings: Vec<Sighting>,
    /// Packets of the flows that passed after [`MOST_SIGHTINGS`].
    pub more: u64,
    pub before: Vec<Surroundings>,
    pub after: Vec<Surroundings>,
}

impl Wanted {
    /// Whether a packet belongs to the question. A later fragment has no ports and belongs to it by its addresses.
    fn takes(&self, tuple: &Tuple) -> bool {
        let Tuple { source, destination, protocol, source_port, destination_port } = tuple;
        let ports = [source_port, destination_port];
        let fits = match protocol {
            Protocol::Icmp => true,
            _ if ports == [&0, &0] => true,
            _ => ports.iter().any(|port| self.ports.contains(port)),
        };
        *protocol == self.protocol && fits && [source, destination].iter().all(|end| self.addresses.contains(end))
    }
}

impl Surroundings {
    /// A device of the place.
    pub fn link(&self, name: &str) -> Option<&crate::facts::Link> {
        self.facts.links.iter().find(|link| link.name == name)
    }

    /// The route that the kernel takes to an address: the longest prefix of the main table, then the least metric.
    pub fn route_to(&self, address: IpAddr) -> Option<&crate::facts::Route> {
        const MAIN: u32 = 254;
        let leads = |route: &&crate::facts::Route| route.table == MAIN && route.destination.contains(&address);
        let rank = |route: &&crate::facts::Route| {
            (route.destination.prefix_len(), std::cmp::Reverse(route.metric.unwrap_or(0)))
        };
        self.facts.routes.iter().filter(leads).max_by_key(rank)
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}
