//! Which pods a replica set gives up first when it has too many. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::controllers::pod_state::{condition, is_ready, node_of, phase};

/// The `count` pods that are missed least: first those without a node, then pending ones, then those that are not
/// ready, then those on a node with many of their kind, then the youngest.
pub(super) fn victims<'p>(pods: &[&'p Pod], count: usize) -> Vec<&'p Pod> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for node in pods.iter().filter_map(|pod| node_of(pod)) {
        *per_node.entry(node).or_default() += 1;
    }
    let mut ranked = pods.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let neighbours = node_of(pod).and_then(|node| per_node.get(node)).copied().unwrap_or(0);
        let ready_since = condition(pod, "Ready").and_then(|ready| ready.last_transition_time.clone());
        (
            node_of(pod).is_some(),
            match phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            is_ready(pod),
            Reverse(neighbours),
            Reverse(ready_since),
            Reverse(pod.creation_timestamp()),
            pod.name_any(),
        )
    });
    ranked.truncate(count);
    ranked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: Option<&str>, phase: &str, ready: &str, since: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": since},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": since}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_least_missed_go_first() {
        let (early, late) = ("2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z");
        let pods = [
            pod("old", Some("n1"), "Running", "True", early),
            pod("young", Some("n1"), "Running", "True", late),
            pod("alone", Some("n4"), "Running", "True", late),
            pod("unready", Some("n2"), "Running", "False", early),
            pod("pending", Some("n3"), "Pending", "False", early),
            pod("unbound", None, "Pending", "False", early),
        ];
        let all: Vec<_> = pods.iter().collect();
        let order: Vec<_> = victims(&all, 6).iter().map(|pod| pod.name_any()).collect();
        assert_eq!(order, ["unbound", "pending", "unready", "young", "old", "alone"]);
    }
}
