//! A cluster on loopback without machines: the real API server and the real controllers, and kubelets that only say
//! that their pods run.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use cknet_reference::controllers::{self, ControllersConfig};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api_support::Server;

/// Everything here takes milliseconds; a machine under load may need more.
pub const DEADLINE: Duration = Duration::from_secs(20);
pub const GRACE: Duration = Duration::from_millis(1500);

pub struct Cluster {
    pub server: Server,
    pub client: Client,
    kubelets: HashMap<String, CancellationToken>,
    _stop: DropGuard,
}

impl Cluster {
    /// An API server with controllers and `nodes` nodes that are ready.
    pub async fn start(nodes: &[&str]) -> Self {
        let server = Server::start();
        let client = server.client().await;
        let stop = CancellationToken::new();
        let config = ControllersConfig { node_grace: GRACE, ..ControllersConfig::default() };
        tokio::spawn(controllers::run(client.clone(), config, stop.clone()));
        let mut cluster = Self { server, client, kubelets: HashMap::new(), _stop: stop.drop_guard() };
        for node in nodes {
            cluster.join(node).await;
        }
        cluster
    }

    /// Adds a node that is ready and starts its kubelet.
    pub async fn join(&mut self, name: &str) {
        let node: Node = from(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux"}}}));
        Api::all(self.client.clone()).create(&PostParams::default(), &node).await.unwrap();
        self.set_ready(name, "True").await;
        self.speak(name);
    }

    pub async fn set_ready(&self, name: &str, ready: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready, "reason": "Test"}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Starts the kubelet of a node.
    pub fn speak(&mut self, name: &str) {
        let stop = CancellationToken::new();
        self.kubelets.insert(name.to_owned(), stop.clone());
        let (client, name) = (self.client.clone(), name.to_owned());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            tokio::join!(renew(client.clone(), name.clone()), serve(client, name));
        }));
    }

    /// Silences the kubelet of a node.
    pub fn silence(&mut self, name: &str) {
        self.kubelets.remove(name).expect("it spoke").cancel();
    }

    pub fn in_namespace<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.in_namespace::<Pod>(namespace).list(&ListParams::default()).await.unwrap().items
    }

    pub async fn deploy(&self, namespace: &str, name: &str, replicas: i32, more: Value) {
        let mut value = deployment(name, replicas);
        merge(&mut value, &more);
        let api = self.in_namespace::<Deployment>(namespace);
        api.create(&PostParams::default(), &from(value)).await.unwrap();
    }

    /// Waits until the newest version of a deployment is all there is of it, as `kubectl rollout status` does.
    pub async fn rolled_out(&self, namespace: &str, name: &str) -> Deployment {
        let api = self.in_namespace::<Deployment>(namespace);
        awaited(&format!("roll-out of {name}"), || async {
            let found = api.get(name).await.unwrap();
            let (spec, status) = (found.spec.clone()?, found.status.clone()?);
            let all = spec.replicas;
            let done = status.observed_generation >= found.metadata.generation
                && status.updated_replicas == all
                && status.replicas == all
                && status.available_replicas == all;
            if done { Ok(found) } else { Err(status) }.ok()
        })
        .await
    }
}

pub fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "c", "image": "one", "ports": [{"name": "http", "containerPort": 8080}]}]}}},
    })
}

pub fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

pub fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Asks until there is an answer; fails after [`DEADLINE`], saying what was awaited.
pub async fn awaited<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until `state` says `wanted`; fails with what it said last.
pub async fn becomes<T, F>(what: &str, wanted: T, state: impl Fn() -> F)
where
    T: PartialEq + Debug,
    F: Future<Output = T>,
{
    let start = Instant::now();
    loop {
        let found = state().await;
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: {found:?} instead of {wanted:?} after {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn renew(client: Client, node: String) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut ticks = tokio::time::interval(Duration::from_millis(300));
    loop {
        ticks.tick().await;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node},
            "spec": {"holderIdentity": node, "renewTime": now}});
        let _ = leases.patch(&node, &PatchParams::apply("kubelet").force(), &Patch::Apply(lease)).await;
    }
}

/// Says of every pod of the node that it runs, and lets those go that are deleted.
async fn serve(client: Client, node: String) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let pods = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().applied_objects();
    let mut pods = std::pin::pin!(pods);
    let mut next = 1u8;
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        } else if pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).is_none()
            && pod.spec.as_ref().unwrap().containers[0].image.as_deref() != Some("broken")
        {
            let digit = node.bytes().last().unwrap();
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let condition = |kind| json!({"type": kind, "status": "True", "lastTransitionTime": now});
            let status = json!({"status": {"phase": "Running", "podIP": format!("10.1.{digit}.{next}"),
                "conditions": [condition("PodScheduled"), condition("ContainersReady"), condition("Ready")]}});
            next += 1;
            let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
        }
    }
}
