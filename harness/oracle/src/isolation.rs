//! Policies compiled against a cluster: who is isolated by what, and which pods each peer means.
//!
//! Every selector is evaluated once, here. Must not know addresses, ports or profiles.

use std::sync::Arc;

use crate::cluster::{Cluster, Member, PodId};
use crate::policy::{Direction, NetworkPolicy, Peer};

/// The policies of a cluster, ready to be asked.
pub(crate) struct Isolation {
    policies: Vec<CompiledPolicy>,
    /// By pod, then by direction.
    isolating: Vec<[Isolating; 2]>,
}

/// The policies that isolate one pod in one direction.
#[derive(Clone, Default)]
pub(crate) struct Isolating {
    positions: Vec<usize>,
    policies: Arc<[Arc<NetworkPolicy>]>,
}

pub(crate) struct CompiledPolicy {
    pub policy: Arc<NetworkPolicy>,
    /// By direction, by rule, by peer: the pods that it means, `None` for an `ipBlock`.
    peers: [Vec<Vec<Option<PodSet>>>; 2],
}

/// A set of pods, one bit for each pod of the cluster.
struct PodSet(Vec<u64>);

impl Isolation {
    pub(crate) fn new(cluster: &Cluster, policies: &[NetworkPolicy]) -> Self {
        let mut compiled: Vec<_> = policies.iter().map(|policy| CompiledPolicy::new(cluster, policy)).collect();
        // Policies have no order. Sorting lets explanations not depend on the one they came in.
        compiled.sort_by(|one, other| {
            let name = |policy: &CompiledPolicy| (policy.policy.namespace.clone(), policy.policy.name.clone());
            name(one).cmp(&name(other))
        });
        let isolating = cluster
            .members()
            .map(|(_, member)| {
                [Direction::Ingress, Direction::Egress].map(|direction| Isolating::new(&compiled, member, direction))
            })
            .collect();
        Self { policies: compiled, isolating }
    }

    /// What isolates a pod in a direction.
    pub(crate) fn of(&self, pod: PodId, direction: Direction) -> &Isolating {
        &self.isolating[pod.0][direction as usize]
    }

    /// The policies among `isolating`, in the order of their names.
    pub(crate) fn policies<'a>(&'a self, isolating: &'a Isolating) -> impl Iterator<Item = &'a CompiledPolicy> {
        let positions = isolating.positions.iter();
        positions.map(|&position| &self.policies[position])
    }
}

impl Isolating {
    fn new(policies: &[CompiledPolicy], member: &Member, direction: Direction) -> Self {
        let positions: Vec<_> = policies
            .iter()
            .enumerate()
            .filter(|(_, compiled)| {
                let policy = &compiled.policy;
                policy.namespace == member.pod.namespace
                    && policy.isolates(direction)
                    && policy.pods.matches(&member.pod.labels)
            })
            .map(|(position, _)| position)
            .collect();
        let named = positions.iter();
        let named = named.map(|&position| policies[position].policy.clone());
        Self { policies: named.collect(), positions }
    }

    /// Whether there is none: the pod is not isolated.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(crate) fn named(&self) -> Arc<[Arc<NetworkPolicy>]> {
        self.policies.clone()
    }
}

impl CompiledPolicy {
    fn new(cluster: &Cluster, policy: &NetworkPolicy) -> Self {
        let compile = |direction| {
            let rules = policy.rules(direction).iter();
            rules
                .map(|rule| {
                    let peers = rule.peers.iter();
                    peers.map(|peer| pods_meant(cluster, policy, peer)).collect()
                })
                .collect()
        };
        Self { peers: [Direction::Ingress, Direction::Egress].map(compile), policy: Arc::new(policy.clone()) }
    }

    /// Whether a selector peer means a pod. False for an `ipBlock`.
    pub(crate) fn selects(&self, direction: Direction, rule: usize, peer: usize, pod: PodId) -> bool {
        let pods = self.peers[direction as usize][rule][peer].as_ref();
        pods.is_some_and(|pods| pods.contains(pod))
    }
}

/// The pods that a peer means, by the definition; `None` for an `ipBlock`.
fn pods_meant(cluster: &Cluster, policy: &NetworkPolicy, peer: &Peer) -> Option<PodSet> {
    let Peer::Pods { pods, namespaces } = peer else {
        return None;
    };
    let mut meant = PodSet::of(cluster.members().len());
    for (id, member) in cluster.members() {
        let in_namespace = match namespaces {
            Some(selector) => selector.matches(&member.namespace.labels),
            None => member.pod.namespace == policy.namespace,
        };
        let selected = |labels| pods.as_ref().is_none_or(|pods| pods.matches(labels));
        if in_namespace && selected(&member.pod.labels) {
            meant.insert(id);
        }
    }
    Some(meant)
}

impl PodSet {
    fn of(pods: usize) -> Self {
        Self(vec![0; pods.div_ceil(64)])
    }

    fn insert(&mut self, pod: PodId) {
        self.0[pod.0 / 64] |= 1 << (pod.0 % 64);
    }

    fn contains(&self, pod: PodId) -> bool {
        self.0[pod.0 / 64] & (1 << (pod.0 % 64)) != 0
    }
}
