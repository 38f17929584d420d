//! Points 51 to 55: Services, node ports, loops through a Service, and who the server sees.

use cknet_oracle::{
    ContainerPort, Hairpin, NetworkPolicy, Outcome, Profile, Protocol, Question, RemoteNodePort, ServiceAddress,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, egress, ingress, policy};

/// Services in front of x/a and x/b: `web` (80 to 80), `shifted` (8000 to the named port 81), a node
/// port in front of both, one that stays local, and one of x/a alone.
fn world(policies: Vec<NetworkPolicy>) -> World {
    let pods = json!({"tier": "web"});
    let port = |target: Value, node_port: Value| json!([{"port": 80, "targetPort": target, "nodePort": node_port}]);
    World::with_policies(policies)
        .change("x/a", |pod| drop(pod.labels.insert("tier".into(), "web".into())))
        .change("x/b", |pod| drop(pod.labels.insert("tier".into(), "web".into())))
        .service("x/web", json!({"clusterIP": "10.96.0.1", "selector": pods, "ports": [{"port": 80}]}))
        .service(
            "x/shifted",
            json!({"clusterIP": "10.96.0.2", "selector": pods,
            "ports": [{"port": 8000, "targetPort": "serve-81-tcp"}]}),
        )
        .service(
            "x/exposed",
            json!({"clusterIP": "10.96.0.3", "selector": pods,
            "ports": port(json!(80), json!(30080))}),
        )
        .service(
            "x/local",
            json!({"clusterIP": "10.96.0.4", "selector": pods,
            "externalTrafficPolicy": "Local", "ports": port(json!(80), json!(30081))}),
        )
        .service(
            "x/alone",
            json!({"clusterIP": "10.96.0.5", "selector": {"pod": "a"},
            "externalIPs": ["198.51.100.5"], "ports": port(json!(80), json!(30082))}),
        )
        .service(
            "x/near",
            json!({"clusterIP": "10.96.0.6", "selector": {"pod": "a"},
            "internalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
        )
        .service("x/headless", json!({"clusterIP": "None", "selector": pods, "ports": [{"port": 80}]}))
        .service(
            "x/nobody",
            json!({"clusterIP": "10.96.0.7", "selector": {"pod": "nobody"},
            "ports": [{"port": 80}]}),
        )
        .service("x/alias", json!({"type": "ExternalName", "externalName": "example.com"}))
}

fn deny_in() -> Vec<NetworkPolicy> {
    vec![ingress(json!([]))]
}

/// Ingress to x from one pod.
fn from(pod: &str) -> Vec<NetworkPolicy> {
    let (namespace, name) = pod.split_once('/').unwrap();
    vec![ingress(json!([{"from": [{
        "namespaceSelector": {"matchLabels": {"ns": namespace}},
        "podSelector": {"matchLabels": {"pod": name}},
    }]}]))]
}

#[rstest]
#[case::p52_a_service_without_policies(vec![], "y/a -> svc:x/web 80/TCP", "allowed")]
#[case::p52_by_its_address(vec![], "y/a -> 10.96.0.1 80/TCP", "allowed")]
#[case::p52_policies_of_the_backend_apply(deny_in(), "y/a -> svc:x/web 80/TCP", "denied")]
#[case::p52_the_client_is_the_peer(from("y/a"), "y/a -> svc:x/web 80/TCP", "allowed")]
#[case::p52_another_client_is_not(from("y/a"), "y/b -> svc:x/web 80/TCP", "denied")]
#[case::p52_the_target_port_counts(
    vec![ingress(json!([{"ports": [{"port": 81}]}]))], "y/a -> svc:x/shifted 8000/TCP", "allowed")]
#[case::p52_the_services_port_does_not(
    vec![ingress(json!([{"ports": [{"port": 8000}]}]))], "y/a -> svc:x/shifted 8000/TCP", "denied")]
#[case::p52_the_target_port_counts_for_egress_too(
    vec![egress(json!([{"ports": [{"port": 81}]}]))], "x/c -> svc:x/shifted 8000/TCP", "allowed")]
#[case::p52_the_services_port_does_not_for_egress(
    vec![egress(json!([{"ports": [{"port": 8000}]}]))], "x/c -> svc:x/shifted 8000/TCP", "denied")]
#[case::p52_egress_to_the_backends_labels(
    vec![egress(json!([{"to": [{"podSelector": {"matchLabels": {"tier": "web"}}}]}]))],
    "x/c -> svc:x/web 80/TCP", "allowed")]
#[case::p52_backends_may_differ(
    vec![policy("x", "p", json!({"podSelector": {"matchLabels": {"pod": "b"}}}))],
    "y/a -> svc:x/web 80/TCP", "varies")]
#[case::p52_no_ready_backend(vec![], "y/a -> svc:x/nobody 80/TCP", "no answer")]
#[case::p52_no_such_port(vec![], "y/a -> svc:x/web 81/TCP", "no answer")]
#[case::p52_no_such_protocol(vec![], "y/a -> svc:x/web 80/UDP", "no answer")]
#[case::p52_a_ping_of_a_service(vec![], "y/a -> svc:x/web ICMP", "no answer")]
#[case::p52_a_name_elsewhere(vec![], "y/a -> svc:x/alias 80/TCP", "no answer")]
#[case::p52_a_cluster_address_from_outside(vec![], "203.0.113.9 -> 10.96.0.1 80/TCP", "no answer")]
#[case::p52_a_headless_service_is_its_pods(from("y/a"), "y/a -> svc:x/headless 80/TCP", "allowed")]
#[case::p52_a_headless_service_denied(from("y/a"), "y/b -> svc:x/headless 80/TCP", "denied")]
#[case::p52_internal_policy_local_with_a_backend_here(vec![], "y/a -> svc:x/near 80/TCP", "allowed")]
#[case::p52_internal_policy_local_without(vec![], "y/b -> svc:x/near 80/TCP", "no answer")]
#[case::p20_a_block_with_the_services_address_is_left_open(
    vec![egress(json!([{"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}]))],
    "x/c -> svc:x/web 80/TCP", "undefined, denied")]
#[case::p20_a_block_with_both_addresses_depends_on_pods_being_covered(
    vec![egress(json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]))],
    "x/c -> svc:x/web 80/TCP", "undefined, allowed")]
#[case::p51_itself_through_its_service_is_left_open(deny_in(), "x/a -> svc:x/alone 80/TCP", "undefined, denied")]
#[case::p51_itself_through_its_service_with_a_rule_for_itself(
    vec![ingress(json!([{"from": [{"podSelector": {}}]}]))], "x/a -> svc:x/alone 80/TCP", "allowed")]
#[case::p51_itself_through_its_nodes_port_with_a_rule_for_itself(
    vec![ingress(json!([{"from": [{"podSelector": {}}]}]))], "x/a -> n1 30082/TCP", "allowed")]
#[case::p51_itself_through_its_service_without_policies(vec![], "x/a -> svc:x/alone 80/TCP", "allowed")]
#[case::p51_itself_through_its_service_without_egress(
    vec![egress(json!([]))], "x/a -> svc:x/alone 80/TCP", "undefined, denied")]
#[case::p49_a_node_through_a_service_to_its_own_pod(deny_in(), "n1 -> svc:x/alone 80/TCP", "allowed")]
#[case::p49_a_node_through_a_service_to_a_remote_pod(deny_in(), "n2 -> svc:x/alone 80/TCP", "denied")]
#[case::p53_outside_to_a_node_port_without_policies(vec![], "203.0.113.9 -> n3 30082/TCP", "allowed")]
#[case::p53_outside_to_a_node_port_with_the_backend_elsewhere(deny_in(), "203.0.113.9 -> n3 30082/TCP", "denied")]
#[case::p53_outside_to_a_node_port_with_the_backend_here(deny_in(), "203.0.113.9 -> n1 30082/TCP", "undefined, denied")]
#[case::p53_outside_with_a_block_and_the_backend_here(
    vec![ingress(json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]))],
    "203.0.113.9 -> n1 30082/TCP", "allowed")]
#[case::p53_outside_with_a_block_and_the_backend_elsewhere(
    vec![ingress(json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]))],
    "203.0.113.9 -> n3 30082/TCP", "undefined, denied")]
#[case::p53_a_node_to_another_nodes_port_carries_its_own_address(
    vec![ingress(json!([{"from": [{"ipBlock": {"cidr": "192.168.60.13/32"}}]}]))],
    "n3 -> n1 30082/TCP", "undefined, allowed")]
#[case::p53_a_node_to_another_nodes_port_carries_no_overlay_address(
    vec![ingress(json!([{"from": [{"ipBlock": {"cidr": "10.1.100.3/32"}}]}]))],
    "n3 -> n1 30082/TCP", "undefined, denied")]
#[case::p53_local_keeps_the_client(
    vec![policy("x", "p", json!({"ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]}))],
    "203.0.113.9 -> n1 30081/TCP", "allowed")]
#[case::p53_local_keeps_out_another_client(
    vec![policy("x", "p", json!({"ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]}))],
    "198.51.100.9 -> n1 30081/TCP", "denied")]
#[case::p53_local_without_a_backend_here(vec![], "203.0.113.9 -> n3 30081/TCP", "no answer")]
#[case::p53_local_from_a_pod_of_the_node_reaches_all_backends(vec![], "y/c -> n3 30081/TCP", "allowed")]
#[case::p53_local_from_a_pod_of_another_node(vec![], "y/a -> n3 30081/TCP", "no answer")]
#[case::p53_a_pod_to_its_own_nodes_port_with_the_backend_here(from("y/a"), "y/a -> n1 30082/TCP", "allowed")]
#[case::p53_a_pod_to_its_own_nodes_port_with_the_backend_elsewhere(
    from("y/b"),
    "y/b -> n2 30082/TCP",
    "undefined, denied"
)]
#[case::p53_another_pod_to_its_own_nodes_port(from("y/b"), "y/a -> n1 30082/TCP", "undefined, denied")]
#[case::p53_egress_to_another_nodes_port_is_left_open(
    vec![egress(json!([{"to": [{"podSelector": {}}]}]))], "x/c -> n2 30080/TCP", "undefined, denied")]
#[case::p53_egress_to_the_own_nodes_port_sees_the_backend(
    vec![egress(json!([{"to": [{"podSelector": {}}]}]))], "x/c -> n3 30080/TCP", "allowed")]
#[case::p53_external_ip_from_a_pod(vec![], "y/a -> 198.51.100.5 80/TCP", "allowed")]
#[case::p53_external_ip_from_outside(deny_in(), "203.0.113.9 -> 198.51.100.5 80/TCP", "undefined, denied")]
#[case::p53_an_unused_node_port_is_the_node(vec![], "y/a -> n2 30099/TCP", "allowed")]
fn service(#[case] policies: Vec<NetworkPolicy>, #[case] flow: &str, #[case] expected: &str) {
    let world = world(policies);
    assert_eq!(world.outcome(flow), expected, "{}", world.predict(flow));
}

#[rstest]
#[case::p54_pod_to_pod("y/a -> x/b 80/TCP", "10.1.2.1")]
#[case::p54_pod_to_cluster_address("y/a -> svc:x/alone 80/TCP", "10.1.2.1")]
#[case::p54_pod_to_itself_through_its_service("x/a -> svc:x/alone 80/TCP", "n1")]
#[case::p54_pod_to_a_port_of_its_own_node("y/a -> n1 30082/TCP", "n1")]
#[case::p54_pod_to_a_port_of_another_node("y/c -> n2 30082/TCP", "n2")]
#[case::p54_pod_to_a_local_port_of_its_own_node("y/a -> n1 30081/TCP", "10.1.2.1")]
#[case::p54_pod_to_a_local_port_of_another_node("y/c -> n1 30081/TCP", "n3")]
#[case::p54_node_to_a_remote_pod("n3 -> x/a 80/TCP", "n3")]
#[case::p54_node_to_a_cluster_address("n3 -> svc:x/alone 80/TCP", "n3")]
#[case::p54_outside_to_a_pod("203.0.113.9 -> x/a 80/TCP", "203.0.113.9")]
#[case::p54_outside_to_a_node_port_here("203.0.113.9 -> n1 30082/TCP", "n1")]
#[case::p54_outside_to_a_node_port_elsewhere("203.0.113.9 -> n3 30082/TCP", "n3")]
#[case::p54_outside_to_a_local_node_port("203.0.113.9 -> n1 30081/TCP", "203.0.113.9")]
#[case::p54_pod_to_the_outside("y/a -> 203.0.113.9 80/TCP", "n1")]
#[case::p54_pod_to_another_node("y/a -> n2 22/TCP", "n1")]
#[case::p54_pod_to_its_own_node("y/a -> n1 22/TCP", "10.1.2.1")]
fn p54_the_server_sees_a_source(#[case] flow: &str, #[case] expected: &str) {
    let prediction = world(vec![]).predict(flow);
    let seen_as = &prediction.legs[0].seen_as;
    let addresses: Vec<_> = seen_as.addresses().iter().map(ToString::to_string).collect();
    match expected.parse::<std::net::IpAddr>() {
        Ok(_) => assert_eq!(addresses, [expected]),
        Err(_) => {
            let internal = expected.replace('n', "192.168.60.1");
            assert!(addresses.contains(&internal), "{addresses:?} has no {internal}");
        }
    }
}

#[test]
fn p54_without_outgoing_translation_the_pod_itself_is_seen() {
    let mut world = world(vec![]);
    world.profile = Profile { nat_outgoing: false, ..Profile::calico() };
    let prediction = world.predict("y/a -> 203.0.113.9 80/TCP");
    assert_eq!(prediction.legs[0].seen_as.addresses(), ["10.1.2.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn p51_a_profile_may_exempt_hairpins() {
    let mut world = world(deny_in());
    world.profile = Profile { hairpin: Hairpin::Exempt, ..Profile::calico() };
    assert_eq!(world.outcome("x/a -> svc:x/alone 80/TCP"), "undefined, allowed");
}

#[test]
fn p51_a_service_of_several_pods_varies_for_one_of_them() {
    let mut world = world(deny_in());
    world.profile = Profile { hairpin: Hairpin::Exempt, ..Profile::calico() };
    assert_eq!(world.outcome("x/a -> svc:x/web 80/TCP"), "undefined, varies");
    world.profile = Profile::calico();
    assert_eq!(world.outcome("x/a -> svc:x/web 80/TCP"), "undefined, denied", "as observed, 4 of 4");
}

#[test]
fn p53_the_question_of_each_path_is_named() {
    let hinges = |world: &World, flow: &str| match world.predict(flow).outcome {
        Outcome::Undefined(undefined) => undefined.hinges.iter().map(|hinge| hinge.question).collect::<Vec<_>>(),
        other => panic!("{flow} is defined: {other:?}"),
    };
    let world_of = |rules| world(vec![egress(rules)]);
    let to_pods = world_of(json!([{"to": [{"podSelector": {}}]}]));
    assert_eq!(hinges(&to_pods, "x/c -> n2 30080/TCP"), [Question::RemoteNodePort]);
    let to_service = world_of(json!([{"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}]));
    assert_eq!(hinges(&to_service, "x/c -> svc:x/web 80/TCP"), [Question::ServiceAddress]);
    let mut from_outside = world(deny_in());
    assert_eq!(hinges(&from_outside, "203.0.113.9 -> n1 30082/TCP"), [Question::RewrittenSource]);
    from_outside.profile = Profile {
        remote_node_port: RemoteNodePort::Backend,
        service_address: ServiceAddress::Dialled,
        ..Profile::calico()
    };
    assert_eq!(from_outside.outcome("203.0.113.9 -> n1 30082/TCP"), "undefined, denied");
}

/// Either question alone changes nothing here, as each end denies for a reason of its own.
#[test]
fn p53_two_questions_may_matter_only_together() {
    let peers = json!([{"podSelector": {}}]);
    let both = json!({"policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers}], "egress": [{"to": peers}]});
    let prediction = world(vec![policy("x", "p", both)]).predict("x/c -> n2 30082/TCP");
    let Outcome::Undefined(undefined) = &prediction.outcome else { panic!("{prediction}") };
    let hinges: Vec<_> = undefined.hinges.iter().map(|hinge| hinge.question).collect();
    assert_eq!(hinges, [Question::RemoteNodePort, Question::RewrittenSource]);
    assert_eq!(prediction.expected.to_string(), "denied");
}

#[test]
fn p53_a_backend_in_its_nodes_network_is_the_node() {
    let world = world(deny_in()).host_network("x/a");
    assert_eq!(world.outcome("y/b -> svc:x/alone 80/TCP"), "undefined, allowed");
    assert_eq!(world.outcome("203.0.113.9 -> n3 30082/TCP"), "undefined, allowed");
}

#[test]
fn p52_slices_say_more_than_the_selector() {
    let mut world = world(vec![]);
    let slice = |ready: bool| {
        serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": "web-1",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.3.3"], "conditions": {"ready": ready}},
                {"addresses": ["10.1.3.1"], "conditions": {"ready": false}},
                {"addresses": ["10.1.3.2", "10.1.2.2"]},
            ],
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        }))
        .unwrap()
    };
    let legs = |world: &World| -> Vec<_> {
        let prediction = world.predict("y/a -> svc:x/web 80/TCP");
        prediction.legs.iter().map(|leg| format!("{} {}", leg.to, leg.port)).collect()
    };
    world.snapshot.endpoint_slices = vec![slice(true)];
    assert_eq!(legs(&world), ["`z/b` 8080/TCP", "`z/c` 8080/TCP"], "absent means ready");
    world.snapshot.endpoint_slices = vec![slice(false)];
    assert_eq!(legs(&world), ["`z/b` 8080/TCP"]);
    world.snapshot.endpoint_slices[0].endpoints.clear();
    assert_eq!(world.outcome("y/a -> svc:x/web 80/TCP"), "no answer");
}

#[test]
fn p52_a_pod_that_is_not_ready_is_no_backend() {
    let world = world(vec![]).change("x/a", |pod| pod.ready = false);
    assert_eq!(world.predict("y/a -> svc:x/web 80/TCP").legs.len(), 1);
    assert_eq!(world.outcome("y/a -> svc:x/alone 80/TCP"), "no answer");
    assert_eq!(world.outcome("y/a -> x/a 80/TCP"), "allowed", "by its own address it is reached");
}

#[test]
fn p55_a_host_port_leads_to_its_pod() {
    let mut world = world(deny_in());
    world.pod("x/a").ports.push(ContainerPort {
        name: None,
        number: 80,
        protocol: Protocol::Tcp,
        host_port: Some(8888),
    });
    assert_eq!(world.outcome("203.0.113.9 -> n1 8888/TCP"), "denied");
    assert_eq!(world.outcome("203.0.113.9 -> n2 8888/TCP"), "allowed", "the node itself");
    assert_eq!(world.outcome("n1 -> n1 8888/TCP"), "allowed", "its own node");
    world.snapshot.policies = vec![];
    let prediction = world.predict("203.0.113.9 -> n1 8888/TCP");
    assert_eq!(prediction.legs[0].seen_as.to_string(), "`203.0.113.9` outside the cluster");
}

#[test]
fn p55_an_address_of_the_service_range_that_no_service_has_leads_nowhere() {
    let mut world = world(vec![]);
    world.snapshot.service_ranges = vec!["10.96.0.0/16".parse().unwrap()];
    assert_eq!(world.outcome("y/a -> 10.96.7.7 80/TCP"), "no answer");
    assert_eq!(world.outcome("y/a -> 10.97.7.7 80/TCP"), "allowed");
}

#[test]
fn a_client_without_the_servers_family_has_no_way() {
    let world = world(vec![]).change("y/a", |pod| pod.ips.truncate(1));
    assert_eq!(world.outcome("y/a -> fd00:1:1::1 80/TCP"), "no answer");
    assert_eq!(world.outcome("y/b -> fd00:1:1::1 80/TCP"), "allowed");
}
