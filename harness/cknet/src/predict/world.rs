//! The objects of a cluster as the steps of a scenario leave them, without a cluster.
//!
//! Keeps the same JSON that a run sends to the API. Knows the kinds that mean something to policies and services, and
//! how patches change them; must not know what a policy means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use cknet_oracle as oracle;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::protocol;
use crate::cluster::workloads::{namespace_object, namespaces, pod_object, service_object};
use crate::merge_patch::merge;
use crate::scenario::model::{
    Action, Manifest, NodeName, Patch, PatchType, Relabel, Scenario, ServiceName, Workload, WorkloadName,
};
use crate::scenario::{LateFact, Lookup};

/// Kinds that the oracle reads.
const KINDS: [&str; 4] = ["Namespace", "Pod", "Service", "NetworkPolicy"];

/// Kind, namespace (empty for namespaces), name.
type Key = (String, String, String);

pub(super) struct World {
    objects: BTreeMap<Key, Value>,
    /// The workloads that run, as pods or outside of the cluster.
    pub workloads: BTreeMap<WorkloadName, Workload>,
    /// The nodes on which a workload is a pod.
    members: Vec<NodeName>,
    /// The members whose CNI agent is stopped.
    away: BTreeSet<NodeName>,
    /// The objects as the agents left them when all stopped at once; nothing while one of them works.
    left: Option<BTreeMap<Key, Value>>,
    /// What could not be followed.
    pub gaps: Vec<String>,
}

impl World {
    /// Before the first step.
    pub fn begin(scenario: &Scenario) -> Self {
        let mut world = Self {
            objects: BTreeMap::new(),
            workloads: BTreeMap::new(),
            members: scenario.topology.members().cloned().collect(),
            away: BTreeSet::new(),
            left: None,
            gaps: Vec::new(),
        };
        name_server(scenario).into_iter().for_each(|object| world.put(object));
        for (name, namespace) in namespaces(scenario) {
            world.put(namespace_object(&name, namespace));
        }
        for (name, service) in scenario.services.iter() {
            world.put(service_object(name.as_str(), service));
        }
        for (name, workload) in scenario.workloads.iter() {
            world.start(name, workload);
        }
        world
    }

    /// What a step does to objects; steps that do nothing to them change nothing here.
    pub fn follow(&mut self, scenario: &Scenario, action: &Action, lookup: Lookup<'_>) {
        match action {
            Action::StopComponent(component) => {
                let at_once = self.away.is_empty();
                self.away.extend(component.nodes.of(&scenario.topology).into_iter().cloned());
                if at_once && self.away.len() == self.members.len() {
                    self.left = Some(self.objects.clone());
                }
            }
            Action::StartComponent(component) => {
                for node in component.nodes.of(&scenario.topology) {
                    self.away.remove(node);
                    self.left = None;
                }
            }
            Action::Apply(manifest) => self.apply(manifest, lookup),
            Action::Delete(manifest) => self.delete(manifest),
            Action::Patch(patch) => self.patch(patch, lookup),
            Action::Label(relabel) => self.label(relabel),
            Action::Workload(change) => {
                for name in &change.remove {
                    if let Some(workload) = self.workloads.remove(name) {
                        self.objects.remove(&pod_key(name, &workload));
                    }
                }
                change.add.iter().for_each(|(name, workload)| self.start(name, workload));
            }
            Action::Firewall(_)
            | Action::Firewalld(_)
            | Action::Bird(_)
            | Action::Proxy(_)
            | Action::ProxySettings(_)
            | Action::Registry(_)
            | Action::NodeRun(_)
            | Action::Connect(_)
            | Action::InstallCni(_)
            | Action::Link(_)
            | Action::Route(_)
            | Action::Fdb(_) => {}
        }
    }

    fn start(&mut self, name: &WorkloadName, workload: &Workload) {
        if self.members.contains(&workload.node) {
            self.put(pod_object(name, workload));
        }
        self.workloads.insert(name.clone(), workload.clone());
    }

    fn put(&mut self, object: Value) {
        let Some(key) = key(&object) else { return };
        if !KINDS.contains(&key.0.as_str()) {
            return;
        }
        match self.objects.get_mut(&key) {
            Some(known) => merge(known, object),
            None => {
                self.objects.insert(key, object);
            }
        }
    }

    fn apply(&mut self, manifest: &Manifest, lookup: Lookup<'_>) {
        for object in &manifest.objects {
            match object.resolve(lookup) {
                // A policy is given whole, so what was there does not shine through.
                Ok(value) if object.kind() == "NetworkPolicy" => {
                    self.objects.extend(key(&value).map(|key| (key, value)));
                }
                Ok(value) => self.put(value),
                Err(error) => self.gaps.push(format!("{} `{}`: {error}", object.kind(), object.name())),
            }
        }
    }

    fn delete(&mut self, manifest: &Manifest) {
        for object in &manifest.objects {
            let namespace = object.namespace().unwrap_or("default");
            if object.kind() == "Namespace" {
                let inside = |key: &Key| key.1 == object.name() || key.0 == "Namespace" && key.2 == object.name();
                self.objects.retain(|key, _| !inside(key));
                self.workloads.retain(|_, workload| workload.namespace != *object.name());
            } else {
                self.objects.remove(&(object.kind().into(), namespace.into(), object.name().into()));
            }
        }
    }

    /// The lists of a policy have no merge keys, so a strategic patch replaces them as a merge patch does.
    fn patch(&mut self, patch: &Patch, lookup: Lookup<'_>) {
        let namespace = match (&patch.namespace, patch.kind.as_str()) {
            (_, "Namespace") => String::new(),
            (namespace, _) => namespace.as_ref().map_or("default", |name| name.as_str()).to_string(),
        };
        let Some(object) = self.objects.get_mut(&(patch.kind.clone(), namespace, patch.name.clone())) else { return };
        match (patch.patch_type, patch.patch.resolve(lookup)) {
            (PatchType::Json, _) => self.gaps.push(format!("the JSON patch of {} `{}`", patch.kind, patch.name)),
            (PatchType::Merge | PatchType::Strategic, Ok(value)) => merge(object, value),
            (_, Err(error)) => self.gaps.push(format!("the patch of {} `{}`: {error}", patch.kind, patch.name)),
        }
    }

    fn label(&mut self, relabel: &Relabel) {
        let Some(workload) = self.workloads.get(&relabel.workload) else { return };
        let Some(pod) = self.objects.get_mut(&pod_key(&relabel.workload, workload)) else { return };
        let mut labels = serde_json::Map::new();
        labels.extend(relabel.set.iter().map(|(key, value)| (key.as_str().to_string(), json!(value))));
        labels.extend(relabel.remove.iter().map(|key| (key.as_str().to_string(), Value::Null)));
        merge(pod, json!({"metadata": {"labels": labels}}));
    }

    /// The objects that take effect. Without agents that is what they left behind: policies and labels that change
    /// meanwhile do nothing. Services are none of an agent's business.
    fn in_force(&self) -> BTreeMap<Key, Value> {
        let Some(left) = &self.left else { return self.objects.clone() };
        let of_agents = |(kind, ..): &&Key| kind != "Service";
        let mut objects = self.objects.clone();
        objects.retain(|key, _| key.0 == "Service" || key.0 == "Pod" && left.contains_key(key));
        for (key, object) in left.iter().filter(|(key, _)| of_agents(key)) {
            // A pod that is gone has no flows any more.
            if key.0 != "Pod" || objects.contains_key(key) {
                objects.insert(key.clone(), object.clone());
            }
        }
        objects
    }

    /// Why nothing can be said of a node's flows: its agent is stopped and those of others work on, so that what
    /// changes takes effect here and not there.
    pub fn out_of_step(&self, node: &NodeName) -> Option<String> {
        let out = self.left.is_none() && self.away.contains(node);
        out.then(|| format!("the agent of `{node}` is stopped, and what it missed is not followed"))
    }

    /// What the oracle is told. An object that it cannot read is left out and told as a gap.
    pub fn snapshot(&mut self, scenario: &Scenario, lookup: Lookup<'_>) -> oracle::Snapshot {
        let mut snapshot = oracle::Snapshot {
            nodes: scenario.topology.members().map(|name| node(scenario, name, lookup)).collect(),
            pod_ranges: vec![scenario.cluster.pod_cidr.net()],
            service_ranges: vec![scenario.cluster.service_cidr.net()],
            ..oracle::Snapshot::default()
        };
        for ((kind, namespace, name), object) in self.in_force() {
            match serde_json::from_value::<oracle::Object>(object.clone()) {
                Ok(object) => snapshot.extend([object]),
                Err(error) => self.gaps.push(format!("{kind} {namespace}/{name} was left out: {error}")),
            }
        }
        for pod in &mut snapshot.pods {
            let name = pod.name.parse::<WorkloadName>().ok();
            let workload = name.as_ref().and_then(|name| self.workloads.get(name));
            let Some((name, workload)) = name.as_ref().zip(workload) else { continue };
            if *pod.namespace == *workload.namespace.as_str() {
                pod.ips
                    .extend(lookup(&LateFact::WorkloadIp(name.clone())).and_then(|text| text.parse::<IpAddr>().ok()));
                pod.listening = Some(listening(workload));
            }
        }
        for service in &mut snapshot.services {
            let fact = service.name.parse::<ServiceName>().ok().map(LateFact::ServiceClusterIp);
            let address = fact.and_then(|fact| lookup(&fact)).and_then(|text| text.parse::<IpAddr>().ok());
            if let oracle::Exposure::ClusterIps(addresses) = &mut service.exposure
                && addresses.is_empty()
            {
                addresses.extend(address);
            }
        }
        snapshot
    }
}

/// The cluster's DNS, which each cluster has before a scenario begins: at the tenth service address, as the clusters
/// that cknet sets up have it.
fn name_server(scenario: &Scenario) -> Vec<Value> {
    let (IpNet::V4(services), IpNet::V4(pods)) = (scenario.cluster.service_cidr.net(), scenario.cluster.pod_cidr.net())
    else {
        return Vec::new();
    };
    // Its pod's own address is nobody's business; it is one that no block of these few nodes reaches.
    let pod = Ipv4Addr::from(u32::from(pods.broadcast()).wrapping_sub(1)).to_string();
    let Some(node) = scenario.topology.members().next() else { return Vec::new() };
    let address = Ipv4Addr::from(u32::from(services.network()).wrapping_add(10)).to_string();
    let labels = json!({"k8s-app": "kube-dns"});
    let both = |port: &str| ["UDP", "TCP"].map(|protocol| json!({port: 53, "protocol": protocol}));
    let at = |name: &str| json!({"name": name, "namespace": "kube-system", "labels": labels});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": at("kube-dns"),
            "spec": {"selector": labels, "clusterIP": address, "clusterIPs": [address], "ports": both("port")},
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": at("coredns"),
            "spec": {"nodeName": node.as_str(), "containers": [{"name": "coredns", "ports": both("containerPort")}]},
            "status": {"podIP": pod, "podIPs": [{"ip": pod}]},
        }),
    ]
}

fn listening(workload: &Workload) -> BTreeSet<oracle::PortOf> {
    let port = |port: &crate::scenario::model::PortProto| oracle::PortOf {
        number: port.port.get(),
        protocol: protocol(port.protocol),
    };
    workload.listen.iter().map(port).collect()
}

fn node(scenario: &Scenario, name: &NodeName, lookup: Lookup<'_>) -> oracle::Node {
    let nics = scenario.topology.nodes.get(name).map(|node| node.nics.iter());
    let addresses = nics.into_iter().flatten().map(|(_, nic)| nic.address).collect();
    let tunnel = lookup(&LateFact::NodeTunnelAddress(name.clone())).and_then(|text| text.parse().ok());
    oracle::Node { name: name.to_string(), addresses, tunnel_addresses: tunnel.into_iter().collect() }
}

fn pod_key(name: &WorkloadName, workload: &Workload) -> Key {
    ("Pod".into(), workload.namespace.to_string(), name.to_string())
}

fn key(object: &Value) -> Option<Key> {
    let kind = object["kind"].as_str()?;
    let namespace = match kind {
        "Namespace" => "",
        _ => object["metadata"]["namespace"].as_str().unwrap_or("default"),
    };
    Some((kind.into(), namespace.into(), object["metadata"]["name"].as_str()?.into()))
}
