//! Gathers what a diagnosis needs: sends flows once more while every interface of the nodes is looked at, and asks the
//! cluster for its agents, pools and policies. What follows from it is decided in `diagnose`.
//!
//! Through the Node seam, and bounded by whoever calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cknet_probe::tap::{self, Place, Request, Wanted};
use serde_json::Value;

use super::flows;
use crate::diagnose::{
    self, Cause, Diagnosis, End, Flow, NODE, Node, Overlay, Policies, Policy, SENDER, Scene, Subject, TARGET, Way,
};
use crate::event::{Advice, LastSeen, LostAt};
use crate::run::stage::Stage;
use crate::scenario::LateFact;
use crate::scenario::model::{
    Encapsulation, Endpoint, NodeName, PortProto, Protocol, Service, TargetPort, Via, WorkloadName,
};
use crate::vantage::{Place as Vantaged, Question, Taps};

/// A tap that is forgotten ends by itself after this time.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// So many flows stand for all that failed; those of one pair of nodes have one cause, as a rule.
const REPRESENTATIVES: usize = 3;

/// With more nodes than these only those of the ends are looked at.
const MOST_NODES: usize = 6;

/// A flow as the scenario file names it; one without a port is an echo request of a size.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub from: &'a Endpoint,
    pub to: &'a Endpoint,
    pub what: What,
    pub via: &'a Via,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Port(PortProto),
    Bytes(u16),
}

/// What a diagnosis adds to the story of a failure.
#[derive(Default)]
pub(super) struct Findings {
    pub lost_at: Option<LostAt>,
    pub cause: Option<String>,
    pub advice: Option<Advice>,
}

/// Finds where flows are lost; nothing where none of them can be followed.
pub(super) async fn of_lost(stage: &Stage<'_>, lost: &[Named<'_>]) -> Findings {
    let chosen = representatives(stage, lost);
    let cluster = Surroundings::ask(stage).await;
    let mut suspects = Vec::new();
    for named in chosen {
        suspects.extend(suspect(stage, named, &cluster).await);
    }
    let Ok(scenes) = observed(stage, suspects, &cluster).await else { return Findings::default() };
    let found: Vec<(String, Diagnosis)> =
        scenes.iter().map(|(name, scene)| (name.clone(), diagnose::diagnose(scene))).collect();
    let Some((_, first)) = found.iter().find(|(_, diagnosis)| diagnosis.cause.is_some()).or(found.first()) else {
        return Findings::default();
    };
    let cause = first.cause.clone();
    let mut text = cause.as_ref().map(|cause| cause.text.clone());
    for (name, other) in &found {
        let Some(other) = other.cause.as_ref().filter(|other| Some(&other.text) != cause.as_ref().map(|one| &one.text))
        else {
            continue;
        };
        text = text.map(|text| format!("{text}\n{name}: {other}"));
    }
    Findings { lost_at: lost_at(first), cause: text, advice: cause.and_then(|cause| advice(&cause, &cluster.overlay)) }
}

/// Why flows arrive that were expected to be denied.
pub(super) async fn of_arrived(stage: &Stage<'_>, arrived: &[Named<'_>]) -> Findings {
    let Some(named) = arrived.first() else { return Findings::default() };
    let cluster = Surroundings::ask(stage).await;
    let Ok(policies) = stage.cluster.objects.list("networking.k8s.io/v1", "NetworkPolicy", None, None).await else {
        return Findings::default();
    };
    let mut ends = Vec::new();
    for end in [named.from, named.to] {
        let Endpoint::Workload(name) = end else { continue };
        let Some(pod) = stage.placed.pods.get(name) else { continue };
        ends.push(Subject {
            namespace: pod.namespace.clone(),
            name: name.to_string(),
            labels: cluster.labels.get(name).cloned().unwrap_or_default(),
            node: pod.node.clone(),
            agent_runs: cluster.agents.contains(&pod.node),
        });
    }
    let all = policies.iter().map(policy).collect();
    let known = Policies { all, ends, agent: cluster.overlay.agent.clone() };
    let cause = diagnose::not_enforced(&known);
    let advice = cause.as_ref().and_then(|cause| advice(cause, &cluster.overlay));
    Findings { lost_at: None, cause: cause.map(|cause| cause.text), advice }
}

/// One flow of each pair of nodes.
fn representatives<'a>(stage: &Stage<'_>, lost: &[Named<'a>]) -> Vec<Named<'a>> {
    let mut pairs = BTreeSet::new();
    let place = |end: &Endpoint| match end {
        Endpoint::Workload(name) => stage.placed.pods.get(name).map_or(String::new(), |pod| pod.node.clone()),
        other => other.to_string(),
    };
    let fresh = lost.iter().filter(|named| pairs.insert((place(named.from), place(named.to))));
    fresh.take(REPRESENTATIVES).copied().collect()
}

/// What the cluster says of itself.
struct Surroundings {
    /// Nodes on which the CNI's agent is ready.
    agents: BTreeSet<String>,
    /// Pools of pod addresses, with their `vxlanMode`.
    pools: Vec<(ipnet::IpNet, String)>,
    /// Workloads at the ends that are there, by the labels that they have now.
    labels: BTreeMap<WorkloadName, BTreeMap<String, String>>,
    overlay: Overlay,
}

impl Surroundings {
    async fn ask(stage: &Stage<'_>) -> Self {
        let (profile, objects) = (&stage.cluster.profile, &stage.cluster.objects);
        let namespaces: BTreeSet<&str> = stage.placed.pods.values().map(|pod| pod.namespace.as_str()).collect();
        let pods = namespaces.into_iter().map(|namespace| objects.list("v1", "Pod", Some(namespace), None));
        let (agents, pools, pods) = tokio::join!(
            objects.list("v1", "Pod", Some(&profile.namespace), profile.node_selector.as_deref()),
            objects.list("crd.projectcalico.org/v1", "IPPool", None, None),
            futures::future::join_all(pods),
        );
        let pods: Vec<Value> = pods.into_iter().flatten().flatten().collect();
        Self {
            agents: match profile.node_selector {
                Some(_) => agents.unwrap_or_default().iter().filter(|pod| ready(pod)).filter_map(node_of).collect(),
                // A CNI without agents misses none.
                None => stage.cluster.nodes.by_name.keys().cloned().collect(),
            },
            pools: pools.unwrap_or_default().iter().filter_map(pool).collect(),
            labels: stage
                .placed
                .pods
                .iter()
                .filter_map(|(name, placed)| {
                    // A process on a machine beside the cluster is no object that could go.
                    let Some(uid) = &placed.uid else { return Some((name.clone(), texts(&Value::Null))) };
                    let own = pods.iter().find(|pod| pod["metadata"]["uid"] == uid.as_str())?;
                    let gone = own["metadata"]["deletionTimestamp"].is_string();
                    (!gone).then(|| (name.clone(), texts(&own["metadata"]["labels"])))
                })
                .collect(),
            overlay: Overlay {
                device: profile.overlay_device.clone(),
                port: profile.overlay_port.get(),
                workload_prefix: profile.workload_device_prefix.clone(),
                agent: profile.daemon_set.clone().unwrap_or_default(),
            },
        }
    }

    /// Whether packets to this address are to be wrapped between two nodes.
    fn encapsulates(&self, stage: &Stage<'_>, to: Ipv4Addr, from_node: &str, to_node: &str) -> bool {
        let mode = self.pools.iter().find(|(block, _)| block.contains(&IpAddr::V4(to))).map(|(_, mode)| mode.as_str());
        let crosses = || !share_a_segment(stage, from_node, to_node);
        match mode {
            Some("Always") => true,
            Some("CrossSubnet") => crosses(),
            Some(_) => false,
            // A CNI without such pools does as the scenario says, for the addresses of pods.
            None if !stage.scenario.cluster.pod_cidr.contains(IpAddr::V4(to)) => false,
            None => match stage.scenario.cluster.encapsulation {
                Encapsulation::Vxlan => true,
                Encapsulation::VxlanCrossSubnet => crosses(),
                _ => false,
            },
        }
    }
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

fn node_of(pod: &Value) -> Option<String> {
    pod["spec"]["nodeName"].as_str().map(str::to_string)
}

fn pool(pool: &Value) -> Option<(ipnet::IpNet, String)> {
    let mode = pool["spec"]["vxlanMode"].as_str().unwrap_or("Never");
    Some((pool["spec"]["cidr"].as_str()?.parse().ok()?, mode.to_string()))
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))).collect()
}

fn policy(policy: &Value) -> Policy {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let selector = &policy["spec"]["podSelector"];
    Policy {
        namespace: text(&policy["metadata"]["namespace"]),
        name: text(&policy["metadata"]["name"]),
        match_labels: texts(&selector["matchLabels"]),
        expressions: selector["matchExpressions"].as_array().is_some_and(|all| !all.is_empty()),
    }
}

fn share_a_segment(stage: &Stage<'_>, one: &str, other: &str) -> bool {
    let segments = |name: &str| {
        let node = stage.scenario.topology.nodes.iter().find(|(node, _)| node.as_str() == name);
        node.map(|(_, node)| node.nics.iter().map(|(_, nic)| nic.segment.clone()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let others = segments(other);
    segments(one).iter().any(|segment| others.contains(segment))
}

/// A flow that is sent once more, and all that is known of it beforehand.
struct Suspect {
    name: String,
    question: Question,
    flow: Flow,
}

/// A flow made ready; nothing where its ends are not known to be a pod or a node.
async fn suspect(stage: &Stage<'_>, named: Named<'_>, cluster: &Surroundings) -> Option<Suspect> {
    let from = end(stage, named.from, cluster)?;
    let (question, protocol, port) = match named.what {
        What::Bytes(bytes) => {
            let question = super::path_mtu::question(stage, named.from, named.to, bytes).ok()?;
            (question, tap::Protocol::Icmp, 0)
        }
        What::Port(port) => {
            let flow = flows::flow(stage, named.from, named.to, port, named.via).await.ok()?;
            let protocol = match port.protocol {
                Protocol::Tcp => tap::Protocol::Tcp,
                Protocol::Udp => tap::Protocol::Udp,
                Protocol::Sctp => tap::Protocol::Sctp,
            };
            (flow.question, protocol, port.port.get())
        }
    };
    let (to, port, service) = match (named.to, named.via) {
        (Endpoint::Service(name), _) => {
            let service = stage.scenario.services.get(name)?;
            let (backend, port) = backend(stage, service, port)?;
            (end(stage, &Endpoint::Workload(backend), cluster)?, port, true)
        }
        (other, via) => (end(stage, other, cluster)?, port, *via != Via::Pod),
    };
    let IpAddr::V4(sent_to) = question.target.ip() else { return None };
    let service = service.then_some((sent_to, flows::port_of(&question.target).unwrap_or(0)));
    let encapsulated =
        from.node != to.node && to.pod.is_some() && cluster.encapsulates(stage, to.address, &from.node, &to.node);
    let size = match named.what {
        What::Bytes(bytes) => Some(bytes),
        What::Port(_) => None,
    };
    let flow = Flow { from, to, protocol, port, service, source_port: None, encapsulated, size };
    Some(Suspect { name: format!("{} -> {}", named.from, named.to), question, flow })
}

fn end(stage: &Stage<'_>, end: &Endpoint, cluster: &Surroundings) -> Option<End> {
    let of_node = |name: &NodeName| {
        let IpAddr::V4(address) = stage.scenario.topology.address(name)? else { return None };
        Some(End { node: name.to_string(), address, pod: None, there: true })
    };
    match end {
        Endpoint::Workload(name) => {
            let placed = stage.placed.pods.get(name)?;
            let IpAddr::V4(address) = placed.address else { return None };
            let pod = (!placed.host_network).then(|| format!("{}/{name}", placed.namespace));
            Some(End { node: placed.node.clone(), address, pod, there: cluster.labels.contains_key(name) })
        }
        Endpoint::Node(name) => of_node(name),
        Endpoint::Service(_) => None,
        Endpoint::Address(address) => {
            let pod = stage.placed.pods.iter().find(|(_, pod)| pod.address == *address && !pod.host_network);
            if let Some((name, _)) = pod {
                return self::end(stage, &Endpoint::Workload(name.clone()), cluster);
            }
            let mut nodes = stage.scenario.topology.nodes.iter();
            let owner = nodes.find(|(_, node)| node.nics.iter().any(|(_, nic)| nic.address == *address));
            of_node(owner?.0)
        }
    }
}

/// The first workload behind a service, and the port on which it is asked.
fn backend(stage: &Stage<'_>, service: &Service, port: u16) -> Option<(WorkloadName, u16)> {
    let selects = |workload: &crate::scenario::model::Workload| {
        workload.namespace == service.namespace
            && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    };
    let (name, workload) = stage.scenario.workloads.iter().find(|(_, workload)| selects(workload))?;
    let described = service.ports.iter().find(|described| described.port.port.get() == port)?;
    let target = match &described.target {
        Some(TargetPort::Number(number)) => number.get(),
        Some(TargetPort::Name(target)) => workload.named_ports.get(target)?.port.get(),
        None => port,
    };
    Some((name.clone(), target))
}

/// Sends the flows while all nodes look on; a scene for each.
async fn observed(
    stage: &Stage<'_>,
    suspects: Vec<Suspect>,
    cluster: &Surroundings,
) -> Result<Vec<(String, Scene)>, String> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let text = |error: crate::vantage::ProbeError| error.to_string();
    let mut scenes = Vec::new();
    let ends = |suspect: &Suspect| [suspect.flow.from.node.clone(), suspect.flow.to.node.clone()];
    let all = stage.cluster.nodes.by_name.keys().cloned();
    let nodes: BTreeSet<String> = match stage.cluster.nodes.by_name.len() <= MOST_NODES {
        true => all.collect(),
        false => suspects.iter().flat_map(ends).collect(),
    };
    let requests = nodes.iter().map(|node| (node.clone(), request(stage, node, &suspects))).collect();
    let taps = Taps::open(&stage.cluster.nodes, requests, true).await.map_err(text)?;
    let questions = suspects.iter().map(|suspect| suspect.question.clone()).collect();
    let seen = flows::ask(stage, questions).await?;
    let tapped = taps.close().await.map_err(text)?;
    for (number, (suspect, seen)) in suspects.into_iter().zip(seen).enumerate() {
        let known = tapped.iter().map(|(node, seen)| {
            let mut seen = seen.clone();
            rename(&mut seen, number);
            let known = Node { seen, nics: nics(stage, node), agent_runs: cluster.agents.contains(node) };
            (node.clone(), known)
        });
        let ported = suspect.flow.protocol != tap::Protocol::Icmp;
        let source_port = seen.local.map(|local| local.port()).filter(|_| ported);
        let flow = Flow { source_port, ..suspect.flow };
        scenes.push((suspect.name, Scene { flow, nodes: known.collect(), overlay: cluster.overlay.clone() }));
    }
    Ok(scenes)
}

/// Places of several suspects are told apart by a number; a scene knows only its own.
fn rename(seen: &mut tap::Seen, number: usize) {
    for own in [SENDER, TARGET] {
        let numbered = format!("{own}{number}");
        seen.sightings.iter_mut().filter(|sighting| sighting.place == numbered).for_each(|s| s.place = own.into());
        let told = seen.before.iter_mut().chain(&mut seen.after);
        told.filter(|told| told.place == numbered).for_each(|told| told.place = own.into());
    }
}

fn request(stage: &Stage<'_>, node: &str, suspects: &[Suspect]) -> Request {
    let mut places = vec![Place { name: NODE.into(), netns: "self".into() }];
    let mut wanted = Vec::new();
    for (number, suspect) in suspects.iter().enumerate() {
        let flow = &suspect.flow;
        for (end, name) in [(&flow.from, SENDER), (&flow.to, TARGET)] {
            let pod = end.pod.as_ref().filter(|_| end.node == node && end.there);
            let placed = pod.and_then(|pod| {
                let pods = stage.placed.pods.iter();
                let mut own = pods.filter(|(workload, placed)| format!("{}/{workload}", placed.namespace) == *pod);
                own.next().map(|(_, placed)| placed)
            });
            if let Some(uid) = placed.and_then(|placed| placed.uid.clone()) {
                let netns = Vantaged::Pod { uid }.netns();
                places.push(Place { name: format!("{name}{number}"), netns });
            }
        }
        wanted.push(wanted_of(stage, suspect));
    }
    let tunnels = vec![stage.cluster.profile.overlay_port.get()];
    Request { places, flows: wanted, tunnels, deadline: FORGOTTEN, surroundings: true }
}

fn wanted_of(stage: &Stage<'_>, suspect: &Suspect) -> Wanted {
    let flow = &suspect.flow;
    let mut addresses: BTreeSet<Ipv4Addr> = [flow.from.address, flow.to.address].into();
    addresses.extend(flow.service.map(|(address, _)| address));
    for end in [&flow.from, &flow.to] {
        addresses.extend(nics(stage, &end.node).into_values());
        let tunnel =
            end.node.parse::<NodeName>().ok().and_then(|name| stage.facts.lookup(&LateFact::NodeTunnelAddress(name)));
        addresses.extend(tunnel.and_then(|address| address.parse::<Ipv4Addr>().ok()));
    }
    let ports: BTreeSet<u16> = std::iter::once(flow.port).chain(flow.service.map(|(_, port)| port)).collect();
    Wanted { addresses: addresses.into_iter().collect(), protocol: flow.protocol, ports: ports.into_iter().collect() }
}

fn nics(stage: &Stage<'_>, node: &str) -> BTreeMap<String, Ipv4Addr> {
    let described = stage.scenario.topology.nodes.iter().find(|(name, _)| name.as_str() == node);
    let nics = described.into_iter().flat_map(|(_, node)| node.nics.iter());
    nics.filter_map(|(name, nic)| match nic.address {
        IpAddr::V4(address) => Some((name.to_string(), address)),
        IpAddr::V6(_) => None,
    })
    .collect()
}

fn advice(cause: &Cause, overlay: &Overlay) -> Option<Advice> {
    diagnose::advice(cause, overlay).map(|advice| Advice { text: advice.text, docs: advice.docs })
}

/// The hop as an event tells it.
fn lost_at(found: &Diagnosis) -> Option<LostAt> {
    let spot = |spot: &diagnose::Spot| LastSeen {
        direction: spot.direction.to_string(),
        node: spot.pod.clone().unwrap_or_else(|| spot.node.clone()),
        device: spot.device.to_string(),
    };
    let (last_seen, next) = (found.last_seen.as_ref().map(spot), found.next.as_ref().map(spot));
    let answer = found.way == Way::Back;
    if let Some((node, (drop, drops))) =
        found.cause.as_ref().and_then(|cause| Some((&cause.node, cause.drop.as_ref()?)))
    {
        let matching = Some(drop.matching.clone()).filter(|text| !text.is_empty());
        let (node, place, drops) = (node.clone(), drop.place.clone(), *drops);
        return Some(LostAt { node, place, drops, matching, last_seen, next, answer });
    }
    let place = found.next.as_ref().or(found.last_seen.as_ref())?;
    let (node, device) = (place.node.clone(), place.device.to_string());
    Some(LostAt { node, place: device, drops: 0, matching: None, last_seen, next, answer })
}
