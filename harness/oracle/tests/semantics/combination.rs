//! Points 34 to 38: how policies and directions combine.

use cknet_oracle::NetworkPolicy;
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, policy};

/// A policy for all pods of a namespace in one direction.
fn all(namespace: &str, name: &str, direction: &str, rules: Value) -> NetworkPolicy {
    let field = direction.to_lowercase();
    policy(namespace, name, json!({"policyTypes": [direction], field: rules}))
}

fn deny(namespace: &str, direction: &str) -> NetworkPolicy {
    all(namespace, "deny-all", direction, json!([]))
}

/// A rule in favour of x/a and y/a by one of their properties.
fn by_pod(list: &str) -> Value {
    json!([{list: [{"podSelector": {"matchLabels": {"pod": "a"}}, "namespaceSelector": {}}]}])
}

fn by_port() -> Value {
    json!([{"ports": [{"port": 80}]}])
}

#[rstest]
#[case::p34_deny_all_and_allow_all_is_allow_all(
    vec![deny("x", "Ingress"), all("x", "allow", "Ingress", json!([{}]))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p34_deny_all_and_allow_all_of_egress(
    vec![deny("x", "Egress"), all("x", "allow", "Egress", json!([{}]))], "x/a -> y/a 80/TCP", "allowed")]
#[case::p34_deny_all_and_allow_by_pod(
    vec![deny("x", "Ingress"), all("x", "allow", "Ingress", by_pod("from"))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p34_deny_all_and_allow_by_another_pod(
    vec![deny("x", "Ingress"), all("x", "allow", "Ingress", by_pod("from"))], "y/b -> x/a 80/TCP", "denied")]
#[case::p34_deny_all_and_allow_by_address(
    vec![deny("x", "Ingress"),
        all("x", "allow", "Ingress", json!([{"from": [{"ipBlock": {"cidr": "203.0.113.9/32"}}]}]))],
    "203.0.113.9 -> x/a 80/TCP", "allowed")]
#[case::p34_two_policies_add_up_the_first(
    vec![all("x", "pods", "Ingress", by_pod("from")), all("x", "ports", "Ingress", by_port())],
    "y/a -> x/b 9999/TCP", "allowed")]
#[case::p34_two_policies_add_up_the_second(
    vec![all("x", "pods", "Ingress", by_pod("from")), all("x", "ports", "Ingress", by_port())],
    "y/b -> x/b 80/TCP", "allowed")]
#[case::p34_two_policies_add_up_to_no_more(
    vec![all("x", "pods", "Ingress", by_pod("from")), all("x", "ports", "Ingress", by_port())],
    "y/b -> x/b 81/TCP", "denied")]
#[case::p34_overlapping_selectors_count_each_for_its_own_pods(
    vec![policy("x", "a-only", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{}]})),
        deny("x", "Ingress")],
    "y/a -> x/b 80/TCP", "denied")]
#[case::p35_the_source_may_refuse_although_the_destination_allows(
    vec![deny("x", "Egress"), all("y", "allow", "Ingress", json!([{}]))], "x/a -> y/a 80/TCP", "denied")]
#[case::p35_the_destination_may_refuse_although_the_source_allows(
    vec![all("x", "allow", "Egress", json!([{}])), deny("y", "Ingress")], "x/a -> y/a 80/TCP", "denied")]
#[case::p35_both_allow(
    vec![all("x", "allow", "Egress", by_pod("to")), all("y", "allow", "Ingress", by_pod("from"))],
    "x/a -> y/a 80/TCP", "allowed")]
#[case::p35_within_one_namespace_both_ends_are_asked(
    vec![all("x", "out", "Egress", by_pod("to")), all("x", "in", "Ingress", by_pod("from"))],
    "x/b -> x/a 80/TCP", "denied")]
#[case::p36_ingress_rules_do_not_help_egress(
    vec![policy("x", "p", json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": []}))],
    "x/a -> y/a 80/TCP", "denied")]
#[case::p36_egress_rules_do_not_help_ingress(
    vec![policy("x", "p", json!({"policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [{}]}))],
    "y/a -> x/a 80/TCP", "denied")]
#[case::p36_ingress_and_egress_of_one_policy_in(
    vec![policy("x", "p", json!({"policyTypes": ["Ingress", "Egress"],
        "ingress": by_port(), "egress": by_pod("to")}))], "y/c -> x/a 80/TCP", "allowed")]
#[case::p36_ingress_and_egress_of_one_policy_out(
    vec![policy("x", "p", json!({"policyTypes": ["Ingress", "Egress"],
        "ingress": by_port(), "egress": by_pod("to")}))], "x/a -> y/c 80/TCP", "denied")]
#[case::p37_a_server_without_egress_still_answers(
    vec![deny("x", "Egress")], "y/a -> x/a 80/TCP", "allowed")]
#[case::p37_a_client_without_ingress_still_gets_answers(
    vec![deny("x", "Ingress")], "x/a -> y/a 80/TCP", "allowed")]
#[case::p38_egress_deny_denies_name_resolution_over_udp(
    vec![deny("x", "Egress")], "x/a -> z/a 53/UDP", "denied")]
#[case::p38_a_rule_for_the_application_alone_denies_name_resolution(
    vec![all("x", "app", "Egress", json!([{"to": [{"podSelector": {}}]}]))], "x/a -> z/a 53/UDP", "denied")]
#[case::p38_port_53_of_udp_allows_the_common_case(
    vec![all("x", "dns", "Egress", json!([{"ports": [{"protocol": "UDP", "port": 53}]}]))],
    "x/a -> z/a 53/UDP", "allowed")]
#[case::p38_port_53_of_udp_denies_large_answers_over_tcp(
    vec![all("x", "dns", "Egress", json!([{"ports": [{"protocol": "UDP", "port": 53}]}]))],
    "x/a -> z/a 53/TCP", "denied")]
#[case::p38_port_53_of_both_allows_both(
    vec![all("x", "dns", "Egress", json!([{"ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]}]))],
    "x/a -> z/a 53/TCP", "allowed")]
#[case::p38_an_address_needs_no_name(
    vec![all("x", "web", "Egress", json!([{"ports": [{"port": 443}]}]))],
    "x/a -> 203.0.113.9 443/TCP", "allowed")]
fn combination(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    let mut reversed = policies.clone();
    reversed.reverse();
    assert_eq!(World::with_policies(policies).outcome(flow), expected);
    assert_eq!(World::with_policies(reversed).outcome(flow), expected, "in the other order");
}

/// Deny-all against allow-all in every pairing of what the allowance goes by.
#[rstest]
fn p34_an_allowance_beats_a_denial_in_every_pairing(
    #[values("everything", "pod", "address", "port")] allowance: &str,
    #[values("Ingress", "Egress")] direction: &str,
    #[values(true, false)] denial_first: bool,
) {
    let (list, flow) = match direction {
        "Ingress" => ("from", "203.0.113.9 -> x/a 80/TCP"),
        _ => ("to", "x/a -> 203.0.113.9 80/TCP"),
    };
    let rules = match allowance {
        "everything" => json!([{}]),
        "pod" => by_pod(list),
        "address" => json!([{list: [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]),
        _ => by_port(),
    };
    let flow = match (allowance, direction) {
        ("pod", "Ingress") => "y/a -> x/a 80/TCP",
        ("pod", _) => "x/a -> y/a 80/TCP",
        _ => flow,
    };
    let mut policies = vec![deny("x", direction), all("x", "allow", direction, rules)];
    if !denial_first {
        policies.reverse();
    }
    assert_eq!(World::with_policies(policies.clone()).outcome(flow), "allowed");
    policies.retain(|policy| policy.name == "deny-all");
    assert_eq!(World::with_policies(policies).outcome(flow), "denied");
}
