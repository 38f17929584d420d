//! The hidden command line `cknet node-interfaces`: makes the interfaces, addresses and routes of the machine that it
//! runs on those of a topology's node, as JSON on its standard input says.
//!
//! NICs are found by their hardware addresses, because what a machine calls them depends on its bus and its system. On a
//! machine that outlives the run what was there is written down first, and `cknet node-interfaces restore` brings it back.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;

use cknet_kernel::link::{Link, Netlink};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind, mac_text};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::before::{Before, without_ipv6};
use crate::provider::StaticRoute;

/// RTPROT_STATIC of `linux/rtnetlink.h`: routes an administrator would have set.
const STATIC: u8 = 4;

/// What an interface of the provider's own is renamed to when a NIC of the topology wants its name. Calico's
/// `first-found` passes over names that begin with `virbr` (its default list of interfaces to leave out): the way by
/// which a machine is managed is no candidate for its cluster's network.
const MANAGEMENT: &str = "virbr-mgmt";

/// Where it is written down what was there before.
const BEFORE: &str = "/var/lib/cknet/interfaces.json";

/// The network that a machine shall have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    pub host: String,
    pub forwards: bool,
    pub nics: Vec<WantedNic>,
    pub routes: Vec<StaticRoute>,
    /// A default route by an interface that is none of the NICs stays instead of the topology's: packages and images
    /// come that way.
    pub keeps_way_out: bool,
    /// The machine outlives the run: nothing but these NICs is changed, and what they were like is written down.
    #[serde(default)]
    pub outlives: bool,
}

/// A NIC that a machine shall have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WantedNic {
    /// By which it is found; by its name where there is none.
    pub mac: Option<[u8; 6]>,
    pub name: String,
    pub address: Ipv4Net,
    pub mtu: Option<u32>,
}

pub fn main(arguments: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = runtime.and_then(|runtime| match words.as_slice() {
        [] => read_wanted().and_then(|wanted| runtime.block_on(apply(&wanted))),
        ["restore"] => Before::kept(Path::new(BEFORE)).and_then(|before| runtime.block_on(restore(&before))),
        _ => Err("usage: node-interfaces [restore] < JSON".into()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(1, &problem),
    }
}

fn read_wanted() -> Result<Wanted, String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(said)?;
    serde_json::from_str::<Wanted>(&text).map_err(said)
}

async fn restore(before: &Before) -> Result<(), String> {
    let netlink = Netlink::open(&NetNs::current().map_err(said)?).map_err(said)?;
    before.restore(&netlink).await
}

async fn apply(wanted: &Wanted) -> Result<(), String> {
    let netlink = Netlink::open(&NetNs::current().map_err(said)?).map_err(said)?;
    let settings = settings(wanted);
    if wanted.outlives {
        remember(&netlink, wanted, &settings).await?;
    }
    nix::unistd::sethostname(&wanted.host).map_err(|error| format!("host name `{}`: {error}", wanted.host))?;
    write(&settings)?;
    let devices = name_all(&netlink, wanted).await?;
    if wanted.outlives {
        write(&wanted.nics.iter().map(|nic| (without_ipv6(&nic.name), "1")).collect::<Vec<_>>())?;
    }
    for (nic, index) in wanted.nics.iter().zip(&devices) {
        let doing = |problem: &dyn std::fmt::Display| format!("`{}`: {problem}", nic.name);
        if let Some(mtu) = nic.mtu {
            netlink.set_mtu(*index, mtu).await.map_err(|error| doing(&error))?;
        }
        for (_, other) in netlink.addresses().await.map_err(said)?.into_iter().filter(|(of, _)| of == index) {
            if other != nic.address {
                netlink.delete_address(*index, other).await.map_err(|error| doing(&error))?;
            }
        }
        match netlink.add_address(*index, nic.address).await {
            Err(error) if !error.is_exists() => return Err(doing(&error)),
            _ => {}
        }
        netlink.up(*index).await.map_err(|error| doing(&error))?;
    }
    let has_way_out = wanted.keeps_way_out && leaves_otherwise(&netlink, &devices).await?;
    for route in &wanted.routes {
        if has_way_out && route.destination.prefix_len() == 0 {
            continue;
        }
        let near = wanted.nics.iter().zip(&devices).find(|(nic, _)| nic.address.contains(&route.via));
        let (_, device) = near.ok_or_else(|| format!("gateway {} is in no network of this machine", route.via))?;
        set_route(&netlink, route.destination, route.via, *device).await?;
    }
    Ok(())
}

/// Whether there is a default route by another interface than these.
async fn leaves_otherwise(netlink: &Netlink, devices: &[u32]) -> Result<bool, String> {
    let other = |route: &Route| match route.kind {
        RouteKind::Via { device, .. } => route.destination.prefix_len() == 0 && !devices.contains(&device),
        _ => false,
    };
    Ok(netlink.routes().await.map_err(said)?.iter().any(other))
}

async fn set_route(netlink: &Netlink, destination: Ipv4Net, gateway: Ipv4Addr, device: u32) -> Result<(), String> {
    let kind = RouteKind::Via { gateway, device, onlink: false };
    let route = Route { destination, kind, protocol: STATIC };
    netlink.set_route(&route).await.map_err(|error| format!("route to {destination}: {error}"))
}

/// Gives each NIC its name, and returns their indices in the order of the topology.
async fn name_all(netlink: &Netlink, wanted: &Wanted) -> Result<Vec<u32>, String> {
    let links = netlink.links().await.map_err(said)?;
    let mut chosen: BTreeMap<u32, &str> = BTreeMap::new();
    let mut indices = Vec::new();
    for nic in &wanted.nics {
        let found = links.iter().find(|link| match nic.mac {
            Some(mac) => link.mac == Some(mac) && link.vxlan.is_none(),
            None => link.name == nic.name,
        });
        let link = found.ok_or_else(|| absent(nic, &links))?;
        if chosen.insert(link.index, &nic.name).is_some() {
            return Err(format!("two NICs are the same device `{}`", link.name));
        }
        indices.push(link.index);
    }
    // Out of the way first: names may go round in a circle.
    for link in &links {
        let taken = wanted.nics.iter().any(|nic| nic.name == link.name);
        match chosen.get(&link.index) {
            Some(name) if *name == link.name => {}
            Some(_) => rename(netlink, link.index, &format!("cknet-nic{}", link.index)).await?,
            None if taken => rename(netlink, link.index, MANAGEMENT).await?,
            None => {}
        }
    }
    for (index, name) in chosen {
        let current = links.iter().find(|link| link.index == index);
        if current.is_none_or(|link| link.name != name) {
            rename(netlink, index, name).await?;
        }
    }
    Ok(indices)
}

fn absent(nic: &WantedNic, links: &[Link]) -> String {
    let there: Vec<String> =
        links.iter().map(|link| format!("{} {}", link.name, link.mac.map(mac_text).unwrap_or_default())).collect();
    let by = nic.mac.map_or_else(|| format!("of the name `{}`", nic.name), |mac| format!("with {}", mac_text(mac)));
    format!("no interface {by} for NIC `{}`; there are: {}", nic.name, there.join(", "))
}

/// The kernel renames only what is down, and forgets the routes of what is set down.
async fn rename(netlink: &Netlink, index: u32, name: &str) -> Result<(), String> {
    let of_device = |route: &Route| matches!(route.kind, RouteKind::Via { device, .. } if device == index);
    let routes: Vec<Route> = netlink.routes().await.map_err(said)?.into_iter().filter(of_device).collect();
    let doing = |error: cknet_kernel::link::NetlinkError| format!("`{name}`: {error}");
    netlink.down(index).await.map_err(doing)?;
    netlink.rename(index, name).await.map_err(doing)?;
    netlink.up(index).await.map_err(doing)?;
    for route in &routes {
        netlink.set_route(route).await.map_err(doing)?;
    }
    Ok(())
}

/// Writes down how the NICs and settings are that will be changed.
async fn remember(netlink: &Netlink, wanted: &Wanted, settings: &[(String, &str)]) -> Result<(), String> {
    let links = netlink.links().await.map_err(said)?;
    let changed = |link: &&Link| {
        let is_nic = wanted.nics.iter().any(|nic| nic.mac.is_some() && nic.mac == link.mac);
        link.vxlan.is_none() && (is_nic || wanted.nics.iter().any(|nic| nic.name == link.name))
    };
    let changed: Vec<&Link> = links.iter().filter(changed).collect();
    let paths: Vec<String> = settings.iter().map(|(path, _)| path.clone()).collect();
    Before::see(netlink, &changed, &paths).await?.keep(Path::new(BEFORE))
}

/// Settings of a node (ip-sysctl.rst), the same as in namespaces: packets may come back another way than they went,
/// and nobody is told of a shorter way. A machine that outlives the run may be reached over IPv6 itself.
fn settings(wanted: &Wanted) -> Vec<(String, &'static str)> {
    let mut all = vec![
        ("net/ipv4/ip_forward".to_string(), if wanted.forwards { "1" } else { "0" }),
        ("net/ipv4/conf/all/send_redirects".into(), "0"),
        ("net/ipv4/conf/default/send_redirects".into(), "0"),
        ("net/ipv4/conf/all/rp_filter".into(), "0"),
        ("net/ipv4/conf/default/rp_filter".into(), "0"),
    ];
    if !wanted.outlives {
        all.extend(["all", "default"].map(|of| (format!("net/ipv6/conf/{of}/disable_ipv6"), "1")));
    }
    all
}

fn write(settings: &[(String, &str)]) -> Result<(), String> {
    for (key, value) in settings {
        let path = Path::new("/proc/sys").join(key);
        let written = std::fs::write(&path, value);
        // IPv6 may be absent from the kernel altogether.
        if !key.starts_with("net/ipv6") {
            written.map_err(|error| format!("`{}`: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nowhere to complain about a closed standard error.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
