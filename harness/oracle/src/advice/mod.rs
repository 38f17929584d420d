//! Advice on policies that the API accepts and that do nothing, or something else than was meant.
//!
//! A finding is about one policy in one cluster, never about a flow; see [`crate::Oracle`] for that.

mod blocks;
mod names;
mod peers;
mod ports;
mod sentence;
mod shape;

use std::collections::HashMap;

use ipnet::IpNet;

use crate::labels::{Labels, Selector};
use crate::policy::{Direction, IpBlock, NetworkPolicy, Peer, Rule};
use crate::snapshot::{Namespace, Pod, Snapshot};
use crate::transport::{PortOf, Protocol};

/// Something to know about a policy. Reads as a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// The field, as the API server writes it: `spec.ingress[0].from[1]`.
    pub path: String,
    pub finding: Finding,
}

/// How a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// What was written has no effect.
    NoEffect,
    /// It does something that its author may not expect.
    Surprise,
    /// Its effect depends on the network plugin.
    Undefined,
}

/// What is to be known.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The policy applies to nobody. `elsewhere` has the namespaces with pods that it would select.
    SelectsNoPod { selector: Selector, namespace: String, elsewhere: Vec<String> },
    /// Whether the policy applies to these pods is up to the plugin.
    SelectsHostNetworkPods { pods: Vec<String> },
    /// Rules of a direction that `policyTypes` leaves out.
    RulesIgnored { direction: Direction, rules: usize },
    /// A policy of egress rules alone, without `policyTypes`, also denies all ingress.
    AlsoIsolatesIngress,
    /// One rule allows everything, and so the others of its direction add nothing.
    OtherRulesMoot { direction: Direction, rules: usize },
    /// The peer means no pod. `elsewhere` has the namespaces with pods of these labels.
    PeerMeansNoPod { peer: Peer, elsewhere: Vec<String> },
    /// No namespace is selected; `named` is one whose name the selector seems to mean.
    SelectsNoNamespace { selector: Selector, named: Option<String> },
    /// A namespace selector and a pod selector in two elements, which are alternatives.
    AlternativesNotBoth { namespaces: Selector, pods: Selector },
    /// No pod that the port is about gives a port this name for this protocol. `other` is a
    /// protocol for which one does.
    PortNameUnserved { name: String, protocol: Protocol, other: Option<Protocol> },
    /// The name has different numbers on different pods, which some plugins cannot do.
    PortNameDiffers { name: String, numbers: Vec<u16> },
    /// The number is that of a Service, while policies act on the backend's.
    PortOfService { port: PortOf, service: String, target: String },
    /// The block has addresses of pods: plugins differ on whether that means those pods.
    BlockCoversPods { block: IpBlock, pods: usize },
    /// The block has addresses of Services, which most plugins never see.
    BlockCoversServices { block: IpBlock, services: Vec<String> },
    /// The exceptions leave nothing.
    BlockIsEmpty { block: IpBlock },
    /// All addresses of one family in a cluster that has both.
    OneFamilyOnly { cidr: IpNet },
    /// An exception is no denial: another rule lets the same addresses pass.
    ExceptionUndone { part: IpNet, by: String },
    /// These pods cannot resolve names.
    NoNameResolution { pods: Vec<String> },
    /// These pods resolve names over UDP only: answers too large for it get lost.
    NameResolutionWithoutTcp { pods: Vec<String> },
}

impl Finding {
    /// How the finding matters.
    pub fn weight(&self) -> Weight {
        match self {
            Self::SelectsNoPod { .. }
            | Self::RulesIgnored { .. }
            | Self::OtherRulesMoot { .. }
            | Self::PeerMeansNoPod { .. }
            | Self::SelectsNoNamespace { .. }
            | Self::PortNameUnserved { .. }
            | Self::BlockIsEmpty { .. } => Weight::NoEffect,
            Self::AlsoIsolatesIngress
            | Self::AlternativesNotBoth { .. }
            | Self::PortOfService { .. }
            | Self::OneFamilyOnly { .. }
            | Self::ExceptionUndone { .. }
            | Self::NoNameResolution { .. }
            | Self::NameResolutionWithoutTcp { .. } => Weight::Surprise,
            Self::SelectsHostNetworkPods { .. }
            | Self::PortNameDiffers { .. }
            | Self::BlockCoversPods { .. }
            | Self::BlockCoversServices { .. } => Weight::Undefined,
        }
    }
}

/// What is to be known about a policy in a cluster, in the order of its fields.
///
/// The snapshot need not have the policy yet; one of the same name in it gives way.
pub fn validate(policy: &NetworkPolicy, snapshot: &Snapshot) -> Vec<Advice> {
    let mut review = Review::new(policy, snapshot);
    review.subject();
    review.shape();
    for direction in [Direction::Ingress, Direction::Egress] {
        if !policy.isolates(direction) {
            continue;
        }
        for (position, rule) in policy.rules(direction).iter().enumerate() {
            let at = RuleAt { direction, position, rule };
            review.peers(&at);
            review.blocks(&at);
            review.ports(&at);
        }
    }
    review.name_resolution();
    review.advice
}

/// The review of one policy.
struct Review<'a> {
    policy: &'a NetworkPolicy,
    snapshot: &'a Snapshot,
    namespaces: HashMap<&'a str, Namespace>,
    /// The pods that run.
    pods: Vec<&'a Pod>,
    advice: Vec<Advice>,
}

/// A rule and where it stands.
struct RuleAt<'a> {
    direction: Direction,
    position: usize,
    rule: &'a Rule,
}

impl RuleAt<'_> {
    fn path(&self) -> String {
        format!("spec.{}[{}]", self.direction, self.position)
    }

    fn peer_path(&self, peer: usize) -> String {
        format!("{}.{}[{peer}]", self.path(), self.direction.peer_list())
    }
}

impl<'a> Review<'a> {
    fn new(policy: &'a NetworkPolicy, snapshot: &'a Snapshot) -> Self {
        let pods: Vec<_> = snapshot.pods.iter().filter(|pod| !pod.finished).collect();
        let mut namespaces = HashMap::new();
        for pod in &pods {
            let bare = Namespace::new(&pod.namespace, Labels::new());
            namespaces.insert(pod.namespace.as_str(), bare);
        }
        for listed in &snapshot.namespaces {
            let complete = Namespace::new(&listed.name, listed.labels.clone());
            namespaces.insert(&listed.name, complete);
        }
        Self { policy, snapshot, namespaces, pods, advice: Vec::new() }
    }

    fn advise(&mut self, path: impl Into<String>, finding: Finding) {
        self.advice.push(Advice { path: path.into(), finding });
    }

    /// The pods that the policy selects.
    fn subjects(&self) -> impl Iterator<Item = &'a Pod> + '_ {
        let own = |pod: &&Pod| pod.namespace == self.policy.namespace;
        let selected = |pod: &&Pod| self.policy.pods.matches(&pod.labels);
        self.pods.iter().copied().filter(own).filter(selected)
    }

    /// Whether a peer of the policy means a pod, by selectors.
    fn means(&self, peer: &Peer, pod: &Pod) -> bool {
        let Peer::Pods { pods, namespaces } = peer else {
            return false;
        };
        let in_namespace = match namespaces {
            Some(selector) => {
                self.namespaces.get(pod.namespace.as_str()).is_some_and(|namespace| selector.matches(&namespace.labels))
            }
            None => pod.namespace == self.policy.namespace,
        };
        in_namespace && pods.as_ref().is_none_or(|pods| pods.matches(&pod.labels))
    }

    /// The namespaces, in order, of the pods that a selector selects wherever they are.
    fn namespaces_of(&self, selector: &Selector) -> Vec<String> {
        let selected = self.pods.iter().filter(|pod| selector.matches(&pod.labels));
        let mut namespaces: Vec<_> = selected.map(|pod| pod.namespace.clone()).collect();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }
}
