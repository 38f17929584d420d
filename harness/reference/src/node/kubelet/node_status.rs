//! Keeps the API's picture of the node right: registers it, tells its conditions when they change or when somebody
//! else changed them, and renews its lease.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::backoff::Backoff;
use super::context::{API_PATIENCE, NodeContext};
use super::journal::journal;
use super::node_object::{self, Machine};
use crate::watched::{Bell, follow};

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// A real kubelet renews every 10 s a lease of 40 s; this distribution notices a lost node in seconds.
const RENEWAL: Duration = Duration::from_secs(1);
const LEASE_SECONDS: i32 = 4;
/// Conditions that did not change are told again this often, as a kubelet does.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// Until the kubelet ends.
pub async fn keep(node: Arc<NodeContext>) {
    let shutdown = node.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async {
            let registered = register(&node).await;
            tokio::join!(tell(&node, &registered), renew(&node, &registered));
        } => {}
    }
}

/// Creates the node, or takes over the one that is there; tries until the API accepts it.
async fn register(node: &NodeContext) -> Node {
    let nodes: Api<Node> = Api::all(node.config.client.clone());
    let mut backoff = Backoff::default();
    loop {
        match tokio::time::timeout(API_PATIENCE, register_once(node, &nodes)).await {
            Ok(Ok(registered)) => return registered,
            Ok(Err(error)) => journal(format_args!("cannot register node `{}`: {error}", node.config.node_name)),
            Err(_) => journal(format_args!("cannot register node `{}`: no answer", node.config.node_name)),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn register_once(node: &NodeContext, nodes: &Api<Node>) -> Result<Node, kube::Error> {
    match nodes.create(&PostParams::default(), &node_object::registration(&node.config)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"metadata": {"labels": node_object::labels(&node.config)}});
            nodes.patch(&node.config.node_name, &PatchParams::default(), &Patch::Merge(patch)).await
        }
        outcome => outcome,
    }
}

/// Tells the conditions at once whenever they differ from what the API has.
async fn tell(node: &NodeContext, registered: &Node) {
    let nodes: Api<Node> = Api::all(node.config.client.clone());
    let name = &node.config.node_name;
    let bell = Bell::default();
    let own = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let store = follow(nodes.clone(), own, &bell);
    let machine = Machine::read();
    let mut readiness = node.readiness.clone();
    let mut told = conditions_of(registered);
    let mut told_at: Option<Instant> = None;
    let mut backoff = Backoff::default();
    loop {
        if let Some(seen) = store.state().first() {
            told = conditions_of(seen);
        }
        let ready = readiness.borrow_and_update().clone();
        let wanted = node_object::conditions(&ready, &told, Timestamp::now());
        let is_fresh = told_at.is_some_and(|at| at.elapsed() < HEARTBEAT);
        let mut pause = HEARTBEAT;
        if !(is_fresh && node_object::is_told(&wanted, &told)) {
            let status = node_object::status(&node.config, &machine, wanted.clone());
            let patch = Patch::Strategic(json!({"status": status}));
            let parameters = PatchParams::default();
            match tokio::time::timeout(API_PATIENCE, nodes.patch_status(name, &parameters, &patch)).await {
                Ok(Ok(answer)) => {
                    told = conditions_of(&answer);
                    told_at = Some(Instant::now());
                    backoff = Backoff::default();
                    if let Err(problem) = &ready {
                        journal(format_args!("node `{name}` is not ready: {problem}"));
                    }
                }
                Ok(Err(error)) => {
                    journal(format_args!("cannot tell the status of node `{name}`: {error}"));
                    pause = backoff.next();
                }
                Err(_) => pause = backoff.next(),
            }
        }
        tokio::select! {
            () = bell.rung() => {}
            changed = readiness.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn conditions_of(node: &Node) -> Vec<NodeCondition> {
    node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default()
}

/// Renews the lease, by which the control plane knows that this kubelet lives.
async fn renew(node: &NodeContext, registered: &Node) {
    let leases: Api<Lease> = Api::namespaced(node.config.client.clone(), LEASE_NAMESPACE);
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_lost = false;
    loop {
        ticks.tick().await;
        // A renewal that takes longer than a period is worth nothing.
        let outcome = match tokio::time::timeout(RENEWAL, renew_once(node, &leases, registered)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in 1 s".into()),
        };
        match outcome {
            Ok(()) => is_lost = false,
            Err(problem) if !is_lost => {
                is_lost = true;
                journal(format_args!("cannot renew the lease of node `{}`: {problem}", node.config.node_name));
            }
            Err(_) => {}
        }
    }
}

async fn renew_once(node: &NodeContext, leases: &Api<Lease>, registered: &Node) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    let name = &node.config.node_name;
    let patch = json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS}});
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            leases.create(&PostParams::default(), &lease(node, registered, now)).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

fn lease(node: &NodeContext, registered: &Node, now: MicroTime) -> Lease {
    let name = &node.config.node_name;
    let owner = registered.metadata.uid.clone().map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid,
        ..Default::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(LEASE_NAMESPACE.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..Default::default()
        }),
    }
}
