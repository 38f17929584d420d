//! One path under one profile: what the policies at each end say.
//!
//! Owns the semantics of isolation, rules, peers and ports. Records each open question that it had
//! to answer, so that the caller can try the other answers. Must not know how a path was found.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Cluster, PodId, Who};
use crate::isolation::{CompiledPolicy, Isolation};
use crate::policy::{Direction, IpBlock, Peer, PortMatch, PortRange, Rule};
use crate::prediction::{Allowance, Because, Decision, Denial, Exemption, Mismatch, Miss, NoAnswer, Verdict};
use crate::profile::{BlockScope, Hairpin, HostNetwork, Icmp, OwnNode, Profile, Question, Questions};
use crate::snapshot::Pod;
use crate::transport::{PortOf, Protocol};
use crate::view::{Sight, View};

/// The scales: a path and all that bears on it.
pub(crate) struct Scales<'a> {
    pub view: View<'a>,
    pub isolation: &'a Isolation,
    pub asked: Questions,
}

/// What both ends say, and what follows.
pub(crate) struct Weighed {
    pub source: Decision,
    pub destination: Decision,
    pub verdict: Verdict,
}

/// The subject of a decision: a pod to which policies apply, or the reason why they do not.
type Subject = Result<PodId, Exemption>;

impl Scales<'_> {
    /// Traffic passes only if the source's egress **and** the destination's ingress let it.
    pub(crate) fn weigh(&mut self) -> Weighed {
        let source = self.egress();
        let destination = self.ingress();
        let verdict = if !source.because.passes() || !destination.because.passes() {
            Verdict::Denied
        } else if let Some(why) = self.silence() {
            Verdict::NoAnswer(why)
        } else {
            Verdict::Allowed
        };
        Weighed { source, destination, verdict }
    }

    fn egress(&mut self) -> Decision {
        let client = self.view.client.who;
        let mut asked = Questions::default();
        let sight = self.view.destination(&mut asked);
        if self.is_isolated(Direction::Egress, client) {
            self.asked.add(asked);
        }
        let because = self.decide(Direction::Egress, client, &sight);
        let address = self.view.client.address_towards(self.cluster(), self.view.path.address);
        self.decision(Direction::Egress, (client, address), &sight, because)
    }

    fn ingress(&mut self) -> Decision {
        let server = self.view.path.server;
        let mut asked = Questions::default();
        let sight = self.view.source(&mut asked);
        if self.is_isolated(Direction::Ingress, server) {
            self.asked.add(asked);
        }
        let because = self.decide(Direction::Ingress, server, &sight);
        let address = Some(self.view.path.address);
        self.decision(Direction::Ingress, (server, address), &sight, because)
    }

    fn decision(
        &self,
        direction: Direction,
        (subject, address): (Who, Option<IpAddr>),
        sight: &Sight,
        because: Because,
    ) -> Decision {
        let cluster = self.cluster();
        let owner = match direction {
            Direction::Ingress => subject,
            Direction::Egress => sight.who,
        };
        Decision {
            direction,
            subject: cluster.party(subject, address),
            peer: cluster.party(sight.who, sight.address),
            port: sight.port,
            port_owner: match owner {
                Who::Pod(pod) => Some(cluster.member(pod).pod.clone()),
                Who::Host { .. } | Who::Outside => None,
            },
            because,
        }
    }

    fn decide(&mut self, direction: Direction, end: Who, sight: &Sight) -> Because {
        let pod = match self.subject(end) {
            Ok(pod) => pod,
            Err(exemption) => return Because::Exempt(exemption),
        };
        if !self.is_isolated(direction, end) {
            return Because::NotIsolated;
        }
        match self.exemption(direction, end, sight) {
            Some(exemption) => Because::Exempt(exemption),
            None => self.rules(direction, pod, sight),
        }
    }

    fn is_isolated(&self, direction: Direction, end: Who) -> bool {
        pod_of(end).is_some_and(|pod| !self.isolation.of(pod, direction).is_empty())
    }

    /// Whether policies apply at this end at all.
    fn subject(&mut self, end: Who) -> Subject {
        let path = self.view.path;
        let to_itself = self.view.client.who == path.server && path.translation.is_none();
        if to_itself && pod_of(end).is_some() {
            return Err(Exemption::Itself);
        }
        match end {
            Who::Pod(pod) => Ok(pod),
            Who::Host { pod: Some(pod), .. } => {
                self.asked.ask(Question::HostNetwork);
                match self.profile().host_network {
                    HostNetwork::AsPods => Ok(pod),
                    HostNetwork::AsNode => Err(Exemption::HostNetwork),
                }
            }
            Who::Host { pod: None, .. } | Who::Outside => Err(Exemption::NotAPod),
        }
    }

    /// What an isolated pod may do without any rule.
    fn exemption(&mut self, direction: Direction, end: Who, sight: &Sight) -> Option<Exemption> {
        if self.view.is_hairpin() {
            self.asked.ask(Question::Hairpin);
            return (self.profile().hairpin == Hairpin::Exempt).then_some(Exemption::Itself);
        }
        if self.is_own_node(end, sight.who) {
            match direction {
                // The kubelet must reach its pods.
                Direction::Ingress => return Some(Exemption::OwnNode),
                Direction::Egress => self.asked.ask(Question::OwnNode),
            }
            if self.profile().own_node == OwnNode::Exempt {
                return Some(Exemption::OwnNode);
            }
        }
        if sight.port.protocol == Protocol::Icmp {
            self.asked.ask(Question::Icmp);
            return (self.profile().icmp == Icmp::Always).then_some(Exemption::Icmp);
        }
        None
    }

    /// Whether the other end is the node beneath this end; a hostNetwork pod on it is that node only
    /// where it is not told apart.
    fn is_own_node(&mut self, end: Who, other: Who) -> bool {
        let Who::Host { node, pod } = other else {
            return false;
        };
        if self.cluster().node_beneath(end) != Some(node) {
            return false;
        }
        if pod.is_some() {
            self.asked.ask(Question::HostNetwork);
        }
        pod.is_none() || self.profile().host_network == HostNetwork::AsNode
    }

    /// Any rule of any policy that isolates the pod lets the flow pass; nothing else does.
    fn rules(&mut self, direction: Direction, pod: PodId, sight: &Sight) -> Because {
        let isolation = self.isolation;
        let isolating = isolation.of(pod, direction);
        let mut misses = Vec::new();
        for compiled in isolation.policies(isolating) {
            let policy = &compiled.policy;
            for (position, rule) in policy.rules(direction).iter().enumerate() {
                let at = RuleAt { compiled, direction, position, rule, subject: pod };
                match self.matched(&at, sight) {
                    Ok((peer, port)) => {
                        return Because::AllowedBy(Allowance { policy: policy.clone(), rule: position, peer, port });
                    }
                    Err(mismatch) => misses.push(Miss { policy: policy.clone(), rule: position, mismatch }),
                }
            }
        }
        Because::DeniedBy(Denial { policies: isolating.named(), misses })
    }

    /// Which peer and which port of a rule match; `None` where the rule has no such list.
    fn matched(&mut self, at: &RuleAt<'_>, sight: &Sight) -> Result<(Option<usize>, Option<usize>), Mismatch> {
        let port = self.matching_port(at, sight);
        let peer = self.matching_peer(at, sight);
        match (peer, port) {
            (Some(peer), Some(port)) => Ok((peer, port)),
            (None, Some(_)) => Err(Mismatch::Peer),
            (Some(_), None) => Err(Mismatch::Port),
            (None, None) => Err(Mismatch::PeerAndPort),
        }
    }

    fn matching_peer(&mut self, at: &RuleAt<'_>, sight: &Sight) -> Option<Option<usize>> {
        if at.rule.peers.is_empty() {
            return Some(None);
        }
        let mut peers = at.rule.peers.iter().enumerate();
        let found = peers.find(|(position, peer)| match peer {
            Peer::Pods { .. } => self.selected(at, *position, sight.who),
            Peer::Block(block) => self.in_block(block, sight),
        });
        found.map(|(position, _)| Some(position))
    }

    fn selected(&mut self, at: &RuleAt<'_>, peer: usize, who: Who) -> bool {
        let Some(pod) = pod_of(who) else {
            return false;
        };
        at.compiled.selects(at.direction, at.position, peer, pod) && self.counts_as_pod(who)
    }

    /// Whether somebody that is a pod is one for policies too.
    fn counts_as_pod(&mut self, who: Who) -> bool {
        if let Who::Host { .. } = who {
            self.asked.ask(Question::HostNetwork);
            return self.profile().host_network == HostNetwork::AsPods;
        }
        true
    }

    fn in_block(&mut self, block: &IpBlock, sight: &Sight) -> bool {
        let seen = sight.address.is_some_and(|address| self.covers(block, address));
        if let Some((question, other)) = sight.doubt
            && self.covers(block, other) != seen
        {
            self.asked.ask(question);
        }
        seen
    }

    fn covers(&mut self, block: &IpBlock, address: IpAddr) -> bool {
        if !block.contains(address) {
            return false;
        }
        let (question, scope) = match self.cluster().owner(address) {
            Who::Outside => return true,
            Who::Pod(_) => (Question::BlockOnPods, self.profile().block_on_pods),
            Who::Host { .. } => (Question::BlockOnNodes, self.profile().block_on_nodes),
        };
        self.asked.ask(question);
        scope == BlockScope::Applies
    }

    fn matching_port(&mut self, at: &RuleAt<'_>, sight: &Sight) -> Option<Option<usize>> {
        let portless = at.rule.ports.is_empty();
        if sight.port.protocol == Protocol::Icmp && self.profile().icmp != Icmp::RulesWithoutPorts {
            return None;
        }
        if portless {
            return Some(None);
        }
        let mut ports = at.rule.ports.iter().enumerate();
        let found = ports.find(|(_, port)| self.port_matches(at, port, sight));
        found.map(|(position, _)| Some(position))
    }

    fn port_matches(&mut self, at: &RuleAt<'_>, wanted: &PortMatch, sight: &Sight) -> bool {
        if wanted.protocol != sight.port.protocol {
            return false;
        }
        match &wanted.port {
            PortRange::Any => true,
            PortRange::Numbers { first, last } => (*first..=*last).contains(&sight.port.number),
            PortRange::Named(name) => self.named_port_matches(at, name, sight),
        }
    }

    /// A name stands for what the destination pod calls so, whichever end the policy is at.
    fn named_port_matches(&mut self, at: &RuleAt<'_>, name: &str, sight: &Sight) -> bool {
        let PortOf { number, protocol } = sight.port;
        let named = |pod: &Pod| pod.numbers_of(name, protocol).any(|named| named == number);
        match at.direction {
            Direction::Ingress => named(self.cluster().pod(at.subject)),
            Direction::Egress => {
                pod_of(sight.who).is_some_and(|pod| named(self.cluster().pod(pod))) && self.counts_as_pod(sight.who)
            }
        }
    }

    /// Why an allowed flow is not answered all the same.
    fn silence(&self) -> Option<NoAnswer> {
        let server = &self.cluster().member(pod_of(self.view.path.server)?).pod;
        let port = self.view.path.port;
        (server.listens_on(port) == Some(false)).then(|| NoAnswer::NothingListens { server: Arc::clone(server), port })
    }

    fn cluster(&self) -> &Cluster {
        self.view.cluster
    }

    fn profile(&self) -> &Profile {
        self.view.profile
    }
}

/// A rule and where it stands.
struct RuleAt<'a> {
    compiled: &'a CompiledPolicy,
    direction: Direction,
    position: usize,
    rule: &'a Rule,
    /// The pod that the policy isolates.
    subject: PodId,
}

fn pod_of(who: Who) -> Option<PodId> {
    match who {
        Who::Pod(pod) => Some(pod),
        Who::Host { pod, .. } => pod,
        Who::Outside => None,
    }
}
