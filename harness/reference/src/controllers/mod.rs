//! The controllers of the reference distribution: each makes one part of the cluster what its objects ask for.
//!
//! They are clients of the API and nothing else: they share one view of it (`world`), run in one kind of loop
//! (`drive`), and decide in pure functions from objects to actions. They know nothing of nodes as machines, of
//! containers or of the network.

mod daemonset;
mod deployment;
mod drive;
mod endpoints;
mod events;
mod garbage;
pub(crate) mod log;
mod matching;
mod namespace;
mod node;
mod pod_state;
mod replicaset;
mod scheduler;
mod template;
mod unseen;
mod world;
mod write;

use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::watched::Bell;
pub(crate) use drive::Backoff;
use drive::{Controller, drive};
use events::Recorder;
use unseen::Shown;
use world::{Bells, World};

/// What can be set about the controllers.
#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// How long a node may be silent, that is not renew its lease, before it counts as lost. Kubernetes waits 40 s
    /// for a kubelet that renews every 10 s; this distribution's kubelet renews every second, so 4 s is as patient.
    pub node_grace: Duration,
    /// The network of which each node gets a part (`--allocate-node-cidrs`); nodes get none without.
    pub node_cidrs_of: Option<Ipv4Net>,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        Self { node_grace: Duration::from_secs(4), node_cidrs_of: None }
    }
}

/// Runs all controllers until `shutdown`.
///
/// Nothing that goes wrong ends them: what fails is logged on stderr and tried again.
pub async fn run(client: Client, config: ControllersConfig, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = answering(&client) => {}
    }
    let bells = Bells::default();
    let world = World::follow(&client, &bells);
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = world.listed() => {}
    }
    let recorder = Recorder::start(client.clone(), shutdown.clone());
    let mut tasks = Tasks { set: JoinSet::new(), shutdown };
    let (c, w, r) = (|| client.clone(), || world.clone(), || recorder.clone());
    tasks.add(bells.nodes, node::Nodes::new(c(), w(), r(), &config));
    tasks.add(bells.daemon_sets, daemonset::DaemonSets::new(c(), w(), r()));
    tasks.add(bells.scheduler, scheduler::Scheduler::new(c(), w(), r()));
    tasks.add(bells.deployments, deployment::Deployments { client: c(), world: w(), recorder: r() });
    tasks.add(bells.replica_sets, replicaset::ReplicaSets::new(c(), w(), r()));
    tasks.add(bells.endpoints, endpoints::EndpointSlices { client: c(), world: w() });
    tasks.add(bells.namespaces, namespace::Namespaces::new(c(), w()));
    tasks.add(bells.garbage, garbage::Garbage::new(c(), w()));
    log::info("controllers", "started");
    while let Some(ended) = tasks.set.join_next().await {
        if let Err(cause) = ended {
            log::error("controllers", format_args!("a controller ended: {cause}"));
        }
    }
}

/// Waits until the API answers: a watch that starts earlier would wait most of a second before it tries again.
async fn answering(client: &Client) {
    let mut backoff = Backoff::default();
    while let Err(cause) = write::within(client.apiserver_version()).await {
        log::warn("controllers", format_args!("the API does not answer yet: {}", cause.message()));
        tokio::time::sleep(backoff.delay()).await;
    }
}

struct Tasks {
    set: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Tasks {
    fn add(&mut self, bell: Bell, controller: impl Controller) {
        self.set.spawn(drive(controller, bell, self.shutdown.clone()));
    }
}

/// What the watch shows of a pod that was written.
fn shown(pod: Option<&Pod>) -> Shown {
    match pod {
        None => Shown::Missing,
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => Shown::Deleting,
        Some(_) => Shown::Living,
    }
}
