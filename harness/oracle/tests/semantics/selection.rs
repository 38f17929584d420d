//! Points 1 to 10: which pods a policy selects, and when that isolates them.

use cknet_oracle::NetworkPolicy;
use rstest::rstest;
use serde_json::json;

use crate::world::{World, egress, in_x, ingress, policy};

#[rstest]
#[case::p01_no_policy_allows_all(vec![], "x/a -> y/b 80/TCP", "allowed")]
#[case::p01_no_policy_allows_ports_that_no_container_declares(vec![], "x/a -> y/b 9999/UDP", "allowed")]
#[case::p01_no_policy_allows_the_outside_in(vec![], "203.0.113.9 -> x/a 80/TCP", "allowed")]
#[case::p01_no_policy_allows_icmp(vec![], "x/a -> y/b ICMP", "allowed")]
#[case::p02_empty_pod_selector_selects_all_pods(
    vec![in_x(json!({"podSelector": {}}))], "y/a -> x/c 80/TCP", "denied")]
#[case::p02_of_the_own_namespace_only(
    vec![in_x(json!({"podSelector": {}}))], "x/a -> y/c 80/TCP", "allowed")]
#[case::p02_absent_pod_selector_is_the_empty_one(
    vec![in_x(json!({}))], "y/a -> x/c 80/TCP", "denied")]
#[case::p03_default_deny_ingress_denies_ingress(
    vec![ingress(json!([]))], "y/a -> x/a 80/TCP", "denied")]
#[case::p03_default_deny_ingress_leaves_egress(
    vec![ingress(json!([]))], "x/a -> y/a 80/TCP", "allowed")]
#[case::p03_default_deny_egress_denies_egress(
    vec![egress(json!([]))], "x/a -> y/a 80/TCP", "denied")]
#[case::p03_default_deny_egress_leaves_ingress(
    vec![egress(json!([]))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p03_default_deny_both_denies_in(
    vec![in_x(json!({"policyTypes": ["Ingress", "Egress"]}))], "y/a -> x/a 80/TCP", "denied")]
#[case::p03_default_deny_both_denies_out(
    vec![in_x(json!({"policyTypes": ["Ingress", "Egress"]}))], "x/a -> y/a 80/TCP", "denied")]
#[case::p03_default_deny_covers_the_own_namespace(
    vec![ingress(json!([]))], "x/a -> x/b 80/TCP", "denied")]
#[case::p03_default_deny_egress_denies_the_outside(
    vec![egress(json!([]))], "x/a -> 203.0.113.9 443/TCP", "denied")]
#[case::p04_absent_types_isolate_for_ingress_without_rules(
    vec![in_x(json!({"podSelector": {}}))], "y/a -> x/a 80/TCP", "denied")]
#[case::p04_absent_types_leave_egress_without_egress_rules(
    vec![in_x(json!({"podSelector": {}}))], "x/a -> y/a 80/TCP", "allowed")]
#[case::p04_absent_types_isolate_for_egress_with_egress_rules(
    vec![in_x(json!({"egress": [{"to": [{"podSelector": {}}]}]}))], "x/a -> y/a 80/TCP", "denied")]
#[case::p04_absent_types_with_egress_rules_isolate_for_ingress_too(
    vec![in_x(json!({"egress": [{}]}))], "y/a -> x/a 80/TCP", "denied")]
#[case::p04_an_empty_list_of_egress_rules_is_none(
    vec![in_x(json!({"egress": []}))], "x/a -> y/a 80/TCP", "allowed")]
#[case::p04_empty_types_are_absent_types(
    vec![in_x(json!({"policyTypes": [], "egress": []}))], "x/a -> y/a 80/TCP", "allowed")]
#[case::p04_type_ingress_ignores_egress_rules(
    vec![in_x(json!({"policyTypes": ["Ingress"], "egress": [{"to": [{"podSelector": {}}]}]}))],
    "x/a -> y/a 80/TCP", "allowed")]
#[case::p04_type_egress_ignores_ingress_rules(
    vec![in_x(json!({"policyTypes": ["Egress"], "ingress": [{"from": [{"podSelector": {}}]}]}))],
    "y/a -> x/a 80/TCP", "allowed")]
#[case::p04_type_egress_without_rules_denies_egress(
    vec![in_x(json!({"policyTypes": ["Egress"]}))], "x/a -> y/a 80/TCP", "denied")]
#[case::p05_absent_ingress_denies(
    vec![in_x(json!({"policyTypes": ["Ingress"]}))], "y/a -> x/a 80/TCP", "denied")]
#[case::p05_empty_ingress_denies(vec![ingress(json!([]))], "y/a -> x/a 80/TCP", "denied")]
#[case::p05_null_ingress_denies(vec![ingress(json!(null))], "y/a -> x/a 80/TCP", "denied")]
#[case::p05_one_empty_rule_allows_all(vec![ingress(json!([{}]))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p05_one_empty_egress_rule_allows_all(
    vec![egress(json!([{}]))], "x/a -> 203.0.113.9 53/UDP", "allowed")]
#[case::p06_absent_from_is_every_source(
    vec![ingress(json!([{"ports": [{"port": 80}]}]))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p06_empty_from_is_every_source(
    vec![ingress(json!([{"from": [], "ports": [{"port": 80}]}]))], "y/a -> x/a 80/TCP", "allowed")]
#[case::p06_empty_from_includes_the_outside(
    vec![ingress(json!([{"from": []}]))], "203.0.113.9 -> x/a 80/TCP", "allowed")]
#[case::p06_empty_from_includes_other_nodes(
    vec![ingress(json!([{"from": []}]))], "n2 -> x/a 80/TCP", "allowed")]
#[case::p06_empty_to_includes_the_outside(
    vec![egress(json!([{"to": [], "ports": [{"port": 443}]}]))],
    "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p07_absent_ports_are_every_port(
    vec![ingress(json!([{"from": [{"podSelector": {}}]}]))], "x/b -> x/a 9999/TCP", "allowed")]
#[case::p07_empty_ports_are_every_port(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": []}]))],
    "x/b -> x/a 80/TCP", "allowed")]
#[case::p07_empty_ports_are_every_protocol(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": []}]))],
    "x/b -> x/a 80/SCTP", "allowed")]
#[case::p08_a_policy_never_isolates_another_namespace(
    vec![ingress(json!([])), policy("x", "q", json!({"podSelector": {"matchLabels": {"pod": "a"}}}))],
    "x/b -> z/a 80/TCP", "allowed")]
#[case::p08_a_policy_never_opens_another_namespace(
    vec![policy("y", "deny", json!({})), ingress(json!([{}]))], "x/a -> y/a 80/TCP", "denied")]
#[case::p09_a_rule_for_sctp_alone_isolates_for_tcp(
    vec![ingress(json!([{"ports": [{"protocol": "SCTP", "port": 80}]}]))],
    "y/a -> x/a 80/TCP", "denied")]
#[case::p09_a_rule_for_sctp_alone_isolates_for_udp(
    vec![ingress(json!([{"ports": [{"protocol": "SCTP"}]}]))], "y/a -> x/a 80/UDP", "denied")]
#[case::p10_a_policy_that_selects_no_pod_does_nothing(
    vec![in_x(json!({"podSelector": {"matchLabels": {"pod": "nobody"}}}))],
    "y/a -> x/a 80/TCP", "allowed")]
#[case::p10_a_policy_spares_the_pods_it_does_not_select(
    vec![in_x(json!({"podSelector": {"matchLabels": {"pod": "a"}}}))],
    "y/a -> x/b 80/TCP", "allowed")]
fn selection(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    assert_eq!(World::with_policies(policies).outcome(flow), expected);
}

#[test]
fn p10_a_label_makes_a_policy_take_effect_and_its_loss_ends_it() {
    let selects_target = json!({"podSelector": {"matchLabels": {"target": "isolated"}}});
    let mut world = World::with_policies(vec![in_x(selects_target)]);
    let flow = "y/a -> x/a 80/TCP";
    assert_eq!(world.outcome(flow), "allowed");
    let labels = &mut world.pod("x/a").labels;
    labels.insert("target".into(), "isolated".into());
    assert_eq!(world.outcome(flow), "denied");
    world.pod("x/a").labels.remove("target");
    assert_eq!(world.outcome(flow), "allowed");
}
