//! What runs on the nodes: the seam [`Distribution`], the cluster it is asked for, and the cluster it gives.
//!
//! A distribution gets nodes on which it can run commands and put files; how they were made it does not know.

pub mod canonical;
pub mod kubeadm;
mod kubeadm_undo;
pub mod microk8s;
pub mod rancher;
pub mod recipe;
pub mod reference;
mod snap;

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use ipnet::Ipv4Net;

use self::recipe::{Failure, ProbeImage, Site, StageError, Step, silent};
use crate::event::Fidelity;
use crate::provider::{NodeError, Nodes};
use crate::scenario::Premises;
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
    /// The product's name.
    pub fn product(self) -> &'static str {
        match self {
            Self::Canonical => "Canonical Kubernetes",
            Self::Kubeadm => "kubeadm",
            Self::K3s => "K3s",
            Self::Rke2 => "RKE2",
        }
    }

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

impl Encapsulation {
    /// The word in scenario files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::VxlanCrossSubnet => "vxlanCrossSubnet",
            Self::None => "none",
        }
    }
}

/// A cluster that answers.
pub struct Bootstrapped {
    /// A kubeconfig whose server can be reached from this machine.
    pub kubeconfig: String,
    /// The name of the CNI profile in fixtures/profiles.
    pub profile: &'static str,
    /// The Deployment of cluster DNS in `kube-system`.
    pub dns: &'static str,
    /// Longest time until all of it is ready, now that its API server answers.
    pub ready_within: Duration,
}

/// Which clusters a distribution can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carries {
    pub flavours: Vec<Flavour>,
    pub encapsulations: Vec<Encapsulation>,
    pub bird: bool,
}

impl Carries {
    /// What the cluster asks for beyond that.
    pub fn lacks(&self, spec: &ClusterSpec) -> Option<String> {
        if !self.flavours.contains(&spec.flavour) {
            return Some(format!("a cluster of {}", spec.flavour.product()));
        }
        if !self.encapsulations.contains(&spec.encapsulation) {
            return Some(format!("`encapsulation: {}`", spec.encapsulation.word()));
        }
        (spec.bird && !self.bird).then(|| "`backend: bird`".to_string())
    }
}

/// How much of what nodes say is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Of each of their programs, from the end.
    pub lines: usize,
    /// Longest time for each of them.
    pub within: Duration,
}

impl Tail {
    /// As much as a message takes.
    pub const SHORT: Self = Self { lines: 15, within: recipe::QUICK };
}

/// Makes a cluster of nodes.
pub trait Distribution: Send + Sync {
    fn name(&self) -> &'static str;

    /// What a result on this distribution is a statement about.
    fn fidelity(&self) -> Fidelity;

    /// What its clusters can do.
    fn capabilities(&self) -> Vec<Capability>;

    /// The names of its CNI, in fixtures/profiles.
    fn profile(&self) -> &'static str;

    /// The channel or version that is installed, where there are several.
    fn channel(&self) -> Option<&str> {
        None
    }

    /// Which clusters it can be.
    fn carries(&self) -> Carries;

    /// Where its nodes have the image of the pods that probe from.
    fn probe_image(&self) -> &ProbeImage {
        &ProbeImage::There
    }

    /// What is known of its cluster, where that is there already.
    fn premises(&self) -> Option<&Premises> {
        None
    }

    /// What the members themselves say, when a cluster does not become ready or something fails on it.
    fn evidence<'a>(&'a self, _nodes: &'a Nodes, _spec: &'a ClusterSpec, _tail: Tail) -> BoxFuture<'a, String> {
        futures::future::ready(String::new()).boxed()
    }

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
    #[error(transparent)]
    Stage(#[from] Box<StageError>),
    #[error("{distribution}: {why}")]
    Impossible { distribution: &'static str, why: String },
    #[error("cannot write a file of settings: {0}")]
    Settings(String),
    #[error("the API server did not answer within {deadline:?}: {last}{log}")]
    ApiServer { deadline: Duration, last: String, log: String },
}

/// What a cluster of any product can do.
fn capabilities_of_a_cluster() -> Vec<Capability> {
    vec![Capability::Overlay, Capability::NetworkPolicy, Capability::Services, Capability::Dns, Capability::CustomCidrs]
}

/// A file of settings.
fn yaml(value: &serde_json::Value) -> Result<String, DistributionError> {
    serde_saphyr::to_string(value).map_err(|error| DistributionError::Settings(error.to_string()))
}

/// The kubeconfig that a command on the first control plane prints, for clients on this machine: the API server's port
/// there is forwarded to an address here, which the command may be told.
async fn kubeconfig(
    site: &Site<'_>,
    port: u16,
    config: impl FnOnce(&str) -> Step,
) -> Result<String, DistributionError> {
    let first = site.first()?;
    let reach = site.node(&first.name)?.forward(port).await?;
    let config = config(&reach.to_string());
    let printed = site.step(&first.name, &config).await?;
    match recipe::point_at(&printed, reach) {
        Some(kubeconfig) => Ok(kubeconfig),
        None => {
            // It may hold keys: none of it is shown.
            let found = format!("{} lines without a server", printed.lines().count());
            let command = config.action.to_string();
            let failure = Failure::Answer { command, wanted: "a kubeconfig", found };
            Err(site.failed(config.stage, &first.name, failure).await)
        }
    }
}

/// The ends of the logs of all nodes.
fn evidence<'a>(
    distribution: &'static str,
    nodes: &'a Nodes,
    spec: &'a ClusterSpec,
    commands: &'static [&'static str],
    tail: Tail,
) -> BoxFuture<'a, String> {
    async move {
        let tell = silent();
        let site = Site { distribution, nodes, spec, tell: &tell, evidence: commands, undo: &[] };
        let all = join_all(spec.members.iter().map(|member| site.evidence_of(&member.name, tail))).await;
        all.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("\n")
    }
    .boxed()
}
