//! Transport protocols, and ports as a policy writes them.

use std::fmt;

use serde::Deserialize;

/// What a flow is carried by. Kubernetes knows the first three; ICMP has no place in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// The protocol wherever Kubernetes lets it be left out.
    #[default]
    Tcp,
    Udp,
    Sctp,
    /// An echo request. IPv6 neighbour discovery is not meant: no policy may touch it.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// A port where a flow arrives, with its protocol: `8080/TCP`. ICMP has no port and shows none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortOf {
    pub number: u16,
    pub protocol: Protocol,
}

impl fmt::Display for PortOf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Icmp => out.write_str("ICMP"),
            protocol => write!(out, "{}/{protocol}", self.number),
        }
    }
}

/// A port given by number or by the name that a container gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortRef {
    Number(u16),
    Name(String),
}

impl fmt::Display for PortRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Name(name) => write!(out, "`{name}`"),
        }
    }
}
