//! The two ends of a flow and the way between them, once names are resolved.
//!
//! Must not know how a way is found, nor policies.

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId, Who};
use crate::flow::Endpoint;
use crate::prediction::{NoAnswer, Translator, Unknown};
use crate::transport::PortOf;

/// Where a flow starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub who: Who,
    /// The address, if it was given by address.
    pub address: Option<IpAddr>,
}

/// One way a flow may go.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub server: Who,
    pub address: IpAddr,
    /// The port at the server.
    pub port: PortOf,
    pub translation: Option<Translation>,
}

/// A rewriting of the destination on the way, and perhaps of the source.
#[derive(Debug, Clone)]
pub(crate) struct Translation {
    pub by: Translator,
    /// The address and port that were dialled.
    pub address: IpAddr,
    pub port: PortOf,
    /// The node that translates.
    pub node: NodeId,
    /// Whether that node also puts its own address in place of the source.
    pub masquerade: bool,
}

/// What there is to judge: some paths, or the reason why there is none.
pub(crate) type Paths = Result<Vec<Path>, NoAnswer>;

impl Client {
    pub(crate) fn find(cluster: &Cluster, endpoint: &Endpoint) -> Result<Self, Unknown> {
        Ok(match endpoint {
            Endpoint::Pod(pod) => {
                Self { who: cluster.who(cluster.find_pod(&pod.namespace, &pod.name)?), address: None }
            }
            Endpoint::Node(name) => {
                Self { who: Who::Host { node: cluster.find_node(name)?, pod: None }, address: None }
            }
            Endpoint::External(address) => {
                Self { who: cluster.owner(address.to_canonical()), address: Some(address.to_canonical()) }
            }
        })
    }

    /// The client's own address towards a destination, before anything rewrites it.
    pub(crate) fn address_towards(&self, cluster: &Cluster, destination: IpAddr) -> Option<IpAddr> {
        let same_family = |address: &IpAddr| address.is_ipv4() == destination.is_ipv4();
        match self.who {
            Who::Pod(pod) => cluster.pod(pod).ips.iter().copied().find(same_family),
            Who::Host { node, .. } => cluster.node(node).address_beside(destination),
            Who::Outside => self.address.filter(same_family),
        }
    }

    /// Whether packets of the client can carry a source towards this address at all. A node whose
    /// addresses the snapshot does not tell is given the benefit of the doubt.
    pub(crate) fn speaks_to(&self, cluster: &Cluster, destination: IpAddr) -> bool {
        matches!(self.who, Who::Host { .. }) || self.address_towards(cluster, destination).is_some()
    }
}
