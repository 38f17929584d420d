//! What runs on the nodes: the seam [`Distribution`], the cluster it is asked for, and the cluster it gives.
//!
//! A distribution gets nodes on which it can run commands and put files; how they were made it does not know.

pub mod reference;

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::BoxFuture;
use ipnet::Ipv4Net;

use crate::event::Fidelity;
use crate::provider::{NodeError, Nodes};
use crate::scenario::model::Capability;

/// The cluster that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterSpec {
    pub flavour: Flavour,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub encapsulation: Encapsulation,
    /// Nodes exchange routes over BGP.
    pub bird: bool,
    /// Prefix length of the blocks of pod addresses.
    pub block_size: u8,
    /// Calico's `IP_AUTODETECTION_METHOD`.
    pub autodetection: String,
    /// The node with the control plane.
    pub control_plane: String,
    /// Every node, the control plane's first.
    pub members: Vec<Member>,
}

/// Which product's documented set-up a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Canonical Kubernetes as the document describes it: Calico.
    #[default]
    Canonical,
    /// kubeadm: no CNI at all.
    Kubeadm,
    /// K3s: flannel inside of the node's own process.
    K3s,
    /// RKE2: Canal.
    Rke2,
}

impl Flavour {
    /// What its clusters are called beside their nodes; it says that they are models and nothing else.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Canonical => None,
            Self::Kubeadm => Some("a model of kubeadm"),
            Self::K3s => Some("a model of K3s"),
            Self::Rke2 => Some("a model of RKE2"),
        }
    }
}

/// A node as a member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub name: String,
    /// The address by which the other nodes know it.
    pub address: Ipv4Addr,
    pub control_plane: bool,
}

/// How packets for pods of other nodes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    Vxlan,
    VxlanCrossSubnet,
    None,
}

/// A cluster that answers.
pub struct Bootstrapped {
    /// A kubeconfig whose server can be reached from this machine.
    pub kubeconfig: String,
    /// The name of the CNI profile in fixtures/profiles.
    pub profile: &'static str,
}

/// Makes a cluster of nodes.
pub trait Distribution: Send + Sync {
    fn name(&self) -> &'static str;

    /// What a result on this distribution is a statement about.
    fn fidelity(&self) -> Fidelity;

    /// What its clusters can do.
    fn capabilities(&self) -> Vec<Capability>;

    /// Installs and starts the cluster; returns when its API server answers. Nodes need not be Ready yet.
    fn bootstrap<'a>(
        &'a self,
        nodes: &'a Nodes,
        spec: &'a ClusterSpec,
    ) -> BoxFuture<'a, Result<Bootstrapped, DistributionError>>;
}

/// A cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("no node is called `{0}`")]
    NoNode(String),
    #[error("cannot make the cluster's certificates: {0}")]
    Certificates(String),
    #[error("the API server did not answer within {deadline:?}: {last}{log}")]
    ApiServer { deadline: Duration, last: String, log: String },
}
