//! Owns whether topology, cluster, workloads and services fit together.
//! Must not know phases.

use super::super::model::{
    Action, Cidr, Labels, NamespaceName, Role, Service, ServiceType, TargetPort, Workload, WorkloadName,
};
use super::{Checking, Part};

/// What can be told however incomplete the file is.
pub(super) fn check(c: &mut Checking<'_>) {
    blocks(c);
    versions(c);
    packets(c);
}

/// Only clusters of IPv4 can be made.
fn versions(c: &mut Checking<'_>) {
    const MESSAGE: &str = "an IPv6 block; only IPv4 clusters can be made";
    let scenario = c.scenario;
    for (key, block) in [("podCidr", scenario.cluster.pod_cidr), ("serviceCidr", scenario.cluster.service_cidr)] {
        if block.net().addr().is_ipv6() {
            c.problem(path!["cluster", key], MESSAGE);
        }
    }
    for (name, segment) in scenario.topology.segments.iter() {
        if segment.cidr.net().addr().is_ipv6() {
            c.problem(path!["topology", "segments", name.as_str(), "cidr"], MESSAGE);
        }
    }
}

/// The smallest datagram that every host has to accept whole (RFC 791); a segment that carries less is of no use.
const LEAST_MTU: u16 = 576;

fn packets(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (name, segment) in scenario.topology.segments.iter() {
        if let Some(mtu) = segment.mtu.filter(|mtu| *mtu < LEAST_MTU) {
            let message = format!("`{mtu}` is too small for a segment; the least is {LEAST_MTU}");
            c.problem(path!["topology", "segments", name.as_str(), "mtu"], message);
        }
    }
}

/// What a part that could not be read may be the cause of.
pub(super) fn complete(c: &mut Checking<'_>) {
    blocks_per_node(c);
    nodes(c);
    workloads(c);
    services(c);
}

/// Pods, services and each segment have addresses of their own.
fn blocks(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    let pods = ("the pods", scenario.cluster.pod_cidr);
    overlap(c, ("the services", scenario.cluster.service_cidr), &[pods], path!["cluster", "serviceCidr"]);
    let services = ("the services", scenario.cluster.service_cidr);
    let mut others = vec![pods, services];
    for (name, segment) in scenario.topology.segments.iter() {
        let path = path!["topology", "segments", name.as_str(), "cidr"];
        overlap(c, ("this segment", segment.cidr), &others, path);
        others.push((name.as_str(), segment.cidr));
    }
}

fn overlap(c: &mut Checking<'_>, (who, cidr): (&str, Cidr), others: &[(&str, Cidr)], path: &[Part<'_>]) {
    for (other, block) in others {
        if cidr.overlaps(*block) {
            let other = if other.contains(' ') { (*other).to_owned() } else { format!("segment `{other}`") };
            c.problem(path, format!("{who} and {other} have addresses in common: `{cidr}` and `{block}`"));
        }
    }
}

/// Each node takes at least one block of pod addresses.
fn blocks_per_node(c: &mut Checking<'_>) {
    let cluster = &c.scenario.cluster;
    let (net, size) = (cluster.pod_cidr.net(), cluster.block_size.prefix_len());
    let nodes = c.scenario.topology.members().count();
    if !net.addr().is_ipv4() {
        return;
    }
    let blocks = size.checked_sub(net.prefix_len()).map_or(0, |bits| 1_usize << bits.min(30));
    if blocks < nodes {
        let message = format!("`{net}` is too small for a block of size /{size} for each of {nodes} nodes");
        c.problem(path!["cluster", "podCidr"], message);
    }
}

fn nodes(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    if !scenario.topology.nodes.iter().any(|(_, node)| node.role == Role::ControlPlane) {
        c.problem_with_key(path!["topology", "nodes"], "no node has the role `control-plane`");
    }
    for (name, node) in scenario.topology.nodes.iter() {
        if node.nics.is_empty() {
            let path = path!["topology", "nodes", name.as_str(), "nics"];
            c.problem_with_key(path, "a node has at least one interface");
        }
        if node.nic("lo").is_some() {
            let path = path!["topology", "nodes", name.as_str(), "nics", "lo"];
            c.problem_with_key(path, "each node has `lo` already; give the interface another name");
        }
        let member = matches!(node.role, Role::ControlPlane | Role::Worker);
        for (nic, _) in node.nics.iter().filter(|(nic, _)| member && of_a_cni(nic.as_str())) {
            let path = path!["topology", "nodes", name.as_str(), "nics", nic.as_str()];
            c.problem_with_key(path, "CNIs make and delete devices of this name; give the interface another one");
        }
        let mut segments: Vec<_> = node.nics.iter().map(|(_, nic)| &nic.segment).collect();
        segments.sort();
        segments.dedup();
        if node.role == Role::Router && segments.len() < 2 {
            let path = path!["topology", "nodes", name.as_str(), "role"];
            c.problem(path, "a router has interfaces on two segments at least; there is nothing to forward between");
        }
    }
}

/// Whether a CNI calls its own devices so: Calico's for overlay and pods, flannel's, the bridge plugin's.
fn of_a_cni(device: &str) -> bool {
    ["vxlan.calico", "tunl0", "cni0"].contains(&device) || device.starts_with("cali") || device.starts_with("flannel")
}

fn workloads(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (name, workload) in scenario.workloads.iter() {
        outside_workload(c, workload, path!["workloads", name.as_str()]);
        for (index, port) in workload.listen.iter().enumerate() {
            if workload.listen[..index].contains(port) {
                c.problem(path!["workloads", name.as_str(), "listen", index], "this port is given twice");
            }
        }
        host_ports(c, name, workload);
        for (port_name, port) in workload.named_ports.iter() {
            if !workload.listen.contains(port) {
                let path = path!["workloads", name.as_str(), "namedPorts", port_name.as_str()];
                c.problem(path, format!("the workload does not listen on `{port}`; add it to `listen`"));
            }
        }
    }
}

/// Ports of a node lead to a pod that has a network of its own and listens, and each to one pod only.
fn host_ports(c: &mut Checking<'_>, name: &WorkloadName, workload: &Workload) {
    let scenario = c.scenario;
    let path = |index: usize| path!["workloads", name.as_str(), "hostPorts", index].to_vec();
    for (index, port) in workload.host_ports.iter().enumerate() {
        if workload.host_network {
            c.problem(&path(index), "with `hostNetwork` its own ports are those of the node");
        }
        if !workload.listen.contains(&port.own()) {
            c.problem(&path(index), format!("the workload does not listen on `{}`; add it to `listen`", port.own()));
        }
        let others = scenario.workloads.iter().filter(|(_, other)| other.node == workload.node);
        let mut before = others.take_while(|(other, _)| *other != name).flat_map(|(_, other)| &other.host_ports);
        let own = &workload.host_ports[..index];
        if before.any(|other| other.port == port.port) || own.iter().any(|other| other.port == port.port) {
            c.problem(
                &path(index),
                format!("port `{}` of node `{}` leads somewhere already", port.port, workload.node),
            );
        }
    }
}

fn services(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (name, service) in scenario.services.iter() {
        let name = name.as_str();
        if service.ports.is_empty() {
            c.problem_with_key(path!["services", name, "ports"], "a service has at least one port");
        }
        if !ever_selected(c, service) {
            c.problem_with_key(path!["services", name, "selector"], "selects no workload of its namespace");
        }
        for (index, port) in service.ports.iter().enumerate() {
            if service.ports.len() > 1 && port.name.is_none() {
                let message = "a service with several ports names each of them; add `name`";
                c.problem(path!["services", name, "ports", index], message);
            }
            let Some(number) = port.node_port else {
                continue;
            };
            let path = path!["services", name, "ports", index, "nodePort"];
            if service.service_type == ServiceType::ClusterIp {
                c.problem(path, "only a service of type `NodePort` or `LoadBalancer` has a port on nodes");
            }
            if !(30000..=32767).contains(&number.get()) {
                c.problem(path, format!("`{number}` is not a node port; those are 30000 to 32767"));
            }
        }
    }
}

/// A workload on a machine that is no member is a process there: it has nothing of what makes a pod.
pub(super) fn outside_workload(c: &mut Checking<'_>, workload: &Workload, path: &[Part<'_>]) {
    if c.scenario.topology.nodes.get(&workload.node).is_none_or(|node| node.role.is_member()) {
        return;
    }
    let pod_like = [
        ("namespace", workload.namespace != NamespaceName::default_namespace()),
        ("labels", !workload.labels.is_empty()),
        ("hostNetwork", workload.host_network),
        ("namedPorts", !workload.named_ports.is_empty()),
        ("hostPorts", !workload.host_ports.is_empty()),
        ("environment", !workload.environment.is_empty()),
    ];
    for (key, _) in pod_like.iter().filter(|(_, given)| *given) {
        let message = format!(
            "`{}` is no member of the cluster: a workload there is a process and no pod, and has no `{key}`",
            workload.node
        );
        c.problem_with_key(&[path, path![*key]].concat(), message);
    }
    let scenario = c.scenario;
    let others = scenario.workloads.iter().filter(|(_, other)| !std::ptr::eq(*other, workload));
    let beside = others.filter(|(_, other)| other.node == workload.node);
    for port in beside.flat_map(|(_, other)| &other.listen).filter(|port| workload.listen.contains(port)) {
        c.problem_with_key(path, format!("another workload on `{}` listens on `{port}` too", workload.node));
    }
}

/// Each workload, also those that a step adds.
fn all_workloads<'s>(c: &Checking<'s>) -> impl Iterator<Item = (&'s WorkloadName, &'s Workload)> {
    let scenario = c.scenario;
    let added = scenario.phases.iter().flat_map(|phase| &phase.steps).filter_map(|step| match &step.action {
        Action::Workload(change) => Some(change.add.iter()),
        _ => None,
    });
    scenario.workloads.iter().chain(added.flatten())
}

/// Whether the service selects a workload, or could after a change of labels.
fn ever_selected(c: &Checking<'_>, service: &Service) -> bool {
    let relabelled = c.scenario.phases.iter().flat_map(|phase| &phase.steps).any(|step| match &step.action {
        Action::Label(change) => change.set.iter().any(|(key, value)| service.selector.get(key) == Some(value)),
        _ => false,
    });
    relabelled || all_workloads(c).any(|(_, workload)| selects(&service.selector, &service.namespace, workload))
}

/// Whether a selector of a namespace means the workload, if it is a pod.
pub(super) fn selects(selector: &Labels, namespace: &NamespaceName, workload: &Workload) -> bool {
    workload.namespace == *namespace
        && !selector.is_empty()
        && selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
}

/// The workload of that name, also if a step adds it.
pub(super) fn workload<'s>(c: &Checking<'s>, name: &WorkloadName) -> Option<&'s Workload> {
    all_workloads(c).find(|(known, _)| *known == name).map(|(_, workload)| workload)
}

/// The port of the workload to which a service's port leads.
pub(super) fn target_port(port: &super::super::model::ServicePort, workload: &Workload) -> Option<u16> {
    match &port.target {
        None => Some(port.port.port.get()),
        Some(TargetPort::Number(number)) => Some(number.get()),
        Some(TargetPort::Name(name)) => workload.named_ports.get(name).map(|port| port.port.get()),
    }
}
