//! A scenario's namespaces, services and workloads as objects of the cluster, and the pods that came of them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Cluster;
use super::objects::{Coordinates, ObjectError};
use super::outside::{self, OutsideError};
use crate::scenario::model::{
    Labels, Namespace, NamespaceName, PortProto, Scenario, Service, ServiceType, TargetPort, Topology, Workload,
    WorkloadName,
};

/// The image of workloads: the executable in its `probe serve` personality.
pub const IMAGE: &str = "ghcr.io/cknet/cknet-probe:v1";

/// Longest wait for a workload's pod to run.
const RUNNING: Duration = Duration::from_secs(30);

/// The same where the node has to pull its image first.
const PULLED: Duration = Duration::from_secs(120);

/// A workload's pod, or its process on a machine outside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    pub namespace: String,
    pub node: String,
    pub address: IpAddr,
    /// Of the pod; `None`: it is a process on a machine that is no member of the cluster.
    pub uid: Option<String>,
    /// It has its node's network, as every process has that is no pod.
    pub host_network: bool,
    pub listen: Vec<PortProto>,
    /// Ports of its node, each with the port of its own to which it leads.
    pub host_ports: Vec<(PortProto, PortProto)>,
}

impl PlacedPod {
    /// The word for the network namespace that is the pod's own; `None` where it has its node's.
    pub fn netns(&self) -> Option<String> {
        self.uid.as_ref().filter(|_| !self.host_network).map(|uid| cknet_probe::netns::of_sandbox(uid))
    }
}

/// The pods of a scenario's workloads, and its processes outside.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    pub pods: BTreeMap<WorkloadName, PlacedPod>,
}

/// A workload does not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("the pod of workload `{name}` does not run after {deadline:?}: {last}")]
    NotRunning { name: String, deadline: Duration, last: String },
}

/// Creates everything that a scenario has from before its first phase and waits until the pods run.
///
/// Returns the pods, and the coordinates of what was made, in the order in which it was made.
pub async fn create(cluster: &Cluster, scenario: &Scenario) -> Result<(Placed, Vec<Coordinates>), WorkloadError> {
    cluster.prober.prepare();
    let mut made = Vec::new();
    let namespaces = namespaces(scenario);
    // `default` is there from the start; only what a scenario says of it has to be said.
    let wanted = namespaces.iter().filter(|(name, namespace)| *name != "default" || namespace.is_some());
    let objects: Vec<Value> = wanted.map(|(name, namespace)| namespace_object(name, *namespace)).collect();
    let applied = futures::future::join_all(objects.iter().map(|object| cluster.objects.apply(object))).await;
    for result in applied {
        let at = result?;
        if at.name != "default" {
            made.push(at);
        }
    }
    let services: Vec<Value> =
        scenario.services.iter().map(|(name, service)| service_object(name.as_str(), service)).collect();
    let (members, outsiders): (Vec<_>, Vec<_>) =
        scenario.workloads.iter().partition(|(_, workload)| scenario.topology.is_member(&workload.node));
    let pods: Vec<Value> = members.iter().map(|(name, workload)| pod_on(cluster, name, workload)).collect();
    let objects: Vec<&Value> = services.iter().chain(&pods).collect();
    let applied = futures::future::join_all(objects.iter().map(|object| cluster.objects.apply(object))).await;
    for result in applied {
        made.push(result?);
    }
    let processes =
        outsiders.iter().map(|(name, workload)| outside::start(cluster, &scenario.topology, name, workload));
    let processes = futures::future::try_join_all(processes).await?;
    let mut pods = await_running(cluster, members).await?;
    pods.extend(outsiders.iter().map(|(name, _)| (*name).clone()).zip(processes));
    Ok((Placed { pods }, made))
}

/// Adds one workload to a running scenario; returns also what was made, if it is an object.
pub async fn add(
    cluster: &Cluster,
    topology: &Topology,
    name: &WorkloadName,
    workload: &Workload,
) -> Result<(PlacedPod, Option<Coordinates>), WorkloadError> {
    if !topology.is_member(&workload.node) {
        return Ok((outside::start(cluster, topology, name, workload).await?, None));
    }
    let at = cluster.objects.apply(&pod_on(cluster, name, workload)).await?;
    let mut placed = await_running(cluster, vec![(name, workload)]).await?;
    let pod = placed.remove(name).ok_or_else(|| not_running(name, running_within(cluster), &Value::Null))?;
    Ok((pod, Some(at)))
}

/// Takes one workload away and waits until it is gone.
pub async fn remove(cluster: &Cluster, name: &WorkloadName, pod: &PlacedPod) -> Result<(), WorkloadError> {
    if pod.uid.is_none() {
        return Ok(outside::stop(cluster, name, pod).await?);
    }
    Ok(cluster.objects.delete(&pod_coordinates(name, &pod.namespace)).await?)
}

/// Tells one workload's pod to end, with its own grace period, and does not wait for it.
pub async fn terminate(cluster: &Cluster, name: &WorkloadName, pod: &PlacedPod) -> Result<(), WorkloadError> {
    Ok(cluster.objects.begin_deletion(&pod_coordinates(name, &pod.namespace)).await?)
}

/// Where the pod of a workload is.
pub fn pod_coordinates(name: &WorkloadName, namespace: &str) -> Coordinates {
    Coordinates {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: Some(namespace.into()),
        name: name.as_str().into(),
    }
}

/// Every namespace that is declared or used, with its labels.
pub(crate) fn namespaces(scenario: &Scenario) -> BTreeMap<String, Option<&Namespace>> {
    let used = scenario.workloads.iter().map(|(_, workload)| &workload.namespace);
    let used = used.chain(scenario.services.iter().map(|(_, service)| &service.namespace));
    let mut all: BTreeMap<String, Option<&Namespace>> =
        used.map(|name: &NamespaceName| (name.as_str().to_string(), None)).collect();
    all.extend(scenario.namespaces.iter().map(|(name, namespace)| (name.as_str().to_string(), Some(namespace))));
    all
}

pub(crate) fn namespace_object(name: &str, namespace: Option<&Namespace>) -> Value {
    let labels = namespace.map(|namespace| label_map(&namespace.labels)).unwrap_or_default();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn label_map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.as_str().to_string(), value.clone())).collect()
}

/// What the answering side of a workload is told.
pub(super) fn server_arguments(name: &WorkloadName, workload: &Workload) -> Vec<String> {
    let mut arguments = vec!["--identity".to_string(), format!("{}/{name}", workload.namespace)];
    for port in &workload.listen {
        arguments.extend(["--listen".to_string(), port.to_string()]);
    }
    arguments.extend(workload.linger.map(|_| "--linger".to_string()));
    arguments
}

/// The pod of a workload, on the node as this cluster calls it.
fn pod_on(cluster: &Cluster, name: &WorkloadName, workload: &Workload) -> Value {
    let mut pod = pod_object(name, workload);
    pod["spec"]["nodeName"] = json!(cluster.nodes.registered(workload.node.as_str()));
    if let Some(name) = &cluster.pulled_image {
        pod["spec"]["containers"][0]["image"] = json!(name);
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    }
    pod
}

pub(crate) fn pod_object(name: &WorkloadName, workload: &Workload) -> Value {
    let arguments = server_arguments(name, workload);
    let named = workload.named_ports.iter().map(|(name, port)| {
        let protocol = port.protocol.to_string().to_uppercase();
        json!({"name": name.as_str(), "containerPort": port.port.get(), "protocol": protocol})
    });
    let of_node = workload.host_ports.iter().map(|port| {
        let protocol = port.port.protocol.to_string().to_uppercase();
        json!({"containerPort": port.own().port.get(), "hostPort": port.port.port.get(), "protocol": protocol})
    });
    let variables = workload.environment.iter();
    let variables: Vec<Value> = variables.map(|(name, value)| json!({"name": name.as_str(), "value": value})).collect();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name.as_str(),
            "namespace": workload.namespace.as_str(),
            "labels": label_map(&workload.labels),
        },
        "spec": {
            "nodeName": workload.node.as_str(),
            "hostNetwork": workload.host_network,
            "terminationGracePeriodSeconds": workload.linger.map_or(0, |wait| wait.duration().as_secs().max(1)),
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "probe",
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "args": arguments,
                "ports": named.chain(of_node).collect::<Vec<_>>(),
            }],
        },
    });
    if !variables.is_empty() {
        pod["spec"]["containers"][0]["env"] = json!(variables);
    }
    pod
}

pub(crate) fn service_object(name: &str, service: &Service) -> Value {
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| {
            let target = match &port.target {
                Some(TargetPort::Number(number)) => json!(number.get()),
                Some(TargetPort::Name(name)) => json!(name.as_str()),
                None => json!(port.port.port.get()),
            };
            let mut value = json!({
                "port": port.port.port.get(),
                "protocol": port.port.protocol.to_string().to_uppercase(),
                "targetPort": target,
            });
            if let Some(name) = &port.name {
                value["name"] = json!(name.as_str());
            }
            if let Some(number) = port.node_port {
                value["nodePort"] = json!(number.get());
            }
            value
        })
        .collect();
    let kind = match service.service_type {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut spec = json!({"selector": label_map(&service.selector), "ports": ports, "type": kind});
    if let Some(policy) = service.external_traffic_policy {
        spec["externalTrafficPolicy"] = json!(policy.word());
    }
    if service.headless {
        spec["clusterIP"] = json!("None");
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": service.namespace.as_str()},
        "spec": spec,
    })
}

/// Follows the pods until those of all `waiting` workloads run.
async fn await_running(
    cluster: &Cluster,
    mut waiting: Vec<(&WorkloadName, &Workload)>,
) -> Result<BTreeMap<WorkloadName, PlacedPod>, WorkloadError> {
    let mut running = BTreeMap::new();
    let mut last_seen: HashMap<(String, String), Value> = HashMap::new();
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let mut changes = watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let patience = running_within(cluster);
    let deadline = Instant::now() + patience;
    while !waiting.is_empty() {
        match tokio::time::timeout_at(deadline, changes.next()).await {
            Ok(Some(Ok(pod))) => {
                let at = (pod.namespace().unwrap_or_default(), pod.name_any());
                let Ok(pod) = serde_json::to_value(pod) else { continue };
                let is_it = |(name, workload): &(&WorkloadName, &Workload)| {
                    name.as_str() == at.1 && workload.namespace.as_str() == at.0
                };
                let Some(found) = waiting.iter().position(is_it) else { continue };
                match placed(&pod, waiting[found].1) {
                    Some(placed) => drop(running.insert(waiting.swap_remove(found).0.clone(), placed)),
                    None => drop(last_seen.insert(at, pod)),
                }
            }
            // The watch is taken up again by itself.
            Ok(Some(Err(_))) => {}
            Ok(None) | Err(_) => {
                let (name, workload) = waiting[0];
                let at = (workload.namespace.as_str().to_string(), name.as_str().to_string());
                return Err(not_running(name, patience, last_seen.get(&at).unwrap_or(&Value::Null)));
            }
        }
    }
    Ok(running)
}

/// Longest wait for a workload's pod to run on this cluster.
fn running_within(cluster: &Cluster) -> Duration {
    if cluster.pulled_image.is_some() { PULLED } else { RUNNING }
}

fn not_running(name: &WorkloadName, deadline: Duration, pod: &Value) -> WorkloadError {
    WorkloadError::NotRunning { name: name.to_string(), deadline, last: why_not_running(pod) }
}

fn placed(pod: &Value, workload: &Workload) -> Option<PlacedPod> {
    let running = pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
    running.then_some(())?;
    Some(PlacedPod {
        namespace: workload.namespace.as_str().to_string(),
        node: workload.node.as_str().to_string(),
        address: pod["status"]["podIP"].as_str()?.parse().ok()?,
        uid: Some(pod["metadata"]["uid"].as_str()?.to_string()),
        host_network: workload.host_network,
        listen: workload.listen.clone(),
        host_ports: workload.host_ports.iter().map(|port| (port.port, port.own())).collect(),
    })
}

/// The last state seen, in the words of the kubelet where it left any.
pub(crate) fn why_not_running(pod: &Value) -> String {
    let phase = pod["status"]["phase"].as_str().unwrap_or("no such pod");
    let waiting = &pod["status"]["containerStatuses"][0]["state"];
    let reason = ["waiting", "terminated"].iter().find_map(|state| {
        let state = &waiting[*state];
        Some(format!("{} {}", state["reason"].as_str()?, state["message"].as_str().unwrap_or_default()))
    });
    match reason {
        Some(reason) => format!("{phase}: {}", reason.trim()),
        None => phase.to_string(),
    }
}
