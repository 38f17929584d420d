//! The overlay device and the routes of a node: what they should be, and making them so.
//!
//! `desired` is pure. Everything else compares with one [`Look`] at what the kernel has and changes only what differs,
//! so a device or a route that somebody removed comes back at the next look, and a look that finds all in order
//! changes nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use cknet_kernel::link::{Link, Netlink, NetlinkError, Vxlan};
use cknet_kernel::offload;
use cknet_kernel::route::{Neighbour, NeighbourOf, Route, RouteKind};
use ipnet::Ipv4Net;

use super::PROTOCOL;
use super::node_object::{CalicoNode, Tunnel};
use super::resources::{Encapsulation, IPPoolSpec};

/// The name of Calico's VXLAN device.
pub const DEVICE: &str = "vxlan.calico";

/// Outer IPv4, UDP and VXLAN headers and the inner Ethernet header (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;

/// What the kernel has at one moment.
pub struct Look {
    pub links: Vec<Link>,
    /// Index of the link and address with its prefix length.
    pub addresses: Vec<(u32, Ipv4Net)>,
    routes: BTreeSet<Route>,
}

impl Look {
    pub async fn at(netlink: &Netlink) -> Result<Self, NetlinkError> {
        let (links, addresses, routes) = futures::try_join!(netlink.links(), netlink.addresses(), netlink.routes())?;
        let routes = routes.into_iter().filter(|route| route.protocol == PROTOCOL).collect();
        Ok(Self { links, addresses, routes })
    }

    /// The link with this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// Everything that decides about routes.
pub struct View<'a> {
    pub own: &'a CalicoNode,
    pub others: &'a [CalicoNode],
    pub pools: &'a [IPPoolSpec],
    /// Every block and the node it belongs to.
    pub blocks: &'a [(Ipv4Net, String)],
    /// Local pods: address and index of the host's end of the link.
    pub pods: &'a [(Ipv4Addr, u32)],
    /// What carries packets between nodes.
    pub underlay: &'a Link,
    /// BIRD lays the routes that need no encapsulation, and those of this node's own blocks.
    pub bird: bool,
}

/// How to reach other nodes over VXLAN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub tunnel: Ipv4Addr,
    pub mac: [u8; 6],
    pub node: Ipv4Addr,
}

impl Peer {
    /// Where frames for the peer go, and which frames carry packets for it.
    fn entries(&self) -> [Neighbour; 2] {
        let mac = self.mac;
        [
            Neighbour { of: NeighbourOf::Forwarding, address: self.node, mac },
            Neighbour { of: NeighbourOf::Protocol, address: self.tunnel, mac },
        ]
    }
}

/// The routes and VXLAN peers of a node; routes over the overlay name the device by index 0 until it exists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub routes: BTreeSet<Route>,
    pub peers: BTreeSet<Peer>,
}

/// Stands for the overlay device in a route.
const OVERLAY: u32 = 0;

/// What the routes of this node should be.
pub fn desired(view: &View<'_>) -> Desired {
    let mut desired = Desired::default();
    for (block, owner) in view.blocks {
        let Some(pool) = view.pools.iter().find(|pool| pool.cidr.contains(block)) else { continue };
        if *owner == view.own.name {
            if view.bird && pool.vxlan_mode == Encapsulation::Never {
                continue;
            }
            desired.routes.insert(Route { destination: *block, kind: RouteKind::Blackhole, protocol: PROTOCOL });
        } else if let Some(other) = view.others.iter().find(|node| node.name == *owner) {
            desired.add_remote(*block, other, pool.vxlan_mode, view);
        }
    }
    for (address, device) in view.pods {
        let kind = RouteKind::Link { device: *device };
        desired.routes.insert(Route { destination: Ipv4Net::from(*address), kind, protocol: PROTOCOL });
    }
    desired
}

impl Desired {
    fn add_remote(&mut self, block: Ipv4Net, other: &CalicoNode, mode: Encapsulation, view: &View<'_>) {
        let same_subnet = view.own.address.contains(&other.address.addr());
        let kind = match (mode, other.tunnel) {
            (Encapsulation::Always, Some(tunnel)) => self.over(tunnel, other),
            (Encapsulation::CrossSubnet, Some(tunnel)) if !same_subnet => self.over(tunnel, other),
            (Encapsulation::CrossSubnet, _) if same_subnet => {
                RouteKind::Via { gateway: other.address.addr(), device: view.underlay.index, onlink: false }
            }
            // Without encapsulation the routes are BGP's business.
            _ => return,
        };
        self.routes.insert(Route { destination: block, kind, protocol: PROTOCOL });
    }

    fn over(&mut self, tunnel: Tunnel, other: &CalicoNode) -> RouteKind {
        self.peers.insert(Peer { tunnel: tunnel.address, mac: tunnel.mac, node: other.address.addr() });
        RouteKind::Via { gateway: tunnel.address, device: OVERLAY, onlink: true }
    }
}

/// What the overlay device should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    pub vni: u32,
    pub port: u16,
    pub tunnel: Tunnel,
    pub local: Ipv4Addr,
}

/// Makes the overlay device what it should be (or absent) and returns its index. A device of other settings is
/// replaced, because the kernel changes them on no existing device.
pub async fn ensure_overlay(
    netlink: &Netlink,
    look: &Look,
    wanted: Option<Overlay>,
    underlay: &Link,
) -> Result<Option<u32>, NetlinkError> {
    let present = look.link(DEVICE);
    let Some(wanted) = wanted else {
        if let Some(link) = present {
            netlink.delete(link.index).await?;
        }
        return Ok(None);
    };
    let address = Ipv4Net::from(wanted.tunnel.address);
    if let Some(link) = present {
        if is(link, wanted, underlay) {
            if !link.up {
                netlink.up(link.index).await?;
            }
            ensure_only_address(netlink, look, link.index, address).await?;
            return Ok(Some(link.index));
        }
        netlink.delete(link.index).await?;
    }
    netlink
        .add_vxlan(&Vxlan {
            name: DEVICE,
            vni: wanted.vni,
            port: wanted.port,
            local: wanted.local,
            parent: underlay.index,
            mac: wanted.tunnel.mac,
            mtu: underlay.mtu - VXLAN_OVERHEAD,
        })
        .await?;
    let index = netlink.expect_link(DEVICE).await?.index;
    netlink.add_address(index, address).await?;
    Ok(Some(index))
}

/// Lets the overlay's device compute checksums, or not. A device that cannot be told goes on as it is, as with Felix.
pub fn ensure_checksum_offload(wanted: bool) -> io::Result<()> {
    if offload::computes_checksums(DEVICE)? != wanted {
        offload::let_compute_checksums(DEVICE, wanted)?;
    }
    Ok(())
}

/// An address that is there already must not be added again: the kernel would announce it as a change.
async fn ensure_only_address(netlink: &Netlink, look: &Look, index: u32, wanted: Ipv4Net) -> Result<(), NetlinkError> {
    let present = look.addresses.iter().filter(|(link, _)| *link == index).map(|(_, address)| *address);
    let (kept, others): (Vec<_>, Vec<_>) = present.partition(|address| *address == wanted);
    if kept.is_empty() {
        netlink.add_address(index, wanted).await?;
    }
    for other in others {
        netlink.delete_address(index, other).await?;
    }
    Ok(())
}

fn is(link: &Link, wanted: Overlay, underlay: &Link) -> bool {
    link.vxlan.is_some_and(|found| {
        found.vni == wanted.vni
            && found.port == wanted.port
            && found.local == Some(wanted.local)
            && found.parent == Some(underlay.index)
    }) && link.mac == Some(wanted.tunnel.mac)
}

/// Makes routes and VXLAN peers what they should be; routes that are not Calico's are left alone.
pub async fn apply(
    netlink: &Netlink,
    look: &Look,
    overlay: Option<u32>,
    desired: &Desired,
) -> Result<(), NetlinkError> {
    if let Some(device) = overlay {
        apply_peers(netlink, device, &desired.peers).await?;
    }
    let wanted: BTreeSet<Route> = desired.routes.iter().filter_map(|route| on_device(route, overlay)).collect();
    for route in wanted.difference(&look.routes) {
        netlink.set_route(route).await?;
    }
    for route in superfluous(&look.routes, &wanted) {
        netlink.delete_route(route).await?;
    }
    Ok(())
}

/// The routes over the overlay need its peers, so these come first.
async fn apply_peers(netlink: &Netlink, device: u32, peers: &BTreeSet<Peer>) -> Result<(), NetlinkError> {
    let wanted: BTreeSet<Neighbour> = peers.iter().flat_map(Peer::entries).collect();
    let present = netlink.neighbours(device).await?;
    // What is wrong goes before what is right comes: an entry is set by its key alone, and deleted by it too.
    for entry in present.difference(&wanted) {
        netlink.delete_neighbour(device, entry).await?;
    }
    for entry in wanted.difference(&present) {
        netlink.set_neighbour(device, entry).await?;
    }
    Ok(())
}

/// The routes that are there and should not be.
fn superfluous<'a>(present: &'a BTreeSet<Route>, wanted: &'a BTreeSet<Route>) -> impl Iterator<Item = &'a Route> {
    present.difference(wanted).filter(|route| {
        // The CNI plugin lays the route of a pod before the pod is known here, and it goes with the pod's link.
        let of_a_pod = matches!(route.kind, RouteKind::Link { .. });
        // A replaced route is gone already.
        let replaced = wanted.iter().any(|kept| kept.destination == route.destination);
        !of_a_pod && !replaced
    })
}

/// The route with the real index of the overlay device; `None` where there is no such device.
fn on_device(route: &Route, overlay: Option<u32>) -> Option<Route> {
    let mut route = route.clone();
    if let RouteKind::Via { device, .. } = &mut route.kind
        && *device == OVERLAY
    {
        *device = overlay?;
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(name: &str, address: &str, tunnel: &str) -> CalicoNode {
        let tunnel = Tunnel { address: tunnel.parse().unwrap(), mac: [2, 0, 0, 0, 0, 1] };
        CalicoNode { name: name.into(), address: address.parse().unwrap(), tunnel: Some(tunnel) }
    }

    fn routes_with(mode: Encapsulation, other_address: &str) -> Vec<Route> {
        let own = node("cp1", "192.168.60.11/24", "10.1.0.0");
        let others = [node("w1", other_address, "10.1.1.0")];
        let pool = IPPoolSpec {
            cidr: "10.1.0.0/16".parse().unwrap(),
            block_size: 26,
            vxlan_mode: mode,
            ipip_mode: Encapsulation::Never,
            nat_outgoing: true,
            disabled: false,
            rest: serde_json::Map::new(),
        };
        let blocks = [("10.1.0.0/26".parse().unwrap(), "cp1".into()), ("10.1.1.0/26".parse().unwrap(), "w1".into())];
        let underlay =
            Link { index: 2, name: "eth0".into(), up: true, mtu: 1500, mac: None, parent: None, vxlan: None };
        let pools = [pool];
        let pods = [("10.1.0.1".parse().unwrap(), 9)];
        let underlay = &underlay;
        let view =
            View { own: &own, others: &others, pools: &pools, blocks: &blocks, pods: &pods, underlay, bird: false };
        desired(&view).routes.into_iter().collect()
    }

    #[test]
    fn the_route_of_a_pod_that_is_not_known_yet_stays() {
        let route =
            |destination: &str, kind| Route { destination: destination.parse().unwrap(), kind, protocol: PROTOCOL };
        let via = |device| RouteKind::Via { gateway: "10.1.1.0".parse().unwrap(), device, onlink: true };
        let pod = route("10.1.0.7/32", RouteKind::Link { device: 9 });
        let (gone, moved) = (route("10.1.2.0/26", via(3)), route("10.1.1.0/26", via(3)));
        let wanted = BTreeSet::from([route("10.1.1.0/26", via(4))]);
        let present = BTreeSet::from([pod, gone.clone(), moved]);
        assert_eq!(superfluous(&present, &wanted).collect::<Vec<_>>(), [&gone]);
    }

    #[test]
    fn remote_blocks_go_over_the_overlay_always() {
        let routes = routes_with(Encapsulation::Always, "192.168.60.12/24");
        let via = RouteKind::Via { gateway: "10.1.1.0".parse().unwrap(), device: OVERLAY, onlink: true };
        assert!(routes.iter().any(|route| route.kind == via), "{routes:?}");
        assert_eq!(routes.len(), 3, "own block, own pod, remote block: {routes:?}");
    }

    #[test]
    fn cross_subnet_encapsulates_only_across_subnets() {
        let direct = RouteKind::Via { gateway: "192.168.60.12".parse().unwrap(), device: 2, onlink: false };
        let near = routes_with(Encapsulation::CrossSubnet, "192.168.60.12/24");
        assert!(near.iter().any(|route| route.kind == direct), "{near:?}");
        let far = routes_with(Encapsulation::CrossSubnet, "192.168.61.12/24");
        assert!(far.iter().any(|route| matches!(route.kind, RouteKind::Via { device: OVERLAY, .. })), "{far:?}");
    }

    #[test]
    fn without_encapsulation_remote_blocks_are_left_to_bgp() {
        assert_eq!(routes_with(Encapsulation::Never, "192.168.60.12/24").len(), 2);
    }
}
