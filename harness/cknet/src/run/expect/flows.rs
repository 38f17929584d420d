//! Expectations about flows: connectivity, matrices, services and names. All are answered by probes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cknet_probe::wire::{Expect, Observation, RecordType, Sight, Target};

use super::Looked;
use super::witness::Witnesses;
use crate::cluster::objects::Coordinates;
use crate::event;
use crate::judge::{Look, Seen, meets, outcome_of};
use crate::run::stage::{Stage, vantage_of};
use crate::scenario::model::{
    Connectivity, Dns, Endpoint, Matrix, Outcome, PortName, PortProto, Protocol, Service, ServiceAnswers, ServiceName,
    ServicePort, SourceAddress, TargetPort, Via, Workload, WorkloadName,
};
use crate::vantage::{Place, Question, Vantage};

/// Probes of a service per look: with n backends and even choice, the chance to miss one is at most n(1-1/n)^k.
const SERVICE_PROBES: usize = 24;

/// A flow made ready to be probed.
pub(super) struct Flow {
    pub(super) question: Question,
    /// The target declares this port.
    listens: bool,
    /// Identities that may answer; empty when anybody may.
    pub(super) peers: Vec<String>,
    pub(super) protocol: Protocol,
}

/// What a probed flow came to: its outcome, or what else was seen.
pub(super) fn outcome(flow: &Flow, seen: &Observation) -> Result<Result<Outcome, String>, String> {
    let outcome = outcome_of(seen, flow.listens)?;
    match &seen.peer {
        Some(peer) if outcome == Outcome::Allowed && !flow.peers.is_empty() && !flow.peers.contains(peer) => {
            Ok(Err(format!("answered by `{peer}`")))
        }
        _ => Ok(Ok(outcome)),
    }
}

/// The port to which the first packet is sent, if the protocol has ports.
pub(super) fn port_of(target: &Target) -> Option<u16> {
    match target {
        Target::Icmp { .. } => None,
        Target::Tcp { address, .. }
        | Target::Udp { address, .. }
        | Target::Sctp { address, .. }
        | Target::Http { address, .. }
        | Target::Dns { address, .. } => Some(address.port()),
    }
}

pub async fn connectivity(stage: &Stage<'_>, expected: &Connectivity) -> Looked {
    let flow = flow(stage, &expected.from, &expected.to, expected.port, &expected.via).await?;
    let mut witnesses = Witnesses::default();
    if expected.is != Outcome::Allowed {
        witnesses.add(stage, &flow.peers, flow.protocol);
    }
    let questions = std::iter::once(flow.question.clone()).chain(witnesses.questions()).collect();
    let mut own = ask(stage, questions).await?;
    let seen = own.remove(0);
    let outcome = match outcome(&flow, &seen)? {
        Err(other) => return Ok(Look::Refuted(Seen::word(other))),
        Ok(outcome) if !meets(expected.is, outcome) => return Ok(Look::Refuted(Seen::word(outcome.word()))),
        Ok(outcome) => outcome,
    };
    if outcome != Outcome::Allowed {
        witnesses.doubt(&flow.peers, &own)?;
    }
    Ok(match source_problem(stage, expected, &seen) {
        Some(problem) => Look::Refuted(Seen::word(problem)),
        None => Look::Holds(note(outcome, &seen)),
    })
}

fn note(outcome: Outcome, seen: &Observation) -> String {
    let mut note = outcome.word().to_string();
    if let Some(micros) = seen.rtt_us {
        note.push_str(&format!(" in {}.{:01} ms", micros / 1000, micros % 1000 / 100));
    }
    if let (Some(peer), Some(source)) = (&seen.peer, seen.seen_source) {
        note.push_str(&format!("; `{peer}` saw {source}"));
    }
    note
}

/// Whether the target saw another address as the sender's than the one expected.
fn source_problem(stage: &Stage<'_>, expected: &Connectivity, seen: &Observation) -> Option<String> {
    let source = expected.source_address?;
    let Endpoint::Workload(name) = &expected.from else { return None };
    let pod = stage.placed.pods.get(name)?;
    let Some(found) = seen.seen_source.map(|source| source.ip()) else {
        return Some("the target did not say whom it saw".into());
    };
    let from_pod = found == pod.address;
    match source {
        SourceAddress::Pod if from_pod => None,
        SourceAddress::Node if !from_pod => None,
        SourceAddress::Pod => Some(format!("allowed, but the target saw {found} instead of the pod")),
        SourceAddress::Node => Some("allowed, but the target saw the pod instead of the node".into()),
    }
}

pub async fn matrix(stage: &Stage<'_>, matrix: &Matrix) -> Looked {
    let mut flows = Vec::new();
    let mut witnesses = Witnesses::default();
    for cell in matrix.flows() {
        let flow = flow(stage, cell.from, cell.to, cell.port, &matrix.via).await?;
        if cell.is != Outcome::Allowed {
            witnesses.add(stage, &flow.peers, flow.protocol);
        }
        flows.push((cell, flow));
    }
    let questions = flows.iter().map(|(_, flow)| flow.question.clone()).chain(witnesses.questions());
    let seen = ask(stage, questions.collect()).await?;
    let (seen, own) = seen.split_at(flows.len());
    let mut table = empty_table(matrix);
    let (mut wrong, mut total) = (0, 0);
    for ((cell, flow), seen) in flows.iter().zip(seen) {
        let outcome = outcome(flow, seen).map_err(|why| format!("{} -> {}: {why}", cell.from, cell.to))?;
        let met = outcome.as_ref().is_ok_and(|outcome| meets(cell.is, *outcome));
        if met && outcome != Ok(Outcome::Allowed) {
            witnesses.doubt(&flow.peers, own).map_err(|why| format!("{} -> {}: {why}", cell.from, cell.to))?;
        }
        let shown = match outcome {
            // `denied` was met by what is shown; the cell counts as equal.
            _ if met => cell.is.word().to_string(),
            Ok(outcome) => outcome.word().to_string(),
            Err(other) => other,
        };
        table.rows[cell.row].cells[cell.column].observed = Some(shown);
        total += 1;
        wrong += usize::from(!met);
    }
    if wrong == 0 {
        return Ok(Look::Holds(format!("all {total} flows as expected")));
    }
    Ok(Look::Refuted(Seen { word: format!("{wrong} of {total} flows wrong"), matrix: Some(table) }))
}

/// The table with what is expected and nothing seen.
fn empty_table(matrix: &Matrix) -> event::Matrix {
    let rows = matrix.rows.iter().zip(&matrix.cells).map(|(from, cells)| event::MatrixRow {
        name: from.to_string(),
        cells: cells
            .iter()
            .map(|cell| event::MatrixCell { expected: cell.map(|is| is.word().to_string()), observed: None })
            .collect(),
    });
    event::Matrix { columns: matrix.columns.iter().map(ToString::to_string).collect(), rows: rows.collect() }
}

pub async fn service(stage: &Stage<'_>, expected: &ServiceAnswers) -> Looked {
    let to = Endpoint::Service(expected.name.clone());
    for from in &expected.reachable_from {
        let flow = flow(stage, from, &to, expected.port, &Via::Pod).await?;
        let wanted = usize::from(expected.backends.unwrap_or(1));
        let probes = if wanted > 1 { SERVICE_PROBES * wanted } else { 1 };
        let seen = ask(stage, vec![flow.question.clone(); probes]).await?;
        let mut answered = BTreeSet::new();
        for observation in &seen {
            match outcome(&flow, observation)? {
                Ok(Outcome::Allowed) => answered.extend(observation.peer.clone()),
                Ok(other) => return Ok(Look::Refuted(Seen::word(format!("{} from {from}", other.word())))),
                Err(other) => return Ok(Look::Refuted(Seen::word(format!("{other} from {from}")))),
            }
        }
        if answered.len() != wanted && (expected.backends.is_some() || answered.is_empty()) {
            let names = answered.into_iter().collect::<Vec<_>>().join(", ");
            return Ok(Look::Refuted(Seen::word(format!("{wanted} backends expected, answered: {names}"))));
        }
    }
    Ok(Look::Holds("answers from everywhere".into()))
}

pub async fn dns(stage: &Stage<'_>, expected: &Dns) -> Looked {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let name = expected.name.resolve(&lookup).map_err(|error| error.to_string())?;
    let mut wanted = BTreeSet::new();
    for answer in &expected.answers {
        wanted.insert(answer.resolve(&lookup).map_err(|error| error.to_string())?.0.to_string());
    }
    let server = SocketAddr::new(cluster_dns(stage).await?, 53);
    let from = vantage(stage, &expected.from)?;
    for candidate in candidates(&name, &search_domains(stage, &expected.from)) {
        let target = Target::Dns { address: server, name: candidate.clone(), record: RecordType::A };
        let seen = ask(stage, vec![Question { from: from.clone(), target }]).await?.swap_remove(0);
        match &seen.sight {
            Sight::Answered => {
                let found: BTreeSet<String> = seen.records.iter().cloned().collect();
                let shown = || format!("{candidate}: {}", found.iter().cloned().collect::<Vec<_>>().join(", "));
                let right = !expected.nxdomain
                    && !expected.unanswered
                    && (wanted.is_empty() || wanted == found)
                    && expected.count.is_none_or(|count| usize::from(count) == found.len());
                return Ok(if right { Look::Holds(shown()) } else { Look::Refuted(Seen::word(shown())) });
            }
            Sight::DnsFailed { reason } if reason == "NXDOMAIN" || reason == "NODATA" => {}
            Sight::DnsFailed { reason } => return Ok(Look::Refuted(Seen::word(reason.clone()))),
            _ => {
                let outcome = outcome_of(&seen, true)?;
                if expected.unanswered && meets(Outcome::Denied, outcome) {
                    return Ok(Look::Holds(format!("the DNS server: {}", outcome.word())));
                }
                return Ok(Look::Refuted(Seen::word(format!("the DNS server: {}", outcome.word()))));
            }
        }
    }
    Ok(if expected.nxdomain { Look::Holds("no such name".into()) } else { Look::Refuted(Seen::word("NXDOMAIN")) })
}

/// The address of the cluster's DNS service, asked every time because scenarios may change it.
async fn cluster_dns(stage: &Stage<'_>) -> Result<IpAddr, String> {
    let at = Coordinates {
        api_version: "v1".into(),
        kind: "Service".into(),
        namespace: Some("kube-system".into()),
        name: "kube-dns".into(),
    };
    let service = stage.cluster.objects.get(&at).await.map_err(|error| error.to_string())?;
    let service = service.ok_or("there is no service kube-dns in kube-system")?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    address.parse().map_err(|_| format!("the cluster's DNS service has no address: `{address}`"))
}

/// The suffixes that a pod's resolver tries; a node has none.
fn search_domains(stage: &Stage<'_>, from: &Endpoint) -> Vec<String> {
    match from {
        Endpoint::Workload(name) => match stage.placed.pods.get(name) {
            Some(pod) if pod.uid.is_some() => {
                let own = format!("{}.svc.cluster.local", pod.namespace);
                vec![own, "svc.cluster.local".into(), "cluster.local".into()]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The full names a resolver tries in turn: `ndots:5`, as Kubernetes writes it (resolv.conf(5)).
fn candidates(name: &str, search: &[String]) -> Vec<String> {
    const NDOTS: usize = 5;
    if let Some(absolute) = name.strip_suffix('.') {
        return vec![absolute.to_string()];
    }
    let mut all: Vec<String> = search.iter().map(|suffix| format!("{name}.{suffix}")).collect();
    let first = name.matches('.').count() >= NDOTS;
    all.insert(if first { 0 } else { all.len() }, name.to_string());
    all
}

pub(super) async fn ask(stage: &Stage<'_>, questions: Vec<Question>) -> Result<Vec<Observation>, String> {
    let begun = Instant::now();
    let seen = stage.cluster.prober.ask(&questions).await.map_err(|error| error.to_string())?;
    if seen.iter().any(|observation| observation.sight == Sight::Silent) {
        stage.waiting.silent_since(begun);
    }
    Ok(seen)
}

/// The place from which an end of a flow sends.
pub(super) fn vantage(stage: &Stage<'_>, from: &Endpoint) -> Result<Vantage, String> {
    match from {
        Endpoint::Workload(name) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            Ok(vantage_of(pod))
        }
        Endpoint::Node(name) => Ok(Vantage { node: name.to_string(), place: Place::Node }),
        other => Err(format!("nothing can be sent from `{other}`")),
    }
}

pub(super) async fn flow(
    stage: &Stage<'_>,
    from: &Endpoint,
    to: &Endpoint,
    port: PortProto,
    via: &Via,
) -> Result<Flow, String> {
    let (address, listens, peers) = target(stage, to, port, via).await?;
    let ours = !peers.is_empty();
    let expect = if ours { Expect::Echo } else { Expect::Handshake };
    let target = match port.protocol {
        Protocol::Tcp => Target::Tcp { address, expect },
        Protocol::Udp => Target::Udp { address, payload: 0 },
        Protocol::Sctp => Target::Sctp { address, expect },
    };
    Ok(Flow { question: Question { from: vantage(stage, from)?, target }, listens, peers, protocol: port.protocol })
}

type Addressed = (SocketAddr, bool, Vec<String>);

/// The address a flow is sent to, whether the target declares the port, and who may answer.
async fn target(stage: &Stage<'_>, to: &Endpoint, port: PortProto, via: &Via) -> Result<Addressed, String> {
    match (to, via) {
        (Endpoint::Workload(name), Via::Pod) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            let identity = format!("{}/{name}", pod.namespace);
            Ok((SocketAddr::new(pod.address, port.port.get()), pod.listen.contains(&port), vec![identity]))
        }
        (Endpoint::Workload(name), Via::HostPort) => {
            let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
            let leads = pod.host_ports.iter().find(|(_, target)| *target == port).map(|(host, _)| host.port.get());
            let number = leads.ok_or_else(|| format!("no port of its node leads to {port} of `{name}`"))?;
            let node = pod.node.parse().map_err(|_| format!("`{}` is no name of a node", pod.node))?;
            let address = stage.scenario.topology.address(&node).ok_or_else(|| format!("no node `{node}`"))?;
            let identity = format!("{}/{name}", pod.namespace);
            Ok((SocketAddr::new(address, number), pod.listen.contains(&port), vec![identity]))
        }
        (Endpoint::Workload(_), via) => through_service(stage, to, port, via).await,
        (Endpoint::Service(name), via) => {
            let service = stage.scenario.services.get(name).ok_or_else(|| format!("no service `{name}`"))?;
            let peers = backends(stage, name);
            let namespace = service.namespace.as_str();
            let address = service_address(stage, namespace, name.as_str(), port, via).await?;
            Ok((address, true, peers))
        }
        (Endpoint::Node(name), _) => {
            let address = stage.scenario.topology.address(name).ok_or_else(|| format!("no node `{name}`"))?;
            Ok((SocketAddr::new(address, port.port.get()), true, Vec::new()))
        }
        (Endpoint::Address(address), _) => Ok((SocketAddr::new(*address, port.port.get()), true, Vec::new())),
    }
}

/// A workload reached through the one service that selects it.
async fn through_service(stage: &Stage<'_>, to: &Endpoint, port: PortProto, via: &Via) -> Result<Addressed, String> {
    let Endpoint::Workload(name) = to else { return Err("only a workload is behind a service".into()) };
    let mut selecting = stage.scenario.services.iter().filter(|(service, _)| {
        let identity = stage.placed.pods.get(name).map(|pod| format!("{}/{name}", pod.namespace));
        identity.is_some_and(|identity| backends(stage, service).contains(&identity))
    });
    let (Some((service, spec)), None) = (selecting.next(), selecting.next()) else {
        return Err(format!("not exactly one service selects workload `{name}`"));
    };
    let port =
        service_port(stage, name, spec, port).ok_or_else(|| format!("service `{service}` does not lead to {port}"))?;
    let address = service_address(stage, spec.namespace.as_str(), service.as_str(), port, via).await?;
    Ok((address, true, backends(stage, service)))
}

/// The port of the service that leads to a port of the workload.
fn service_port(stage: &Stage<'_>, workload: &WorkloadName, service: &Service, port: PortProto) -> Option<PortProto> {
    let named = |name: &PortName| stage.scenario.workloads.get(workload)?.named_ports.get(name).copied();
    let leads_there = |candidate: &&ServicePort| match &candidate.target {
        Some(TargetPort::Number(number)) => *number == port.port && candidate.port.protocol == port.protocol,
        Some(TargetPort::Name(name)) => named(name) == Some(port),
        None => candidate.port == port,
    };
    service.ports.iter().find(leads_there).map(|found| found.port)
}

/// The identities of the workloads that a service selects.
fn backends(stage: &Stage<'_>, service: &ServiceName) -> Vec<String> {
    let Some(service) = stage.scenario.services.get(service) else { return Vec::new() };
    let selects = |workload: &Workload| {
        workload.namespace == service.namespace
            && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
    };
    let chosen = stage.scenario.workloads.iter().filter(|(_, workload)| selects(workload));
    chosen.map(|(name, workload)| format!("{}/{name}", workload.namespace)).collect()
}

async fn service_address(
    stage: &Stage<'_>,
    namespace: &str,
    name: &str,
    port: PortProto,
    via: &Via,
) -> Result<SocketAddr, String> {
    let at = Coordinates {
        api_version: "v1".into(),
        kind: "Service".into(),
        namespace: Some(namespace.into()),
        name: name.into(),
    };
    let service = stage.cluster.objects.get(&at).await.map_err(|error| error.to_string())?;
    let service = service.ok_or_else(|| format!("there is no service {namespace}/{name}"))?;
    if let Via::NodePort(node) = via {
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let wanted = ports.iter().find(|one| one["port"] == port.port.get());
        let number = wanted.and_then(|one| one["nodePort"].as_u64()).and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or_else(|| format!("service {namespace}/{name} has no node port for {port}"))?;
        let address = stage.scenario.topology.address(node).ok_or_else(|| format!("no node `{node}`"))?;
        return Ok(SocketAddr::new(address, number));
    }
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    let address = address.parse().map_err(|_| format!("service {namespace}/{name} has no virtual address"))?;
    Ok(SocketAddr::new(address, port.port.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::short("backend", &["backend.a.svc.cluster.local", "backend.svc.cluster.local", "backend"])]
    #[case::absolute("backend.b.svc.cluster.local.", &["backend.b.svc.cluster.local"])]
    #[case::many_dots("a.b.c.d.e.f", &["a.b.c.d.e.f", "a.b.c.d.e.f.a.svc.cluster.local", "a.b.c.d.e.f.svc.cluster.local"])]
    fn names_are_tried_as_a_resolver_tries_them(#[case] name: &str, #[case] expected: &[&str]) {
        let search = ["a.svc.cluster.local".to_string(), "svc.cluster.local".to_string()];
        assert_eq!(candidates(name, &search), expected);
    }
}
