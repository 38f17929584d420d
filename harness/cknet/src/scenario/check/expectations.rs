//! Owns whether each expectation can be looked at, and could come true at all.
//! Must not know whether it will.

use super::super::model::{
    Addresses, Check, Command, Connectivity, Dns, Encapsulated, Endpoint, Kubelet, Link, Log, Outcome, PathMtu, Ping,
    Point, PortProto, Resource, Service, ServiceAnswers, ServiceName, ServiceType, Via, WatchPoint, Wire, Workload,
    WorkloadName,
};
use super::super::nearest::listed;
use super::network::{selects, target_port, workload};
use super::{Checking, Part};

pub(super) fn check(c: &mut Checking<'_>) {
    let alive = super::steps::alive(c);
    let scenario = c.scenario;
    for (phase, (expectations, alive)) in scenario.phases.iter().map(|phase| &phase.expect).zip(&alive).enumerate() {
        for (index, expectation) in expectations.iter().enumerate() {
            let kind = expectation.check.kind();
            let here = Here { path: path!["phases", phase, "expect", index, kind], alive };
            one(c, &expectation.check, &here);
            points(c, &expectation.covers, path!["phases", phase, "expect", index, "covers"]);
        }
    }
}

/// The points that it covers are in their lists.
fn points(c: &mut Checking<'_>, covers: &[Point], path: &[Part<'_>]) {
    for (index, point) in covers.iter().enumerate() {
        let here = [path, path![index]].concat();
        let message = match c.fixtures.checklists.get(&point.list) {
            None => {
                let known = listed(c.fixtures.checklists.keys().map(String::as_str));
                format!("no checklist is called `{}`; there are {known}", point.list)
            }
            Some(points) if points.contains_key(&point.number) => continue,
            Some(points) => {
                let last = points.keys().next_back().copied().unwrap_or_default();
                format!("checklist `{}` has no point {}; the last one is {last}", point.list, point.number)
            }
        };
        c.problem(&here, message);
    }
}

/// Where an expectation stands, and which workloads exist there.
struct Here<'h> {
    path: &'h [Part<'h>],
    alive: &'h [WorkloadName],
}

impl<'h> Here<'h> {
    fn key(&self, key: &'h str) -> Vec<Part<'h>> {
        [self.path, path![key]].concat()
    }
}

fn one(c: &mut Checking<'_>, check: &Check, here: &Here<'_>) {
    super::late::check(c, &super::late::of_check(check), here.alive, here.path);
    match check {
        Check::Connectivity(flow) => connectivity(c, flow, here),
        Check::Matrix(matrix) => {
            for from in &matrix.rows {
                prober(c, from, here, here.path);
            }
            for cell in matrix.flows() {
                let flow = Flow { to: cell.to, port: cell.port, is: cell.is, via: &matrix.via };
                reachable(c, &flow, here.path, here.path);
            }
            for column in &matrix.columns {
                exists(c, &column.to, here, here.path);
            }
        }
        Check::Resource(resource) => objects(c, resource, here),
        Check::Links(link) => device(c, link, here),
        Check::Addresses(addresses) => owner(c, addresses, here),
        Check::Listening(listening) => {
            prober(c, &listening.at, here, &here.key("at"));
        }
        Check::Service(service) => answers(c, service, here),
        Check::Dns(dns) => names(c, dns, here),
        Check::Nodes(states) => {
            for (node, _) in states.named.iter().filter(|(node, _)| !c.scenario.topology.is_member(node)) {
                let message = format!("`{node}` is no member of the cluster; there is no Node of that name");
                c.problem_with_key(&here.key(node.as_str()), message);
            }
        }
        Check::Routes(_) => {}
        Check::Command(command) => ran(c, command, here),
        Check::Log(log) => written(c, log, here),
        Check::Refused(refused) => {
            if refused.fields.is_empty() {
                c.problem_with_key(&here.key("fields"), "name at least one field about which the API complains");
            }
        }
        Check::PathMtu(path) => path_mtu(c, path, here),
        Check::Wire(flow) => wire(c, flow, here),
        // Where it was opened is told by another rule.
        Check::Connection(_) => {}
        Check::Ping(ping) => echo_request(c, ping, here),
    }
}

fn connectivity(c: &mut Checking<'_>, flow: &Connectivity, here: &Here<'_>) {
    prober(c, &flow.from, here, &here.key("from"));
    exists(c, &flow.to, here, &here.key("to"));
    let is = Flow { to: &flow.to, port: flow.port, is: flow.is, via: &flow.via };
    reachable(c, &is, &here.key("port"), &here.key("via"));
    if flow.source_address.is_some() && flow.is != Outcome::Allowed {
        c.problem(&here.key("sourceAddress"), "only a flow that is `allowed` shows its source address");
    }
}

/// A flow starts where a program of ours runs.
fn prober(c: &mut Checking<'_>, from: &Endpoint, here: &Here<'_>, path: &[Part<'_>]) {
    if matches!(from, Endpoint::Service(_) | Endpoint::Address(_)) {
        c.problem(path, format!("`{from}` is not a workload or `node:NAME`; nothing can be run there"));
    }
    exists(c, from, here, path);
}

fn exists(c: &mut Checking<'_>, endpoint: &Endpoint, here: &Here<'_>, path: &[Part<'_>]) {
    if let Endpoint::Workload(name) = endpoint
        && !here.alive.contains(name)
    {
        c.problem(path, format!("there is no workload `{name}` in this phase"));
    }
}

struct Flow<'f> {
    to: &'f Endpoint,
    port: PortProto,
    is: Outcome,
    via: &'f Via,
}

/// A flow that is to arrive needs somebody who listens; one to a closed port nobody.
fn reachable(c: &mut Checking<'_>, flow: &Flow<'_>, port: &[Part<'_>], via: &[Part<'_>]) {
    if let Via::NodePort(node) = flow.via
        && !c.scenario.topology.is_member(node)
    {
        c.problem(via, format!("`{node}` is no member of the cluster; services have no ports there"));
        return;
    }
    match (flow.to, flow.via) {
        (Endpoint::Workload(name), Via::Pod) => {
            let Some(workload) = workload(c, name) else {
                return;
            };
            listens(c, name, workload, flow, port);
        }
        (Endpoint::Workload(name), Via::HostPort) => {
            if let Some(workload) = workload(c, name) {
                through_its_node(c, name, workload, flow, port, via);
            }
        }
        (Endpoint::Workload(name), way) => through_a_service(c, name, way, flow, via),
        (Endpoint::Service(name), Via::Pod) => service_port(c, name, flow.port, port),
        (Endpoint::Service(_), Via::Service) => {}
        (Endpoint::Service(name), Via::NodePort(_)) => {
            if c.scenario.services.get(name).is_some_and(|s| s.service_type == ServiceType::ClusterIp) {
                c.problem(via, format!("service `{name}` has no port on nodes; give it `type: NodePort`"));
            }
        }
        (Endpoint::Node(_) | Endpoint::Address(_), Via::Pod) => {}
        (target, way) => c.problem(via, format!("`{target}` is not reached by `{way}`; leave `via` out")),
    }
}

fn listens(c: &mut Checking<'_>, name: &WorkloadName, workload: &Workload, flow: &Flow<'_>, path: &[Part<'_>]) {
    let listening = workload.listen.contains(&flow.port);
    let ports: Vec<String> = workload.listen.iter().map(ToString::to_string).collect();
    let known = match ports.as_slice() {
        [] => "it listens on nothing".to_owned(),
        ports => format!("it listens on {}", listed(ports.iter().map(String::as_str))),
    };
    match flow.is {
        Outcome::Allowed if !listening => {
            c.problem(
                path,
                format!("this can never be `allowed`: `{name}` does not listen on `{}`; {known}", flow.port),
            );
        }
        Outcome::Closed if listening => {
            c.problem(path, format!("this can never be `closed`: `{name}` listens on `{}`", flow.port));
        }
        _ => {}
    }
}

/// `via: hostPort` means the port of the target's node that leads to the port of the flow.
fn through_its_node(
    c: &mut Checking<'_>,
    name: &WorkloadName,
    workload: &Workload,
    flow: &Flow<'_>,
    port: &[Part<'_>],
    via: &[Part<'_>],
) {
    if workload.host_port(flow.port).is_none() {
        let known: Vec<String> = workload.host_ports.iter().map(|known| known.port.to_string()).collect();
        let known = match known.as_slice() {
            [] => format!("give `{name}` one in `hostPorts`"),
            known => format!("those of `{name}` are {}", listed(known.iter().map(String::as_str))),
        };
        c.problem(via, format!("no port of its node leads to `{}`; {known}", flow.port));
        return;
    }
    listens(c, name, workload, flow, port);
}

fn service_port(c: &mut Checking<'_>, name: &ServiceName, port: PortProto, path: &[Part<'_>]) {
    let Some(service) = c.scenario.services.get(name) else {
        return;
    };
    if service.ports.iter().any(|known| known.port == port) {
        return;
    }
    let known: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
    let known = listed(known.iter().map(String::as_str));
    c.problem(path, format!("service `{name}` has no port `{port}`; it has {known}"));
}

/// `via: service` means the one service that selects the target and leads to its port.
fn through_a_service(c: &mut Checking<'_>, name: &WorkloadName, way: &Via, flow: &Flow<'_>, path: &[Part<'_>]) {
    let Some(target) = workload(c, name) else {
        return;
    };
    let leads = |service: &Service| {
        selects(&service.selector, &service.namespace, target)
            && (*way == Via::Service || service.service_type != ServiceType::ClusterIp)
            && service.ports.iter().any(|port| {
                port.port.protocol == flow.port.protocol && target_port(port, target) == Some(flow.port.port.get())
            })
    };
    let leading: Vec<&str> =
        c.scenario.services.iter().filter(|(_, service)| leads(service)).map(|(name, _)| name.as_str()).collect();
    let message = match leading.as_slice() {
        [_] => return,
        [] => format!("no service leads to port `{}` of `{name}` this way", flow.port),
        several => {
            format!("several services lead to `{name}`: {}; write `to: service:NAME`", listed(several.iter().copied()))
        }
    };
    c.problem(path, message);
}

fn wire(c: &mut Checking<'_>, wire: &Wire, here: &Here<'_>) {
    prober(c, &wire.from, here, &here.key("from"));
    exists(c, &wire.to, here, &here.key("to"));
    let flow = Flow { to: &wire.to, port: wire.port, is: Outcome::Allowed, via: &wire.via };
    reachable(c, &flow, &here.key("port"), &here.key("via"));
    let of_a_tunnel = [
        ("vni", wire.vni.is_some()),
        ("outerPort", wire.outer_port.is_some()),
        ("outerFrom", wire.outer_from.is_some()),
        ("outerTo", wire.outer_to.is_some()),
    ];
    for (key, _) in of_a_tunnel.into_iter().filter(|(_, given)| *given) {
        if wire.encapsulated != Some(Encapsulated::Vxlan) {
            c.problem_with_key(&here.key(key), "only packets that are `encapsulated: vxlan` have this");
        }
    }
    match (wire.present, wire.encapsulated) {
        (true, None) => c.problem(here.path, "say what is seen: `encapsulated`, or `present: false`"),
        (false, Some(_)) => {
            c.problem_with_key(&here.key("present"), "a flow that does not pass has nothing else to look at");
        }
        _ => {}
    }
    let place = |end: &Endpoint| match end {
        Endpoint::Workload(name) => workload(c, name).map(|workload| workload.node.clone()),
        Endpoint::Node(name) => Some(name.clone()),
        Endpoint::Service(_) | Endpoint::Address(_) => None,
    };
    let ends = (place(&wire.from), place(&wire.to));
    if let (Some(from), Some(to)) = ends
        && from == to
        && wire.via == Via::Pod
        && matches!(wire.on, WatchPoint::Segment(_))
    {
        c.problem(&here.key("on"), format!("both ends are on node `{from}`, so that nothing passes a segment"));
    }
}

fn objects(c: &mut Checking<'_>, resource: &Resource, here: &Here<'_>) {
    if resource.name.is_some() && resource.selector.is_some() {
        c.problem_with_key(&here.key("selector"), "objects are chosen by `name` or by `selector`, not both");
    }
    if resource.count == Some(0) && resource.matches.is_some() {
        c.problem_with_key(&here.key("matches"), "there is nothing to match where `count` is 0");
    }
    if resource.name.is_some() && resource.count.is_some_and(|count| count > 1) {
        c.problem(&here.key("count"), "there is at most one object of one name");
    }
    let empty = |value: &serde_json::Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    if resource.matches.as_ref().is_some_and(|matches| empty(matches.written())) {
        c.problem_with_key(&here.key("matches"), "this matches everything; say what the object has");
    }
}

fn ran(c: &mut Checking<'_>, command: &Command, here: &Here<'_>) {
    prober(c, &command.at, here, &here.key("at"));
    if command.argv.is_empty() {
        c.problem_with_key(&here.key("argv"), "no program is given");
    }
    in_a_pod(c, &command.at, &here.key("at"));
    kubelet(c, &command.at, command.kubelet, command.prints.is_some() || command.exit != 0, here);
}

fn written(c: &mut Checking<'_>, log: &Log, here: &Here<'_>) {
    prober(c, &log.of, here, &here.key("of"));
    match (&log.of, &log.file) {
        (Endpoint::Node(_), None) => c.problem(here.path, "a node has many logs; name the `file`"),
        (Endpoint::Workload(_), Some(_)) => c.problem_with_key(&here.key("file"), "the log of a workload is no file"),
        _ => {}
    }
    if !log.present && log.has.is_none() {
        c.problem_with_key(&here.key("present"), "say in `has` what is not there");
    }
    in_a_pod(c, &log.of, &here.key("of"));
    kubelet(c, &log.of, log.kubelet, log.has.is_some(), here);
}

/// Only pods are asked through the API server.
fn in_a_pod(c: &mut Checking<'_>, end: &Endpoint, path: &[Part<'_>]) {
    let Endpoint::Workload(name) = end else { return };
    let Some(node) = workload(c, name).map(|workload| workload.node.clone()) else { return };
    if c.scenario.topology.nodes.get(&node).is_some_and(|machine| !machine.role.is_member()) {
        c.problem(path, format!("`{name}` is no pod: `{node}` is no member of the cluster; write `node:{node}`"));
    }
}

/// Behind a kubelet that is not reached nothing is seen, and on a node none is asked.
fn kubelet(c: &mut Checking<'_>, of: &Endpoint, kubelet: Kubelet, looked_into: bool, here: &Here<'_>) {
    if kubelet == Kubelet::Reached {
        return;
    }
    if matches!(of, Endpoint::Node(_)) {
        c.problem_with_key(&here.key("kubelet"), "what is on a node itself is not asked for through a kubelet");
    } else if looked_into {
        c.problem_with_key(&here.key("kubelet"), "through a kubelet that is not reached nothing is seen");
    }
}

fn device(c: &mut Checking<'_>, link: &Link, here: &Here<'_>) {
    let more = link.kind.is_some() || link.up.is_some() || link.mtu.is_some() || link.vni.is_some();
    if !link.present && (more || link.port.is_some() || link.parent.is_some()) {
        c.problem_with_key(&here.key("present"), "a device that is not there has nothing else to look at");
    }
}

fn owner(c: &mut Checking<'_>, addresses: &Addresses, here: &Here<'_>) {
    if let Endpoint::Address(address) = addresses.of {
        c.problem(&here.key("of"), format!("`{address}` is an address; name a workload, a node or a service"));
    }
    if addresses.device.is_some() && !matches!(addresses.of, Endpoint::Node(_)) {
        c.problem_with_key(&here.key("device"), "only a node has devices to choose from");
    }
    if addresses.count == Some(0) {
        c.problem(&here.key("count"), "with no address at all nothing is shown");
    }
    exists(c, &addresses.of, here, &here.key("of"));
}

fn answers(c: &mut Checking<'_>, service: &ServiceAnswers, here: &Here<'_>) {
    if service.reachable_from.is_empty() {
        c.problem_with_key(&here.key("reachableFrom"), "nobody asks; name at least one workload or node");
    }
    for (index, from) in service.reachable_from.iter().enumerate() {
        prober(c, from, here, &[here.path, path!["reachableFrom", index]].concat());
    }
    service_port(c, &service.name, service.port, &here.key("port"));
    if service.backends == Some(0) {
        c.problem(&here.key("backends"), "a service that answers has at least one workload behind it");
    }
}

fn path_mtu(c: &mut Checking<'_>, path: &PathMtu, here: &Here<'_>) {
    prober(c, &path.from, here, &here.key("from"));
    if let Endpoint::Service(name) = &path.to {
        c.problem(&here.key("to"), format!("service `{name}` answers no echo request; name a workload or a node"));
    }
    if path.from == path.to {
        c.problem(&here.key("to"), "no packet has to be sent to reach oneself");
    }
    exists(c, &path.to, here, &here.key("to"));
}

fn echo_request(c: &mut Checking<'_>, ping: &Ping, here: &Here<'_>) {
    prober(c, &ping.from, here, &here.key("from"));
    if let Endpoint::Service(name) = &ping.to {
        c.problem(&here.key("to"), format!("service `{name}` answers no echo request; name a workload or a node"));
    }
    if ping.is == Outcome::Closed {
        c.problem(&here.key("is"), "an echo request goes to no port that could be `closed`");
    }
    exists(c, &ping.to, here, &here.key("to"));
}

fn names(c: &mut Checking<'_>, dns: &Dns, here: &Here<'_>) {
    prober(c, &dns.from, here, &here.key("from"));
    let given = [!dns.answers.is_empty(), dns.count.is_some(), dns.nxdomain, dns.unanswered];
    if given.iter().filter(|given| **given).count() != 1 {
        c.problem(here.path, "give one of `answers`, `count`, `nxdomain: true`, `unanswered: true`");
    }
}
