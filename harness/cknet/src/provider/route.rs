//! The hidden command lines by which scenario steps change where a node sends packets:
//! `cknet node-route set|remove DESTINATION [via=ADDRESS] [dev=DEVICE]` and `cknet node-fdb DEVICE FROM [TO]`.
//!
//! What is to be removed or led elsewhere has to be there: a step that changes nothing is told.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use cknet_kernel::link::Netlink;
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Neighbour, NeighbourOf, Route, RouteKind};
use ipnet::Ipv4Net;

/// RTPROT_STATIC of `linux/rtnetlink.h`: routes that an administrator would have set.
const STATIC: u8 = 4;

/// Sets or removes a route of the main table.
pub fn route(arguments: &[String]) -> ExitCode {
    ended(arguments, async |netlink: &Netlink| match arguments {
        [verb, destination, way @ ..] => change_route(netlink, verb, destination, way).await,
        _ => Err("usage: node-route set|remove DESTINATION [via=ADDRESS] [dev=DEVICE]".into()),
    })
}

/// Leads forwarding entries of a device elsewhere, or removes them.
pub fn fdb(arguments: &[String]) -> ExitCode {
    ended(arguments, async |netlink: &Netlink| match arguments {
        [device, from] => change_fdb(netlink, device, from, None).await,
        [device, from, to] => change_fdb(netlink, device, from, Some(to)).await,
        _ => Err("usage: node-fdb DEVICE FROM [TO]".into()),
    })
}

fn ended(arguments: &[String], change: impl AsyncFnOnce(&Netlink) -> Result<(), String>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(text).and_then(|runtime| {
        runtime.block_on(async {
            let netlink = Netlink::open(&NetNs::current().map_err(text)?).map_err(text)?;
            change(&netlink).await
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nowhere to complain about a closed standard error.
            let _ = writeln!(std::io::stderr(), "error: {}: {problem}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

async fn change_route(netlink: &Netlink, verb: &str, destination: &str, way: &[String]) -> Result<(), String> {
    let destination: Ipv4Net = destination.parse().map_err(text)?;
    let given = |key: &str| way.iter().find_map(|word| word.strip_prefix(key));
    match verb {
        "set" => {
            let gateway = given("via=").map(str::parse::<Ipv4Addr>).transpose().map_err(text)?;
            let device = device(netlink, given("dev="), gateway).await?;
            let kind = match gateway {
                Some(gateway) => RouteKind::Via { gateway, device, onlink: true },
                None => RouteKind::Link { device },
            };
            netlink.set_route(&Route { destination, kind, protocol: STATIC }).await.map_err(text)
        }
        "remove" => {
            let mut routes = netlink.routes().await.map_err(text)?;
            routes.retain(|route| route.destination == destination);
            if routes.is_empty() {
                return Err(format!("there is no route to {destination}"));
            }
            for route in &routes {
                netlink.delete_route(route).await.map_err(text)?;
            }
            Ok(())
        }
        other => Err(format!("`{other}` is not a change of a route")),
    }
}

/// The device of that name, or the one in whose network the gateway is.
async fn device(netlink: &Netlink, name: Option<&str>, gateway: Option<Ipv4Addr>) -> Result<u32, String> {
    if let Some(name) = name {
        return Ok(netlink.expect_link(name).await.map_err(text)?.index);
    }
    let gateway = gateway.ok_or("neither a gateway nor a device is given")?;
    let addresses = netlink.addresses().await.map_err(text)?;
    let near = addresses.iter().find(|(_, network)| network.contains(&gateway));
    near.map(|(index, _)| *index).ok_or_else(|| format!("{gateway} is in no network of this node"))
}

async fn change_fdb(netlink: &Netlink, device: &str, from: &str, to: Option<&String>) -> Result<(), String> {
    let from: Ipv4Addr = from.parse().map_err(text)?;
    let to = to.map(|to| to.parse::<Ipv4Addr>()).transpose().map_err(text)?;
    let index = netlink.expect_link(device).await.map_err(text)?.index;
    let mut entries = netlink.neighbours(index).await.map_err(text)?;
    entries.retain(|entry| entry.of == NeighbourOf::Forwarding && entry.address == from);
    if entries.is_empty() {
        return Err(format!("no forwarding entry of {device} leads to {from}"));
    }
    for entry in entries {
        netlink.delete_neighbour(index, &entry).await.map_err(text)?;
        if let Some(address) = to {
            netlink.set_neighbour(index, &Neighbour { address, ..entry }).await.map_err(text)?;
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
