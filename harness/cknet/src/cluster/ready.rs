//! The gate between "made" and "ready": every expected node is Ready, the CNI runs on each with what it needs beside
//! that, and DNS answers.
//!
//! One Ready node is not enough and a Ready node is not a working network (facts about `k8s status`): the gate asks
//! for all of it and says what was missing when it gives up.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use super::ClusterError;
use crate::distribution::{Bootstrapped, ClusterSpec, Flavour};
use crate::provider::Nodes;
use crate::scenario::Profile;

/// Waits until the cluster is ready.
pub async fn await_ready(
    client: &Client,
    spec: &ClusterSpec,
    profile: &Profile,
    nodes: &Nodes,
    bootstrapped: &Bootstrapped,
) -> Result<(), ClusterError> {
    let (gate, mut changes) = Gate::watch(client, profile, spec.flavour, bootstrapped.dns);
    let deadline = bootstrapped.ready_within;
    let mut last = String::from("the API has not answered");
    let opened = async {
        while let Some(change) = changes.next().await {
            last = match change {
                Ok(()) => match gate.missing(spec, nodes) {
                    None => return true,
                    Some(missing) => missing,
                },
                Err(error) => format!("the API answered: {error}"),
            };
        }
        false
    };
    match tokio::time::timeout(deadline, opened).await {
        Ok(true) => Ok(()),
        _ => {
            let last = format!("{last}{}", ended_services(nodes).await);
            Err(ClusterError::NotReady { deadline, last })
        }
    }
}

/// What the gate looks at, kept up to date by watches.
struct Gate {
    nodes: Store<Node>,
    agents: Store<DaemonSet>,
    dns: Store<Deployment>,
    /// Those of the CNI's namespace.
    deployments: Store<Deployment>,
    /// The DaemonSet that has to be ready on each node, if there is one.
    agent_name: Option<String>,
    /// What the CNI has beside it.
    deployment_names: Vec<String>,
    dns_name: &'static str,
}

/// One item for each change of anything that the gate looks at.
type Changes = BoxStream<'static, Result<(), watcher::Error>>;

impl Gate {
    fn watch(client: &Client, profile: &Profile, flavour: Flavour, dns_name: &'static str) -> (Self, Changes) {
        let flavour_has_agents = flavour != Flavour::Kubeadm;
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let agents = Api::namespaced(client.clone(), &profile.namespace);
        let deployments = Api::namespaced(client.clone(), "kube-system");
        let (nodes, node_changes) = kept(Api::all(client.clone()), watcher::Config::default());
        let (agents, agent_changes) = kept(agents, named(profile.daemon_set.as_deref().unwrap_or_default()));
        let (dns, dns_changes) = kept(deployments, named(dns_name));
        let agent_name = profile.daemon_set.clone().filter(|_| flavour_has_agents);
        let deployment_names = profile.deployments.clone();
        let mut changes = vec![node_changes, agent_changes, dns_changes];
        let deployments = if deployment_names.is_empty() {
            store().0
        } else {
            let all = Api::namespaced(client.clone(), &profile.namespace);
            let (deployments, deployment_changes) = kept(all, watcher::Config::default());
            changes.push(deployment_changes);
            deployments
        };
        let gate = Self { nodes, agents, dns, deployments, agent_name, deployment_names, dns_name };
        (gate, select_all(changes).boxed())
    }

    /// The first thing that is not ready, or nothing.
    fn missing(&self, spec: &ClusterSpec, machines: &Nodes) -> Option<String> {
        let nodes = self.nodes.state();
        for member in &spec.members {
            match nodes.iter().find(|node| node.name_any() == machines.registered(&member.name)) {
                None => return Some(format!("node `{}` has not registered", member.name)),
                // Without a CNI nodes register and stay NotReady, and cluster DNS stays pending: that is all there is.
                Some(_) if spec.flavour == Flavour::Kubeadm => {}
                Some(node) => {
                    if let Some(why) = not_ready(node) {
                        return Some(format!("node `{}` is not Ready: {why}", member.name));
                    }
                }
            }
        }
        if spec.flavour == Flavour::Kubeadm {
            return None;
        }
        if let Some(name) = &self.agent_name {
            let wanted = i32::try_from(spec.members.len()).unwrap_or(i32::MAX);
            let agents = self.agents.state();
            let ready = agents.first().and_then(|set| set.status.as_ref()).map_or(0, |status| status.number_ready);
            if ready < wanted {
                return Some(format!("DaemonSet `{name}` is ready on {ready} of {wanted} nodes"));
            }
        }
        let deployments = self.deployments.state();
        let beside = self.deployment_names.iter().find_map(|name| unavailable(&deployments, name));
        beside.or_else(|| unavailable(&self.dns.state(), self.dns_name))
    }
}

/// Why a Deployment is of no use, or nothing when somebody answers for it.
fn unavailable(all: &[Arc<Deployment>], name: &str) -> Option<String> {
    let found = all.iter().find(|deployment| deployment.name_any() == name);
    let available = found.and_then(|deployment| deployment.status.as_ref()?.available_replicas).unwrap_or(0);
    (available < 1).then(|| format!("Deployment `{name}` has no available replica"))
}

/// A store of what a watch says, and the watch's changes; the store learns while these are polled.
fn kept<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, Changes)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: serde::de::DeserializeOwned,
{
    let (reader, writer) = store();
    let changes = watcher(api, config).default_backoff().reflect(writer).map(|event| event.map(|_| ()));
    (reader, changes.boxed())
}

/// Why the node is not Ready, or nothing when it is.
pub fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    match ready {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(condition.message.clone().unwrap_or_else(|| condition.status.clone())),
        None => Some("it has not said so".into()),
    }
}

/// Names the services of the distribution that are dead, with the end of their logs.
async fn ended_services(nodes: &Nodes) -> String {
    let mut text = String::new();
    for (name, node) in &nodes.by_name {
        for service in ["control-plane", "node"] {
            let Some(exit) = node.ended(service).await else { continue };
            let log = node.take(&format!("/run/cknet/log/{service}.log")).await.unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let end = log.trim().lines().next_back().unwrap_or("no log").to_string();
            text.push_str(&format!("; on `{name}` the service `{service}` ended with {exit}: {end}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{from_value, json};

    use super::*;

    /// Tigera's operator makes both after the agents, and no node becomes Ready later for it.
    #[test]
    fn a_deployment_is_there_when_one_of_it_is_available() {
        let named = |name: &str, available: i32| {
            let object = json!({"metadata": {"name": name}, "status": {"availableReplicas": available}});
            Arc::new(from_value::<Deployment>(object).unwrap())
        };
        let profile = Profile::embedded("calico").unwrap().unwrap();
        let missing = |all: &[Arc<Deployment>]| profile.deployments.iter().find_map(|name| unavailable(all, name));
        let says = |name: &str| Some(format!("Deployment `{name}` has no available replica"));
        assert_eq!(missing(&[]), says("calico-typha"));
        assert_eq!(missing(&[named("calico-typha", 1), named("another", 1)]), says("calico-kube-controllers"));
        assert_eq!(missing(&[named("calico-typha", 0), named("calico-kube-controllers", 1)]), says("calico-typha"));
        assert_eq!(missing(&[named("calico-typha", 2), named("calico-kube-controllers", 1)]), None);
    }
}
