//! Advice on policies that are legal and do not do what they seem to.

use cknet_oracle::{NetworkPolicy, Weight, validate};
use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{World, egress, in_x, ingress, policy};

/// The small cluster with a DNS service: pods of z with `dns=yes` at port 5353.
fn world() -> World {
    let mut world = World::new().change("z/a", |pod| {
        pod.labels.insert("dns".into(), "yes".into());
    });
    // One family keeps the tables about something else than families.
    for pod in &mut world.snapshot.pods {
        pod.ips.truncate(1);
    }
    world
        .service(
            "z/dns",
            json!({"clusterIP": "10.96.0.10", "selector": {"dns": "yes"},
            "ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353},
                {"name": "tcp", "port": 53, "protocol": "TCP", "targetPort": 5353}]}),
        )
        .service(
            "x/web",
            json!({"clusterIP": "10.96.0.1", "selector": {"pod": "a"},
            "ports": [{"port": 8000, "targetPort": 80}]}),
        )
}

fn advice(world: &World, policy: &NetworkPolicy) -> Vec<String> {
    validate(policy, &world.snapshot).iter().map(ToString::to_string).collect()
}

fn dns() -> Value {
    json!({"ports": [{"protocol": "UDP", "port": 5353}, {"port": 5353}]})
}

#[rstest]
#[case::nothing_to_say(ingress(json!([{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}])), &[])]
#[case::nothing_to_say_of_deny_all(in_x(json!({})), &[])]
#[case::selects_no_pod(in_x(json!({"podSelector": {"matchLabels": {"app": "web"}}})),
    &["`spec.podSelector`: no pod of namespace `x` matches app=web, the policy applies to nobody"])]
#[case::selects_pods_elsewhere_only(in_x(json!({"podSelector": {"matchLabels": {"dns": "yes"}}})),
    &["`spec.podSelector`: no pod of namespace `x` matches dns=yes, the policy applies to nobody; \
       such pods are in namespace `z`"])]
#[case::egress_rules_without_effect(
    in_x(json!({"policyTypes": ["Ingress"], "egress": [{}, {"ports": [{}]}]})),
    &["`spec.egress`: 2 rules are without effect, as `policyTypes` leaves out egress"])]
#[case::egress_alone_isolates_for_ingress(in_x(json!({"egress": [dns()]})),
    &["`spec.policyTypes`: it is absent, so that the policy also isolates for ingress and, having no \
       ingress rule, denies all of it; `policyTypes: [Egress]` isolates for egress alone"])]
#[case::a_rule_for_everything_beside_others(ingress(json!([{"ports": [{"port": 80}]}, {}])),
    &["`spec.ingress[1]`: this rule allows everything, and the other 1 ingress rule adds nothing"])]
#[case::a_rule_for_everything_alone(ingress(json!([{}])), &[])]
#[case::a_peer_of_another_namespace(
    ingress(json!([{"from": [{"podSelector": {"matchLabels": {"dns": "yes"}}}]}])),
    &["`spec.ingress[0].from[0]`: dns=yes: no pod is meant; such pods are in namespace `z`"])]
#[case::a_peer_that_nobody_is(
    ingress(json!([{"from": [{"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}}]}])),
    &["`spec.ingress[0].from[0]`: app=web in all namespaces: no pod is meant"])]
#[case::a_namespace_by_a_label_it_does_not_have(
    ingress(json!([{"from": [{"namespaceSelector": {"matchLabels": {"name": "y"}}}]}])),
    &["`spec.ingress[0].from[0]`: no namespace matches name=y; namespace `y` has the label \
       kubernetes.io/metadata.name=y"])]
#[case::alternatives_where_both_were_meant(
    ingress(json!([{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}},
        {"podSelector": {"matchLabels": {"pod": "a"}}}]}])),
    &["`spec.ingress[0].from[1]`: these are alternatives: every pod in namespaces ns=y, or pods pod=a \
       of the policy's own namespace; both selectors in one element mean pods that match both"])]
#[case::a_port_name_nobody_serves(ingress(json!([{"ports": [{"port": "http"}]}])),
    &["`spec.ingress[0].ports[0]`: no pod that this is about has a port `http` for TCP"])]
#[case::a_port_name_of_another_protocol(ingress(json!([{"ports": [{"protocol": "UDP", "port": "serve-80-tcp"}]}])),
    &["`spec.ingress[0].ports[0]`: no pod that this is about has a port `serve-80-tcp` for UDP; it is \
       one for TCP"])]
#[case::the_port_of_a_service(ingress(json!([{"ports": [{"port": 8000}]}])),
    &["`spec.ingress[0].ports[0]`: 8000/TCP is a port of service `x/web`, but policies act on its \
       backends' port, which is 80"])]
#[case::a_block_of_pods(ingress(json!([{"from": [{"ipBlock": {"cidr": "10.1.2.0/24"}}]}])),
    &["`spec.ingress[0].from[0].ipBlock`: 10.1.2.0/24 has the addresses of 3 pods; whether an ipBlock \
       covers pods is up to the plugin, use selectors"])]
#[case::a_block_of_everything(ingress(json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])), &[])]
#[case::a_block_without_the_pods(
    ingress(json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}])), &[])]
#[case::a_block_of_services(
    egress(json!([dns(), {"to": [{"ipBlock": {"cidr": "10.96.0.0/16"}}]}])),
    &["`spec.egress[1].to[0].ipBlock`: 10.96.0.0/16 has the address of `z/dns`, `x/web`; most plugins \
       see the backends' addresses instead"])]
#[case::a_block_of_nothing(
    ingress(json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24",
        "except": ["203.0.113.0/25", "203.0.113.128/25"]}}]}])),
    &["`spec.ingress[0].from[0].ipBlock`: 203.0.113.0/24 except 203.0.113.0/25, 203.0.113.128/25 \
       leaves no address"])]
#[case::an_exception_undone_by_another_rule(
    ingress(json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}]},
        {"from": [{"ipBlock": {"cidr": "203.0.113.9/32"}}]}])),
    &["`spec.ingress[0].from[0].ipBlock.except[0]`: an exception is no denial: `p` ingress[1] lets \
       addresses of 203.0.113.8/29 pass all the same"])]
#[case::an_exception_that_stands(
    ingress(json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}],
            "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "203.0.113.9/32"}}], "ports": [{"port": 81, "endPort": 90}]}])), &[])]
#[case::no_name_resolution(egress(json!([{"ports": [{"port": 443}]}])),
    &["`spec.egress`: `x/a`, `x/b`, `x/c` are without name resolution: no rule allows 53/UDP to the \
       DNS servers"])]
#[case::name_resolution_at_the_services_port(
    egress(json!([{"ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]}])),
    &["`spec.egress[0].ports[0]`: 53/UDP is a port of service `z/dns`, but policies act on its \
       backends' port, which is 5353",
      "`spec.egress[0].ports[1]`: 53/TCP is a port of service `z/dns`, but policies act on its \
       backends' port, which is 5353",
      "`spec.egress`: `x/a`, `x/b`, `x/c` are without name resolution: no rule allows 53/UDP to the \
       DNS servers"])]
#[case::name_resolution_without_tcp(egress(json!([{"ports": [{"protocol": "UDP", "port": 5353}]}])),
    &["`spec.egress`: `x/a`, `x/b`, `x/c` are without name resolution over TCP, which large answers \
       need: allow 53/TCP too"])]
fn legal_but_odd(#[case] policy: NetworkPolicy, #[case] expected: &[&str]) {
    assert_eq!(advice(&world(), &policy), expected);
}

#[test]
fn name_resolution_may_come_from_another_policy() {
    let mut world = world();
    let web = egress(json!([{"ports": [{"port": 443}]}]));
    let dns = policy("x", "dns", json!({"policyTypes": ["Egress"], "egress": [dns()]}));
    world.snapshot.policies = vec![web.clone(), dns];
    assert_eq!(advice(&world, &web), Vec::<String>::new());
}

#[test]
fn without_a_dns_server_in_sight_the_port_decides() {
    let world = World::new();
    let allowing = egress(json!([{"ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]}]));
    assert_eq!(advice(&world, &allowing), Vec::<String>::new());
    let denying = egress(json!([{"ports": [{"port": 443}]}]));
    assert!(advice(&world, &denying)[0].contains("without name resolution"));
}

#[test]
fn an_exception_undone_by_another_policy_is_told() {
    let mut world = world();
    world.snapshot.policies =
        vec![policy("x", "open", json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{}]}))];
    let block = json!([{"from": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}]}]);
    let told = advice(&world, &ingress(block));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("`open` ingress[0]"), "{told:?}");
}

#[test]
fn a_port_name_with_two_numbers_is_told() {
    let mut world = world();
    world.pod("x/b").ports[0].number = 8080;
    let told = advice(&world, &ingress(json!([{"ports": [{"port": "serve-80-tcp"}]}])));
    assert_eq!(
        told,
        ["`spec.ingress[0].ports[0]`: `serve-80-tcp` is 80 and 8080 on different pods, \
        which some plugins do not resolve for each pod"]
    );
}

#[test]
fn host_network_pods_among_the_selected_are_told() {
    let world = world().host_network("x/b");
    let found = validate(&in_x(json!({})), &world.snapshot);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.finding.weight(), Weight::Undefined);
    assert_eq!(
        one.to_string(),
        "`spec.podSelector`: `x/b` is in the network of the node, where most \
        plugins apply no policy"
    );
}

#[test]
fn all_of_one_family_in_a_cluster_of_two_is_told() {
    let everywhere = |cidrs: &[&str]| {
        let to: Vec<_> = cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
        egress(json!([{ "to": to }]))
    };
    let told = advice(&World::new(), &everywhere(&["0.0.0.0/0"]));
    assert!(told[0].contains("0.0.0.0/0 says nothing of the other family"), "{told:?}");
    assert_eq!(advice(&World::new(), &everywhere(&["0.0.0.0/0", "::/0"])), Vec::<String>::new());
}
