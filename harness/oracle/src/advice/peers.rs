//! Findings about `from` and `to`: selectors that mean nobody, or alternatives where both were meant.

use super::{Finding, Review, RuleAt};
use crate::labels::{Requirement, Selector};
use crate::policy::Peer;

impl Review<'_> {
    pub(super) fn peers(&mut self, at: &RuleAt<'_>) {
        for (position, peer) in at.rule.peers.iter().enumerate() {
            if let Some(finding) = self.meaningless(peer) {
                self.advise(at.peer_path(position), finding);
            }
        }
        self.alternatives(at);
    }

    fn meaningless(&self, peer: &Peer) -> Option<Finding> {
        let Peer::Pods { pods, namespaces } = peer else {
            return None;
        };
        if let Some(selector) = namespaces
            && !self.namespaces.values().any(|one| selector.matches(&one.labels))
        {
            return Some(Finding::SelectsNoNamespace {
                selector: selector.clone(),
                named: self.seems_to_name(selector),
            });
        }
        if self.pods.iter().any(|pod| self.means(peer, pod)) {
            return None;
        }
        let elsewhere = pods.as_ref().filter(|pods| !pods.is_everything());
        Some(Finding::PeerMeansNoPod {
            peer: peer.clone(),
            elsewhere: elsewhere.map(|pods| self.namespaces_of(pods)).unwrap_or_default(),
        })
    }

    /// The namespace whose name stands as the value of some label, as in `name=monitoring`.
    fn seems_to_name(&self, selector: &Selector) -> Option<String> {
        let mut requirements = selector.requirements().iter();
        requirements.find_map(|requirement| match requirement {
            Requirement::Is(_, value) if self.namespaces.contains_key(value.as_str()) => Some(value.clone()),
            _ => None,
        })
    }

    fn alternatives(&mut self, at: &RuleAt<'_>) {
        let peers = at.rule.peers.iter();
        let namespaces = peers.clone().find_map(|peer| match peer {
            Peer::Pods { pods: None, namespaces: Some(namespaces) } => Some(namespaces),
            _ => None,
        });
        let pods = peers.clone().enumerate().find_map(|(position, peer)| match peer {
            Peer::Pods { pods: Some(pods), namespaces: None } => Some((position, pods)),
            _ => None,
        });
        if let (Some(namespaces), Some((position, pods))) = (namespaces, pods) {
            let finding = Finding::AlternativesNotBoth { namespaces: namespaces.clone(), pods: pods.clone() };
            self.advise(at.peer_path(position), finding);
        }
    }
}
