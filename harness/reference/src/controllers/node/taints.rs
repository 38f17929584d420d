//! The taints that follow from what a node says about itself. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const PREFIX: &str = "node.kubernetes.io/";

/// A condition in a state, the taint that it means, and whether pods may not even stay.
const MEANING: [(&str, &str, &str, bool); 6] = [
    ("Ready", "False", "not-ready", true),
    ("Ready", "Unknown", "unreachable", true),
    ("NetworkUnavailable", "True", "network-unavailable", false),
    ("MemoryPressure", "True", "memory-pressure", false),
    ("DiskPressure", "True", "disk-pressure", false),
    ("PIDPressure", "True", "pid-pressure", false),
];
const CORDONED: &str = "unschedulable";

/// The taints that `node` is to have because of its conditions; those that somebody gave it are not among them.
pub(in crate::controllers) fn condition_taints(node: &Node) -> Vec<Taint> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let state = |kind: &str| {
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        // A node that has not said yet that it is ready is not.
        found.map_or(if kind == "Ready" { "False" } else { "" }, |condition| condition.status.as_str())
    };
    let mut taints = Vec::new();
    for (kind, status, key, evicting) in MEANING {
        if state(kind) == status {
            taints.push(taint(key, "NoSchedule"));
            if evicting {
                taints.push(taint(key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        taints.push(taint(CORDONED, "NoSchedule"));
    }
    taints
}

fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: format!("{PREFIX}{key}"), effect: effect.to_owned(), ..Default::default() }
}

fn follows_conditions(taint: &Taint) -> bool {
    let key = taint.key.strip_prefix(PREFIX);
    key.is_some_and(|key| key == CORDONED || MEANING.iter().any(|(.., meant, _)| *meant == key))
}

/// All taints that `node` is to have, if they differ from those it has.
pub(super) fn corrected(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut wanted = condition_taints(node);
    let is_same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    let is_missing = |taint: &Taint| !current.iter().any(|other| is_same(other, taint));
    let is_stale = |taint: &&Taint| follows_conditions(taint) && !wanted.iter().any(|other| is_same(other, taint));
    if !wanted.iter().any(is_missing) && !current.iter().any(|taint| is_stale(&taint)) {
        return None;
    }
    let mut all: Vec<Taint> = current.iter().filter(|taint| !is_stale(taint)).cloned().collect();
    wanted.retain(is_missing);
    all.extend(wanted.into_iter().map(|taint| Taint { time_added: Some(Time(now)), ..taint }));
    Some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn node(ready: &str, taints: Value) -> Node {
        serde_json::from_value(json!({"spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    #[rstest]
    #[case("True", json!([]), None)]
    #[case("False", json!([]), Some(vec!["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"]))]
    #[case("Unknown", json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, {"key": "mine", "effect": "NoSchedule"}]),
        Some(vec!["mine:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]))]
    #[case("True", json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]), Some(vec![]))]
    #[case("True", json!([{"key": "mine", "effect": "NoSchedule"}]), None)]
    fn taints_follow(#[case] ready: &str, #[case] taints: Value, #[case] expected: Option<Vec<&str>>) {
        let corrected = corrected(&node(ready, taints), Timestamp::UNIX_EPOCH);
        let found = corrected.map(|taints| keys(&taints));
        assert_eq!(found, expected.map(|keys| keys.into_iter().map(str::to_owned).collect()));
    }

    #[test]
    fn a_cordoned_node_is_tainted() {
        let mut node = node("True", json!([]));
        node.spec.as_mut().unwrap().unschedulable = Some(true);
        assert_eq!(keys(&condition_taints(&node)), ["node.kubernetes.io/unschedulable:NoSchedule"]);
    }
}
