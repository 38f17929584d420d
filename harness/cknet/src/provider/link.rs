//! The hidden command line `cknet node-link DEVICE up|down|delete|mtu=BYTES|add=JSON`, by which scenario steps change or
//! make a device of a node. What the kernel refuses ends with its errno as the exit code.

use std::io::Write;
use std::process::ExitCode;

use std::net::Ipv4Addr;

use cknet_kernel::link::{LearningVxlan, Netlink, NetlinkError};
use cknet_kernel::ns::NetNs;
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
        return complain(2, "usage: node-link DEVICE up|down|delete|mtu=BYTES|add=JSON");
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
    let changed = match (change, change.strip_prefix("mtu=").map(str::parse)) {
        ("up", _) => netlink.up(index).await,
        ("down", _) => netlink.down(index).await,
        ("delete", _) => netlink.delete(index).await,
        (_, Some(Ok(mtu))) => netlink.set_mtu(index, mtu).await,
        _ => return Err(format!("`{change}` is not a change of a device").into()),
    };
    Ok(changed?)
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
