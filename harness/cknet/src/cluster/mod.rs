//! A cluster that runs: its nodes, its API, and the gate that says it is ready.
//!
//! Kubernetes' types are known here and in `objects`, `workloads` and `evidence`, and nowhere else in the runner.

pub mod evidence;
pub mod facts;
mod foreign;
pub mod objects;
pub mod outside;
pub mod ready;
pub mod workloads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::distribution::{ClusterSpec, Distribution, DistributionError, Tail};
use crate::provider::{Lease, NodeError, Nodes, Provider, ProviderError, Release, Topology};
use crate::scenario::Profile;
use crate::vantage::Prober;

use self::evidence::{Api, OwnPod, Piece, Scene};
use self::foreign::Foreign;
use self::objects::Objects;

/// Longest silence of an API server while it is asked something.
const API_ANSWERS: Duration = Duration::from_secs(10);

/// A running cluster and everything needed to work with it.
pub struct Cluster {
    pub nodes: Nodes,
    pub spec: ClusterSpec,
    pub client: Client,
    pub kubeconfig: String,
    pub profile: Profile,
    pub objects: Objects,
    pub prober: Arc<Prober>,
    pub timings: Timings,
    /// What pods are to be of, where their nodes pull that.
    pulled_image: Option<String>,
    release: Box<dyn Release>,
}

/// How long the parts of making a cluster took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Until the nodes are there.
    pub provision: Duration,
    /// From then until the API server answers and every node's services are started.
    pub bootstrap: Duration,
    /// From then until the cluster is ready.
    pub ready: Duration,
}

impl Timings {
    pub fn total(&self) -> Duration {
        self.provision + self.bootstrap + self.ready
    }
}

/// A cluster could not be had, or not be given back.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
    #[error("the state of its machines cannot be kept: {0}")]
    NotKept(ProviderError),
    #[error(transparent)]
    Node(NodeError),
    #[error(
        "node `{node}` is in a network of its own, {own} by `{interface}`, that overlaps {network} of {of}; change one of \
         them"
    )]
    Overlap { node: String, interface: String, own: Ipv4Net, of: String, network: Ipv4Net },
    #[error("cannot use the cluster's kubeconfig: {0}")]
    Kubeconfig(String),
    #[error("there is no CNI profile `{0}`")]
    Profile(String),
    #[error("the cluster is not ready after {deadline:?}: {last}")]
    NotReady { deadline: Duration, last: String },
    #[error("the run was interrupted")]
    Interrupted,
    #[error("{0}")]
    Ledger(String),
    #[error("{made}; and what was made could not be removed: {left}; try: cknet gc")]
    Left { made: String, left: String },
}

impl Cluster {
    /// Makes nodes under the name `key`, puts the distribution on them and waits until everything is ready.
    pub async fn create(
        provider: &dyn Provider,
        distribution: &dyn Distribution,
        key: &str,
        topology: &Topology,
        spec: &ClusterSpec,
    ) -> Result<Self, ClusterError> {
        let started = Instant::now();
        let lease = provider.acquire(key, topology).await?;
        Self::on(lease, provider, distribution, spec, started.elapsed(), None).await
    }

    /// Puts the distribution on nodes, whose making took so long, and waits until everything is ready. Where that does
    /// not work and `found` is given, what the nodes look like is left there: they are gone when this returns.
    pub async fn on(
        lease: Lease,
        provider: &dyn Provider,
        distribution: &dyn Distribution,
        spec: &ClusterSpec,
        provision: Duration,
        found: Option<&mut Vec<Piece>>,
    ) -> Result<Self, ClusterError> {
        let started = Instant::now();
        let Lease { nodes, release } = lease;
        let mut spec = spec.clone();
        // A cluster that is there already has networks of its own on its nodes.
        if provider.gives_machines() && distribution.premises().is_none() {
            let foreign = Foreign::ask(&nodes).await?;
            foreign.leave_alone(&nodes, &spec)?;
            spec.autodetection = foreign.passed_over(&spec.autodetection);
        }
        let spec = &spec;
        let scene = |api| Scene { nodes: &nodes, spec, distribution, pods: Vec::new(), api };
        let bootstrapped = match distribution.bootstrap(&nodes, spec).await {
            Ok(bootstrapped) => bootstrapped,
            Err(error) => {
                look(found, scene(None)).await;
                return Err(error.into());
            }
        };
        let bootstrap = started.elapsed();
        let client = connect(&bootstrapped.kubeconfig).await?;
        let profile = Profile::embedded(bootstrapped.profile)
            .and_then(Result::ok)
            .ok_or_else(|| ClusterError::Profile(bootstrapped.profile.to_string()))?;
        let objects = Objects::new(client.clone(), provider.mark());
        let opened = ready::await_ready(&client, spec, &profile, &nodes, &bootstrapped).await;
        if opened.is_err() {
            look(found, scene(Some(Api { client: &client, objects: &objects, profile: &profile }))).await;
        }
        match opened {
            Err(ClusterError::NotReady { deadline, last }) => {
                let evidence = distribution.evidence(&nodes, spec, Tail::SHORT).await;
                let last = if evidence.is_empty() { last } else { format!("{last}\nevidence:\n{evidence}") };
                return Err(ClusterError::NotReady { deadline, last });
            }
            opened => opened?,
        }
        let ready = started.elapsed() - bootstrap;
        let timings = Timings { provision, bootstrap, ready };
        let prober = Arc::new(Prober::new(nodes.clone()));
        let kubeconfig = bootstrapped.kubeconfig;
        let pulled_image = distribution.probe_image().pulled().map(str::to_string);
        let spec = spec.clone();
        Ok(Self { nodes, spec, client, kubeconfig, profile, objects, prober, timings, pulled_image, release })
    }

    /// Ends the cluster and puts its machines back to the state that was kept before it was put on them; `None` where
    /// none was kept. The machines can be given back either way.
    pub async fn restore(self) -> (Box<dyn Release>, Result<Option<Nodes>, ProviderError>) {
        let Self { nodes, client, objects, prober, mut release, .. } = self;
        // Whatever holds a connection to the machines ends before they do.
        drop((prober, objects, client, nodes));
        let restored = release.restore().await;
        (release, restored)
    }

    /// It, as somebody looks at it who has to understand a failure.
    pub fn scene<'a>(&'a self, distribution: &'a dyn Distribution, pods: Vec<OwnPod>) -> Scene<'a> {
        let api = Api { client: &self.client, objects: &self.objects, profile: &self.profile };
        Scene { nodes: &self.nodes, spec: &self.spec, distribution, pods, api: Some(api) }
    }

    /// Ends the cluster and its nodes and waits until they are gone.
    pub async fn destroy(self) -> Result<(), ClusterError> {
        Ok(self.release.release().await?)
    }

    /// The process with which the machines end, if there is one.
    pub fn holder(&self) -> Option<u32> {
        self.release.holder()
    }
}

/// Leaves what there is to see, where somebody wants it.
async fn look(found: Option<&mut Vec<Piece>>, scene: Scene<'_>) {
    if let Some(found) = found {
        *found = evidence::gather(&scene, evidence::whole()).await;
    }
}

/// A client for the cluster of a kubeconfig.
pub async fn connect(kubeconfig: &str) -> Result<Client, ClusterError> {
    let problem = |error: &dyn std::fmt::Display| ClusterError::Kubeconfig(error.to_string());
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| problem(&error))?;
    let options = KubeConfigOptions::default();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| problem(&error))?;
    // A server that hangs is an error like one that is gone; without this a step would wait for it for ever.
    config.connect_timeout = Some(API_ANSWERS);
    config.read_timeout = Some(API_ANSWERS);
    config.write_timeout = Some(API_ANSWERS);
    Client::try_from(config).map_err(|error| problem(&error))
}
