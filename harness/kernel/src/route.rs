//! Addresses, routes, neighbours and forwarding entries of one namespace (IPv4), each set or removed so that doing
//! it twice is the same as doing it once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::link::{Netlink, Result, refused};

/// One IPv4 route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    pub destination: Ipv4Net,
    pub kind: RouteKind,
    /// The protocol number that marks who made the route (rtnetlink(7)); 80 is Calico's.
    pub protocol: u8,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// Directly on a link.
    Link { device: u32 },
    /// Through a gateway; `onlink` when the gateway need not be in a connected network.
    Via { gateway: Ipv4Addr, device: u32, onlink: bool },
    /// Silently dropped.
    Blackhole,
}

impl Route {
    fn message(&self) -> RouteMessage {
        let builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.destination.network(), self.destination.prefix_len())
            .protocol(RouteProtocol::from(self.protocol));
        match &self.kind {
            RouteKind::Link { device } => builder.scope(RouteScope::Link).output_interface(*device).build(),
            RouteKind::Via { gateway, device, onlink } => {
                let builder = builder.gateway(*gateway).output_interface(*device);
                if *onlink { builder.onlink().build() } else { builder.build() }
            }
            RouteKind::Blackhole => builder.kind(RouteType::BlackHole).build(),
        }
    }

    fn read(message: &RouteMessage) -> Option<Self> {
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let (mut gateway, mut device) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Table(table) if *table != u32::from(MAIN_TABLE) => return None,
                _ => {}
            }
        }
        let onlink = message.header.flags.contains(rtnetlink::packet_route::route::RouteFlags::Onlink);
        let kind = match (message.header.kind, gateway, device) {
            (RouteType::BlackHole, ..) => RouteKind::Blackhole,
            (RouteType::Unicast, Some(gateway), Some(device)) => RouteKind::Via { gateway, device, onlink },
            (RouteType::Unicast, None, Some(device)) => RouteKind::Link { device },
            _ => return None,
        };
        Some(Self {
            destination: Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?,
            kind,
            protocol: message.header.protocol.into(),
        })
    }
}

/// RT_TABLE_MAIN of `linux/rtnetlink.h`.
const MAIN_TABLE: u8 = 254;

impl Netlink {
    /// Adds an address to a link; one that is there already stays.
    pub async fn add_address(&self, index: u32, address: Ipv4Net) -> Result<()> {
        let request = self.handle.address().add(index, IpAddr::V4(address.addr()), address.prefix_len());
        request.replace().execute().await.map_err(refused(|| format!("add address {address} to link {index}")))
    }

    /// Addresses of all links: link index and address with its prefix length.
    pub async fn addresses(&self) -> Result<Vec<(u32, Ipv4Net)>> {
        let messages: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(refused(|| "list addresses".into()))?;
        let found = messages.iter().filter_map(|message| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => {
                    Some((message.header.index, Ipv4Net::new(*address, message.header.prefix_len).ok()?))
                }
                _ => None,
            })
        });
        Ok(found.collect())
    }

    /// Removes an address from a link; one that is not there is no failure.
    pub async fn delete_address(&self, index: u32, address: Ipv4Net) -> Result<()> {
        let mut message = rtnetlink::packet_route::address::AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address.addr())));
        let request = self.handle.address().del(message).execute();
        absent_is_fine(request.await.map_err(refused(|| format!("delete address {address} of link {index}"))))
    }

    /// Sets the route to its destination, whatever it was before.
    pub async fn set_route(&self, route: &Route) -> Result<()> {
        let request = self.handle.route().add(route.message()).replace().execute();
        request.await.map_err(refused(|| format!("set route to {}", route.destination)))
    }

    /// Removes a route; one that is not there is no failure.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let request = self.handle.route().del(route.message()).execute();
        absent_is_fine(request.await.map_err(refused(|| format!("delete route to {}", route.destination))))
    }

    /// The IPv4 routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages: Vec<_> =
            self.handle.route().get(filter).execute().try_collect().await.map_err(refused(|| "list routes".into()))?;
        let main = messages.iter().filter(|message| message.header.table == MAIN_TABLE);
        Ok(main.filter_map(Route::read).collect())
    }

    /// The permanent neighbours and forwarding entries of a link.
    pub async fn neighbours(&self, index: u32) -> Result<BTreeSet<Neighbour>> {
        let mut all = BTreeSet::new();
        for of in [NeighbourOf::Protocol, NeighbourOf::Forwarding] {
            let mut request = self.handle.neighbours().get();
            if of == NeighbourOf::Forwarding {
                request.message_mut().header.family = AddressFamily::Bridge;
            }
            let found: Vec<_> = request.execute().try_collect().await.map_err(refused(|| "list neighbours".into()))?;
            let own = found.iter().filter(|message| message.header.ifindex == index);
            all.extend(own.filter_map(|message| Neighbour::read(of, message)));
        }
        Ok(all)
    }

    /// Sets an entry, whatever was known of its address (neighbour) or its MAC (forwarding entry) before.
    pub async fn set_neighbour(&self, index: u32, entry: &Neighbour) -> Result<()> {
        let Neighbour { of, address, mac } = entry;
        let request = match of {
            NeighbourOf::Protocol => self.handle.neighbours().add(index, IpAddr::V4(*address)).link_layer_address(mac),
            NeighbourOf::Forwarding => {
                let request = self.handle.neighbours().add_bridge(index, mac).destination(IpAddr::V4(*address));
                request.flags(NeighbourFlags::Own)
            }
        };
        let request = request.state(NeighbourState::Permanent).replace().execute();
        request.await.map_err(refused(|| format!("set {entry} on link {index}")))
    }

    /// Removes an entry; one that is not there is no failure.
    pub async fn delete_neighbour(&self, index: u32, entry: &Neighbour) -> Result<()> {
        let removed = self.handle.neighbours().del(entry.message(index)).execute().await;
        absent_is_fine(removed.map_err(refused(|| format!("delete {entry} of link {index}"))))
    }
}

/// A permanent entry of one of a link's neighbour tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub of: NeighbourOf,
    /// The protocol address (neighbour) or the tunnel end (forwarding entry).
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
}

/// Which of the two neighbour tables of a link an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighbourOf {
    /// IP address to MAC (ARP).
    Protocol,
    /// MAC to tunnel end (the FDB of a VXLAN device).
    Forwarding,
}

impl Neighbour {
    fn read(of: NeighbourOf, message: &NeighbourMessage) -> Option<Self> {
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(*found),
                // The family of a forwarding entry is `bridge`, so that its tunnel end comes as mere bytes.
                NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                    address = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
                }
                NeighbourAttribute::LinkLayerAddress(found) => mac = found.as_slice().try_into().ok(),
                _ => {}
            }
        }
        let permanent = message.header.state == NeighbourState::Permanent;
        permanent.then_some(Self { of, address: address?, mac: mac? })
    }

    fn message(&self, index: u32) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(self.address)));
        match self.of {
            NeighbourOf::Protocol => message.header.family = AddressFamily::Inet,
            NeighbourOf::Forwarding => {
                message.header.family = AddressFamily::Bridge;
                message.header.flags = NeighbourFlags::Own;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.to_vec()));
            }
        }
        message
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (address, mac) = (self.address, mac_text(self.mac));
        match self.of {
            NeighbourOf::Protocol => write!(f, "neighbour {address} at {mac}"),
            NeighbourOf::Forwarding => write!(f, "forwarding entry {mac} to {address}"),
        }
    }
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// A hardware address as people write it: `66:40:24:34:76:fc`.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
