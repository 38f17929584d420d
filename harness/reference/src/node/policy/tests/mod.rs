//! What compiled policies do to packets: named cases one by one, then drawn ones against the semantics said plainly.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod drawn;

use std::net::IpAddr;

use cknet_kernel::nft::Protocol;
use serde_json::{Value, json};

use super::evaluate::{Outcome, Packet, evaluate};
use super::{LocalEndpoint, Options, PodName, Ruleset, World, compile};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Adds a namespace.
pub(super) fn namespace(world: &mut World, name: &str, labels: &str) {
    let object = json!({"metadata": {"name": name, "labels": label_map(labels)}});
    world.put_namespace(&serde_json::from_value(object).unwrap());
}

/// Adds a pod: `namespace/name`, labels as `a=x b=y`, ports as Kubernetes writes them.
pub(super) fn pod(world: &mut World, name: &str, address: &str, labels: &str, ports: Value) {
    let (namespace, name) = name.split_once('/').unwrap();
    let object = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": label_map(labels)},
        "spec": {"containers": [{"name": "main", "ports": ports}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    });
    world.put_pod(&serde_json::from_value(object).unwrap());
}

/// Adds a policy: `namespace/name` and its spec as YAML.
pub(super) fn policy(world: &mut World, name: &str, spec: &str) {
    let (namespace, name) = name.split_once('/').unwrap();
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    world.put_policy(&serde_json::from_value(object).unwrap());
}

fn label_map(labels: &str) -> Value {
    labels
        .split_whitespace()
        .filter_map(|label| label.split_once('='))
        .map(|(key, value)| (key, json!(value)))
        .collect()
}

/// All pods with a network run here; the interface of `10.0.0.7` is `cali10.0.0.7`.
pub(super) fn everything_local(world: &World) -> Vec<LocalEndpoint> {
    let pods = world.pods.iter().filter(|(_, pod)| pod.has_network());
    pods.flat_map(|(name, pod)| pod.ips.iter().map(move |ip| (name.clone(), *ip)))
        .map(|(pod, ip)| LocalEndpoint { pod, interface: interface(ip), ip })
        .collect()
}

pub(super) fn interface(address: IpAddr) -> String {
    format!("cali{address}")
}

pub(super) fn compiled(world: &World) -> Ruleset {
    compile(world, &everything_local(world), &Options::default())
}

/// The outcome for a new packet between two addresses, forwarded by the node; other addresses are beyond `eth0`.
pub(super) fn forwarded(world: &World, ruleset: &Ruleset, from: IpAddr, to: IpAddr, port: &str) -> Outcome {
    let side = |address| {
        let here = everything_local(world).iter().any(|endpoint| endpoint.ip == address);
        if here { interface(address) } else { "eth0".into() }
    };
    let (protocol, port) = parse_port(port);
    let mut packet = Packet::new(from, to, protocol, port).between(&side(from), &side(to));
    evaluate(ruleset.table(), "filter-FORWARD", &mut packet)
}

/// `80/tcp`, `53/udp`, `9/sctp`, `icmp`.
pub(super) fn parse_port(text: &str) -> (Protocol, u16) {
    match text.split_once('/') {
        None => (Protocol::ICMP, 0),
        Some((number, "tcp")) => (Protocol::TCP, number.parse().unwrap()),
        Some((number, "udp")) => (Protocol::UDP, number.parse().unwrap()),
        Some((number, _)) => (Protocol::SCTP, number.parse().unwrap()),
    }
}

pub(super) fn name(text: &str) -> PodName {
    let (namespace, name) = text.split_once('/').unwrap();
    PodName::new(namespace, name)
}
