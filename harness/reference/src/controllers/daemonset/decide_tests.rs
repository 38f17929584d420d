//! Daemon sets on a few nodes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rstest::rstest;
use serde_json::json;

fn set(template: Value) -> DaemonSet {
    let mut value = json!({
        "metadata": {"name": "agent", "namespace": "kube-system", "uid": "s", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}}},
    });
    for (key, new) in template.as_object().unwrap() {
        value["spec"]["template"]["spec"][key] = new.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, taints: Value) -> Arc<Node> {
    let value = json!({"metadata": {"name": name, "labels": {"name": name}}, "spec": {"taints": taints}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn nodes(count: usize) -> Vec<Arc<Node>> {
    (1..=count).map(|index| node(&format!("n{index}"), json!([]))).collect()
}

fn decided(set: &DaemonSet, pods: &[Pod], nodes: &[Arc<Node>]) -> Vec<Action> {
    let owned: Vec<_> = pods.iter().collect();
    let mut actions = decide(set, &owned, nodes, true, Timestamp::now()).actions;
    actions.retain(|action| !matches!(action, Action::Status(_)));
    actions
}

/// The pods that `set` wants, bound to their nodes and serving.
fn running(set: &DaemonSet, nodes: &[Arc<Node>]) -> Vec<Pod> {
    let created = decided(set, &[], nodes).into_iter().map(|action| match action {
        Action::Create { mut pod, node } => {
            pod.metadata.name = Some(format!("agent-{node}"));
            pod.metadata.uid = pod.metadata.name.clone();
            pod.spec.as_mut().unwrap().node_name = Some(node);
            serve(&mut pod, true);
            *pod
        }
        other => panic!("{other:?}"),
    });
    created.collect()
}

fn serve(pod: &mut Pod, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    pod.status = serde_json::from_value(json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": ready}]}))
    .unwrap();
}

fn deleted(actions: &[Action]) -> Vec<String> {
    let names = actions.iter().map(|action| match action {
        Action::Delete { pod, .. } => pod.name_any(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

#[test]
fn one_pod_for_each_node_and_no_more() {
    let (set, nodes) = (set(json!({})), nodes(3));
    let pods = running(&set, &nodes);
    let on: Vec<_> = pods.iter().map(|pod| node_for(pod).unwrap()).collect();
    assert_eq!(on, ["n1", "n2", "n3"]);
    assert_eq!(decided(&set, &pods, &nodes), []);
}

#[test]
fn a_new_pod_is_pinned_and_tolerates_what_a_recorded_one_does() {
    let set = set(json!({"hostNetwork": true}));
    let Action::Create { pod, .. } = &decided(&set, &[], &nodes(1))[0] else { panic!() };
    assert_eq!(node_for(pod), Some("n1"));
    let keys: Vec<_> = pod
        .spec
        .as_ref()
        .unwrap()
        .tolerations
        .iter()
        .flatten()
        .map(|toleration| toleration.key.clone().unwrap().replace("node.kubernetes.io/", ""))
        .collect();
    assert_eq!(
        keys,
        [
            "not-ready",
            "unreachable",
            "disk-pressure",
            "memory-pressure",
            "pid-pressure",
            "unschedulable",
            "network-unavailable"
        ]
    );
    assert_eq!(pod.labels().len(), 3);
}

#[rstest]
#[case::other_label(json!({"nodeSelector": {"name": "n2"}}), json!([]), 0)]
#[case::its_label(json!({"nodeSelector": {"name": "n1"}}), json!([]), 1)]
#[case::taint(json!({}), json!([{"key": "k", "effect": "NoSchedule"}]), 0)]
#[case::tolerated(json!({"tolerations": [{"operator": "Exists"}]}), json!([{"key": "k", "effect": "NoSchedule"}]), 1)]
#[case::cordoned(json!({}), json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]), 1)]
fn which_nodes_get_one(#[case] template: Value, #[case] taints: Value, #[case] pods: usize) {
    assert_eq!(decided(&set(template), &[], &[node("n1", taints)]).len(), pods);
}

#[test]
fn a_pod_leaves_a_node_that_is_no_longer_selected() {
    let before = set(json!({}));
    let pods = running(&before, &nodes(2));
    let after = set(json!({"nodeSelector": {"name": "n1"}}));
    assert_eq!(deleted(&decided(&after, &pods, &nodes(2))), ["agent-n2"]);
}

#[test]
fn an_update_replaces_one_node_at_a_time() {
    let nodes = nodes(3);
    let pods = running(&set(json!({})), &nodes);
    let new = set(json!({"hostNetwork": true}));
    assert_eq!(deleted(&decided(&new, &pods, &nodes)), ["agent-n1"]);
    let mut pods = pods;
    pods[0].metadata.deletion_timestamp =
        pods[0].metadata.creation_timestamp.clone().or(serde_json::from_value(json!("2026-11-23T09:00:00Z")).unwrap());
    assert_eq!(decided(&new, &pods, &nodes), [], "one is on its way out already");
    pods.remove(0);
    assert!(matches!(&decided(&new, &pods, &nodes)[..], [Action::Create { node, .. }] if node == "n1"));
    let mut first = running(&new, &nodes).remove(0);
    serve(&mut first, false);
    pods.push(first);
    assert_eq!(decided(&new, &pods, &nodes), [], "the first new one does not serve yet");
    serve(pods.last_mut().unwrap(), true);
    assert_eq!(deleted(&decided(&new, &pods, &nodes)), ["agent-n2"]);
}

#[test]
fn old_pods_that_do_not_serve_go_at_once() {
    let nodes = nodes(3);
    let mut pods = running(&set(json!({})), &nodes);
    serve(&mut pods[1], false);
    serve(&mut pods[2], false);
    let actions = decided(&set(json!({"hostNetwork": true})), &pods, &nodes);
    assert_eq!(deleted(&actions), ["agent-n2", "agent-n3"]);
}

#[test]
fn a_surging_update_makes_the_new_one_first() {
    let nodes = nodes(2);
    let pods = running(&set(json!({})), &nodes);
    let mut new = set(json!({"hostNetwork": true}));
    new.spec.as_mut().unwrap().update_strategy = serde_json::from_value(json!({"rollingUpdate":
        {"maxSurge": 1, "maxUnavailable": 0}}))
    .unwrap();
    assert!(matches!(&decided(&new, &pods, &nodes)[..], [Action::Create { node, .. }] if node == "n1"));
    let mut pods = pods;
    let mut beside = running(&new, &nodes).remove(0);
    beside.metadata.name = Some("new-n1".to_owned());
    pods.push(beside);
    let actions = decided(&new, &pods, &nodes);
    assert!(
        matches!(&actions[..], [Action::Delete { pod, .. }, Action::Create { node, .. }]
        if pod.name_any() == "agent-n1" && node == "n2"),
        "{actions:?}"
    );
}

#[test]
fn on_delete_leaves_old_pods_alone() {
    let nodes = nodes(1);
    let pods = running(&set(json!({})), &nodes);
    let mut new = set(json!({"hostNetwork": true}));
    new.spec.as_mut().unwrap().update_strategy = serde_json::from_value(json!({"type": "OnDelete"})).unwrap();
    assert_eq!(decided(&new, &pods, &nodes), []);
}

#[test]
fn a_failed_pod_is_deleted_but_not_in_a_hurry() {
    let (set, nodes) = (set(json!({})), nodes(1));
    let mut pods = running(&set, &nodes);
    let made: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
    pods[0].metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
    pods[0].status.as_mut().unwrap().phase = Some("Failed".to_owned());
    let at = |now: Timestamp| decide(&set, &[&pods[0]], &nodes, true, now);
    assert_eq!(at(made).again, Some(Duration::from_secs(1)));
    let late = at(made + SignedDuration::from_secs(2)).actions;
    assert!(late.iter().any(|action| matches!(action, Action::Delete { failed_on: Some(_), .. })), "{late:?}");
}

#[test]
fn the_status_counts_nodes() {
    let nodes = nodes(3);
    let set = set(json!({}));
    let mut pods = running(&set, &nodes);
    serve(&mut pods[0], false);
    pods[1].metadata.labels.as_mut().unwrap().insert(REVISION_HASH.to_owned(), "old".to_owned());
    pods.pop();
    let owned: Vec<_> = pods.iter().collect();
    let actions = decide(&set, &owned, &nodes, false, Timestamp::now()).actions;
    assert_eq!(
        actions,
        [Action::Status(json!({"status": {
        "desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 1,
        "updatedNumberScheduled": 1, "numberAvailable": 1, "numberUnavailable": 2, "observedGeneration": 1}}))]
    );
}
