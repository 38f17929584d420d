//! A node: its name and the addresses its traffic may carry.

use std::net::IpAddr;

use serde::Deserialize;

use super::Metadata;

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Node {
    pub name: String,
    /// Its own addresses, the internal ones first.
    pub addresses: Vec<IpAddr>,
    /// The addresses of its overlay devices, which its traffic into the overlay carries. Read from
    /// the annotations that Calico writes.
    pub tunnel_addresses: Vec<IpAddr>,
}

impl Node {
    /// Every address that is this node.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().chain(&self.tunnel_addresses).copied()
    }

    /// The first of its own addresses in the family of another address.
    pub fn address_beside(&self, other: IpAddr) -> Option<IpAddr> {
        first_beside(&self.addresses, other)
    }

    /// The first of its overlay addresses in the family of another address.
    pub fn tunnel_address_beside(&self, other: IpAddr) -> Option<IpAddr> {
        first_beside(&self.tunnel_addresses, other)
    }
}

fn first_beside(addresses: &[IpAddr], other: IpAddr) -> Option<IpAddr> {
    let same_family = |address: &&IpAddr| address.is_ipv4() == other.is_ipv4();
    addresses.iter().find(same_family).copied()
}

const TUNNEL_ANNOTATIONS: [&str; 4] = [
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
];

#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
}

#[derive(Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

impl From<Wire> for Node {
    fn from(wire: Wire) -> Self {
        let mut listed = wire.status.addresses.unwrap_or_default();
        listed.sort_by_key(|address| address.r#type != "InternalIP");
        let annotations = wire.metadata.annotations.unwrap_or_default();
        Self {
            name: wire.metadata.name,
            // Host names stand in the same list and are no addresses.
            addresses: listed.iter().filter_map(|listed| listed.address.parse().ok()).collect(),
            tunnel_addresses: TUNNEL_ANNOTATIONS.iter().filter_map(|key| annotations.get(*key)?.parse().ok()).collect(),
        }
    }
}
