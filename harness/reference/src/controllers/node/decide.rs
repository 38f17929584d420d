//! What has to be written about nodes and the pods on them. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::taints::corrected;
use crate::controllers::pod_state::{condition, is_finished, node_of};
use crate::controllers::world::name_of;

/// Conditions that only the kubelet knows.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Marks a pod that is not ready for no other reason than that its node is lost.
const NODE_LOST: &str = "NodeNotReady";

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Lost { node: Arc<Node>, patch: Value },
    Taint { node: String, patch: Value },
    PodReadiness { pod: Arc<Pod>, patch: Value },
    Orphaned { pod: Arc<Pod>, node: String },
}

pub(super) fn decide(nodes: &[Arc<Node>], pods: &[Arc<Pod>], silent: &HashSet<String>, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for node in nodes {
        if silent.contains(name_of(node.as_ref())) && ready(node) != Some("Unknown") {
            // The taint follows when the watch shows the condition.
            actions.push(Action::Lost { node: node.clone(), patch: lost(node, now) });
        } else if let Some(taints) = corrected(node, now) {
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": taints},
            });
            actions.push(Action::Taint { node: node.name_any(), patch });
        }
    }
    let readiness: HashMap<&str, Option<&str>> =
        nodes.iter().map(|node| (name_of(node.as_ref()), ready(node))).collect();
    for pod in pods {
        let Some(name) = node_of(pod) else { continue };
        let Some(ready) = readiness.get(name) else {
            actions.push(Action::Orphaned { pod: pod.clone(), node: name.to_owned() });
            continue;
        };
        if let Some(patch) = ready.and_then(|ready| readiness_patch(pod, ready, now)) {
            actions.push(Action::PodReadiness { pod: pod.clone(), patch });
        }
    }
    actions
}

pub(super) fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

fn ready(node: &Node) -> Option<&str> {
    ready_condition(node).map(|ready| ready.status.as_str())
}

/// The node's conditions, with all that only its kubelet could know unknown.
fn lost(node: &Node, now: Timestamp) -> Value {
    let old = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions: Vec<NodeCondition> = old;
    for kind in KUBELET_CONDITIONS {
        let index = conditions.iter().position(|condition| condition.type_ == kind);
        let (reason, message) = match index {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let new = NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: match index {
                Some(index) => conditions[index].last_heartbeat_time.clone(),
                None => node.metadata.creation_timestamp.clone(),
            },
            last_transition_time: Some(Time(now)),
        };
        match index {
            Some(index) => conditions[index] = new,
            None => conditions.push(new),
        }
    }
    json!({
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "status": {"conditions": conditions},
    })
}

/// Pods of a lost node serve nobody; when it is back, those whose containers are ready serve again.
fn readiness_patch(pod: &Pod, node_ready: &str, now: Timestamp) -> Option<Value> {
    let current = condition(pod, "Ready")?;
    let is_up = condition(pod, "ContainersReady").is_some_and(|containers| containers.status == "True");
    let is_marked = current.status == "False" && current.reason.as_deref() == Some(NODE_LOST);
    let (status, reason) = match node_ready {
        "Unknown" if current.status == "True" && !is_finished(pod) => ("False", Some(NODE_LOST)),
        "True" if is_marked && is_up => ("True", None),
        _ => return None,
    };
    let conditions = pod.status.as_ref()?.conditions.as_ref()?.iter().map(|condition| {
        if condition.type_ != "Ready" {
            return condition.clone();
        }
        PodCondition {
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message: None,
            last_transition_time: Some(Time(now)),
            ..condition.clone()
        }
    });
    Some(json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": conditions.collect::<Vec<_>>()},
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn node(ready: &str) -> Arc<Node> {
        let taints = match ready {
            "True" => json!([]),
            _ => json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
        };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "n1", "resourceVersion": "5"}, "spec": {"taints": taints},
                "status": {"conditions": [
                    {"type": "NetworkUnavailable", "status": "False"},
                    {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-11-23T09:00:00Z"}]},
            }))
            .unwrap(),
        )
    }

    fn pod(node: &str, ready: Value) -> Arc<Pod> {
        let mut ready = ready;
        ready["type"] = json!("Ready");
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "p", "resourceVersion": "8"}, "spec": {"nodeName": node, "containers": []},
                "status": {"phase": "Running", "conditions": [ready, {"type": "ContainersReady", "status": "True"}]},
            }))
            .unwrap(),
        )
    }

    fn decided(nodes: &[Arc<Node>], pods: &[Arc<Pod>], silent: &[&str]) -> Vec<Action> {
        let silent = silent.iter().map(|&name| name.to_owned()).collect();
        decide(nodes, pods, &silent, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_silent_node_is_lost() {
        let actions = decided(&[node("True")], &[], &["n1"]);
        let [Action::Lost { patch, .. }] = &actions[..] else { panic!("{actions:?}") };
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        assert_eq!(conditions[0]["status"], "False", "the network is not the kubelet's to know");
        assert_eq!(conditions[1]["status"], "Unknown");
        assert_eq!(conditions[1]["reason"], "NodeStatusUnknown");
        assert_eq!(conditions[1]["message"], "Kubelet stopped posting node status.");
        assert_eq!(conditions[1]["lastHeartbeatTime"], "2026-11-23T09:00:00Z");
        assert_eq!(conditions[2]["reason"], "NodeStatusNeverUpdated");
        assert_eq!(patch["metadata"]["resourceVersion"], "5");
    }

    #[test]
    fn a_lost_node_is_not_lost_again_and_a_healthy_one_left_alone() {
        assert_eq!(decided(&[node("Unknown")], &[], &["n1"]), []);
        assert_eq!(decided(&[node("True")], &[pod("n1", json!({"status": "True"}))], &[]), []);
    }

    #[test]
    fn pods_of_a_lost_node_are_not_ready_until_it_is_back() {
        let actions = decided(&[node("Unknown")], &[pod("n1", json!({"status": "True"}))], &["n1"]);
        let [Action::PodReadiness { patch, .. }] = &actions[..] else { panic!("{actions:?}") };
        let marked = patch["status"]["conditions"][0].clone();
        assert_eq!(marked["status"], "False");
        let actions = decided(&[node("True")], &[pod("n1", marked)], &[]);
        let [Action::PodReadiness { patch, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(patch["status"]["conditions"][0]["status"], "True");
        let unready = pod("n1", json!({"status": "False", "reason": "ContainersNotReady"}));
        assert_eq!(decided(&[node("True")], &[unready], &[]), [], "not ours to judge");
    }

    #[test]
    fn a_pod_of_a_node_that_is_gone_goes() {
        let actions = decided(&[node("True")], &[pod("n2", json!({"status": "True"}))], &[]);
        assert!(matches!(&actions[..], [Action::Orphaned { node, .. }] if node == "n2"), "{actions:?}");
    }
}
