//! How predictions read.

use cknet_oracle::NetworkPolicy;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, policy};

fn shop() -> World {
    let pod = |name: &str, app: &str, ip: &str, node: &str| {
        json!({
            "metadata": {"namespace": "production", "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node,
                "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"podIP": ip},
        })
    };
    let mut world = World::new();
    world.snapshot.pods.extend(
        [
            pod("backend-1", "backend", "10.1.9.1", "n1"),
            pod("backend-2", "backend", "10.1.9.2", "n2"),
            pod("frontend", "frontend", "10.1.9.3", "n1"),
            pod("other", "other", "10.1.9.4", "n2"),
        ]
        .map(|pod| serde_json::from_value(pod).unwrap()),
    );
    world.service(
        "production/backend",
        json!({"clusterIP": "10.96.0.9", "selector": {"app": "backend"},
            "ports": [{"port": 80, "targetPort": "http"}]}),
    )
}

fn in_production(name: &str, spec: Value) -> NetworkPolicy {
    policy("production", name, spec)
}

fn allow_from_frontend() -> NetworkPolicy {
    in_production(
        "allow-from-frontend",
        json!({"podSelector": {"matchLabels": {"app": "backend"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "frontend"}}}],
                "ports": [{"port": 8080}]}]}),
    )
}

fn documented() -> Vec<NetworkPolicy> {
    vec![in_production("deny-all-ingress", json!({})), allow_from_frontend()]
}

#[rstest]
#[case::not_isolated(vec![], "production/frontend -> production/backend-1 8080/TCP",
    "allowed: `production/frontend` is not isolated for egress; \
     `production/backend-1` is not isolated for ingress")]
#[case::wrong_peer(
    documented(),
    "production/other -> production/backend-1 8080/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `allow-from-frontend`, \
     `deny-all-ingress`; `allow-from-frontend` ingress[0] allows app=frontend on 8080/TCP, but the \
     source is `production/other` (app=other)"
)]
#[case::wrong_port(
    documented(),
    "production/frontend -> production/backend-1 9090/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `allow-from-frontend`, \
     `deny-all-ingress`; `allow-from-frontend` ingress[0] allows app=frontend on 8080/TCP, but the \
     flow goes to 9090/TCP"
)]
#[case::wrong_peer_and_port(
    documented(),
    "production/other -> production/backend-1 8080/UDP",
    "denied at destination `production/backend-1`: isolated for ingress by `allow-from-frontend`, \
     `deny-all-ingress`; `allow-from-frontend` ingress[0] allows app=frontend on 8080/TCP, but the \
     source is `production/other` (app=other), and the flow goes to 8080/UDP"
)]
#[case::allowed_by_a_rule(
    documented(),
    "production/frontend -> production/backend-1 8080/TCP",
    "allowed: `production/frontend` is not isolated for egress; `production/backend-1` is isolated \
     for ingress, and `allow-from-frontend` ingress[0] allows app=frontend on 8080/TCP"
)]
#[case::through_a_service(
    documented(),
    "production/frontend -> svc:production/backend 80/TCP",
    "allowed through service `production/backend` to each of 2 backends, such as \
     `production/backend-1` 8080/TCP: `production/frontend` is not isolated for egress; \
     `production/backend-1` is isolated for ingress, and `allow-from-frontend` ingress[0] allows \
     app=frontend on 8080/TCP"
)]
#[case::nothing_allowed(vec![in_production("deny-all-ingress", json!({}))],
    "n2 -> production/backend-1 8080/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `deny-all-ingress`, \
     which allows nothing")]
#[case::both_ends(vec![in_production("deny-all", json!({"policyTypes": ["Ingress", "Egress"]}))],
    "production/other -> production/backend-1 8080/TCP",
    "denied at source `production/other`: isolated for egress by `deny-all`, which allows nothing; \
     and at destination `production/backend-1`: isolated for ingress by `deny-all`, which allows \
     nothing")]
#[case::another_namespace(vec![in_production("same-namespace", json!({"ingress": [{"from": [{"podSelector": {}}]}]}))],
    "x/a -> production/backend-1 8080/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `same-namespace`; \
     `same-namespace` ingress[0] allows all pods of its namespace on every port, but the source is \
     `x/a` (pod=a) of another namespace")]
#[case::namespace_labels(vec![in_production("team", json!({"ingress": [{"from": [
        {"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]}))],
    "x/a -> production/backend-1 8080/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `team`; `team` \
     ingress[0] allows all pods in namespaces ns=y on every port, but the source is `x/a` (pod=a; \
     its namespace ns=x)")]
#[case::port_name(vec![in_production("by-name", json!({"ingress": [{"ports": [{"port": "http"}]}]}))],
    "x/a -> production/backend-1 80/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `by-name`; `by-name` \
     ingress[0] allows anything on `http`/TCP, but the flow goes to 80/TCP, and `http` is 8080 on \
     `production/backend-1`")]
#[case::unserved_port_name(vec![in_production("by-name", json!({"ingress": [{"ports": [{"port": "web"}]}]}))],
    "x/a -> production/backend-1 80/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `by-name`; `by-name` \
     ingress[0] allows anything on `web`/TCP, but the flow goes to 80/TCP, and \
     `production/backend-1` has no `web`/TCP")]
#[case::outside(vec![in_production("lan", json!({"ingress": [{"from": [
        {"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.7/32"]}}]}]}))],
    "203.0.113.9 -> production/backend-1 8080/TCP",
    "denied at destination `production/backend-1`: isolated for ingress by `lan`; `lan` ingress[0] \
     allows 198.51.100.0/24 except 198.51.100.7/32 on every port, but the source is `203.0.113.9` \
     outside the cluster")]
#[case::own_node(
    documented(),
    "n1 -> production/backend-1 8080/TCP",
    "allowed: no policy applies to node `n1` (192.168.60.11); `production/backend-1` is always open \
     to its own node"
)]
#[case::itself(
    documented(),
    "production/backend-1 -> production/backend-1 9090/TCP",
    "allowed: `production/backend-1` always reaches itself; `production/backend-1` always reaches \
     itself"
)]
#[case::undefined(vec![in_production("deny-all-ingress", json!({}))],
    "production/other -> production/backend-1 ICMP",
    "undefined, Kubernetes leaves open what isolation means for ICMP (denied if ICMP passes where a \
     rule without ports lets the peer pass; allowed if ICMP passes whatever the policies say; denied \
     if ICMP never passes at an isolated pod), expected of Calico: denied at destination \
     `production/backend-1`: isolated for ingress by `deny-all-ingress`, which allows nothing")]
#[case::varies(vec![in_production("one", json!({"podSelector": {"matchLabels": {"app": "backend"}},
        "ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]}))],
    "n1 -> svc:production/backend 80/TCP",
    "it varies with the backend: `production/backend-1` 8080/TCP allowed: no policy applies to node \
     `n1` (192.168.60.11); `production/backend-1` is always open to its own node; \
     `production/backend-2` 8080/TCP denied at destination `production/backend-2`: isolated for \
     ingress by `one`; `one` ingress[0] allows 203.0.113.0/24 on every port, but the source is node \
     `n1` (10.1.100.1)")]
#[case::no_port(vec![], "x/a -> svc:production/backend 81/TCP",
    "no answer: service `production/backend` has no port 81/TCP")]
fn sentence(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    let mut world = shop();
    world.snapshot.policies = policies;
    assert_eq!(world.predict(flow).to_string(), expected);
}

#[test]
fn an_unknown_end_is_told() {
    let world = World::new();
    let oracle = cknet_oracle::Oracle::new(&world.snapshot, world.profile);
    let ask = |flow: &str| oracle.predict(&crate::world::flow(flow)).unwrap_err().to_string();
    assert_eq!(ask("x/nobody -> x/a 80/TCP"), "no pod `x/nobody` runs in this snapshot");
    assert_eq!(ask("x/a -> svc:x/none 80/TCP"), "no service `x/none` is in this snapshot");
    assert_eq!(ask("n9 -> x/a 80/TCP"), "no node `n9` is in this snapshot");
}
