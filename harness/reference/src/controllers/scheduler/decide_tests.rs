//! Pods find their nodes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rstest::rstest;
use serde_json::{Value, json};

fn node(name: &str, spec: Value) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap(),
    )
}

fn nodes(count: usize) -> Vec<Arc<Node>> {
    (1..=count).map(|index| node(&format!("n{index}"), json!({}))).collect()
}

fn pod(name: &str, owner: &str, spec: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": owner},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]},
        "spec": {"containers": []},
    });
    for (key, new) in spec.as_object().unwrap() {
        value["spec"][key] = new.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn decided(pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Vec<(String, String)> {
    decide(pods, nodes, &HashMap::new())
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Bind { pod, node } => (pod.name_any(), node),
            Verdict::Unschedulable { pod, message } => (pod.name_any(), message),
        })
        .collect()
}

fn places(pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Vec<String> {
    decided(pods, nodes).into_iter().map(|(_, node)| node).collect()
}

#[test]
fn pods_of_one_owner_spread() {
    let pods: Vec<_> = (0..4).map(|index| pod(&format!("p{index}"), "web", json!({}))).collect();
    assert_eq!(places(&pods, &nodes(3)), ["n1", "n2", "n3", "n1"]);
}

#[test]
fn a_pod_goes_where_its_kin_is_not_and_then_where_least_is() {
    let busy = pod("busy", "web", json!({"nodeName": "n1"}));
    let other = pod("other", "db", json!({"nodeName": "n2"}));
    let more = pod("more", "db", json!({"nodeName": "n2"}));
    let pods = [busy, other, more, pod("new", "web", json!({}))];
    assert_eq!(places(&pods, &nodes(3)), ["n3"]);
    assert_eq!(places(&pods, &nodes(2)), ["n2"]);
}

#[test]
fn what_was_bound_a_moment_ago_counts() {
    let pods = [pod("a", "web", json!({})), pod("b", "web", json!({}))];
    let assumed = HashMap::from([("a".to_owned(), "n1".to_owned())]);
    let verdicts = decide(&pods, &nodes(2), &assumed);
    assert_eq!(verdicts, [Verdict::Bind { pod: pods[1].clone(), node: "n2".to_owned() }]);
}

#[rstest]
#[case::bound(json!({"nodeName": "n1"}))]
#[case::other_scheduler(json!({"schedulerName": "mine"}))]
#[case::gated(json!({"schedulingGates": [{"name": "wait"}]}))]
fn not_ours(#[case] spec: Value) {
    assert_eq!(decided(&[pod("p", "web", spec)], &nodes(1)), []);
}

#[test]
fn important_pods_first() {
    let pods = [pod("a", "web", json!({})), pod("b", "web", json!({"priority": 1000}))];
    assert_eq!(decided(&pods, &nodes(2)), [("b".into(), "n1".into()), ("a".into(), "n2".into())]);
}

#[rstest]
#[case::no_node(&[], "no nodes available to schedule pods")]
#[case::taints(
    &[json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}), json!({"unschedulable": true}),
      json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})],
    "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) had untolerated taint {k: v}. \
     preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)]
fn why_there_is_no_node(#[case] specs: &[Value], #[case] message: &str) {
    let nodes: Vec<_> = specs.iter().enumerate().map(|(i, spec)| node(&format!("n{i}"), spec.clone())).collect();
    assert_eq!(places(&[pod("p", "web", json!({}))], &nodes), [message]);
}

#[test]
fn a_node_that_is_not_ready_refuses_before_it_is_tainted() {
    let mut node = (*nodes(1)[0]).clone();
    node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    let message = &places(&[pod("p", "web", json!({}))], &[Arc::new(node)])[0];
    assert!(message.contains("1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }"), "{message}");
}

#[test]
fn host_ports_are_taken_once() {
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 9099, "hostPort": 9099}]}]});
    let pods = [pod("a", "web", spec.clone()), pod("b", "web", spec)];
    let placed = places(&pods, &nodes(1));
    assert_eq!(placed[0], "n1");
    assert!(placed[1].contains("1 node(s) didn't have free ports for the requested pod ports"), "{}", placed[1]);
    assert!(placed[1].ends_with("1 No preemption victims found for incoming pod."), "{}", placed[1]);
}

#[test]
fn pinned_pods_go_where_they_are_pinned() {
    let pinned = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}});
    assert_eq!(places(&[pod("p", "web", pinned)], &nodes(3)), ["n2"]);
    assert_eq!(
        places(&[pod("p", "web", json!({"nodeSelector": {"kubernetes.io/hostname": "n3"}}))], &nodes(3)),
        ["n3"]
    );
}

fn near(kind: &str, app: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}}})
}

#[test]
fn pods_that_must_be_apart_are() {
    let pods: Vec<_> = (0..3).map(|i| pod(&format!("p{i}"), "web", near("podAntiAffinity", "web"))).collect();
    let placed = places(&pods, &nodes(2));
    assert_eq!(placed[..2], ["n1", "n2"]);
    assert!(placed[2].contains("2 node(s) didn't match pod anti-affinity rules"), "{}", placed[2]);
    let shy = pod("shy", "db", near("podAntiAffinity", "web")).as_ref().clone();
    let mut shy = shy;
    shy.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
    assert_eq!(places(&[Arc::new(shy), pod("p", "web", json!({}))], &nodes(2)), ["n2"], "kept off by a resident");
}

#[test]
fn pods_that_must_be_together_are() {
    let db = pod("db", "db", json!({"nodeName": "n2"}));
    assert_eq!(places(&[db, pod("p", "web", near("podAffinity", "db"))], &nodes(3)), ["n2"]);
    assert_eq!(places(&[pod("p", "web", near("podAffinity", "web"))], &nodes(3)), ["n1"], "the first of its kind");
    let alone = &places(&[pod("p", "web", near("podAffinity", "db"))], &nodes(1))[0];
    assert!(alone.contains("didn't match pod affinity rules"), "{alone}");
}

#[test]
fn a_required_spread_is_kept() {
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let here = pod("a", "web", json!({"nodeName": "n1"}));
    assert_eq!(places(&[here.clone(), pod("b", "web", spread.clone())], &nodes(2)), ["n2"]);
    let cordoned = [node("n1", json!({})), node("n2", json!({"unschedulable": true}))];
    let message = &places(&[here, pod("b", "web", spread)], &cordoned)[0];
    assert!(message.contains("1 node(s) didn't match pod topology spread constraints"), "{message}");
}
