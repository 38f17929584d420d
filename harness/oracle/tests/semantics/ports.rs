//! Points 22 to 33: ports and protocols.

use cknet_oracle::{ContainerPort, Fault, Icmp, Manifest, NetworkPolicy, Profile, Protocol, Question};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, egress, ingress, policy};

/// Ingress to x on these ports, from everywhere.
fn on(ports: Value) -> Vec<NetworkPolicy> {
    vec![ingress(json!([{"ports": ports}]))]
}

/// Egress from x to these ports, everywhere.
fn out_to(ports: Value) -> Vec<NetworkPolicy> {
    vec![egress(json!([{"ports": ports}]))]
}

#[rstest]
#[case::p22_a_number_opens_its_port(on(json!([{"port": 80}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p22_a_number_opens_no_other_port(on(json!([{"port": 80}])), "y/a -> x/a 81/TCP", "denied")]
#[case::p22_an_absent_protocol_is_tcp(on(json!([{"port": 80}])), "y/a -> x/a 80/UDP", "denied")]
#[case::p22_a_null_protocol_is_tcp(
    on(json!([{"protocol": null, "port": 80}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p22_an_empty_element_is_all_of_tcp(on(json!([{}])), "y/a -> x/a 9999/TCP", "allowed")]
#[case::p22_an_empty_element_is_nothing_but_tcp(on(json!([{}])), "y/a -> x/a 80/UDP", "denied")]
#[case::p22_a_number_of_egress(out_to(json!([{"port": 443}])), "x/a -> 203.0.113.9 443/TCP", "allowed")]
#[case::p22_no_other_number_of_egress(
    out_to(json!([{"port": 443}])), "x/a -> 203.0.113.9 80/TCP", "denied")]
#[case::p23_a_protocol_without_port_opens_all_of_it(
    on(json!([{"protocol": "UDP"}])), "y/a -> x/a 9999/UDP", "allowed")]
#[case::p23_and_nothing_else(on(json!([{"protocol": "UDP"}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p24_udp_does_not_open_tcp(
    on(json!([{"protocol": "UDP", "port": 80}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p24_tcp_does_not_open_udp(
    on(json!([{"protocol": "TCP", "port": 80}])), "y/a -> x/a 80/UDP", "denied")]
#[case::p24_sctp_does_not_open_tcp(
    on(json!([{"protocol": "SCTP", "port": 80}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p24_tcp_does_not_open_sctp(
    on(json!([{"protocol": "TCP", "port": 80}])), "y/a -> x/a 80/SCTP", "denied")]
#[case::p25_a_name_opens_its_number(
    on(json!([{"port": "serve-80-tcp"}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p25_a_name_opens_no_other_number(
    on(json!([{"port": "serve-80-tcp"}])), "y/a -> x/a 81/TCP", "denied")]
#[case::p25_a_name_with_a_namespace(
    vec![ingress(json!([{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}],
        "ports": [{"port": "serve-81-tcp"}]}]))], "y/a -> x/a 81/TCP", "allowed")]
#[case::p25_a_name_with_the_wrong_namespace(
    vec![ingress(json!([{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}],
        "ports": [{"port": "serve-81-tcp"}]}]))], "z/a -> x/a 81/TCP", "denied")]
#[case::p25_a_name_of_egress_is_the_destinations(
    out_to(json!([{"port": "serve-80-tcp"}])), "x/a -> y/a 80/TCP", "allowed")]
#[case::p25_a_name_of_egress_opens_no_other_number(
    out_to(json!([{"port": "serve-80-tcp"}])), "x/a -> y/a 81/TCP", "denied")]
#[case::p25_a_name_means_nothing_outside_the_cluster(
    out_to(json!([{"port": "serve-80-tcp"}])), "x/a -> 203.0.113.9 80/TCP", "denied")]
#[case::p25_a_name_means_nothing_on_a_node(
    out_to(json!([{"port": "serve-80-tcp"}])), "x/a -> n2 80/TCP", "denied")]
#[case::p27_a_name_of_another_protocol_opens_nothing(
    on(json!([{"protocol": "UDP", "port": "serve-80-tcp"}])), "y/a -> x/a 80/UDP", "denied")]
#[case::p27_a_name_of_another_protocol_does_not_open_its_own(
    on(json!([{"protocol": "UDP", "port": "serve-80-tcp"}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p27_a_name_that_nobody_serves_opens_nothing(
    on(json!([{"port": "metrics"}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p27_a_name_that_nobody_serves_still_isolates_for_egress(
    out_to(json!([{"port": "metrics"}])), "x/a -> y/a 80/TCP", "denied")]
#[case::p28_a_name_of_sctp(
    on(json!([{"protocol": "SCTP", "port": "serve-80-sctp"}])), "y/a -> x/a 80/SCTP", "allowed")]
#[case::p28_a_name_of_sctp_opens_no_tcp(
    on(json!([{"protocol": "SCTP", "port": "serve-80-sctp"}])), "y/a -> x/a 80/TCP", "denied")]
#[case::p29_a_range_includes_its_first_port(
    on(json!([{"port": 80, "endPort": 90}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p29_a_range_includes_its_last_port(
    on(json!([{"port": 80, "endPort": 90}])), "y/a -> x/a 90/TCP", "allowed")]
#[case::p29_a_range_ends_after_its_last_port(
    on(json!([{"port": 80, "endPort": 90}])), "y/a -> x/a 91/TCP", "denied")]
#[case::p29_a_range_begins_at_its_first_port(
    on(json!([{"port": 80, "endPort": 90}])), "y/a -> x/a 79/TCP", "denied")]
#[case::p29_a_range_of_one_port(
    on(json!([{"port": 80, "endPort": 80}])), "y/a -> x/a 80/TCP", "allowed")]
#[case::p29_a_range_of_udp(
    on(json!([{"protocol": "UDP", "port": 80, "endPort": 90}])), "y/a -> x/a 85/UDP", "allowed")]
#[case::p29_a_range_of_udp_opens_no_tcp(
    on(json!([{"protocol": "UDP", "port": 80, "endPort": 90}])), "y/a -> x/a 85/TCP", "denied")]
#[case::p29_a_range_of_sctp(
    on(json!([{"protocol": "SCTP", "port": 80, "endPort": 90}])), "y/a -> x/a 85/SCTP", "allowed")]
#[case::p29_a_range_up_to_the_last_number(
    out_to(json!([{"port": 1, "endPort": 65535}])), "x/a -> y/a 65535/TCP", "allowed")]
#[case::p31_any_of_several_ports(
    on(json!([{"port": 80}, {"port": 81}])), "y/a -> x/a 81/TCP", "allowed")]
#[case::p31_none_but_these_ports(
    on(json!([{"port": 80}, {"port": 81}])), "y/a -> x/a 82/TCP", "denied")]
#[case::p31_ports_of_several_protocols(
    on(json!([{"port": 80}, {"protocol": "UDP", "port": 81}])), "y/a -> x/a 81/UDP", "allowed")]
#[case::p31_peer_and_port_must_both_match(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]))],
    "x/b -> x/a 80/TCP", "allowed")]
#[case::p31_the_peer_alone_is_not_enough(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]))],
    "x/b -> x/a 81/TCP", "denied")]
#[case::p31_the_port_alone_is_not_enough(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]))],
    "y/b -> x/a 80/TCP", "denied")]
#[case::p31_any_rule_suffices(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}], "ports": [{"port": 81}]}]))],
    "y/b -> x/a 81/TCP", "allowed")]
#[case::p31_peer_and_port_do_not_mix_between_rules(
    vec![ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]},
        {"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}], "ports": [{"port": 81}]}]))],
    "y/b -> x/a 80/TCP", "denied")]
#[case::p32_default_deny_denies_udp(vec![ingress(json!([]))], "y/a -> x/a 80/UDP", "denied")]
#[case::p32_default_deny_denies_sctp(vec![ingress(json!([]))], "y/a -> x/a 80/SCTP", "denied")]
#[case::p32_a_port_of_udp(
    on(json!([{"protocol": "UDP", "port": 81}])), "y/a -> x/a 81/UDP", "allowed")]
#[case::p32_another_port_of_udp(
    on(json!([{"protocol": "UDP", "port": 81}])), "y/a -> x/a 80/UDP", "denied")]
#[case::p32_a_port_of_sctp(
    on(json!([{"protocol": "SCTP", "port": 81}])), "y/a -> x/a 81/SCTP", "allowed")]
#[case::p32_another_port_of_sctp(
    on(json!([{"protocol": "SCTP", "port": 81}])), "y/a -> x/a 80/SCTP", "denied")]
#[case::p32_a_selector_for_udp(
    vec![ingress(json!([{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}],
        "ports": [{"protocol": "UDP", "port": 80}]}]))], "x/c -> x/a 80/UDP", "denied")]
#[case::p32_a_selector_for_sctp(
    vec![ingress(json!([{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}],
        "ports": [{"protocol": "SCTP", "port": 80}]}]))], "x/b -> x/a 80/SCTP", "allowed")]
#[case::p33_icmp_to_an_isolated_pod_is_left_open(
    vec![ingress(json!([]))], "y/a -> x/a ICMP", "undefined, denied")]
#[case::p33_icmp_from_an_isolated_pod_is_left_open(
    vec![egress(json!([]))], "x/a -> y/a ICMP", "undefined, denied")]
#[case::p33_icmp_is_left_open_where_a_rule_has_no_ports(
    vec![ingress(json!([{}]))], "y/a -> x/a ICMP", "undefined, allowed")]
#[case::p33_a_rule_with_ports_never_covers_icmp(
    on(json!([{"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "SCTP"}])),
    "y/a -> x/a ICMP", "undefined, denied")]
#[case::p33_icmp_from_the_own_node_always_passes(
    vec![ingress(json!([]))], "n1 -> x/a ICMP", "allowed")]
fn port(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    assert_eq!(World::with_policies(policies).outcome(flow), expected);
}

/// Pods x/a and x/b call different numbers `web`.
fn with_different_numbers(policies: Vec<NetworkPolicy>) -> World {
    let mut world = World::with_policies(policies);
    for (pod, number) in [("x/a", 8080), ("x/b", 9090)] {
        world.pod(pod).ports.push(ContainerPort {
            name: Some("web".into()),
            number,
            protocol: Protocol::Tcp,
            host_port: None,
        });
    }
    world
}

#[rstest]
#[case::p26_ingress_to_the_first("y/a -> x/a 8080/TCP", "allowed")]
#[case::p26_ingress_to_the_first_with_the_seconds_number("y/a -> x/a 9090/TCP", "denied")]
#[case::p26_ingress_to_the_second("y/a -> x/b 9090/TCP", "allowed")]
#[case::p26_ingress_to_the_second_with_the_firsts_number("y/a -> x/b 8080/TCP", "denied")]
#[case::p26_ingress_to_a_pod_without_the_name("y/a -> x/c 8080/TCP", "denied")]
fn p26_one_name_has_a_number_of_its_own_on_each_pod(#[case] flow: &str, #[case] expected: &str) {
    let ingress = with_different_numbers(on(json!([{"port": "web"}])));
    assert_eq!(ingress.outcome(flow), expected);
    let egress = policy("y", "p", json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]}));
    let egress = with_different_numbers(vec![egress]);
    assert_eq!(egress.outcome(flow), expected);
}

#[test]
fn p26_one_pod_may_use_a_name_for_several_numbers() {
    let mut world = with_different_numbers(on(json!([{"port": "web"}])));
    let mut second = world.pod("x/b").ports.last().unwrap().clone();
    second.number = 9091;
    world.pod("x/b").ports.push(second);
    assert_eq!(world.outcome("y/a -> x/b 9090/TCP"), "allowed");
    assert_eq!(world.outcome("y/a -> x/b 9091/TCP"), "allowed");
}

#[rstest]
#[case::p30_without_port(json!({"endPort": 90}), "endPort", Fault::EndWithoutPort)]
#[case::p30_with_a_name(json!({"port": "http", "endPort": 90}), "endPort",
    Fault::EndOfNamedPort("http".into()))]
#[case::p30_smaller_than_port(json!({"port": 80, "endPort": 70}), "endPort",
    Fault::EndBeforePort { first: 80, last: 70 })]
#[case::p30_out_of_range(json!({"port": 80, "endPort": 65536}), "endPort",
    Fault::NotAPortNumber(65536))]
#[case::p22_port_zero(json!({"port": 0}), "port", Fault::NotAPortNumber(0))]
#[case::p22_port_too_large(json!({"port": 70000}), "port", Fault::NotAPortNumber(70000))]
#[case::p25_a_number_as_text(json!({"port": "80"}), "port", Fault::NotAPortName("80".into()))]
#[case::p25_a_name_too_long(json!({"port": "a-name-too-long-"}), "port",
    Fault::NotAPortName("a-name-too-long-".into()))]
#[case::p33_icmp_is_no_protocol(json!({"protocol": "ICMP", "port": 1}), "protocol",
    Fault::NotAProtocol("ICMP".into()))]
fn p30_an_invalid_port_is_refused(#[case] port: Value, #[case] field: &str, #[case] fault: Fault) {
    let manifest: Manifest = serde_json::from_value(json!({
        "metadata": {"name": "p"}, "spec": {"ingress": [{"ports": [port]}]},
    }))
    .unwrap();
    let refused = NetworkPolicy::try_from(manifest).unwrap_err();
    let path = format!("spec.ingress[0].ports[0].{field}");
    let found: Vec<_> = refused.problems.iter().map(|one| (one.path.clone(), &one.fault)).collect();
    assert_eq!(found, [(path, &fault)]);
}

#[rstest]
#[case::p33_by_rules_without_ports(Icmp::RulesWithoutPorts, [true, false])]
#[case::p33_always(Icmp::Always, [true, true])]
#[case::p33_never(Icmp::Never, [false, false])]
fn p33_a_profile_says_what_becomes_of_icmp(#[case] icmp: Icmp, #[case] expected: [bool; 2]) {
    for (rule, expected) in [json!({}), json!({"ports": [{}]})].into_iter().zip(expected) {
        let mut world = World::with_policies(vec![ingress(json!([rule]))]);
        world.profile = Profile { icmp, ..Profile::calico() };
        let prediction = world.predict("y/a -> x/a ICMP");
        assert_eq!(crate::world::is_allowed(&prediction), expected, "{prediction}");
        assert!(prediction.to_string().contains(&Question::Icmp.to_string()), "{prediction}");
    }
}
