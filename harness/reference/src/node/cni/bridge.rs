//! The CNI plugin `bridge`: pods of a node are on one bridge, which is their gateway. Nothing here reaches another
//! node, and nothing here knows NetworkPolicy.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use cknet_kernel::link::{Netlink, VethEnd};
use cknet_kernel::nft::{Base, Chain, Family, Hook, Nft, Program, Rule, Table, priority};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind};
use ipnet::Ipv4Net;

use super::{CniError, PodSandbox};

/// The bridge's name unless the configuration gives another.
pub const DEFAULT: &str = "cni0";

/// RTPROT_BOOT of `linux/rtnetlink.h`.
const BOOT: u8 = 3;

/// A bridge and who is on it.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub name: String,
    pub subnet: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub mtu: u32,
    /// The node has the gateway's address and pods a default route to it.
    pub is_gateway: bool,
    /// What leaves the subnet gets the node's address.
    pub masquerade: bool,
}

impl Bridge {
    /// Connects a sandbox with the bridge, which is made if it is missing; the answer is the host's end.
    pub async fn connect(&self, sandbox: &PodSandbox<'_>, address: Ipv4Addr) -> Result<String, CniError> {
        let host = Netlink::open(&NetNs::current()?)?;
        let inside = Netlink::open(sandbox.netns)?;
        let bridge = self.ensure(&host).await?;
        let interface = interface_name(sandbox.container_id);
        if let Some(link) = host.link(&interface).await? {
            host.delete(link.index).await?;
        }
        let near = VethEnd { name: &interface, mac: None, mtu: self.mtu };
        let far = VethEnd { name: "eth0", mac: None, mtu: self.mtu };
        host.add_veth(&near, &far, sandbox.netns.as_fd()).await?;
        host.enslave(host.expect_link(&interface).await?.index, bridge).await?;

        let device = inside.expect_link("eth0").await?.index;
        let own = Ipv4Net::new(address, self.subnet.prefix_len()).map_err(std::io::Error::other)?;
        inside.add_address(device, own).await?;
        inside.up(device).await?;
        if self.is_gateway {
            let kind = RouteKind::Via { gateway: self.gateway, device, onlink: false };
            inside.set_route(&Route { destination: Ipv4Net::default(), kind, protocol: BOOT }).await?;
        }
        if self.masquerade {
            self.hide_behind_the_node()?;
        }
        Ok(interface)
    }

    async fn ensure(&self, host: &Netlink) -> Result<u32, CniError> {
        let bridge = match host.link(&self.name).await? {
            Some(bridge) => bridge.index,
            None => {
                match host.add_bridge(&self.name).await {
                    // Two pods may start at the same time.
                    Err(error) if !error.is_exists() => return Err(error.into()),
                    _ => {}
                }
                let bridge = host.expect_link(&self.name).await?.index;
                host.set_mtu(bridge, self.mtu).await?;
                bridge
            }
        };
        if self.is_gateway {
            let own = Ipv4Net::new(self.gateway, self.subnet.prefix_len()).map_err(std::io::Error::other)?;
            host.add_address(bridge, own).await?;
        }
        // What is bridged passes the node's rules as well, as Kubernetes asks; a kernel may lack br_netfilter.
        let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
        Ok(bridge)
    }

    /// The plugin's `ipMasq`, as a table of its own for each bridge.
    fn hide_behind_the_node(&self) -> Result<(), CniError> {
        let rule = Rule::new().saddr_in(self.subnet.into()).daddr_not_in(self.subnet.into()).masquerade();
        let chain = Chain::base("postrouting", Base::nat(Hook::Postrouting, priority::SNAT)).with_rule(rule);
        let table = Table::new(Family::Ip, format!("cni-{}", self.name)).with_chain(chain);
        let program = |nft: Nft| Program::new(nft).apply(table);
        Nft::open().and_then(program).map_err(std::io::Error::other)?;
        Ok(())
    }
}

/// The name of the host's end of a pod's link: `veth` and 8 digits. The real plugin draws them; here they follow from
/// the sandbox, so that doing it again finds what was left.
pub fn interface_name(container: &str) -> String {
    let digits: String = container.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("veth{digits}")
}
