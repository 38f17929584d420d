//! What the oracle answers: the outcome of a flow, and the rule that decides it at either end.
//!
//! Owned values that outlive the oracle. How they read as sentences is in [`crate::sentence`].

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::policy::{Direction, NetworkPolicy};
use crate::profile::Question;
use crate::snapshot::{Namespace, Node, Pod, Service};
use crate::transport::PortOf;

/// What will become of a flow, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub from: Party,
    pub outcome: Outcome,
    /// What the oracle's profile leads one to expect, also where Kubernetes leaves it open.
    pub expected: Verdict,
    /// One for each place where the flow may end: one for a pod, one for each backend of a Service.
    /// None where nothing takes the flow.
    pub legs: Vec<Leg>,
}

/// What Kubernetes says of a flow.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Allowed,
    Denied,
    /// No policy is in the way, and still nothing answers.
    NoAnswer(NoAnswer),
    /// It depends on the backend that the Service's proxy picks.
    Varies,
    /// Kubernetes permits more than one outcome.
    Undefined(Undefined),
}

/// What happens under one reading of what Kubernetes leaves open.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Allowed,
    Denied,
    NoAnswer(NoAnswer),
    Varies,
}

/// The open questions on which an outcome depends.
#[derive(Debug, Clone, PartialEq)]
pub struct Undefined {
    pub hinges: Vec<Hinge>,
    /// The profile that gives [`Prediction::expected`].
    pub profile: &'static str,
}

/// One open question, with what each permitted answer would mean for the flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Hinge {
    pub question: Question,
    pub readings: Vec<Reading>,
}

/// One permitted answer and the verdict that follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub answer: &'static str,
    pub verdict: Verdict,
}

/// Why nothing answers although no policy forbids it.
#[derive(Debug, Clone, PartialEq)]
pub enum NoAnswer {
    /// The server's end is open, but no process listens there.
    NothingListens { server: Arc<Pod>, port: PortOf },
    /// The Service has no such port.
    NoSuchPort { service: Arc<Service>, port: PortOf },
    /// The Service has no ready backend in this family of addresses.
    NoBackend { service: Arc<Service> },
    /// The traffic policy is `Local`, and no backend is on the translating node.
    NoLocalBackend { service: Arc<Service>, node: Arc<Node> },
    /// The Service is an alias of a name outside.
    ExternalName { service: Arc<Service> },
    /// A cluster address has no meaning outside the cluster.
    ClusterIpFromOutside { service: Arc<Service> },
    /// No Service has this address of the Services' range.
    NoSuchService { address: IpAddr },
    /// No Service answers an echo request.
    IcmpToService { service: Arc<Service> },
    /// The ends have no family of addresses in common.
    NoCommonFamily,
}

/// The way to one place where the flow may end.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    pub to: Party,
    /// The port where it arrives, after any translation.
    pub port: PortOf,
    pub through: Option<Through>,
    pub outcome: Outcome,
    pub expected: Verdict,
    /// What the policies of the source say.
    pub source: Decision,
    /// What the policies of the destination say.
    pub destination: Decision,
    /// Whose address the server sees as the source.
    pub seen_as: Party,
}

/// The translation on a leg.
#[derive(Debug, Clone, PartialEq)]
pub struct Through {
    pub by: Translator,
    /// The address and the port that were dialled.
    pub address: IpAddr,
    pub port: PortOf,
}

/// What translates an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Translator {
    Service(Arc<Service>),
    /// A container's `hostPort`.
    HostPort,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Party {
    pub identity: Identity,
    /// The address in this flow; `None` where the snapshot does not tell it.
    pub address: Option<IpAddr>,
}

/// Who stands at one end of a flow.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    Pod { pod: Arc<Pod>, namespace: Arc<Namespace> },
    HostPod { pod: Arc<Pod>, node: Arc<Node> },
    Node(Arc<Node>),
    Outside,
}

/// What the policies at one end say.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub direction: Direction,
    /// Whose policies were asked.
    pub subject: Party,
    /// The other end as these policies see it, which translation may have changed.
    pub peer: Party,
    /// The port as these policies see it.
    pub port: PortOf,
    /// The pod whose port names count: the destination, if it is a pod.
    pub port_owner: Option<Arc<Pod>>,
    pub because: Because,
}

/// The reason of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Because {
    /// No policy isolates the pod in this direction.
    NotIsolated,
    AllowedBy(Allowance),
    DeniedBy(Denial),
    /// Policies do not apply.
    Exempt(Exemption),
}

/// The rule that lets a flow pass: the first, by policy name and position.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowance {
    pub policy: Arc<NetworkPolicy>,
    pub rule: usize,
    /// Which element of `from` or `to`; `None` if the rule has none.
    pub peer: Option<usize>,
    /// Which element of `ports`; `None` if the rule has none.
    pub port: Option<usize>,
}

/// The policies that isolate a pod, none of which lets the flow pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    pub policies: Arc<[Arc<NetworkPolicy>]>,
    /// Every rule of theirs.
    pub misses: Vec<Miss>,
}

/// A rule that does not match a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Miss {
    pub policy: Arc<NetworkPolicy>,
    pub rule: usize,
    pub mismatch: Mismatch,
}

/// What keeps a rule from matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    Peer,
    Port,
    PeerAndPort,
}

/// Why policies do not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    /// This end is no pod.
    NotAPod,
    /// It is a hostNetwork pod, which counts as its node.
    HostNetwork,
    /// Both ends are the same pod.
    Itself,
    /// The other end is the pod's own node.
    OwnNode,
    /// ICMP is not subject to policy.
    Icmp,
}

/// Something that a flow names and the snapshot does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unknown {
    #[error("no pod `{pod}` runs in this snapshot")]
    Pod { pod: String },
    #[error("no node `{node}` is in this snapshot")]
    Node { node: String },
    #[error("no service `{service}` is in this snapshot")]
    Service { service: String },
    #[error("pod `{pod}` has no address yet")]
    NoAddress { pod: String },
}

impl Prediction {
    /// The leg that decides: the first whose verdict is the expected one, else the first.
    pub fn deciding(&self) -> Option<&Leg> {
        let mut legs = self.legs.iter();
        let decides = |leg: &&Leg| leg.expected == self.expected;
        legs.find(decides).or(self.legs.first())
    }

    /// What the source's policies say on the deciding leg.
    pub fn source(&self) -> Option<&Because> {
        Some(&self.deciding()?.source.because)
    }

    /// What the destination's policies say on the deciding leg.
    pub fn destination(&self) -> Option<&Because> {
        Some(&self.deciding()?.destination.because)
    }

    /// Whether Kubernetes itself settles the outcome.
    pub fn is_defined(&self) -> bool {
        !matches!(self.outcome, Outcome::Undefined(_))
    }
}

impl Because {
    /// Whether the flow passes this end.
    pub fn passes(&self) -> bool {
        !matches!(self, Self::DeniedBy(_))
    }
}

impl Verdict {
    /// The one verdict of several places where a flow may end.
    pub(crate) fn of_all<'a>(mut verdicts: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let first = verdicts.next()?;
        let agrees = |other: &Self| std::mem::discriminant(other) == std::mem::discriminant(first);
        Some(if verdicts.all(agrees) { first.clone() } else { Self::Varies })
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allowed => Self::Allowed,
            Verdict::Denied => Self::Denied,
            Verdict::NoAnswer(why) => Self::NoAnswer(why),
            Verdict::Varies => Self::Varies,
        }
    }
}

impl Party {
    /// Every address that may stand for this party in a packet: a node has several.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.identity {
            Identity::Node(node) | Identity::HostPod { node, .. } => node.all_addresses().collect(),
            Identity::Pod { .. } | Identity::Outside => self.address.into_iter().collect(),
        }
    }
}
