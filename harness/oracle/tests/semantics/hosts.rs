//! Points 49 to 51 and 55 to 56: nodes, pods in their node's network, loops, placement.

use cknet_oracle::{HostNetwork, NetworkPolicy, NodeSource, OwnNode, Profile, Question};
use rstest::rstest;
use serde_json::json;

use crate::world::{World, egress, ingress, policy};

fn deny_in() -> Vec<NetworkPolicy> {
    vec![ingress(json!([]))]
}

fn deny_out() -> Vec<NetworkPolicy> {
    vec![egress(json!([]))]
}

#[rstest]
#[case::p49_a_node_always_reaches_its_own_pods(deny_in(), "n1 -> x/a 80/TCP", "allowed")]
#[case::p49_over_any_protocol(deny_in(), "n1 -> x/a 80/UDP", "allowed")]
#[case::p49_by_its_address(deny_in(), "192.168.60.11 -> x/a 80/TCP", "allowed")]
#[case::p49_by_its_overlay_address(deny_in(), "10.1.100.1 -> x/a 80/TCP", "allowed")]
#[case::p49_not_the_pods_of_another_node(deny_in(), "n2 -> x/a 80/TCP", "denied")]
#[case::p49_a_pod_to_its_own_node_is_left_open(deny_out(), "x/a -> n1 10250/TCP", "undefined, denied")]
#[case::p49_a_pod_to_another_node_is_denied(deny_out(), "x/a -> n2 10250/TCP", "denied")]
#[case::p49_a_pod_to_a_node_without_policy(vec![], "x/a -> n1 10250/TCP", "allowed")]
#[case::p49_policies_do_not_apply_to_nodes(deny_out(), "n1 -> n2 10250/TCP", "allowed")]
#[case::p51_a_pod_always_reaches_itself(deny_in(), "x/a -> x/a 80/TCP", "allowed")]
#[case::p51_also_without_egress(deny_out(), "x/a -> 10.1.1.1 80/TCP", "allowed")]
#[case::p51_also_by_its_other_family(deny_in(), "x/a -> fd00:1:1::1 80/TCP", "allowed")]
#[case::p51_also_by_the_loopback_address(deny_out(), "x/a -> 127.0.0.1 80/TCP", "allowed")]
#[case::p51_not_its_neighbour(deny_in(), "x/b -> x/a 80/TCP", "denied")]
fn host(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    assert_eq!(World::with_policies(policies).outcome(flow), expected);
}

#[rstest]
#[case::p50_as_subject_of_ingress(deny_in(), "y/b -> x/a 80/TCP", "undefined, allowed")]
#[case::p50_as_subject_of_egress(deny_out(), "x/a -> y/b 80/TCP", "undefined, allowed")]
#[case::p50_as_subject_of_a_policy_that_allows(
    vec![ingress(json!([{}]))], "y/b -> x/a 80/TCP", "allowed")]
#[case::p50_as_peer_of_a_selector(
    vec![policy("y", "p", json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}))],
    "x/a -> y/b 80/TCP", "undefined, denied")]
#[case::p50_as_peer_of_a_block_with_the_nodes_address(
    vec![policy("y", "p", json!({"ingress": [{"from": [{"ipBlock": {"cidr": "192.168.60.0/24"}}]}]}))],
    "x/a -> y/b 80/TCP", "undefined, denied")]
#[case::p50_as_peer_of_a_rule_for_everybody(
    vec![policy("y", "p", json!({"ingress": [{"ports": [{"port": 80}]}]}))],
    "x/a -> y/b 80/TCP", "allowed")]
#[case::p50_towards_a_pod_of_its_node(
    vec![policy("y", "p", json!({}))], "x/a -> y/a 80/TCP", "undefined, allowed")]
#[case::p50_towards_a_pod_of_another_node(
    vec![policy("y", "p", json!({}))], "x/a -> y/b 80/TCP", "denied")]
#[case::p50_by_its_port_name(
    vec![policy("y", "p", json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "serve-80-tcp"}]}]}))],
    "y/b -> x/a 80/TCP", "undefined, denied")]
fn p50_a_host_network_pod_may_count_as_its_node_or_as_a_pod(
    #[case] policies: Vec<NetworkPolicy>,
    #[case] flow: &str,
    #[case] expected: &str,
) {
    let world = World::with_policies(policies).host_network("x/a");
    assert_eq!(world.outcome(flow), expected, "{}", world.predict(flow));
}

#[test]
fn p50_a_plugin_that_knows_them_treats_them_as_pods() {
    let mut world = World::with_policies(deny_in()).host_network("x/a");
    world.profile = Profile { host_network: HostNetwork::AsPods, ..Profile::calico() };
    assert_eq!(world.outcome("y/b -> x/a 80/TCP"), "undefined, denied");
    assert_eq!(world.outcome("y/b -> n1 80/TCP"), "undefined, denied", "it owns the node's port 80");
    assert_eq!(world.outcome("y/b -> n1 22/TCP"), "allowed", "nobody's port");
}

#[test]
fn p49_the_own_node_is_reached_where_the_profile_follows_the_letter() {
    let mut world = World::with_policies(deny_out());
    world.profile = Profile { own_node: OwnNode::Exempt, ..Profile::calico() };
    assert_eq!(world.outcome("x/a -> n1 10250/TCP"), "undefined, allowed");
    let prediction = world.predict("x/a -> n1 10250/TCP");
    assert!(prediction.to_string().contains(&Question::OwnNode.to_string()), "{prediction}");
}

#[test]
fn p49_a_nodes_address_towards_remote_pods_depends_on_the_overlay() {
    let from_lan = json!([{"from": [{"ipBlock": {"cidr": "192.168.60.0/24"}}]}]);
    let mut world = World::with_policies(vec![ingress(from_lan)]);
    assert_eq!(world.outcome("n2 -> x/a 80/TCP"), "undefined, denied");
    world.profile = Profile { node_source: NodeSource::Internal, ..Profile::calico() };
    assert_eq!(world.outcome("n2 -> x/a 80/TCP"), "undefined, allowed");
}

#[rstest]
#[case::p56_isolated(vec![ingress(json!([]))])]
#[case::p56_by_pod(vec![ingress(json!([{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]))])]
#[case::p56_by_address(vec![ingress(json!([{"from": [{"ipBlock": {"cidr": "10.1.2.0/24"}}]}]))])]
#[case::p56_by_port_name(vec![egress(json!([{"ports": [{"port": "serve-81-tcp"}]}]))])]
fn p56_same_node_or_another_makes_no_difference(#[case] policies: Vec<NetworkPolicy>) {
    for from in ["x/b", "y/b"] {
        for to in ["x/a", "z/a"] {
            for port in ["80/TCP", "81/TCP", "ICMP"] {
                let flow = format!("{from} -> {to} {port}");
                let apart = World::with_policies(policies.clone());
                let together = World::with_policies(policies.clone()).change(from, |pod| pod.node = Some("n1".into()));
                assert_eq!(apart.outcome(&flow), together.outcome(&flow), "{flow}");
            }
        }
    }
}

#[test]
fn p44_the_address_of_a_finished_pod_is_free() {
    let from_c = json!([{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "c"}}}]}]);
    let mut world = World::with_policies(vec![ingress(from_c)]);
    let flow = "10.1.3.3 -> x/a 80/TCP";
    assert_eq!(world.outcome(flow), "allowed");
    let ips = world.pod("z/c").ips.clone();
    world.pod("z/c").finished = true;
    assert_eq!(world.outcome(flow), "denied", "it is nobody's by now");
    world.pod("y/b").ips = ips;
    assert_eq!(world.outcome(flow), "denied", "it is that of y/b by now");
    assert!(world.predict(flow).to_string().contains("the source is `y/b` (pod=b; "));
}

#[test]
fn a_server_that_is_known_to_be_closed_gives_no_answer() {
    let world = World::new().change("x/a", |pod| {
        let port = cknet_oracle::PortOf { number: 80, protocol: cknet_oracle::Protocol::Tcp };
        pod.listening = Some([port].into());
    });
    assert_eq!(world.outcome("y/a -> x/a 80/TCP"), "allowed");
    assert_eq!(world.outcome("y/a -> x/a 81/TCP"), "no answer");
    assert_eq!(world.outcome("y/a -> x/a ICMP"), "allowed");
    let mut world = world;
    world.snapshot.policies = deny_in();
    assert_eq!(world.outcome("y/a -> x/a 81/TCP"), "denied", "the policy comes first");
}
