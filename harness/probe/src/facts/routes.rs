//! Routes, neighbours and forwarding entries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType, RouteVia,
};
use serde::{Deserialize, Serialize};

use super::links::{LinkNames, mac};

/// The kernel's number of the table `local`, which holds the host's own addresses.
const LOCAL_TABLE: u32 = 255;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    /// `unicast`, `blackhole`, `prohibit`, `unreachable` …
    pub kind: String,
    pub table: u32,
    /// Who made it: `kernel`, `boot`, `static`, `bird`, or a number.
    pub protocol: String,
    pub scope: String,
    /// The preferred source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Where packets go; several share the load, a blackhole has none.
    pub next_hops: Vec<NextHop>,
}

/// One way that a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The gateway is taken to be on the link although no address says so.
    pub onlink: bool,
}

/// One neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    pub address: IpAddr,
    pub device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `reachable`, `stale`, `permanent`, `failed` …
    pub state: String,
    /// Answered for by proxy.
    pub proxy: bool,
}

/// One forwarding entry of a bridge or a VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fdb {
    pub mac: String,
    pub device: String,
    /// The tunnel's other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// The bridge it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    pub state: String,
}

/// The name of who made a route, or its number where it has none (rtnetlink(7)).
fn protocol(protocol: RouteProtocol) -> String {
    match protocol {
        RouteProtocol::Other(number) => number.to_string(),
        named => named.to_string(),
    }
}

/// A route, unless it is one of the host's own addresses or a cache entry.
pub(super) fn route(message: &RouteMessage, names: &LinkNames) -> Option<Route> {
    let header = &message.header;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut destination = any;
    let (mut table, mut metric, mut source) = (u32::from(header.table), None, None);
    let mut next_hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => destination = address(to)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = Some(*number),
            RouteAttribute::PrefSource(from) => source = address(from),
            RouteAttribute::MultiPath(hops) => {
                next_hops.extend(hops.iter().map(|hop| {
                    let onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
                    next_hop(&hop.attributes, Some(hop.interface_index), onlink, names)
                }));
            }
            _ => {}
        }
    }
    if table == LOCAL_TABLE || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    if next_hops.is_empty() && header.kind == RouteType::Unicast {
        let onlink = header.flags.contains(RouteFlags::Onlink);
        next_hops.push(next_hop(&message.attributes, None, onlink, names));
    }
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        kind: route_kind(header.kind),
        table,
        protocol: protocol(header.protocol),
        scope: header.scope.to_string(),
        source,
        metric,
        next_hops,
    })
}

fn next_hop(attributes: &[RouteAttribute], device: Option<u32>, onlink: bool, names: &LinkNames) -> NextHop {
    let mut hop = NextHop { via: None, device: device.map(|index| names.name(index)), onlink };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(gateway) => hop.via = address(gateway),
            RouteAttribute::Via(RouteVia::Inet(ip)) => hop.via = Some((*ip).into()),
            RouteAttribute::Via(RouteVia::Inet6(ip)) => hop.via = Some((*ip).into()),
            RouteAttribute::Oif(index) => hop.device = Some(names.name(*index)),
            _ => {}
        }
    }
    hop
}

fn route_kind(kind: RouteType) -> String {
    match kind {
        RouteType::BlackHole => "blackhole".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

pub(super) fn neighbour(message: &NeighbourMessage, names: &LinkNames) -> Option<Neighbour> {
    let mut link_address = None;
    let mut ip = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(to) => ip = neighbour_ip(to),
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = Some(mac(bytes)),
            _ => {}
        }
    }
    Some(Neighbour {
        address: ip?,
        device: names.name(message.header.ifindex),
        mac: link_address,
        state: message.header.state.to_string(),
        proxy: message.header.flags.contains(NeighbourFlags::Proxy),
    })
}

pub(super) fn fdb(message: &NeighbourMessage, names: &LinkNames) -> Option<Fdb> {
    let mut entry = Fdb {
        mac: String::new(),
        device: names.name(message.header.ifindex),
        destination: None,
        vni: None,
        master: None,
        state: message.header.state.to_string(),
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => entry.mac = mac(bytes),
            NeighbourAttribute::Destination(to) => entry.destination = neighbour_ip(to),
            NeighbourAttribute::Vni(vni) => entry.vni = Some(*vni),
            NeighbourAttribute::Controller(index) => entry.master = Some(names.name(*index)),
            _ => {}
        }
    }
    (!entry.mac.is_empty()).then_some(entry)
}

/// The family of a forwarding entry is `bridge`, so its tunnel end comes as mere bytes.
fn neighbour_ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
