//! The expectation `wire`: a flow is sent while taps look at where it passes, and its packets are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cknet_probe::tap::{self, Place, Request, Seen as Tapped, Sighting, Wanted};
use cknet_probe::wire::{Observation, Sight};

use super::Looked;
use super::flows::{self, Flow};
use crate::judge::{Look, Seen};
use crate::run::stage::Stage;
use crate::scenario::model::{Encapsulated, Endpoint, Protocol, Via, WatchPoint, Wire};
use crate::scenario::{LateFact, model};
use crate::vantage::{Place as Vantaged, Taps};

/// A tap that is forgotten ends by itself after this time.
const FORGOTTEN: Duration = Duration::from_secs(20);

/// The name of a node's own network namespace among places.
pub(super) const NODE: &str = "node";

/// The name of the namespace from which a flow is sent.
pub(super) const SENDER: &str = "sender";

pub async fn wire(stage: &Stage<'_>, expected: &Wire) -> Looked {
    let flow = flows::flow(stage, &expected.from, &expected.to, expected.port, &expected.via).await?;
    let points = watched(stage, &expected.on);
    let taps = Taps::open(&stage.cluster.nodes, requests(stage, expected, &flow, &points), false).await;
    let taps = taps.map_err(|error| error.to_string())?;
    let observed = flows::ask(stage, vec![flow.question.clone()]).await?.swap_remove(0);
    let seen = taps.close().await.map_err(|error| error.to_string())?;
    if let Sight::Inconclusive { detail, .. } = &observed.sight {
        return Err(format!("the flow was not sent: {detail}"));
    }
    let of_flow = |sighting: &Sighting| belongs(sighting, &flow, &observed);
    let sender = &flow.question.from.node;
    if !seen.get(sender).is_some_and(|seen| seen.sightings.iter().any(of_flow)) {
        return Err(format!("the flow was not sent: nothing of it was seen where it starts on {sender}"));
    }
    let passed = passages(&seen, &points).filter(|(_, sighting)| of_flow(sighting)).collect::<Vec<_>>();
    judge(stage, expected, &passed, &observed)
}

/// The devices that are looked at, by node.
fn watched(stage: &Stage<'_>, on: &WatchPoint) -> BTreeSet<(String, String)> {
    match on {
        WatchPoint::Device(at) => [(at.node.to_string(), at.device.clone())].into(),
        WatchPoint::Segment(segment) => {
            let nodes = stage.scenario.topology.nodes.iter();
            let nics = nodes.flat_map(|(node, described)| described.nics.iter().map(move |nic| (node, nic)));
            let attached = nics.filter(|(_, (_, nic))| nic.segment == *segment);
            attached.map(|(node, (name, _))| (node.to_string(), name.to_string())).collect()
        }
    }
}

/// A tap for each node that is looked at, and for the one from which the flow is sent.
fn requests(
    stage: &Stage<'_>,
    expected: &Wire,
    flow: &Flow,
    points: &BTreeSet<(String, String)>,
) -> BTreeMap<String, Request> {
    let wanted = wanted(stage, &expected.from, &expected.to, &expected.via, flow);
    let mut tunnels = vec![stage.cluster.profile.overlay_port.get()];
    tunnels.extend(expected.outer_port.map(|port| port.get()).filter(|port| !tunnels.contains(port)));
    let request = || Request {
        places: vec![Place { name: NODE.into(), netns: "self".into() }],
        flows: vec![wanted.clone()],
        tunnels: tunnels.clone(),
        deadline: FORGOTTEN,
        surroundings: false,
    };
    let mut requests: BTreeMap<_, _> = points.iter().map(|(node, _)| (node.clone(), request())).collect();
    let sender = requests.entry(flow.question.from.node.clone()).or_insert_with(request);
    if flow.question.from.place != Vantaged::Node {
        sender.places.push(Place { name: SENDER.into(), netns: flow.question.from.place.netns() });
    }
    requests
}

/// The packets that can belong to a flow: between its ends, under all addresses that they may have on the way.
pub(super) fn wanted(stage: &Stage<'_>, from: &Endpoint, to: &Endpoint, via: &Via, flow: &Flow) -> Wanted {
    let mut addresses: BTreeSet<IpAddr> = [flow.question.target.ip()].into();
    let node_of_flow: model::NodeName;
    let mut nodes = Vec::new();
    if let Ok(name) = flow.question.from.node.parse::<model::NodeName>() {
        node_of_flow = name;
        nodes.push(&node_of_flow);
    }
    for end in [from, to] {
        match end {
            Endpoint::Workload(name) => addresses.extend(stage.placed.pods.get(name).map(|pod| pod.address)),
            Endpoint::Node(name) => nodes.push(name),
            Endpoint::Service(_) | Endpoint::Address(_) => {}
        }
    }
    if let Via::NodePort(name) = via {
        nodes.push(name);
    }
    for name in nodes {
        let described = stage.scenario.topology.nodes.get(name);
        addresses.extend(described.iter().flat_map(|node| node.nics.iter().map(|(_, nic)| nic.address)));
        let tunnel = stage.facts.lookup(&LateFact::NodeTunnelAddress(name.clone()));
        addresses.extend(tunnel.and_then(|address| address.parse::<IpAddr>().ok()));
    }
    let mut ports: BTreeSet<u16> = flows::port_of(&flow.question.target).into_iter().collect();
    for (name, pod) in &stage.placed.pods {
        // A service gives the packet another address and port on its way.
        if flow.peers.contains(&format!("{}/{name}", pod.namespace)) {
            addresses.insert(pod.address);
            if *to != Endpoint::Workload(name.clone()) || *via != Via::Pod {
                ports.extend(pod.listen.iter().map(|port| port.port.get()));
            }
        }
    }
    let version4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Wanted {
        addresses: addresses.into_iter().filter_map(version4).collect::<Vec<Ipv4Addr>>(),
        protocol: match flow.protocol {
            Protocol::Tcp => tap::Protocol::Tcp,
            Protocol::Udp => tap::Protocol::Udp,
            Protocol::Sctp => tap::Protocol::Sctp,
        },
        ports: ports.into_iter().collect(),
    }
}

/// Whether a packet is one of the flow itself, on its way to the target. The port from which it was sent tells it
/// from other flows between the same ends; address translation mostly leaves it as it is.
fn belongs(sighting: &Sighting, flow: &Flow, observed: &Observation) -> bool {
    let Some(local) = observed.local else {
        // A datagram that was not answered does not tell its port.
        return flows::port_of(&flow.question.target) == Some(sighting.tuple.destination_port);
    };
    sighting.tuple.source_port == local.port() && !matches!(sighting.says, tap::Says::Error { .. })
}

/// What passed the watched devices, with the node.
fn passages<'a>(
    seen: &'a BTreeMap<String, Tapped>,
    points: &'a BTreeSet<(String, String)>,
) -> impl Iterator<Item = (&'a str, &'a Sighting)> {
    seen.iter().flat_map(|(node, seen)| seen.sightings.iter().map(move |sighting| (node.as_str(), sighting))).filter(
        |(node, sighting)| sighting.place == NODE && points.contains(&(node.to_string(), sighting.device.clone())),
    )
}

fn judge(stage: &Stage<'_>, expected: &Wire, passed: &[(&str, &Sighting)], observed: &Observation) -> Looked {
    let Some((node, first)) = passed.first() else {
        let nothing = format!("nothing of the flow was seen on {}", expected.on);
        return match (expected.present, &observed.sight) {
            (true, _) => Ok(Look::Refuted(Seen::word(nothing))),
            (false, Sight::Answered) => Ok(Look::Holds(format!("{nothing}; it was answered another way"))),
            (false, sight) => Err(format!("{nothing}, but the flow was not answered either: {sight:?}")),
        };
    };
    if !expected.present {
        return Ok(Look::Refuted(Seen::word(format!("seen {}", described(node, first)))));
    }
    for (node, sighting) in passed {
        if let Some(problem) = difference(stage, expected, sighting)? {
            return Ok(Look::Refuted(Seen::word(format!("{problem}: {}", described(node, sighting)))));
        }
    }
    Ok(Look::Holds(described(node, first)))
}

/// What is otherwise about a packet than expected.
fn difference(stage: &Stage<'_>, expected: &Wire, sighting: &Sighting) -> Result<Option<String>, String> {
    let outer = match (expected.encapsulated, sighting.outer) {
        (Some(Encapsulated::Vxlan), Some(outer)) => outer,
        (Some(Encapsulated::Vxlan), None) => return Ok(Some("not encapsulated".into())),
        (Some(Encapsulated::None), Some(_)) => return Ok(Some("encapsulated".into())),
        _ => return Ok(None),
    };
    if expected.vni.is_some_and(|vni| vni != outer.vni) {
        return Ok(Some(format!("VNI {}", outer.vni)));
    }
    if expected.outer_port.is_some_and(|port| port.get() != outer.port) {
        return Ok(Some(format!("UDP {}", outer.port)));
    }
    for (wanted, found, word) in
        [(&expected.outer_from, outer.source, "sent from"), (&expected.outer_to, outer.destination, "sent to")]
    {
        let Some(wanted) = wanted else { continue };
        let wanted = wanted.resolve(&|fact| stage.facts.lookup(fact)).map_err(|error| error.to_string())?;
        if wanted.0 != IpAddr::V4(found) {
            return Ok(Some(format!("{word} {found}")));
        }
    }
    Ok(None)
}

fn described(node: &str, sighting: &Sighting) -> String {
    let wrapped = sighting.outer.map_or_else(|| "not encapsulated".to_string(), |outer| outer.to_string());
    format!("{} {node} {}: {}, {wrapped}", sighting.direction, sighting.device, sighting.tuple)
}
