//! What each end's policies see of the other end, after or before translations on the way.
//!
//! Knows where packets are rewritten and what the profile says of it. Must not know rules.

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId, Who};
use crate::path::{Client, Path, Translation};
use crate::profile::{NodeSource, Profile, Question, Questions, RemoteNodePort, RewrittenSource, ServiceAddress};
use crate::transport::PortOf;

/// One end of a flow as the policies of the other end see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub who: Who,
    pub address: Option<IpAddr>,
    /// Another address that it may have instead, and the question that decides which.
    pub doubt: Option<(Question, IpAddr)>,
    /// The port as seen from here.
    pub port: PortOf,
}

/// The ends of one path through a cluster, as seen under one profile.
pub(crate) struct View<'a> {
    pub cluster: &'a Cluster,
    pub client: &'a Client,
    pub path: &'a Path,
    pub profile: &'a Profile,
}

impl View<'_> {
    /// The destination as the client's egress policies see it.
    pub(crate) fn destination(&self, asked: &mut Questions) -> Sight {
        let path = self.path;
        let backend = Sight { who: path.server, address: Some(path.address), doubt: None, port: path.port };
        let Some(translation) = &path.translation else {
            return backend;
        };
        if !self.is_translated_at_client(translation) {
            asked.ask(Question::RemoteNodePort);
            if self.profile.remote_node_port == RemoteNodePort::Node {
                return Sight {
                    who: self.cluster.owner(translation.address),
                    address: Some(translation.address),
                    doubt: None,
                    port: translation.port,
                };
            }
        }
        let (address, other) = match self.profile.service_address {
            ServiceAddress::Backend => (path.address, translation.address),
            ServiceAddress::Dialled => (translation.address, path.address),
        };
        Sight { address: Some(address), doubt: Some((Question::ServiceAddress, other)), ..backend }
    }

    /// The source as the server's ingress policies see it.
    pub(crate) fn source(&self, asked: &mut Questions) -> Sight {
        if self.is_hairpin() {
            return self.sight_of_source(self.client.who);
        }
        let on_the_wire = self.source_on_the_wire();
        let last = self.final_source();
        if on_the_wire != self.client.who || last != self.client.who {
            asked.ask(Question::RewrittenSource);
        }
        let who = match self.profile.rewritten_source {
            RewrittenSource::OnTheWire => on_the_wire,
            RewrittenSource::Client => self.client.who,
            RewrittenSource::Final => last,
        };
        self.sight_of_source(who)
    }

    fn sight_of_source(&self, who: Who) -> Sight {
        let (address, doubt) = self.source_address(who);
        Sight { who, address, doubt, port: self.path.port }
    }

    /// Whose address the server itself sees.
    pub(crate) fn seen_as(&self) -> (Who, Option<IpAddr>) {
        let who = if self.is_hairpin() { self.own_node() } else { self.final_source() };
        (who, self.source_address(who).0)
    }

    /// Whether a pod dials itself by way of its own node's translation.
    pub(crate) fn is_hairpin(&self) -> bool {
        self.path.server == self.client.who
            && self.path.translation.as_ref().is_some_and(|translation| self.is_translated_at_client(translation))
    }

    fn is_translated_at_client(&self, translation: &Translation) -> bool {
        self.client_node() == Some(translation.node)
    }

    fn client_node(&self) -> Option<NodeId> {
        self.cluster.node_beneath(self.client.who)
    }

    fn own_node(&self) -> Who {
        match self.client_node() {
            Some(node) => Who::Host { node, pod: None },
            None => self.client.who,
        }
    }

    /// The client as its own node sends it on: with the node's address, where a pod leaves the pod
    /// network and the profile says so.
    fn sent_as(&self) -> Who {
        let Who::Pod(_) = self.client.who else {
            return self.client.who;
        };
        let first_hop = match &self.path.translation {
            Some(translation) if !self.is_translated_at_client(translation) => self.cluster.owner(translation.address),
            _ => self.path.server,
        };
        let leaves = match first_hop {
            Who::Pod(_) => false,
            Who::Host { node, .. } => self.client_node() != Some(node),
            Who::Outside => true,
        };
        if leaves && self.profile.nat_outgoing { self.own_node() } else { self.client.who }
    }

    /// A node that masquerades does so as the packet leaves it, so that a backend on that very node
    /// still has its policies applied to the source from before.
    fn source_on_the_wire(&self) -> Who {
        match &self.path.translation {
            Some(translation) if translation.masquerade => {
                let here = self.cluster.node_beneath(self.path.server) == Some(translation.node);
                if here { self.sent_as() } else { self.final_source() }
            }
            _ => self.sent_as(),
        }
    }

    fn final_source(&self) -> Who {
        match &self.path.translation {
            Some(translation) if translation.masquerade => Who::Host { node: translation.node, pod: None },
            _ => self.sent_as(),
        }
    }

    /// The address of a source, and the other one where it is a node that may use either.
    fn source_address(&self, who: Who) -> (Option<IpAddr>, Option<(Question, IpAddr)>) {
        let Who::Host { node: id, .. } = who else {
            return (self.client.address_towards(self.cluster, self.path.address), None);
        };
        let node = self.cluster.node(id);
        let internal = node.address_beside(self.path.address);
        let tunnel = node.tunnel_address_beside(self.path.address);
        match (internal, tunnel) {
            (Some(internal), Some(tunnel)) if self.may_use_overlay(id) => {
                let (first, other) = match self.profile.node_source {
                    NodeSource::Tunnel => (tunnel, internal),
                    NodeSource::Internal => (internal, tunnel),
                };
                (Some(first), Some((Question::NodeSource, other)))
            }
            (internal, tunnel) => (internal.or(tunnel), None),
        }
    }

    /// Whether a node sends this path's packets into the overlay itself: to a pod of another node,
    /// and not to a node's own address that is translated over there.
    fn may_use_overlay(&self, node: NodeId) -> bool {
        let Who::Pod(server) = self.path.server else {
            return false;
        };
        let translated_elsewhere = self.path.translation.as_ref().is_some_and(|translation| translation.node != node);
        self.cluster.member(server).node != node && !translated_elsewhere
    }
}
