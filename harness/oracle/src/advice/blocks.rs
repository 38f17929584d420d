//! Findings about `ipBlock`: addresses of the cluster itself, exceptions that others undo.

use ipnet::IpNet;

use super::{Finding, Review, RuleAt};
use crate::policy::{Direction, IpBlock, NetworkPolicy, Peer, PortMatch, PortRange, Rule};

impl Review<'_> {
    pub(super) fn blocks(&mut self, at: &RuleAt<'_>) {
        for (position, peer) in at.rule.peers.iter().enumerate() {
            let Peer::Block(block) = peer else { continue };
            let path = format!("{}.ipBlock", at.peer_path(position));
            if block.is_empty() {
                let block = block.clone();
                self.advise(path, Finding::BlockIsEmpty { block });
                continue;
            }
            self.own_addresses(&path, at.direction, block);
            self.one_family(&path, at, block);
            self.exceptions(&path, at, block);
        }
    }

    /// All of IPv4 or IPv6 is meant as "everywhere": to mention the cluster's own addresses in it
    /// would be noise.
    fn own_addresses(&mut self, path: &str, direction: Direction, block: &IpBlock) {
        if block.cidr().prefix_len() == 0 {
            return;
        }
        let own = self.pods.iter().filter(|pod| !pod.host_network);
        let pods = own.filter(|pod| pod.ips.iter().any(|ip| block.contains(*ip))).count();
        let mut ranges = self.snapshot.pod_ranges.iter();
        if pods > 0 || ranges.any(|range| overlap(block, *range)) {
            let block = block.clone();
            self.advise(path, Finding::BlockCoversPods { block, pods });
        }
        let services = self.snapshot.services.iter();
        let covered = services.filter(|one| one.cluster_ips().iter().any(|ip| block.contains(*ip)));
        let services: Vec<_> = covered.map(ToString::to_string).collect();
        if direction == Direction::Egress && !services.is_empty() {
            let block = block.clone();
            self.advise(path, Finding::BlockCoversServices { block, services });
        }
    }

    fn one_family(&mut self, path: &str, at: &RuleAt<'_>, block: &IpBlock) {
        let cidr = block.cidr();
        let is_ipv4 = matches!(cidr, IpNet::V4(_));
        let of_both =
            self.subjects().any(|pod| pod.ips.iter().any(|ip| ip.is_ipv4()) && pod.ips.iter().any(|ip| ip.is_ipv6()));
        let has_other = at
            .rule
            .peers
            .iter()
            .any(|peer| matches!(peer, Peer::Block(other) if matches!(other.cidr(), IpNet::V4(_)) != is_ipv4));
        if cidr.prefix_len() == 0 && of_both && !has_other {
            self.advise(path, Finding::OneFamilyOnly { cidr });
        }
    }

    fn exceptions(&mut self, path: &str, at: &RuleAt<'_>, block: &IpBlock) {
        for (position, part) in block.except().iter().enumerate() {
            if let Some(by) = self.undoing(at, *part) {
                let finding = Finding::ExceptionUndone { part: *part, by };
                self.advise(format!("{path}.except[{position}]"), finding);
            }
        }
    }

    /// A rule that lets an excepted part pass for some of the same pods and ports.
    fn undoing(&self, at: &RuleAt<'_>, part: IpNet) -> Option<String> {
        let same =
            |other: &&NetworkPolicy| (&other.namespace, &other.name) == (&self.policy.namespace, &self.policy.name);
        let others = self.snapshot.policies.iter().filter(|other| !same(other));
        let shares_pods = |other: &&NetworkPolicy| {
            other.namespace == self.policy.namespace
                && other.isolates(at.direction)
                && self.subjects().any(|pod| other.pods.matches(&pod.labels))
        };
        let policies = std::iter::once(self.policy).chain(others.filter(shares_pods));
        policies.into_iter().find_map(|policy| {
            let mut rules = policy.rules(at.direction).iter();
            let undoes = |rule: &Rule| ports_meet(&at.rule.ports, &rule.ports) && lets_pass(rule, part);
            let position = rules.position(undoes)?;
            Some(format!("`{}` {}[{position}]", policy.name, at.direction))
        })
    }
}

fn lets_pass(rule: &Rule, part: IpNet) -> bool {
    let blocks = |peer: &Peer| match peer {
        Peer::Block(block) => overlap(block, part),
        Peer::Pods { .. } => false,
    };
    rule.peers.is_empty() || rule.peers.iter().any(blocks)
}

/// Whether a block has some address of a range, as far as its exceptions do not hide all of it.
fn overlap(block: &IpBlock, range: IpNet) -> bool {
    let meets = block.cidr().contains(&range) || range.contains(&block.cidr());
    meets && !block.except().iter().any(|part| part.contains(&range))
}

fn ports_meet(some: &[PortMatch], others: &[PortMatch]) -> bool {
    let meet = |one: &PortMatch, other: &PortMatch| {
        one.protocol == other.protocol
            && match (&one.port, &other.port) {
                (PortRange::Numbers { first, last }, PortRange::Numbers { first: other_first, last: other_last }) => {
                    first <= other_last && other_first <= last
                }
                (PortRange::Named(one), PortRange::Named(other)) => one == other,
                // A name may stand for any number.
                _ => true,
            }
    };
    let all = some.is_empty() || others.is_empty();
    all || some.iter().any(|one| others.iter().any(|other| meet(one, other)))
}
