//! The hidden command line `cknet node-link DEVICE up|down|delete|mtu=BYTES|name=NAME|add=JSON`, by which scenario steps change or
//! make a device of a node. What the kernel refuses ends with its errno as the exit code.

use std::io::Write;
use std::process::ExitCode;

use std::net::Ipv4Addr;

use cknet_kernel::link::{LearningVxlan, Netlink, NetlinkError};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A VXLAN device that is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewVxlan {
    /// `None` for metadata mode.
    pub vni: Option<u32>,
    pub port: u16,
    pub parent: Option<String>,
    pub remote: Option<Ipv4Addr>,
    pub address: Option<Ipv4Net>,
    pub mtu: Option<u16>,
}

/// A change could not be made.
struct Refused {
    code: u8,
    problem: String,
}

impl From<String> for Refused {
    fn from(problem: String) -> Self {
        Self { code: 1, problem }
    }
}

impl From<NetlinkError> for Refused {
    fn from(error: NetlinkError) -> Self {
        let code = error.errno().and_then(|errno| u8::try_from(errno).ok());
        Self { code: code.unwrap_or(1), problem: error.to_string() }
    }
}

pub fn main(arguments: &[String]) -> ExitCode {
    let [device, change] = arguments else {
        return complain(2, "usage: node-link DEVICE up|down|delete|mtu=BYTES|name=NAME|add=JSON");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| Refused::from(error.to_string()));
    match done.and_then(|runtime| runtime.block_on(apply(device, change))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refused) => complain(refused.code, &refused.problem),
    }
}

async fn apply(device: &str, change: &str) -> Result<(), Refused> {
    let namespace = NetNs::current().map_err(|error| error.to_string())?;
    let netlink = Netlink::open(&namespace).map_err(|error| error.to_string())?;
    if let Some(description) = change.strip_prefix("add=") {
        let new = serde_json::from_str(description).map_err(|error| format!("`{description}`: {error}"))?;
        return add(&netlink, device, &new).await;
    }
    let index = netlink.expect_link(device).await?.index;
    if let Some(name) = change.strip_prefix("name=") {
        return rename(&netlink, device, index, name).await;
    }
    let changed = match (change, change.strip_prefix("mtu=").map(str::parse)) {
        ("up", _) => return up(&netlink, device, index).await,
        ("down", _) => return down(&netlink, device, index).await,
        ("delete", _) => netlink.delete(index).await,
        (_, Some(Ok(mtu))) => netlink.set_mtu(index, mtu).await,
        _ => return Err(format!("`{change}` is not a change of a device").into()),
    };
    Ok(changed?)
}

/// Routes of RTPROT_STATIC: what whoever configures the interfaces of a machine has set.
const STATIC: u8 = 4;

/// Where the routes of a device that is down wait for it.
fn waiting(device: &str) -> String {
    format!("/run/cknet/routes-of-{device}")
}

/// The kernel forgets the routes of a device that is set down; they are kept for [`up`].
async fn down(netlink: &Netlink, device: &str, index: u32) -> Result<(), Refused> {
    let of_device = |route: Route| match route.kind {
        RouteKind::Via { gateway, device, .. } if device == index && route.protocol == STATIC => {
            Some((route.destination, gateway))
        }
        _ => None,
    };
    let kept: Vec<(Ipv4Net, Ipv4Addr)> = netlink.routes().await?.into_iter().filter_map(of_device).collect();
    if !kept.is_empty() {
        let text = serde_json::to_string(&kept).map_err(|error| error.to_string())?;
        std::fs::write(waiting(device), text).map_err(|error| error.to_string())?;
    }
    Ok(netlink.down(index).await?)
}

/// As a machine's network configuration does when a device comes back, its routes are set again.
async fn up(netlink: &Netlink, device: &str, index: u32) -> Result<(), Refused> {
    netlink.up(index).await?;
    let Ok(text) = std::fs::read_to_string(waiting(device)) else { return Ok(()) };
    let kept: Vec<(Ipv4Net, Ipv4Addr)> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    for (destination, gateway) in kept {
        let kind = RouteKind::Via { gateway, device: index, onlink: false };
        netlink.set_route(&Route { destination, kind, protocol: STATIC }).await?;
    }
    std::fs::remove_file(waiting(device)).map_err(|error| error.to_string().into())
}

/// The kernel renames only what is down.
async fn rename(netlink: &Netlink, device: &str, index: u32, name: &str) -> Result<(), Refused> {
    down(netlink, device, index).await?;
    netlink.rename(index, name).await?;
    // Nothing to carry over where the device had no routes.
    let _ = std::fs::rename(waiting(device), waiting(name));
    up(netlink, name, index).await
}

async fn add(netlink: &Netlink, name: &str, new: &NewVxlan) -> Result<(), Refused> {
    let parent = match &new.parent {
        Some(parent) => Some(netlink.expect_link(parent).await?.index),
        None => None,
    };
    let mtu = new.mtu.map(u32::from);
    let device = LearningVxlan { name, vni: new.vni, port: new.port, parent, remote: new.remote, mtu };
    netlink.add_learning_vxlan(&device).await?;
    if let Some(address) = new.address {
        netlink.add_address(netlink.expect_link(name).await?.index, address).await?;
    }
    Ok(())
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nowhere to complain about a closed standard error.
    let _ = writeln!(std::io::stderr(), "error: {problem}");
    ExitCode::from(code)
}
