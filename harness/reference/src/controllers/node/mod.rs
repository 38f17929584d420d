//! Nodes: who is silent counts as lost, taints follow conditions, pods of nodes that are gone go too.
//!
//! Taints keep new pods away; pods that are there already are not evicted, as they would not be in Kubernetes before
//! five minutes are over.

mod cidrs;
mod decide;
mod heartbeat;
mod taints;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use super::ControllersConfig;
use super::drive::{Controller, Round};
use super::events::{Note, Recorder};
use super::log;
use super::world::{World, name_of, namespace_of};
use super::write::{self, WriteError, within};
use cidrs::Cidrs;
use decide::{Action, decide};
use heartbeat::{Heartbeats, Signs};
pub(super) use taints::condition_taints;

const COMPONENT: &str = "node-controller";
const LEASES: &str = "kube-node-lease";

pub(super) struct Nodes {
    client: Client,
    world: World,
    recorder: Recorder,
    heartbeats: Heartbeats,
    known: HashMap<String, Arc<Node>>,
    cidrs: Option<Cidrs>,
}

impl Controller for Nodes {
    async fn round(&mut self) -> Round {
        let nodes = self.world.nodes.state();
        self.introduce(&nodes);
        self.give_cidrs(&nodes).await;
        let heard = self.heartbeats.hear(&signs(&nodes, &self.world.leases.state()), Instant::now());
        let actions = decide(&nodes, &self.world.pods.state(), &heard.silent, Timestamp::now());
        let round = write::carry_out(COMPONENT, actions, |action| self.act(action)).await;
        round.look_again(heard.next)
    }
}

impl Nodes {
    pub(super) fn new(client: Client, world: World, recorder: Recorder, config: &ControllersConfig) -> Self {
        let heartbeats = Heartbeats::new(config.node_grace);
        let cidrs = config.node_cidrs_of.map(Cidrs::of);
        Self { client, world, recorder, heartbeats, known: HashMap::new(), cidrs }
    }

    /// Tells of nodes that came and went since the last round.
    fn introduce(&mut self, nodes: &[Arc<Node>]) {
        let present: HashSet<&str> = nodes.iter().map(|node| name_of(node.as_ref())).collect();
        for node in nodes {
            let name = node.name_any();
            if self.known.insert(name.clone(), node.clone()).is_none() {
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.recorder.record(COMPONENT, Note::normal(node.as_ref(), "RegisteredNode", message));
            }
        }
        let gone: Vec<String> = self.known.keys().filter(|name| !present.contains(name.as_str())).cloned().collect();
        for name in gone {
            if let Some(node) = self.known.remove(&name) {
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.recorder.record(COMPONENT, Note::normal(node.as_ref(), "RemovingNode", message));
            }
        }
    }

    /// A refusal is logged; the next change of a node brings the next attempt.
    async fn give_cidrs(&mut self, nodes: &[Arc<Node>]) {
        let Some(cidrs) = &mut self.cidrs else { return };
        for (node, cidr) in cidrs.give(nodes) {
            let patch = serde_json::json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
            if let Err(cause) = self.patch_node(&node, patch).await {
                log::warn(COMPONENT, format_args!("giving node `{node}` the pod CIDR {cidr}: {}", cause.message()));
            }
        }
    }

    async fn act(&self, action: Action) -> Result<(), (String, WriteError)> {
        match action {
            Action::Lost { node, patch } => {
                let name = node.name_any();
                self.patch_node_status(&name, patch)
                    .await
                    .map_err(|cause| (format!("marking node `{name}` as lost"), cause))?;
                log::warn(COMPONENT, format_args!("node {name} stopped renewing its lease"));
                let message = format!("Node {name} status is now: NodeNotReady");
                self.recorder.record(COMPONENT, Note::normal(node.as_ref(), "NodeNotReady", message));
                Ok(())
            }
            Action::Taint { node, patch } => {
                let done = self.patch_node(&node, patch).await;
                done.map_err(|cause| (format!("tainting node `{node}`"), cause))
            }
            Action::PodReadiness { pod, patch } => {
                let done = write::merge_status(&self.client, pod.as_ref(), patch).await;
                done.map_err(|cause| {
                    (format!("marking pod `{}/{}`", namespace_of(pod.as_ref()), pod.name_any()), cause)
                })
            }
            Action::Orphaned { pod, node } => {
                let done = self.forget(&pod, &node).await;
                done.map_err(|cause| {
                    (
                        format!(
                            "deleting pod `{}/{}` of missing node `{node}`",
                            namespace_of(pod.as_ref()),
                            pod.name_any()
                        ),
                        cause,
                    )
                })
            }
        }
    }

    async fn patch_node(&self, name: &str, patch: Value) -> Result<(), WriteError> {
        let api: Api<Node> = Api::all(self.client.clone());
        within(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    async fn patch_node_status(&self, name: &str, patch: Value) -> Result<(), WriteError> {
        let api: Api<Node> = Api::all(self.client.clone());
        within(api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    /// Deletes `pod` at once: there is no kubelet that could end it. Asks the server first, for the watch of nodes
    /// may lag behind that of pods.
    async fn forget(&self, pod: &Pod, node: &str) -> Result<(), WriteError> {
        let api: Api<Node> = Api::all(self.client.clone());
        if within(api.get_opt(node)).await?.is_some() {
            return Ok(());
        }
        write::delete(&self.client, pod, DeleteParams::default().grace_period(0)).await?;
        log::info(
            COMPONENT,
            format_args!("deleted pod {}/{} of missing node {node}", namespace_of(pod), pod.name_any()),
        );
        Ok(())
    }
}

/// What the kubelet of each node has written last.
fn signs<'n>(nodes: &'n [Arc<Node>], leases: &[Arc<Lease>]) -> HashMap<&'n str, Signs> {
    let ours = leases.iter().filter(|lease| namespace_of(lease.as_ref()) == LEASES);
    let renewals: HashMap<&str, _> = ours
        .filter_map(|lease| {
            let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
            Some((name_of(lease.as_ref()), renewed.0))
        })
        .collect();
    let signs = nodes.iter().map(|node| {
        let name = name_of(node.as_ref());
        let ready = decide::ready_condition(node);
        let posted = ready.and_then(|ready| ready.last_heartbeat_time.as_ref());
        let signs = Signs {
            renewed: renewals.get(name).copied(),
            posted: posted.map(|time| time.0),
            known: ready.is_some_and(|ready| ready.status != "Unknown"),
        };
        (name, signs)
    });
    signs.collect()
}
