//! Expectations about a node or a pod as the kernel sees it: routes, devices, addresses, listening ports.

use std::net::IpAddr;
use std::time::Duration;

use cknet_probe::facts::Facts;

use super::Looked;
use crate::cluster::objects::Coordinates;
use crate::judge::{Look, Seen};
use crate::provider::Invocation;
use crate::run::stage::Stage;
use crate::scenario::model::{Addresses, Ear, Endpoint, Link, Listening, Route};

/// Longest time for a node to tell its facts.
const TELL: Duration = Duration::from_secs(10);

/// Facts of a node's own network namespace, or of another one on it.
async fn facts(stage: &Stage<'_>, node: &str, kind: &str, netns: Option<&str>) -> Result<Facts, String> {
    let machine = stage.cluster.nodes.get(node).ok_or_else(|| format!("no node is called `{node}`"))?;
    let mut argv = vec!["cknet", "facts", kind];
    if let Some(netns) = netns {
        argv.extend(["--netns", netns]);
    }
    let output = machine.run(Invocation::new(argv), TELL).await.map_err(|error| error.to_string())?;
    if !output.succeeded() {
        return Err(format!("node `{node}` did not tell its {kind}: {}", output.complaint()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("node `{node}` told its {kind} wrongly: {error}"))
}

pub async fn route(stage: &Stage<'_>, expected: &Route) -> Looked {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let destination = expected.destination.resolve(&lookup).map_err(|error| error.to_string())?.net();
    let via = expected.via.as_ref().map(|via| via.resolve(&lookup)).transpose().map_err(|error| error.to_string())?;
    let device =
        expected.dev.as_ref().map(|dev| dev.resolve(&lookup)).transpose().map_err(|error| error.to_string())?;
    let facts = facts(stage, expected.node.as_str(), "routes", None).await?;
    let to_it: Vec<_> = facts.routes.iter().filter(|route| route.destination == destination).collect();
    let fits = to_it.iter().any(|route| {
        let hop_fits = |hop: &cknet_probe::facts::NextHop| {
            via.as_ref().is_none_or(|via| hop.via == Some(via.0))
                && device.as_ref().is_none_or(|device| hop.device.as_ref() == Some(device))
        };
        expected.kind.as_ref().is_none_or(|kind| *kind == route.kind)
            && expected.protocol.as_ref().is_none_or(|protocol| *protocol == route.protocol)
            && (via.is_none() && device.is_none() || route.next_hops.iter().any(hop_fits))
    });
    let shown = to_it.iter().map(|route| show_route(route)).collect::<Vec<_>>().join("; ");
    let shown = if shown.is_empty() { format!("no route to {destination}") } else { shown };
    Ok(if fits == expected.present { Look::Holds(shown) } else { Look::Refuted(Seen::word(shown)) })
}

fn show_route(route: &cknet_probe::facts::Route) -> String {
    let mut text = format!("{} {}", route.kind, route.destination);
    for hop in &route.next_hops {
        if let Some(via) = hop.via {
            text.push_str(&format!(" via {via}"));
        }
        if let Some(device) = &hop.device {
            text.push_str(&format!(" dev {device}"));
        }
        if hop.onlink {
            text.push_str(" onlink");
        }
    }
    text.push_str(&format!(" proto {}", route.protocol));
    text
}

pub async fn link(stage: &Stage<'_>, expected: &Link) -> Looked {
    let facts = facts(stage, expected.node.as_str(), "links", None).await?;
    let Some(link) = facts.links.iter().find(|link| link.name == expected.device) else {
        let shown = format!("no device {}", expected.device);
        return Ok(if expected.present { Look::Refuted(Seen::word(shown)) } else { Look::Holds(shown) });
    };
    if !expected.present {
        return Ok(Look::Refuted(Seen::word(format!("device {} is there", link.name))));
    }
    let vxlan = link.vxlan.as_ref();
    let parent = vxlan.and_then(|vxlan| vxlan.parent.clone()).or_else(|| link.parent.clone());
    let differences = [
        differs("kind", expected.kind.as_ref(), Some(&link.kind)),
        differs("up", expected.up.as_ref(), Some(&link.up)),
        differs("MTU", expected.mtu.map(u32::from).as_ref(), Some(&link.mtu)),
        differs("VNI", expected.vni.as_ref(), vxlan.map(|vxlan| vxlan.vni).as_ref()),
        differs("UDP port", expected.port.map(|port| port.get()).as_ref(), vxlan.map(|vxlan| vxlan.port).as_ref()),
        differs("checksum offload", expected.checksum_offload.as_ref(), link.checksum_offload.as_ref()),
        differs("parent", expected.parent.as_ref(), parent.as_ref()),
    ];
    match differences.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => Ok(Look::Holds(format!("{} {}", link.kind, link.name))),
        some => Ok(Look::Refuted(Seen::word(some.join(", ")))),
    }
}

/// What was found where something else was wanted.
fn differs<T: PartialEq + std::fmt::Display>(what: &str, wanted: Option<&T>, found: Option<&T>) -> Option<String> {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted != found => Some(format!("{what} is {found}")),
        (Some(_), None) => Some(format!("it has no {what}")),
        _ => None,
    }
}

pub async fn addresses(stage: &Stage<'_>, expected: &Addresses) -> Looked {
    let found = addresses_of(stage, &expected.of, expected.device.as_deref()).await?;
    let shown = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let counted = match expected.count {
        Some(count) => found.len() == usize::from(count),
        None => !found.is_empty(),
    };
    let outside = found.iter().find(|address| !expected.within.contains(**address));
    Ok(match outside {
        Some(address) => Look::Refuted(Seen::word(format!("{address} is outside of {}", expected.within))),
        None if !counted => Look::Refuted(Seen::word(format!("{} addresses: {shown}", found.len()))),
        None => Look::Holds(shown),
    })
}

async fn addresses_of(stage: &Stage<'_>, of: &Endpoint, device: Option<&str>) -> Result<Vec<IpAddr>, String> {
    match of {
        Endpoint::Workload(name) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            Ok(vec![pod.address])
        }
        Endpoint::Service(name) => {
            let service = stage.scenario.services.get(name).ok_or_else(|| format!("no service `{name}`"))?;
            let at = Coordinates {
                api_version: "v1".into(),
                kind: "Service".into(),
                namespace: Some(service.namespace.as_str().into()),
                name: name.as_str().into(),
            };
            let found = stage.cluster.objects.get(&at).await.map_err(|error| error.to_string())?.unwrap_or_default();
            let listed = found["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
            let single = found["spec"]["clusterIP"].clone();
            let all = if listed.is_empty() { vec![single] } else { listed };
            Ok(all.iter().filter_map(|address| address.as_str()?.parse().ok()).collect())
        }
        Endpoint::Node(name) => {
            let facts = facts(stage, name.as_str(), "addresses", None).await?;
            let wanted = facts.addresses.iter().filter(|address| match device {
                Some(device) => address.link == device,
                None => address.scope == "global",
            });
            Ok(wanted.map(|address| address.address.addr()).collect())
        }
        Endpoint::Address(address) => Ok(vec![*address]),
    }
}

pub async fn listening(stage: &Stage<'_>, expected: &Listening) -> Looked {
    let facts = match &expected.at {
        Endpoint::Node(name) => facts(stage, name.as_str(), "listening", None).await?,
        Endpoint::Workload(name) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            facts(stage, &pod.node, "listening", pod.netns().as_deref()).await?
        }
        other => return Err(format!("`{other}` cannot be looked into")),
    };
    let protocol = expected.port.protocol.to_string();
    let open =
        facts.listening.iter().any(|socket| socket.protocol == protocol && socket.port == expected.port.port.get());
    let (shown, met) = if open { ("open", expected.is == Ear::Open) } else { ("closed", expected.is == Ear::Closed) };
    Ok(if met { Look::Holds(shown.into()) } else { Look::Refuted(Seen::word(shown)) })
}
