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

/// Removes the link of a pod from inside; its other end and its routes go with it.
pub async fn disconnect(pod: &NetNs) -> Result<(), CniError> {
    disconnect_from(&Netlink::open(pod)?, "eth0").await
}

async fn disconnect_from(host: &Netlink, interface: &str) -> Result<(), CniError> {
    if let Some(link) = host.link(interface).await? {
        host.delete(link.index).await?;
    }
    Ok(())
}

/// Proxy ARP without its usual delay of up to 0.8 s (ip-sysctl.rst: `proxy_arp`, `neigh/*/proxy_delay`).
fn answer_for_gateway(interface: &str) -> std::io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/proxy_arp"), "1")?;
    fs::write(format!("/proc/sys/net/ipv4/neigh/{interface}/proxy_delay"), "0")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stderr)]
    use super::*;

    /// A pod may be gone for the API while its processes still end, and its successor has its name: the host's end of
    /// the link is then the successor's.
    #[test]
    fn a_pod_that_ends_late_leaves_the_link_of_its_successor_alone() {
        let Ok(node) = NetNs::create() else {
            let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.contains("netns"));
            assert!(!required, "CKNET_REQUIRE names netns, but no namespace can be made here");
            return eprintln!("ignored: making namespaces needs CAP_SYS_ADMIN");
        };
        let (old, new) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let test = std::thread::spawn(move || {
            node.enter().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let eth0 = async |pod: &NetNs| Netlink::open(pod).unwrap().link("eth0").await.unwrap().is_some();
                connect(&old, "cali1", Ipv4Addr::new(10, 1, 0, 1), 1450).await.unwrap();
                assert!(eth0(&old).await);
                connect(&new, "cali1", Ipv4Addr::new(10, 1, 0, 2), 1450).await.unwrap();
                disconnect(&old).await.unwrap();
                assert!(eth0(&new).await);
                disconnect(&new).await.unwrap();
                assert!(Netlink::open(&node).unwrap().link("cali1").await.unwrap().is_none());
                // Twice is no failure.
                disconnect(&new).await.unwrap();
            });
        });
        test.join().unwrap();
    }
}
