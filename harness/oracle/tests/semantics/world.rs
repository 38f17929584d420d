//! A small cluster to ask questions about: namespaces x, y, z with pods a, b, c on nodes n1, n2, n3.
//!
//! Every pod has IPv4 10.1.<namespace>.<pod> and IPv6 fd00:1:<namespace>::<pod>, the label
//! `pod=<name>`, and names its ports 80 and 81 for TCP, UDP and SCTP.

use cknet_oracle::{
    Endpoint, Flow, NetworkPolicy, Oracle, Outcome, Pod, Prediction, Profile, Protocol, Snapshot, Target, Verdict,
};
use serde_json::{Value, json};

pub struct World {
    pub snapshot: Snapshot,
    pub profile: Profile,
}

impl World {
    pub fn new() -> Self {
        let namespace = |name| json!({"metadata": {"name": name, "labels": {"ns": name}}});
        let snapshot = json!({
            "namespaces": (["x", "y", "z"].map(namespace)),
            "nodes": ([1, 2, 3].map(node)),
            "pods": pods(),
        });
        Self { snapshot: serde_json::from_value(snapshot).unwrap(), profile: Profile::calico() }
    }

    pub fn with_policies(policies: Vec<NetworkPolicy>) -> Self {
        let mut world = Self::new();
        world.snapshot.policies = policies;
        world
    }

    pub fn service(mut self, name: &str, spec: Value) -> Self {
        let (namespace, name) = name.split_once('/').unwrap();
        let service = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        self.snapshot.services.push(serde_json::from_value(service).unwrap());
        self
    }

    pub fn pod(&mut self, name: &str) -> &mut Pod {
        let mut pods = self.snapshot.pods.iter_mut();
        pods.find(|pod| pod.to_string() == name).unwrap()
    }

    pub fn change(mut self, pod: &str, change: impl FnOnce(&mut Pod)) -> Self {
        change(self.pod(pod));
        self
    }

    /// Puts a pod into the network of its node.
    pub fn host_network(mut self, pod: &str) -> Self {
        let node = self.pod(pod).node.clone().unwrap();
        let nodes = &self.snapshot.nodes;
        let node = nodes.iter().find(|found| found.name == node).unwrap();
        let ips = node.addresses.clone();
        self.change(pod, |pod| {
            pod.host_network = true;
            pod.ips = ips;
        })
    }

    pub fn predict(&self, asked: &str) -> Prediction {
        let oracle = Oracle::new(&self.snapshot, self.profile);
        oracle.predict(&flow(asked)).unwrap()
    }

    /// `allowed`, `denied`, `no answer`, `varies`; or, where Kubernetes leaves it open, for example
    /// `undefined, denied`, with what the profile expects.
    pub fn outcome(&self, asked: &str) -> String {
        outcome(&self.predict(asked))
    }
}

pub fn outcome(prediction: &Prediction) -> String {
    match &prediction.outcome {
        Outcome::Undefined(_) => format!("undefined, {}", prediction.expected),
        _ => prediction.expected.to_string(),
    }
}

fn node(number: u8) -> Value {
    json!({
        "metadata": {
            "name": format!("n{number}"),
            "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": format!("10.1.100.{number}")},
        },
        "status": {"addresses": [
            {"type": "Hostname", "address": format!("n{number}")},
            {"type": "InternalIP", "address": format!("192.168.60.1{number}")},
            {"type": "InternalIP", "address": format!("fd00:60::1{number}")},
        ]},
    })
}

fn pods() -> Vec<Value> {
    let mut pods = Vec::new();
    for (namespace, ns) in [(1, "x"), (2, "y"), (3, "z")] {
        for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
            pods.push(json!({
                "metadata": {"namespace": ns, "name": name, "labels": {"pod": name}},
                "spec": {"nodeName": format!("n{number}"), "containers": [{"ports": ports()}]},
                "status": {"phase": "Running", "podIPs": [
                    {"ip": format!("10.1.{namespace}.{number}")},
                    {"ip": format!("fd00:1:{namespace}::{number}")},
                ]},
            }));
        }
    }
    pods
}

fn ports() -> Vec<Value> {
    let mut ports = Vec::new();
    for protocol in ["TCP", "UDP", "SCTP"] {
        for number in [80, 81] {
            let name = format!("serve-{number}-{}", protocol.to_lowercase());
            ports.push(json!({"name": name, "containerPort": number, "protocol": protocol}));
        }
    }
    ports
}

/// A policy from its spec.
pub fn policy(namespace: &str, name: &str, spec: Value) -> NetworkPolicy {
    let metadata = json!({"namespace": namespace, "name": name});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A policy of namespace x that selects all its pods.
pub fn in_x(spec: Value) -> NetworkPolicy {
    policy("x", "p", spec)
}

/// A policy of namespace x for ingress to all its pods with these rules.
pub fn ingress(rules: Value) -> NetworkPolicy {
    in_x(json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}))
}

/// A policy of namespace x for egress from all its pods with these rules.
pub fn egress(rules: Value) -> NetworkPolicy {
    in_x(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules}))
}

/// A flow from text: `x/a -> y/b 80/TCP`. An end is `namespace/pod`, `svc:namespace/name`, an
/// address or the name of a node; the port is `ICMP` or a number and a protocol.
pub fn flow(text: &str) -> Flow {
    let (from, rest) = text.split_once(" -> ").unwrap();
    let (to, port) = rest.rsplit_once(' ').unwrap();
    let from = match (from.parse(), from.split_once('/')) {
        (Ok(address), _) => Endpoint::External(address),
        (_, Some((namespace, name))) => Endpoint::pod(namespace, name),
        (_, None) => Endpoint::Node(from.to_owned()),
    };
    let to = match (to.parse(), to.split_once('/')) {
        (Ok(address), _) => Target::Ip(address),
        (_, Some((namespace, name))) => match namespace.strip_prefix("svc:") {
            Some(namespace) => Target::service(namespace, name),
            None => Target::pod(namespace, name),
        },
        (_, None) => Target::Node(to.to_owned()),
    };
    if port == "ICMP" {
        return Flow::icmp(from, to);
    }
    let (number, protocol) = port.split_once('/').unwrap();
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => panic!("no protocol `{other}`"),
    };
    Flow::over(protocol, from, to, number.parse().unwrap())
}

/// Whether the verdict that the profile expects is `Allowed`.
pub fn is_allowed(prediction: &Prediction) -> bool {
    prediction.expected == Verdict::Allowed
}
