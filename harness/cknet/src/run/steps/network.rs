//! Steps that change what a node's kernel knows of its network: devices, routes, forwarding entries.

use serde_json::json;

use super::command::{command, command_with};
use super::{Done, text};
use crate::provider::link::NewVxlan;
use crate::run::stage::Stage;
use crate::scenario::model::{FdbChange, LinkChange, LinkState, NewLink, RouteChange};

pub async fn change_link(stage: &Stage<'_>, link: &LinkChange) -> Done {
    let change = match &link.change {
        LinkState::Up => "up".to_string(),
        LinkState::Down => "down".to_string(),
        LinkState::Delete => "delete".to_string(),
        LinkState::Mtu(bytes) => format!("mtu={bytes}"),
        LinkState::Rename(name) => format!("name={name}"),
        LinkState::Add(new) => return add_link(stage, link, new).await,
    };
    let argv = ["cknet", "node-link", &link.device, &change].map(String::from).to_vec();
    command(stage, link.node.as_str(), argv, 0).await
}

/// What the kernel answers where a device stands in another one's way: the same VNI and port, or the port in another
/// mode (drivers/net/vxlan of Linux).
const IN_THE_WAY: [i32; 2] = [nix::libc::EEXIST, nix::libc::EADDRINUSE];

async fn add_link(stage: &Stage<'_>, link: &LinkChange, new: &NewLink) -> Done {
    let remote = new.remote.as_ref().map(|remote| remote.resolve(&|fact| stage.facts.lookup(fact)));
    let remote = match remote.transpose().map_err(text)?.map(|address| address.0) {
        Some(std::net::IpAddr::V4(address)) => Some(address),
        Some(other) => return Err(format!("`{other}` is not an IPv4 address")),
        None => None,
    };
    let device = NewVxlan {
        vni: new.vni,
        port: new.port.get(),
        parent: new.parent.clone(),
        remote,
        address: new.address.as_ref().map(|address| address.parse().map_err(text)).transpose()?,
        mtu: new.mtu,
    };
    let change = format!("add={}", json!(device));
    let argv = ["cknet", "node-link", &link.device, &change].map(String::from).to_vec();
    let refusals: &[i32] = if new.may_be_refused { &IN_THE_WAY } else { &[] };
    let wanted: Vec<i32> = std::iter::once(0).chain(refusals.iter().copied()).collect();
    command_with(stage, link.node.as_str(), argv, &wanted).await
}

pub async fn change_route(stage: &Stage<'_>, change: &RouteChange) -> Done {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let destination = change.destination.resolve(&lookup).map_err(text)?.to_string();
    let verb = if change.present { "set" } else { "remove" };
    let mut argv = ["cknet", "node-route", verb, &destination].map(String::from).to_vec();
    if let Some(via) = &change.via {
        argv.push(format!("via={}", via.resolve(&lookup).map_err(text)?));
    }
    if let Some(dev) = &change.dev {
        argv.push(format!("dev={}", dev.resolve(&lookup).map_err(text)?));
    }
    command(stage, change.node.as_str(), argv, 0).await
}

pub async fn change_fdb(stage: &Stage<'_>, change: &FdbChange) -> Done {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let from = change.leading_to.resolve(&lookup).map_err(text)?.to_string();
    let mut argv = ["cknet", "node-fdb", &change.device, &from].map(String::from).to_vec();
    if let Some(to) = &change.to {
        argv.push(to.resolve(&lookup).map_err(text)?.to_string());
    }
    command(stage, change.node.as_str(), argv, 0).await
}
