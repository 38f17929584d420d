//! Why a node cannot take a pod, in the words and the order of Kubernetes' scheduler. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};

use crate::controllers::matching::{admits_node, untolerated};
use crate::controllers::node::condition_taints;
use crate::controllers::world::controller_of;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// What a node without a stated capacity takes.
const DEFAULT_PODS: usize = 110;

/// A node and what is on it, as far as the next pod cares.
pub(super) struct Candidate<'a> {
    pub(super) node: &'a Node,
    pub(super) name: &'a str,
    pub(super) pods: Vec<&'a Pod>,
    per_owner: HashMap<&'a str, usize>,
    ports: HashSet<(&'a str, i32, &'a str)>,
    taints: Vec<Taint>,
    capacity: usize,
}

/// Why a node refused, and whether moving other pods away could change that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) resolvable: bool,
}

pub(super) fn refusal(reason: impl Into<String>, resolvable: bool) -> Option<Refusal> {
    Some(Refusal { reason: reason.into(), resolvable })
}

impl<'a> Candidate<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        let spec = node.spec.as_ref();
        let mut taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        // The taint that follows from a condition may not be written yet; the pod must not slip through.
        for taint in condition_taints(node) {
            if !taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
                taints.push(taint);
            }
        }
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let pods = allocatable.and_then(|all| all.get("pods")).and_then(|pods| pods.0.parse().ok());
        Self {
            node,
            name: node.metadata.name.as_deref().unwrap_or_default(),
            pods: Vec::new(),
            per_owner: HashMap::new(),
            ports: HashSet::new(),
            taints,
            capacity: pods.unwrap_or(DEFAULT_PODS),
        }
    }

    pub(super) fn take(&mut self, pod: &'a Pod) {
        self.pods.push(pod);
        if let Some(owner) = controller_of(pod) {
            *self.per_owner.entry(&owner.uid).or_default() += 1;
        }
        if let Some(spec) = &pod.spec {
            self.ports.extend(host_ports(spec));
        }
    }

    /// The first thing that keeps a pod off this node, whatever other pods there are elsewhere.
    pub(super) fn refuses(&self, spec: &PodSpec) -> Option<Refusal> {
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        if self.is_cordoned() {
            let cordon =
                [Taint { key: UNSCHEDULABLE.to_owned(), effect: "NoSchedule".to_owned(), ..Default::default() }];
            if untolerated(&cordon, tolerations, &["NoSchedule"]).is_some() {
                return refusal("node(s) were unschedulable", false);
            }
        }
        if let Some(taint) = untolerated(&self.taints, tolerations, &["NoSchedule", "NoExecute"]) {
            let value = taint.value.as_deref().unwrap_or_default();
            let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
            return refusal(reason, false);
        }
        if !admits_node(spec, self.node) {
            return refusal("node(s) didn't match Pod's node affinity/selector", false);
        }
        if host_ports(spec).any(|port| self.is_taken(port)) {
            return refusal("node(s) didn't have free ports for the requested pod ports", true);
        }
        if self.pods.len() >= self.capacity {
            return refusal("Too many pods", true);
        }
        None
    }

    /// The lower, the better: avoid what the node asks to avoid, then spread the pods of one owner, then all pods.
    pub(super) fn cost(&self, pod: &Pod, spec: &PodSpec) -> (bool, usize, usize, &'a str) {
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let disliked = untolerated(&self.taints, tolerations, &["PreferNoSchedule"]).is_some();
        let owner = controller_of(pod);
        let kin = owner.and_then(|owner| self.per_owner.get(owner.uid.as_str()));
        (disliked, kin.copied().unwrap_or(0), self.pods.len(), self.name)
    }

    fn is_cordoned(&self) -> bool {
        self.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
    }

    fn is_taken(&self, (protocol, port, address): (&str, i32, &str)) -> bool {
        let any = |address: &str| address == "0.0.0.0";
        self.ports.iter().any(|&(other_protocol, other_port, other)| {
            other_protocol == protocol && other_port == port && (other == address || any(other) || any(address))
        })
    }
}

/// Ports of the node that a pod asks for: protocol, port, address.
fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (&str, i32, &str)> {
    let on_host = spec.host_network == Some(true);
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(move |port| {
        let number = port.host_port.filter(|&port| port > 0).or(on_host.then_some(port.container_port))?;
        let address = port.host_ip.as_deref().filter(|address| !address.is_empty());
        Some((port.protocol.as_deref().unwrap_or("TCP"), number, address.unwrap_or("0.0.0.0")))
    })
}

/// The sentence that says why none of the nodes will do.
pub(super) fn verdict(refusals: &[Refusal]) -> String {
    if refusals.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let nodes = refusals.len();
    let reasons = histogram(refusals.iter().map(|refusal| refusal.reason.as_str()));
    let preemption = histogram(refusals.iter().map(|refusal| match refusal.resolvable {
        true => "No preemption victims found for incoming pod",
        false => "Preemption is not helpful for scheduling",
    }));
    format!("0/{nodes} nodes are available: {reasons}. preemption: 0/{nodes} nodes are available: {preemption}.")
}

fn histogram<'r>(reasons: impl Iterator<Item = &'r str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    parts.join(", ")
}
