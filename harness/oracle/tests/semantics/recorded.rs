//! What a real cluster did: Kubernetes 1.33.13, Calico v3.31.2, VXLAN, two nodes. Each line is one
//! observation; the oracle must have expected it.

use cknet_oracle::{NetworkPolicy, Object, Oracle, Profile, Snapshot};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::flow;

/// The objects of that cluster, in the shape in which `kubectl get -o json` gives them.
fn cluster(policies: &[&str]) -> Snapshot {
    let node = |name: &str, address: &str, tunnel: &str| {
        json!({"kind": "Node", "metadata": {"name": name,
                "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": tunnel}},
            "status": {"addresses": [{"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name}]}})
    };
    let pod = |name: &str, app: &str, node: &str, address: &str| {
        json!({"kind": "Pod", "metadata": {"namespace": "production", "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "c",
                "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    let listening = json!({"namespace": "production"});
    let mut items = vec![
        json!({"kind": "Namespace", "metadata": {"name": "production"}}),
        json!({"kind": "ConfigMap", "metadata": listening}),
        node("n1", "10.250.0.11", "10.251.40.128"),
        node("n2", "10.250.0.12", "10.251.217.0"),
        pod("frontend", "frontend", "n1", "10.251.40.131"),
        pod("other", "other", "n2", "10.251.217.3"),
        pod("near", "backend", "n1", "10.251.40.130"),
        pod("far", "backend", "n2", "10.251.217.2"),
        json!({"kind": "Service", "metadata": {"namespace": "production", "name": "backend"},
            "spec": {"clusterIP": "10.252.56.122", "clusterIPs": ["10.252.56.122"], "type": "ClusterIP",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}],
                "selector": {"app": "backend"}}}),
        json!({"kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "production", "name": "backend-7cdgc",
                "labels": {"kubernetes.io/service-name": "backend"}},
            "endpoints": [
                {"addresses": ["10.251.217.2"], "conditions": {"ready": true}, "nodeName": "n2"},
                {"addresses": ["10.251.40.130"], "conditions": {"ready": true}, "nodeName": "n1"}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
    ];
    items.extend(policies.iter().map(|name| policy(name)));
    items.into_iter().map(|item| serde_json::from_value::<Object>(item).unwrap()).collect()
}

fn policy(name: &str) -> Value {
    let spec = match name {
        "deny-all-ingress" => json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        _ => json!({"podSelector": {"matchLabels": {"app": "backend"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "frontend"}}}],
                "ports": [{"protocol": "TCP", "port": 8080}]}]}),
    };
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "production", "name": name}, "spec": spec})
}

const NONE: &[&str] = &[];
const DENY: &[&str] = &["deny-all-ingress"];
const BOTH: &[&str] = &["deny-all-ingress", "allow-from-frontend"];

#[rstest]
#[case::no_policy_same_node(NONE, "production/frontend -> production/near 8080/TCP", "allowed")]
#[case::no_policy_other_node(NONE, "production/frontend -> production/far 8080/TCP", "allowed")]
#[case::no_policy_cluster_ip(NONE, "production/frontend -> 10.252.56.122 80/TCP", "allowed")]
#[case::deny_same_node(DENY, "production/frontend -> production/near 8080/TCP", "denied")]
#[case::deny_other_node(DENY, "production/frontend -> production/far 8080/TCP", "denied")]
#[case::deny_closed_port(DENY, "production/frontend -> production/far 8081/TCP", "denied")]
#[case::deny_cluster_ip(DENY, "production/frontend -> svc:production/backend 80/TCP", "denied")]
#[case::deny_udp(DENY, "production/frontend -> production/far 8080/UDP", "denied")]
#[case::deny_own_node(DENY, "n1 -> production/near 8080/TCP", "allowed")]
#[case::deny_other_nodes(DENY, "n1 -> production/far 8080/TCP", "denied")]
#[case::deny_ping(DENY, "production/frontend -> production/far ICMP", "denied")]
#[case::deny_its_own_address(DENY, "production/near -> production/near 8080/TCP", "allowed")]
#[case::deny_itself_through_its_service(DENY, "production/near -> svc:production/backend 80/TCP", "denied")]
#[case::allow_frontend(BOTH, "production/frontend -> production/far 8080/TCP", "allowed")]
#[case::allow_other_near(BOTH, "production/other -> production/near 8080/TCP", "denied")]
#[case::allow_other_far(BOTH, "production/other -> production/far 8080/TCP", "denied")]
#[case::allow_frontend_cluster_ip(BOTH, "production/frontend -> svc:production/backend 80/TCP", "allowed")]
fn observed(#[case] policies: &[&str], #[case] asked: &str, #[case] seen: &str) {
    let oracle = Oracle::new(&cluster(policies), Profile::calico());
    let prediction = oracle.predict(&flow(asked)).unwrap();
    assert_eq!(prediction.expected.to_string(), seen, "{prediction}");
}

/// The API server wrote `policyTypes: [Ingress, Egress]` and `protocol: TCP` into this one.
#[test]
fn defaults_are_read_as_the_api_server_writes_them() {
    let metadata = json!({"name": "x", "namespace": "production"});
    let written = json!({"metadata": metadata,
        "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}});
    let stored = json!({"metadata": metadata,
        "spec": {"podSelector": {}, "egress": [{"ports": [{"protocol": "TCP", "port": 53}]}],
            "policyTypes": ["Ingress", "Egress"]}});
    let read = |json| serde_json::from_value::<NetworkPolicy>(json).unwrap();
    let (written, stored) = (read(written), read(stored));
    assert_eq!((&written.pods, &written.egress), (&stored.pods, &stored.egress));
    for direction in cknet_oracle::Direction::BOTH {
        assert_eq!(written.isolates(direction), stored.isolates(direction));
    }
}
