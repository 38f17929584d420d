//! What is measured on: reference clusters of namespaces, and pods in them.

use std::net::SocketAddr;
use std::path::PathBuf;

use cknet::cluster::Cluster;
use cknet::cluster::objects::Coordinates;
use cknet::distribution::reference::Reference;
use cknet::plan::standard_cluster;
use cknet::provider::netns::Netns;
use cknet::vantage::{Place, Vantage};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

/// The executable under measurement: of the same build as this one, or another one to compare with.
pub fn executable() -> PathBuf {
    std::env::var_os("CKNET_EXECUTABLE").map_or_else(|| env!("CARGO_BIN_EXE_cknet").into(), PathBuf::from)
}

/// A runtime like the one of `cknet run`.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// A folder of this process for sockets and states.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A cluster of one control plane and `workers` workers.
pub async fn cluster(folder: &tempfile::TempDir, workers: u8) -> Cluster {
    let provider = Netns { executable: executable(), folder: folder.path().into() };
    let (topology, spec) = standard_cluster(workers);
    Cluster::create(&provider, &Reference, "speed", &topology, &spec).await.unwrap()
}

/// A pod that answers on TCP ports.
#[derive(Clone)]
pub struct Answering {
    pub name: String,
    pub node: String,
    pub uid: String,
    pub address: std::net::IpAddr,
}

impl Answering {
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    pub fn vantage(&self) -> Vantage {
        Vantage { node: self.node.clone(), place: Place::Pod { uid: self.uid.clone() } }
    }

    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        (status.phase.as_deref() == Some("Running")).then_some(())?;
        Some(Self {
            name: pod.metadata.name.clone()?,
            node: pod.spec.as_ref()?.node_name.clone()?,
            uid: pod.metadata.uid.clone()?,
            address: status.pod_ip.as_ref()?.parse().ok()?,
        })
    }
}

/// Creates `count` pods, one node after the other, each listening on `ports`, labelled `parity: even` or `odd` by its
/// number, and waits until all run. The first is number 0.
pub async fn pods(cluster: &Cluster, count: usize, ports: &[u16]) -> Vec<Answering> {
    let nodes: Vec<&String> = cluster.nodes.by_name.keys().collect();
    let objects: Vec<Value> = (0..count).map(|number| pod(number, nodes[number % nodes.len()], ports)).collect();
    let applied = objects.iter().map(|object| cluster.objects.apply(object));
    futures::future::try_join_all(applied).await.unwrap();
    running(cluster, count).await
}

fn pod(number: usize, node: &str, ports: &[u16]) -> Value {
    let mut arguments = vec!["--identity".to_string(), name(number)];
    for port in ports {
        arguments.extend(["--listen".to_string(), format!("{port}/tcp")]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(number),
            "namespace": "default",
            "labels": {"set": "speed", "parity": if number.is_multiple_of(2) { "even" } else { "odd" }},
        },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "probe",
                "image": "ghcr.io/cknet/cknet-probe:v1",
                "imagePullPolicy": "Never",
                "args": arguments,
            }],
        },
    })
}

fn name(number: usize) -> String {
    format!("pod-{number:03}")
}

/// Waits until `count` pods of ours run; sorted by name.
async fn running(cluster: &Cluster, count: usize) -> Vec<Answering> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let changes = watcher(pods, watcher::Config::default().labels("set=speed")).applied_objects();
    let mut changes = std::pin::pin!(changes);
    let mut found = std::collections::BTreeMap::new();
    while found.len() < count {
        let pod = changes.try_next().await.unwrap().expect("watches do not end");
        if let Some(pod) = Answering::of(&pod) {
            found.insert(pod.name.clone(), pod);
        }
    }
    found.into_values().collect()
}

/// Where a network policy of the default namespace is.
pub fn policy_at(name: &str) -> Coordinates {
    Coordinates {
        api_version: "networking.k8s.io/v1".into(),
        kind: "NetworkPolicy".into(),
        namespace: Some("default".into()),
        name: name.into(),
    }
}

/// A network policy of the default namespace.
pub fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}
