//! What compiled services do to packets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use cknet_kernel::nft::Protocol;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::node::policy::evaluate::{Outcome, Packet, evaluate};

const CLUSTER: &str = "10.152.183.10";
const NODE: &str = "172.16.0.1";
const POD: &str = "10.1.0.9";
const OUTSIDE: &str = "192.0.2.9";
const MASQUERADE: u32 = 0x4000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One service `prod/web` (80 -> 8080, node port 30080) with the given extra spec, and its endpoints.
fn ruleset(extra: Value, endpoints: Value) -> Ruleset {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": CLUSTER, "clusterIPs": [CLUSTER],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
                  {"name": "dns", "port": 53, "protocol": "UDP"}],
    });
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let service = json!({"metadata": {"namespace": "prod", "name": "web"}, "spec": spec});
    let slice = json!({
        "metadata": {"namespace": "prod", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    let (service, slice) = (serde_json::from_value(service).unwrap(), serde_json::from_value(slice).unwrap());
    compile(&service_ports([&service], [&slice]), &node())
}

fn node() -> NodeView {
    NodeView {
        name: "n1".into(),
        node_port_ips: vec![ip(NODE)],
        pod_cidr: Some("10.1.0.0/16".parse().unwrap()),
        v4: true,
    }
}

fn two() -> Value {
    json!([{"addresses": ["10.1.0.1"], "nodeName": "n1", "conditions": {"ready": true}},
           {"addresses": ["10.1.1.1"], "nodeName": "n2"}])
}

fn packet(from: &str, to: &str, port: u16) -> Packet {
    Packet { local: vec![ip(NODE)], ..Packet::new(ip(from), ip(to), Protocol::TCP, port) }
}

/// The endpoints that draws lead to, and whether traffic is masqueraded (the same for every draw).
fn drawn(ruleset: &Ruleset, from: &str, to: &str, port: u16) -> (BTreeSet<String>, bool) {
    let (mut endpoints, mut marks) = (BTreeSet::new(), BTreeSet::new());
    for random in 0..12 {
        let mut packet = Packet { random, ..packet(from, to, port) };
        if let Outcome::Translated(ip, Some(port)) = evaluate(ruleset.table(), "nat-prerouting", &mut packet) {
            endpoints.insert(format!("{ip}:{port}"));
        }
        marks.insert(packet.mark & MASQUERADE != 0);
    }
    assert_eq!(marks.len(), 1, "{marks:?}");
    (endpoints, marks.contains(&true))
}

fn checked(ruleset: &Ruleset, to: &str, port: u16) -> Outcome {
    evaluate(ruleset.table(), "filter-forward", &mut packet(POD, to, port))
}

fn set(endpoints: &[&str]) -> BTreeSet<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

#[rstest]
#[case::from_a_pod(POD, CLUSTER, 80, &["10.1.0.1:8080", "10.1.1.1:8080"], false)]
#[case::from_a_node(NODE, CLUSTER, 80, &["10.1.0.1:8080", "10.1.1.1:8080"], true)]
#[case::from_outside(OUTSIDE, CLUSTER, 80, &["10.1.0.1:8080", "10.1.1.1:8080"], true)]
#[case::another_port(POD, CLUSTER, 81, &[], false)]
#[case::node_port(OUTSIDE, NODE, 30080, &["10.1.0.1:8080", "10.1.1.1:8080"], true)]
#[case::node_port_elsewhere(OUTSIDE, "172.16.0.77", 30080, &[], false)]
#[case::service_port_on_the_node(OUTSIDE, NODE, 80, &[], false)]
fn translation(
    #[case] from: &str,
    #[case] to: &str,
    #[case] port: u16,
    #[case] endpoints: &[&str],
    #[case] masquerade: bool,
) {
    assert_eq!(drawn(&ruleset(json!({}), two()), from, to, port), (set(endpoints), masquerade));
}

#[test]
fn an_endpoint_that_is_drawn_for_itself_is_masqueraded() {
    let ruleset = ruleset(json!({}), two());
    let mark = |random| {
        let mut packet = Packet { random, ..packet("10.1.0.1", CLUSTER, 80) };
        evaluate(ruleset.table(), "nat-prerouting", &mut packet);
        packet.mark
    };
    assert_eq!((mark(0), mark(1)), (MASQUERADE, 0));
    let leaving = |mark| {
        let mut packet = Packet { mark, ..packet(POD, "10.1.0.1", 8080) };
        (evaluate(ruleset.table(), "nat-postrouting", &mut packet), packet.mark)
    };
    assert_eq!(leaving(MASQUERADE | 1), (Outcome::Masqueraded, 1));
    assert_eq!(leaving(1), (Outcome::Accepted, 1));
}

#[test]
fn nobody_there_is_refused() {
    let empty = ruleset(json!({}), json!([]));
    assert_eq!(checked(&empty, CLUSTER, 80), Outcome::Rejected);
    assert_eq!(checked(&empty, NODE, 30080), Outcome::Rejected);
    assert_eq!(checked(&empty, CLUSTER, 81), Outcome::Accepted);
    assert_eq!(drawn(&empty, POD, CLUSTER, 80).0, set(&[]));
    let some = ruleset(json!({}), two());
    assert_eq!(checked(&some, CLUSTER, 80), Outcome::Accepted);
}

#[test]
fn only_ready_endpoints_and_leaving_ones_where_none_is_ready() {
    let endpoint = |ip: &str, ready: bool, serving: bool, terminating: bool| {
        json!({"addresses": [ip], "nodeName": "n1",
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
    };
    let unready = endpoint("10.1.0.2", false, false, false);
    let leaving = endpoint("10.1.0.3", false, true, true);
    let ready = endpoint("10.1.0.1", true, true, false);
    let drawn = |endpoints: Value| drawn(&ruleset(json!({}), endpoints), POD, CLUSTER, 80).0;
    assert_eq!(drawn(json!([ready, unready, leaving])), set(&["10.1.0.1:8080"]));
    assert_eq!(drawn(json!([unready, leaving])), set(&["10.1.0.3:8080"]));
    assert_eq!(drawn(json!([unready])), set(&[]));
}

#[test]
fn external_traffic_policy_local() {
    let local = ruleset(json!({"externalTrafficPolicy": "Local"}), two());
    assert_eq!(
        drawn(&local, OUTSIDE, NODE, 30080),
        (set(&["10.1.0.1:8080"]), false),
        "here, with the client's address"
    );
    assert_eq!(drawn(&local, NODE, NODE, 30080), (set(&["10.1.0.1:8080", "10.1.1.1:8080"]), true));
    assert_eq!(drawn(&local, POD, NODE, 30080), (set(&["10.1.0.1:8080", "10.1.1.1:8080"]), false));
    let far = json!([{"addresses": ["10.1.1.1"], "nodeName": "n2"}]);
    let nobody_here = ruleset(json!({"externalTrafficPolicy": "Local"}), far);
    assert_eq!(drawn(&nobody_here, OUTSIDE, NODE, 30080).0, set(&[]));
    assert!(matches!(checked(&nobody_here, NODE, 30080), Outcome::Dropped(_)));
    assert_eq!(
        drawn(&nobody_here, POD, CLUSTER, 80).0,
        set(&["10.1.1.1:8080"]),
        "the cluster address is another matter"
    );
}

#[test]
fn internal_traffic_policy_local() {
    let local = ruleset(json!({"internalTrafficPolicy": "Local"}), two());
    assert_eq!(drawn(&local, POD, CLUSTER, 80).0, set(&["10.1.0.1:8080"]));
    assert_eq!(drawn(&local, OUTSIDE, NODE, 30080).0, set(&["10.1.0.1:8080", "10.1.1.1:8080"]));
    let far = json!([{"addresses": ["10.1.1.1"], "nodeName": "n2"}]);
    assert!(matches!(
        checked(&ruleset(json!({"internalTrafficPolicy": "Local"}), far), CLUSTER, 80),
        Outcome::Dropped(_)
    ));
}

#[test]
fn affinity_is_one_dynamic_set_per_endpoint() {
    let extra = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}});
    let ruleset = ruleset(extra, two());
    let timeouts: Vec<_> = ruleset.table().sets.values().filter_map(|set| set.kind.timeout).collect();
    assert_eq!(timeouts, [std::time::Duration::from_secs(7); 2]);
}

#[test]
fn headless_and_external_name_services_have_no_rules() {
    for extra in [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"type": "ExternalName"})] {
        let ruleset = ruleset(extra, two());
        assert!(ruleset.table().sets["service-ips"].elements.is_empty());
        assert!(ruleset.table().sets["service-nodeports"].elements.is_empty());
    }
}

#[test]
fn a_moving_endpoint_counts_once() {
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "nodeName": "n1", "conditions": {"ready": false}},
        {"addresses": ["10.1.0.1"], "nodeName": "n1", "conditions": {"ready": true}}]);
    assert_eq!(drawn(&ruleset(json!({}), endpoints), POD, CLUSTER, 80).0, set(&["10.1.0.1:8080"]));
}
