//! What the interfaces of a machine were like before a run set them up, and the way back: for machines that were there
//! before the run and are there after it.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use cknet_kernel::link::{Link, Netlink};
use cknet_kernel::route::{Route, RouteKind, mac_text};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// RTPROT_KERNEL of `linux/rtnetlink.h`: routes that come and go with addresses.
const KERNEL: u8 = 2;

/// The state of a machine's network as far as a run changes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    host: String,
    nics: Vec<NicBefore>,
    /// Files below `/proc/sys` with what was in them.
    settings: Vec<(String, String)>,
}

/// An interface, known again by its hardware address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NicBefore {
    mac: [u8; 6],
    name: String,
    mtu: u32,
    up: bool,
    addresses: Vec<Ipv4Net>,
    routes: Vec<RouteBefore>,
    /// Whether it has no IPv6, where the kernel knows that.
    without_ipv6: Option<String>,
}

/// A route that somebody has set on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RouteBefore {
    destination: Ipv4Net,
    /// Directly on the link without.
    gateway: Option<Ipv4Addr>,
    onlink: bool,
    protocol: u8,
}

impl Before {
    /// Sees how these links and settings are now.
    pub async fn see(netlink: &Netlink, links: &[&Link], settings: &[String]) -> Result<Self, String> {
        let text = |error: cknet_kernel::link::NetlinkError| error.to_string();
        let (addresses, routes) = (netlink.addresses().await.map_err(text)?, netlink.routes().await.map_err(text)?);
        let mut nics = Vec::new();
        for link in links {
            let mac = link.mac.ok_or_else(|| format!("`{}` has no hardware address", link.name))?;
            let own = addresses.iter().filter(|(index, _)| *index == link.index).map(|(_, address)| *address);
            let set = routes.iter().filter(|route| route.protocol != KERNEL);
            nics.push(NicBefore {
                mac,
                name: link.name.clone(),
                mtu: link.mtu,
                up: link.up,
                addresses: own.collect(),
                routes: set.filter_map(|route| RouteBefore::on(route, link.index)).collect(),
                without_ipv6: setting(&without_ipv6(&link.name)),
            });
        }
        let host = nix::unistd::gethostname().map_err(|error| error.to_string())?.to_string_lossy().into_owned();
        let read = |path: &String| Some((path.clone(), setting(path)?));
        Ok(Self { host, nics, settings: settings.iter().filter_map(read).collect() })
    }

    /// Writes it down, once: what a run that died has written is what was there before that.
    pub fn keep(&self, path: &Path) -> Result<(), String> {
        let doing = |error: io::Error| format!("`{}`: {error}", path.display());
        if path.exists() {
            return Ok(());
        }
        let draft = path.with_extension("tmp");
        std::fs::write(&draft, serde_json::to_vec(self).map_err(|error| error.to_string())?).map_err(doing)?;
        std::fs::rename(&draft, path).map_err(doing)
    }

    /// What was written down.
    pub fn kept(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("`{}`: {error}", path.display()))
    }

    /// Makes everything what it was.
    pub async fn restore(&self, netlink: &Netlink) -> Result<(), String> {
        let text = |error: cknet_kernel::link::NetlinkError| error.to_string();
        let links = netlink.links().await.map_err(text)?;
        let mut found = Vec::new();
        for nic in &self.nics {
            let own = links.iter().find(|link| link.mac == Some(nic.mac) && link.vxlan.is_none());
            let link = own.ok_or_else(|| format!("the interface with {} is gone", mac_text(nic.mac)))?;
            found.push((nic, link));
        }
        // Down, so that they can be renamed; out of each other's way first.
        for (_, link) in &found {
            netlink.down(link.index).await.map_err(text)?;
        }
        for (_, link) in found.iter().filter(|(nic, link)| nic.name != link.name) {
            netlink.rename(link.index, &format!("cknet-nic{}", link.index)).await.map_err(text)?;
        }
        for (nic, link) in found.iter().filter(|(nic, link)| nic.name != link.name) {
            netlink.rename(link.index, &nic.name).await.map_err(text)?;
        }
        for (nic, link) in &found {
            netlink.set_mtu(link.index, nic.mtu).await.map_err(text)?;
            for (_, address) in netlink.addresses().await.map_err(text)?.iter().filter(|(of, _)| *of == link.index) {
                netlink.delete_address(link.index, *address).await.map_err(text)?;
            }
            for address in &nic.addresses {
                netlink.add_address(link.index, *address).await.map_err(text)?;
            }
        }
        let of_nics = self.nics.iter().filter_map(|nic| Some((without_ipv6(&nic.name), nic.without_ipv6.clone()?)));
        for (path, value) in self.settings.iter().cloned().chain(of_nics) {
            let path = Path::new("/proc/sys").join(path);
            std::fs::write(&path, &value).map_err(|error| format!("`{}`: {error}", path.display()))?;
        }
        for (nic, link) in found.iter().filter(|(nic, _)| nic.up) {
            netlink.up(link.index).await.map_err(text)?;
            for route in &nic.routes {
                netlink.set_route(&route.of(link.index)).await.map_err(text)?;
            }
        }
        nix::unistd::sethostname(&self.host).map_err(|error| format!("host name `{}`: {error}", self.host))
    }
}

/// What stands in a file below `/proc/sys`.
fn setting(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().to_string())
}

/// The setting that an interface has no IPv6 (ip-sysctl.rst).
pub fn without_ipv6(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/disable_ipv6")
}

impl RouteBefore {
    /// The route, if it goes by this device.
    fn on(route: &Route, index: u32) -> Option<Self> {
        let (gateway, onlink) = match route.kind {
            RouteKind::Via { gateway, device, onlink } if device == index => (Some(gateway), onlink),
            RouteKind::Link { device } if device == index => (None, false),
            _ => return None,
        };
        Some(Self { destination: route.destination, gateway, onlink, protocol: route.protocol })
    }

    fn of(&self, device: u32) -> Route {
        let kind = match self.gateway {
            Some(gateway) => RouteKind::Via { gateway, device, onlink: self.onlink },
            None => RouteKind::Link { device },
        };
        Route { destination: self.destination, kind, protocol: self.protocol }
    }
}
