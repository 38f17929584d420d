//! The gate between "made" and "ready": every expected node is Ready, the CNI runs on each, and DNS answers.
//!
//! One Ready node is not enough and a Ready node is not a working network (facts about `k8s status`): the gate asks
//! for all three and says what was missing when it gives up.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::ClusterError;
use crate::distribution::ClusterSpec;
use crate::provider::Nodes;
use crate::scenario::Profile;

/// Longest wait for a cluster whose API server answers already.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often the cluster is looked at; each look is three short lists.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until the cluster is ready.
pub async fn await_ready(
    client: &Client,
    spec: &ClusterSpec,
    profile: &Profile,
    nodes: &Nodes,
) -> Result<(), ClusterError> {
    let started = Instant::now();
    loop {
        let missing = match missing(client, spec, profile).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) => format!("the API answered: {error}"),
        };
        if started.elapsed() >= DEADLINE {
            let last = format!("{missing}{}", ended_services(nodes).await);
            return Err(ClusterError::NotReady { deadline: DEADLINE, last });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The first thing that is not ready, or nothing.
async fn missing(client: &Client, spec: &ClusterSpec, profile: &Profile) -> Result<Option<String>, kube::Error> {
    let all = ListParams::default();
    let nodes = Api::<Node>::all(client.clone()).list(&all).await?;
    for member in &spec.members {
        match nodes.iter().find(|node| node.name_any() == member.name) {
            None => return Ok(Some(format!("node `{}` has not registered", member.name))),
            Some(node) => {
                if let Some(why) = not_ready(node) {
                    return Ok(Some(format!("node `{}` is not Ready: {why}", member.name)));
                }
            }
        }
    }
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), &profile.namespace);
    let wanted = i32::try_from(spec.members.len()).unwrap_or(i32::MAX);
    let agent = daemon_sets.get_opt(&profile.daemon_set).await?;
    let ready = agent.and_then(|set| set.status).map_or(0, |status| status.number_ready);
    if ready < wanted {
        return Ok(Some(format!("DaemonSet `{}` is ready on {ready} of {wanted} nodes", profile.daemon_set)));
    }
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let dns = deployments.get_opt("coredns").await?;
    let available = dns.and_then(|dns| dns.status?.available_replicas).unwrap_or(0);
    Ok((available < 1).then(|| "Deployment `coredns` has no available replica".to_string()))
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
