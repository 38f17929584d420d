//! Segments as bridges in the fabric's own network namespace, and NICs as veth pairs from a bridge into a node.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

use cknet_kernel::link::{Netlink, NetlinkError, VethEnd};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind};
use cknet_kernel::space::Space;
use ipnet::Ipv4Net;

use crate::provider::{Nic, NodeSpec, Segment, StaticRoute, Topology};

/// RTPROT_STATIC of `linux/rtnetlink.h`: routes an administrator would have set.
const STATIC: u8 = 4;

/// Makes all bridges, then all nodes with their NICs, each node beside the others.
pub async fn build(topology: &Topology) -> io::Result<HashMap<String, Space>> {
    // A new namespace may take this over from the host's; the gateways of the segments lead nowhere.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    let fabric = Netlink::open(&NetNs::current()?)?;
    let mut bridges = HashMap::new();
    for (number, segment) in topology.segments.iter().enumerate() {
        bridges.insert(segment.name.as_str(), (add_segment(&fabric, number, segment).await?, segment));
    }
    let nodes = topology.nodes.iter().enumerate().map(|(number, node)| add_node(&fabric, &bridges, number, node));
    Ok(futures::future::try_join_all(nodes).await?.into_iter().collect())
}

async fn add_segment(fabric: &Netlink, number: usize, segment: &Segment) -> io::Result<u32> {
    let name = format!("segment{number}");
    fabric.add_bridge(&name).await.map_err(io::Error::other)?;
    let bridge = fabric.expect_link(&name).await.map_err(io::Error::other)?.index;
    fabric.set_mtu(bridge, segment.mtu).await.map_err(io::Error::other)?;
    let gateway = Ipv4Net::new(segment.gateway(), segment.cidr.prefix_len()).map_err(io::Error::other)?;
    fabric.add_address(bridge, gateway).await.map_err(io::Error::other)?;
    Ok(bridge)
}

async fn add_node(
    fabric: &Netlink,
    bridges: &HashMap<&str, (u32, &Segment)>,
    number: usize,
    node: &NodeSpec,
) -> io::Result<(String, Space)> {
    let (name, forwards) = (node.name.clone(), node.forwards);
    let made = tokio::task::spawn_blocking(move || super::space::create(&name, forwards)).await?;
    let space = made.map_err(|cause| super::doing(&format!("make node `{}`", node.name), cause))?;
    let inside = Netlink::open(space.net())?;
    let loopback = inside.expect_link("lo").await.map_err(io::Error::other)?;
    inside.up(loopback.index).await.map_err(io::Error::other)?;
    let mut devices = Vec::new();
    for (position, nic) in node.nics.iter().enumerate() {
        let (bridge, segment) = bridges.get(nic.segment.as_str()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("node `{}`: no segment `{}`", node.name, nic.segment))
        })?;
        let port = format!("n{number}.{position}");
        let wire = Wire { fabric, inside: &inside, space: &space, bridge: *bridge, port };
        devices.push((nic.address, wire.attach(nic, segment).await.map_err(io::Error::other)?));
    }
    for route in &node.routes {
        inside.set_route(&static_route(node, &devices, route)?).await.map_err(io::Error::other)?;
    }
    Ok((node.name.clone(), space))
}

/// The route over the NIC in whose network the gateway is.
fn static_route(node: &NodeSpec, devices: &[(Ipv4Net, u32)], route: &StaticRoute) -> io::Result<Route> {
    let near = devices.iter().find(|(network, _)| network.contains(&route.via));
    let (_, device) = near.ok_or_else(|| {
        let message = format!("node `{}`: gateway {} is in no network of its own", node.name, route.via);
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    let kind = RouteKind::Via { gateway: route.via, device: *device, onlink: false };
    Ok(Route { destination: route.destination, kind, protocol: STATIC })
}

/// A cable to be laid from a bridge into a node.
struct Wire<'a> {
    fabric: &'a Netlink,
    inside: &'a Netlink,
    space: &'a Space,
    bridge: u32,
    port: String,
}

impl Wire<'_> {
    /// Returns the index of the device in the node.
    async fn attach(&self, nic: &Nic, segment: &Segment) -> Result<u32, NetlinkError> {
        let near = VethEnd { name: &self.port, mac: None, mtu: segment.mtu };
        let far = VethEnd { name: &nic.name, mac: None, mtu: segment.mtu };
        self.fabric.add_veth(&near, &far, self.space.net().as_fd()).await?;
        let port = self.fabric.expect_link(&self.port).await?.index;
        self.fabric.enslave(port, self.bridge).await?;
        let device = self.inside.expect_link(&nic.name).await?.index;
        self.inside.add_address(device, nic.address).await?;
        self.inside.up(device).await?;
        Ok(device)
    }
}
