//! The link of a pod: a veth pair, a /32 address inside, the gateway 169.254.1.1 that the host answers for by proxy
//! ARP, and the host's route to the pod. As Calico lays it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use cknet_kernel::link::{Netlink, VethEnd};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind};
use ipnet::Ipv4Net;

use super::CniError;
use crate::node::calico::PROTOCOL;

/// The gateway of every pod; link-local (RFC 3927), so it clashes with nobody.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The hardware address of the host's end of every pod link.
const HOST_MAC: [u8; 6] = [0xee; 6];

/// RTPROT_BOOT of `linux/rtnetlink.h`.
const BOOT: u8 = 3;

/// Connects the namespace of a pod with the node of the calling process.
pub async fn connect(pod: &NetNs, interface: &str, address: Ipv4Addr, mtu: u32) -> Result<(), CniError> {
    let host = Netlink::open(&NetNs::current()?)?;
    let inside = Netlink::open(pod)?;
    disconnect_from(&host, interface).await?;
    let near = VethEnd { name: interface, mac: Some(HOST_MAC), mtu };
    let far = VethEnd { name: "eth0", mac: None, mtu };
    host.add_veth(&near, &far, pod.as_fd()).await?;
    // Before the link comes up, so that the first ARP request is answered, and at once.
    answer_for_gateway(interface)?;
    let outside = host.expect_link(interface).await?.index;
    host.up(outside).await?;
    host.set_route(&Route {
        destination: Ipv4Net::from(address),
        kind: RouteKind::Link { device: outside },
        protocol: PROTOCOL,
    })
    .await?;

    let device = inside.expect_link("eth0").await?.index;
    inside.add_address(device, Ipv4Net::from(address)).await?;
    inside.up(device).await?;
    let to_gateway = Route { destination: Ipv4Net::from(GATEWAY), kind: RouteKind::Link { device }, protocol: BOOT };
    inside.set_route(&to_gateway).await?;
    let via = RouteKind::Via { gateway: GATEWAY, device, onlink: false };
    inside.set_route(&Route { destination: Ipv4Net::default(), kind: via, protocol: BOOT }).await?;
    Ok(())
}

/// Removes the link of a pod by the end that is inside; its other end and its routes go with it.
///
/// The name of the end outside is that of the pod, and by now it may belong to a pod of the same name that came after.
pub async fn disconnect(pod: &NetNs) -> Result<(), CniError> {
    disconnect_from(&Netlink::open(pod)?, "eth0").await
}

async fn disconnect_from(place: &Netlink, interface: &str) -> Result<(), CniError> {
    if let Some(link) = place.link(interface).await? {
        place.delete(link.index).await?;
    }
    Ok(())
}

/// Proxy ARP without its usual delay of up to 0.8 s (ip-sysctl.rst: `proxy_arp`, `neigh/*/proxy_delay`).
fn answer_for_gateway(interface: &str) -> std::io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/proxy_arp"), "1")?;
    fs::write(format!("/proc/sys/net/ipv4/neigh/{interface}/proxy_delay"), "0")
}
