//! A NetworkPolicy as the API accepts it: an invalid one cannot be made from a manifest.
//!
//! Owns the meaning of the fields that default (`policyTypes`, `protocol`). Must not know pods.

mod block;
mod check;
mod invalid;
mod manifest;
mod summary;

use std::fmt;

use serde::Deserialize;

pub use block::IpBlock;
pub use invalid::{Fault, InvalidPolicy, Problem};
pub use manifest::Manifest;

use crate::labels::Selector;
use crate::transport::Protocol;

/// One NetworkPolicy of `networking.k8s.io/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Manifest")]
pub struct NetworkPolicy {
    pub namespace: String,
    pub name: String,
    /// The pods of the policy's own namespace to which it applies.
    pub pods: Selector,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
    /// `policyTypes` as written; empty when absent.
    pub types: Vec<Direction>,
}

/// The direction of a connection, seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

/// One rule: it allows what matches a peer **and** a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Any of these; none at all means every peer, also outside the cluster.
    pub peers: Vec<Peer>,
    /// Any of these; none at all means every port of every protocol.
    pub ports: Vec<PortMatch>,
}

/// One element of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods. Without `namespaces`, those of the policy's namespace; without `pods`, all of them.
    Pods { pods: Option<Selector>, namespaces: Option<Selector> },
    /// Addresses.
    Block(IpBlock),
}

/// One element of `ports`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMatch {
    pub protocol: Protocol,
    pub port: PortRange,
}

/// Which ports of a protocol an element of `ports` covers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortRange {
    /// `port` was absent.
    Any,
    /// A number, or both ends of `port` to `endPort`, inclusive.
    Numbers { first: u16, last: u16 },
    /// Whatever number the destination pod gives this name, for this protocol.
    Named(String),
}

impl NetworkPolicy {
    /// Whether the pods it selects are isolated in this direction.
    ///
    /// Without `policyTypes` a policy always isolates for ingress, and for egress exactly when it
    /// has an egress rule.
    pub fn isolates(&self, direction: Direction) -> bool {
        if !self.types.is_empty() {
            return self.types.contains(&direction);
        }
        match direction {
            Direction::Ingress => true,
            Direction::Egress => !self.egress.is_empty(),
        }
    }

    /// The rules written for a direction, in force only where the policy isolates.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Rule {
    /// Whether the rule is `{}`: everything from everywhere.
    pub fn allows_everything(&self) -> bool {
        self.peers.is_empty() && self.ports.is_empty()
    }
}

impl Peer {
    /// The `namespaceSelector`, if there is one.
    pub fn namespaces(&self) -> Option<&Selector> {
        match self {
            Self::Pods { namespaces, .. } => namespaces.as_ref(),
            Self::Block(_) => None,
        }
    }
}

impl Direction {
    /// Both directions, in the order in which a packet meets them.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The name of the peer list in a rule of this direction.
    pub fn peer_list(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// `namespace/name`.
impl fmt::Display for NetworkPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
