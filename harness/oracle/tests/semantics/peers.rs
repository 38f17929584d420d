//! Points 11 to 21: which peers a rule means.

use cknet_oracle::{Fault, Manifest, NetworkPolicy, Question};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, egress, ingress, policy};

/// Ingress to x from these peers.
fn from(peers: Value) -> Vec<NetworkPolicy> {
    vec![ingress(json!([{"from": peers}]))]
}

/// Egress from x to these peers.
fn to(peers: Value) -> Vec<NetworkPolicy> {
    vec![egress(json!([{"to": peers}]))]
}

/// A namespace selector of one expression, in ingress to x.
fn namespaces(expression: Value) -> Vec<NetworkPolicy> {
    from(json!([{"namespaceSelector": {"matchExpressions": [expression]}}]))
}

#[rstest]
#[case::p11_pod_selector_means_pods_of_the_policys_namespace(
    from(json!([{"podSelector": {"matchLabels": {"pod": "b"}}}])), "x/b -> x/a 80/TCP", "allowed")]
#[case::p11_pod_selector_means_no_pod_of_another_namespace(
    from(json!([{"podSelector": {"matchLabels": {"pod": "b"}}}])), "y/b -> x/a 80/TCP", "denied")]
#[case::p11_empty_pod_selector_means_the_whole_namespace(
    from(json!([{"podSelector": {}}])), "x/c -> x/a 80/TCP", "allowed")]
#[case::p11_empty_pod_selector_means_no_other_namespace(
    from(json!([{"podSelector": {}}])), "y/c -> x/a 80/TCP", "denied")]
#[case::p11_pod_selector_of_egress_means_the_policys_namespace(
    to(json!([{"podSelector": {}}])), "x/a -> y/a 80/TCP", "denied")]
#[case::p11_pod_selector_never_means_the_outside(
    from(json!([{"podSelector": {}}])), "203.0.113.9 -> x/a 80/TCP", "denied")]
#[case::p12_namespace_selector_means_all_pods_of_its_namespaces(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}])),
    "y/c -> x/a 80/TCP", "allowed")]
#[case::p12_namespace_selector_leaves_out_the_own_namespace(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}])),
    "x/c -> x/a 80/TCP", "denied")]
#[case::p12_empty_namespace_selector_means_all_namespaces(
    from(json!([{"namespaceSelector": {}}])), "z/b -> x/a 80/TCP", "allowed")]
#[case::p12_empty_namespace_selector_means_not_the_outside(
    from(json!([{"namespaceSelector": {}}])), "203.0.113.9 -> x/a 80/TCP", "denied")]
#[case::p12_empty_namespace_selector_means_not_another_node(
    from(json!([{"namespaceSelector": {}}])), "n2 -> x/a 80/TCP", "denied")]
#[case::p12_null_pod_selector_beside_a_namespace_selector(
    from(json!([{"podSelector": null, "namespaceSelector": {}}])), "z/b -> x/a 80/TCP", "allowed")]
#[case::p13_one_element_with_both_selectors_matches_both(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}},
        "podSelector": {"matchLabels": {"pod": "b"}}}])), "y/b -> x/a 80/TCP", "allowed")]
#[case::p13_one_element_does_not_match_the_namespace_alone(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}},
        "podSelector": {"matchLabels": {"pod": "b"}}}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p13_one_element_does_not_match_the_pod_alone(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}},
        "podSelector": {"matchLabels": {"pod": "b"}}}])), "x/b -> x/a 80/TCP", "denied")]
#[case::p13_two_elements_match_by_the_namespace(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}},
        {"podSelector": {"matchLabels": {"pod": "b"}}}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p13_two_elements_match_by_the_pod(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}},
        {"podSelector": {"matchLabels": {"pod": "b"}}}])), "x/b -> x/a 80/TCP", "allowed")]
#[case::p13_two_elements_match_nothing_else(
    from(json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}},
        {"podSelector": {"matchLabels": {"pod": "b"}}}])), "z/b -> x/a 80/TCP", "denied")]
#[case::p14_in_matches_a_listed_value(
    namespaces(json!({"key": "ns", "operator": "In", "values": ["y", "z"]})),
    "z/a -> x/a 80/TCP", "allowed")]
#[case::p14_in_does_not_match_another_value(
    namespaces(json!({"key": "ns", "operator": "In", "values": ["y"]})),
    "z/a -> x/a 80/TCP", "denied")]
#[case::p14_in_does_not_match_an_absent_key(
    namespaces(json!({"key": "team", "operator": "In", "values": ["y"]})),
    "y/a -> x/a 80/TCP", "denied")]
#[case::p14_not_in_does_not_match_a_listed_value(
    namespaces(json!({"key": "ns", "operator": "NotIn", "values": ["y"]})),
    "y/a -> x/a 80/TCP", "denied")]
#[case::p14_not_in_matches_another_value(
    namespaces(json!({"key": "ns", "operator": "NotIn", "values": ["y"]})),
    "z/a -> x/a 80/TCP", "allowed")]
#[case::p14_not_in_matches_an_absent_key(
    namespaces(json!({"key": "team", "operator": "NotIn", "values": ["y"]})),
    "y/a -> x/a 80/TCP", "allowed")]
#[case::p14_exists_matches_any_value(
    namespaces(json!({"key": "ns", "operator": "Exists"})), "y/a -> x/a 80/TCP", "allowed")]
#[case::p14_exists_does_not_match_an_absent_key(
    namespaces(json!({"key": "team", "operator": "Exists"})), "y/a -> x/a 80/TCP", "denied")]
#[case::p14_does_not_exist_matches_an_absent_key(
    namespaces(json!({"key": "team", "operator": "DoesNotExist"})), "y/a -> x/a 80/TCP", "allowed")]
#[case::p14_does_not_exist_does_not_match_a_present_key(
    namespaces(json!({"key": "ns", "operator": "DoesNotExist"})), "y/a -> x/a 80/TCP", "denied")]
#[case::p14_labels_and_expressions_must_all_hold(
    from(json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "b"},
        "matchExpressions": [{"key": "pod", "operator": "NotIn", "values": ["b"]}]}}])),
    "y/b -> x/a 80/TCP", "denied")]
#[case::p14_expressions_also_choose_the_subject(
    vec![policy("x", "p", json!({"podSelector": {"matchExpressions": [
        {"key": "pod", "operator": "NotIn", "values": ["a"]}]}}))], "y/b -> x/b 80/TCP", "denied")]
#[case::p14_expressions_also_spare_the_subject(
    vec![policy("x", "p", json!({"podSelector": {"matchExpressions": [
        {"key": "pod", "operator": "NotIn", "values": ["a"]}]}}))], "y/b -> x/a 80/TCP", "allowed")]
#[case::p15_every_namespace_has_its_name_as_a_label(
    from(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}])),
    "y/a -> x/a 80/TCP", "allowed")]
#[case::p15_the_name_label_tells_namespaces_apart(
    from(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}])),
    "z/a -> x/a 80/TCP", "denied")]
#[case::p15_the_name_label_takes_part_in_expressions(
    namespaces(json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x"]})),
    "x/b -> x/a 80/TCP", "denied")]
#[case::p16_an_egress_block_lets_out_what_it_contains(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}])), "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p16_an_egress_block_lets_out_nothing_else(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}])), "x/a -> 203.0.114.9 443/TCP", "denied")]
#[case::p16_except_takes_out_a_part(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}])),
    "x/a -> 203.0.113.9 443/TCP", "denied")]
#[case::p16_except_leaves_the_rest(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}])),
    "x/a -> 203.0.113.16 443/TCP", "allowed")]
#[case::p16_host_bits_of_a_block_do_not_count(
    to(json!([{"ipBlock": {"cidr": "203.0.113.77/24"}}])), "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p16_a_block_of_one_address(
    to(json!([{"ipBlock": {"cidr": "203.0.113.9/32"}}])), "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p17_an_address_excepted_here_and_allowed_there_is_allowed(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}},
        {"ipBlock": {"cidr": "203.0.113.9/32"}}])), "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p17_also_when_another_policy_allows_it(
    vec![egress(json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}}]}])),
        policy("x", "q", json!({"policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.9/32"}}]}]}))],
    "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p17_an_exception_of_all_policies_stays_out(
    vec![egress(json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}}]}])),
        policy("x", "q", json!({"policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "203.0.112.0/22", "except": ["203.0.113.8/31"]}}]}]}))],
    "x/a -> 203.0.113.9 443/TCP", "denied")]
#[case::p18_an_ingress_block_lets_in_what_it_contains(
    from(json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}])), "203.0.113.9 -> x/a 80/TCP", "allowed")]
#[case::p18_an_ingress_block_lets_in_nothing_else(
    from(json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}])), "198.51.100.9 -> x/a 80/TCP", "denied")]
#[case::p18_an_ingress_block_with_an_exception(
    from(json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}])),
    "203.0.113.9 -> x/a 80/TCP", "denied")]
#[case::p19_an_ipv6_block_contains_ipv6(
    to(json!([{"ipBlock": {"cidr": "2001:db8::/32"}}])), "x/a -> 2001:db8::9 443/TCP", "allowed")]
#[case::p19_an_ipv6_block_with_an_exception(
    to(json!([{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:bad::/48"]}}])),
    "x/a -> 2001:db8:bad::9 443/TCP", "denied")]
#[case::p19_all_of_ipv4_says_nothing_of_ipv6(
    to(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}])), "x/a -> 2001:db8::9 443/TCP", "denied")]
#[case::p19_all_of_ipv6_says_nothing_of_ipv4(
    to(json!([{"ipBlock": {"cidr": "::/0"}}])), "x/a -> 203.0.113.9 443/TCP", "denied")]
#[case::p19_a_mapped_block_is_the_ipv4_block(
    to(json!([{"ipBlock": {"cidr": "::ffff:203.0.113.0/120"}}])),
    "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p19_a_mapped_block_is_no_larger_than_the_ipv4_block(
    to(json!([{"ipBlock": {"cidr": "::ffff:203.0.113.0/120"}}])),
    "x/a -> 203.0.112.9 443/TCP", "denied")]
#[case::p19_a_mapped_address_is_the_ipv4_address(
    to(json!([{"ipBlock": {"cidr": "203.0.113.0/24"}}])),
    "x/a -> ::ffff:203.0.113.9 443/TCP", "allowed")]
#[case::p19_an_ingress_block_of_ipv6(
    from(json!([{"ipBlock": {"cidr": "2001:db8::/32"}}])),
    "2001:db8::9 -> fd00:1:1::1 80/TCP", "allowed")]
#[case::p20_a_block_that_has_the_source_pod_is_left_open(
    from(json!([{"ipBlock": {"cidr": "10.1.2.1/32"}}])),
    "y/a -> x/a 80/TCP", "undefined, allowed")]
#[case::p20_a_block_that_has_the_destination_pod_is_left_open(
    to(json!([{"ipBlock": {"cidr": "10.1.0.0/16"}}])), "x/a -> y/a 80/TCP", "undefined, allowed")]
#[case::p20_a_block_that_excepts_the_pod_is_defined(
    to(json!([{"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24"]}}])),
    "x/a -> y/a 80/TCP", "denied")]
#[case::p20_a_selector_beside_the_block_defines_it(
    to(json!([{"ipBlock": {"cidr": "10.1.0.0/16"}}, {"namespaceSelector": {}}])),
    "x/a -> y/a 80/TCP", "allowed")]
#[case::p20_the_question_does_not_arise_on_a_wrong_port(
    vec![egress(json!([{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 81}]}]))],
    "x/a -> y/a 80/TCP", "denied")]
#[case::p20_a_block_that_has_another_node_is_left_open(
    from(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}])), "n2 -> x/a 80/TCP", "undefined, allowed")]
fn peer(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    assert_eq!(World::with_policies(policies).outcome(flow), expected);
}

#[test]
fn p15_the_name_label_needs_no_listed_namespace() {
    let by_name = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}]);
    let mut world = World::with_policies(from(by_name));
    world.snapshot.namespaces.clear();
    assert_eq!(world.outcome("y/a -> x/a 80/TCP"), "allowed");
    assert_eq!(world.outcome("z/a -> x/a 80/TCP"), "denied");
}

#[test]
fn p20_both_readings_of_a_block_on_a_pod_are_told() {
    let world = World::with_policies(from(json!([{"ipBlock": {"cidr": "10.1.2.1/32"}}])));
    let prediction = world.predict("y/a -> x/a 80/TCP");
    let cknet_oracle::Outcome::Undefined(undefined) = &prediction.outcome else {
        panic!("defined: {prediction}");
    };
    let [hinge] = undefined.hinges.as_slice() else {
        panic!("not one hinge: {prediction}");
    };
    assert_eq!(hinge.question, Question::BlockOnPods);
    let verdicts: Vec<_> = hinge.readings.iter().map(|one| one.verdict.to_string()).collect();
    assert_eq!(verdicts, ["allowed", "denied"]);
}

#[rstest]
#[case::p21_block_beside_a_selector(
    json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}),
    "spec.ingress[0].from[0]", Fault::BlockBesideSelector)]
#[case::p21_block_beside_a_namespace_selector(
    json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}}),
    "spec.ingress[0].from[0]", Fault::BlockBesideSelector)]
#[case::p21_nothing_at_all(json!({}), "spec.ingress[0].from[0]", Fault::NoPeer)]
#[case::p21_no_range(json!({"ipBlock": {"cidr": "10.0.0.0/33"}}),
    "spec.ingress[0].from[0].ipBlock.cidr", Fault::NotACidr("10.0.0.0/33".into()))]
#[case::p21_exception_outside(json!({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["11.0.0.0/24"]}}),
    "spec.ingress[0].from[0].ipBlock.except[0]",
    Fault::NotASubset { part: "11.0.0.0/24".parse().unwrap(), cidr: "10.0.0.0/16".parse().unwrap() })]
#[case::p21_exception_of_everything(json!({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.0.0/16"]}}),
    "spec.ingress[0].from[0].ipBlock.except[0]",
    Fault::NotASubset { part: "10.0.0.0/16".parse().unwrap(), cidr: "10.0.0.0/16".parse().unwrap() })]
#[case::p21_unknown_operator(
    json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}),
    "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator",
    Fault::NotAnOperator("Like".into()))]
#[case::p21_in_without_values(
    json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
    "spec.ingress[0].from[0].podSelector.matchExpressions[0].values",
    Fault::ValuesMissing("In".into()))]
#[case::p21_exists_with_values(
    json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
    "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values",
    Fault::ValuesForbidden("Exists".into()))]
fn p21_an_invalid_peer_is_refused(#[case] peer: Value, #[case] path: &str, #[case] fault: Fault) {
    let manifest: Manifest = serde_json::from_value(json!({
        "metadata": {"name": "p"}, "spec": {"ingress": [{"from": [peer]}]},
    }))
    .unwrap();
    let refused = NetworkPolicy::try_from(manifest).unwrap_err();
    let found: Vec<_> = refused.problems.iter().map(|one| (one.path.as_str(), &one.fault)).collect();
    assert_eq!(found, [(path, &fault)]);
}

#[test]
fn p21_all_problems_of_a_policy_are_told_at_once() {
    let refused = serde_json::from_value::<NetworkPolicy>(json!({
        "metadata": {"namespace": "x", "name": "p"},
        "spec": {"policyTypes": ["Sideways"], "egress": [{"to": [{}], "ports": [{"endPort": 90}]}]},
    }));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "network policy `x/p` is invalid: \
         `spec.egress[0].ports[0].endPort`: `endPort` needs a `port`; \
         `spec.egress[0].to[0]`: no peer is given, one of `podSelector`, `namespaceSelector`, \
         `ipBlock` is needed; \
         `spec.policyTypes[0]`: `Sideways` is not a policy type, use `Ingress` or `Egress`"
    );
}
