//! One fact of the semantics per case.

use rstest::rstest;

use super::*;
use cknet_kernel::nft::CtState;

/// Namespaces `prod` (env=prod) and `dev`; web, db, job in prod, web in dev, an address outside.
fn world() -> World {
    let mut world = World::default();
    namespace(&mut world, "prod", "env=prod");
    namespace(&mut world, "dev", "");
    let http = |port: u16| json!([{"name": "http", "containerPort": port}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
    pod(&mut world, "prod/web", "10.0.0.1", "app=web", http(8080));
    pod(&mut world, "prod/db", "10.0.0.2", "app=db", http(9090));
    pod(&mut world, "prod/job", "10.0.0.3", "app=job tier=batch", json!([]));
    pod(&mut world, "dev/web", "10.0.1.1", "app=web", http(80));
    world
}

const OUTSIDE: &str = "192.0.2.9";

/// Whether a packet passes from one pod (or address) to another under the policies (of namespace `prod`).
fn passes(policies: &[&str], from: &str, to: &str, port: &str) -> bool {
    let mut world = world();
    for (index, spec) in policies.iter().enumerate() {
        policy(&mut world, &format!("prod/p{index}"), spec);
    }
    let address = |text: &str| text.parse().unwrap_or_else(|_| world.pods[&name(text)].ips[0]);
    forwarded(&world, &compiled(&world), address(from), address(to), port) == Outcome::Accepted
}

#[rstest]
#[case::no_policy(&[], "dev/web", "prod/db", "1/tcp", true)]
#[case::no_policy_from_outside(&[], OUTSIDE, "prod/db", "icmp", true)]
#[case::deny_all(&["{podSelector: {}, policyTypes: [Ingress]}"], "prod/web", "prod/db", "80/tcp", false)]
#[case::deny_all_is_of_its_namespace(&["{podSelector: {}, policyTypes: [Ingress]}"], "prod/web", "dev/web", "80/tcp", true)]
#[case::deny_all_icmp(&["{podSelector: {}, policyTypes: [Ingress]}"], "prod/web", "prod/db", "icmp", false)]
#[case::default_type_is_ingress(&["{podSelector: {}}"], "prod/web", OUTSIDE, "80/tcp", true)]
#[case::default_type_is_ingress_too(&["{podSelector: {}, egress: [{}]}"], "dev/web", "prod/db", "80/tcp", false)]
#[case::egress_rules_make_egress(&["{podSelector: {}, egress: [{ports: [{port: 53, protocol: UDP}]}]}"], "prod/web", OUTSIDE, "80/tcp", false)]
#[case::egress_rules_without_the_type(&["{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 53}]}]}"], "prod/web", OUTSIDE, "80/tcp", true)]
#[case::no_rules(&["{podSelector: {}, ingress: []}"], "prod/web", "prod/db", "80/tcp", false)]
#[case::empty_rule(&["{podSelector: {}, ingress: [{}]}"], OUTSIDE, "prod/db", "icmp", true)]
#[case::empty_from(&["{podSelector: {}, ingress: [{from: [], ports: []}]}"], OUTSIDE, "prod/db", "9/sctp", true)]
#[case::policies_add_up(&["{podSelector: {}}", "{podSelector: {}, ingress: [{}]}"], "dev/web", "prod/db", "80/tcp", true)]
#[case::pod_selector(&["{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"], "prod/web", "prod/db", "80/tcp", true)]
#[case::pod_selector_is_of_its_namespace(&["{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"], "dev/web", "prod/db", "80/tcp", false)]
#[case::all_namespaces(&["{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"], "dev/web", "prod/db", "80/tcp", true)]
#[case::all_namespaces_is_not_outside(&["{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
#[case::metadata_name(&["{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: dev}}}]}]}"], "dev/web", "prod/db", "80/tcp", true)]
#[case::both_selectors(&["{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: job}}}]}]}"], "dev/web", "prod/db", "80/tcp", false)]
#[case::two_peers(&["{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}, {podSelector: {matchLabels: {app: job}}}]}]}"], "dev/web", "prod/db", "80/tcp", true)]
#[case::block(&["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}"], OUTSIDE, "prod/db", "80/tcp", true)]
#[case::block_of_pods(&["{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.1.0/24}}]}], policyTypes: [Egress]}"], "prod/db", "dev/web", "80/tcp", true)]
#[case::exception(&["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/31]}}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
#[case::exception_allowed_elsewhere(&["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}]}]}", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.9/32}}]}]}"], OUTSIDE, "prod/db", "80/tcp", true)]
#[case::block_of_the_other_version(&["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
#[case::port(&["{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"], OUTSIDE, "prod/db", "80/tcp", true)]
#[case::other_port(&["{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"], OUTSIDE, "prod/db", "81/tcp", false)]
#[case::default_protocol(&["{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"], OUTSIDE, "prod/db", "80/udp", false)]
#[case::sctp_is_not_tcp(&["{podSelector: {}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
#[case::protocol_only(&["{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}"], OUTSIDE, "prod/db", "4321/udp", true)]
#[case::ports_exclude_icmp(&["{podSelector: {}, ingress: [{ports: [{protocol: UDP}, {protocol: TCP}]}]}"], OUTSIDE, "prod/db", "icmp", false)]
#[case::end_of_a_range(&["{podSelector: {}, ingress: [{ports: [{port: 30, endPort: 40}]}]}"], OUTSIDE, "prod/db", "40/tcp", true)]
#[case::after_a_range(&["{podSelector: {}, ingress: [{ports: [{port: 30, endPort: 40}]}]}"], OUTSIDE, "prod/db", "41/tcp", false)]
#[case::several_ports(&["{podSelector: {}, ingress: [{ports: [{port: 30, endPort: 40}, {port: 50}, {port: 60, endPort: 70}]}]}"], OUTSIDE, "prod/db", "65/tcp", true)]
#[case::between_ports(&["{podSelector: {}, ingress: [{ports: [{port: 30, endPort: 40}, {port: 50}, {port: 60, endPort: 70}]}]}"], OUTSIDE, "prod/db", "51/tcp", false)]
#[case::named_port(&["{podSelector: {}, ingress: [{ports: [{port: http}]}]}"], OUTSIDE, "prod/db", "9090/tcp", true)]
#[case::named_port_of_another_pod(&["{podSelector: {}, ingress: [{ports: [{port: http}]}]}"], OUTSIDE, "prod/db", "8080/tcp", false)]
#[case::named_port_of_the_wrong_protocol(&["{podSelector: {}, ingress: [{ports: [{port: dns}]}]}"], OUTSIDE, "prod/db", "53/tcp", false)]
#[case::named_port_over_udp(&["{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}"], OUTSIDE, "prod/db", "53/udp", true)]
#[case::named_port_nobody_serves(&["{podSelector: {}, ingress: [{ports: [{port: metrics}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
#[case::named_egress(&["{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}"], "prod/db", "dev/web", "80/tcp", true)]
#[case::named_egress_to_a_selection(&["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]}"], "prod/db", "dev/web", "80/tcp", false)]
#[case::named_egress_resolves_at_the_destination(&["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]}"], "prod/db", "prod/web", "9090/tcp", false)]
#[case::named_egress_to_a_block(&["{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.1.0/24}}], ports: [{port: http}]}]}"], "prod/db", "prod/web", "8080/tcp", false)]
#[case::named_egress_outside(&["{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}"], "prod/db", OUTSIDE, "80/tcp", false)]
#[case::both_ends_must_agree(&["{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}", "{podSelector: {matchLabels: {app: db}}, ingress: [{}]}"], "prod/web", "prod/db", "80/tcp", false)]
#[case::sender_permits_receiver_does_not(&["{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}", "{podSelector: {matchLabels: {app: db}}}"], "prod/web", "prod/db", "80/tcp", false)]
#[case::both_ends_agree(&["{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]}", "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}"], "prod/web", "prod/db", "80/tcp", true)]
#[case::invalid_block(&["{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}"], OUTSIDE, "prod/db", "80/tcp", false)]
fn one_packet(#[case] policies: &[&str], #[case] from: &str, #[case] to: &str, #[case] port: &str, #[case] pass: bool) {
    assert_eq!(passes(policies, from, to, port), pass);
}

fn denying(world: &mut World) -> Ruleset {
    policy(world, "prod/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    compiled(world)
}

#[test]
fn denial_names_the_endpoint_and_the_direction() {
    let mut world = world();
    let ruleset = denying(&mut world);
    let outcome = |from, to| forwarded(&world, &ruleset, ip(from), ip(to), "80/tcp");
    assert_eq!(outcome("10.0.1.1", "10.0.0.1"), Outcome::Dropped("prod/web ingress: denied".into()));
    assert_eq!(outcome("10.0.0.1", "10.0.1.1"), Outcome::Dropped("prod/web egress: denied".into()));
}

#[test]
fn answers_pass_and_invalid_packets_do_not() {
    let mut world = world();
    let ruleset = denying(&mut world);
    let packet = |state| {
        let packet = Packet::new(ip("10.0.1.1"), ip("10.0.0.1"), Protocol::TCP, 80);
        let mut packet = Packet { state, ..packet.between("cali10.0.1.1", "cali10.0.0.1") };
        evaluate(ruleset.table(), "filter-FORWARD", &mut packet)
    };
    assert_eq!(packet(CtState::ESTABLISHED), Outcome::Accepted);
    assert_eq!(packet(CtState::RELATED), Outcome::Accepted);
    assert!(matches!(packet(CtState::INVALID), Outcome::Dropped(comment) if comment.starts_with("Invalid packet")));
}

#[test]
fn an_interface_that_is_not_known_yet_leads_nowhere() {
    let world = world();
    let ruleset = compiled(&world);
    let packet = |iif, oif| {
        let mut packet = Packet::new(ip("10.0.0.9"), ip("10.0.0.1"), Protocol::TCP, 80).between(iif, oif);
        evaluate(ruleset.table(), "filter-FORWARD", &mut packet)
    };
    assert_eq!(packet("cali999", "eth0"), Outcome::Dropped("Unknown interface: from workload".into()));
    assert_eq!(packet("eth0", "cali999"), Outcome::Dropped("Unknown interface: to workload".into()));
    assert_eq!(packet("eth0", "eth1"), Outcome::Accepted, "no business of ours");
}

#[test]
fn an_endpoint_without_a_pod_or_with_a_finished_one_is_unknown() {
    let mut world = world();
    let endpoints = everything_local(&world);
    world.pods.remove(&name("prod/web"));
    world.pods.get_mut(&name("prod/db")).unwrap().finished = true;
    let ruleset = compile(&world, &endpoints, &Options::default());
    let known: Vec<_> = ruleset.table().sets["cali-to-wl"].elements.values().flatten().collect();
    assert_eq!(known.len(), 2, "{known:?}");
}

#[test]
fn a_node_and_its_own_pods() {
    let mut world = world();
    let ruleset = denying(&mut world);
    let node = ip("172.16.0.1");
    let at = |chain, from, to, iif, oif| {
        evaluate(ruleset.table(), chain, &mut Packet::new(from, to, Protocol::TCP, 80).between(iif, oif))
    };
    let web = ip("10.0.0.1");
    assert_eq!(
        at("filter-OUTPUT", node, web, "", "cali10.0.0.1"),
        Outcome::Accepted,
        "a node may always reach its pods"
    );
    let to_node = at("filter-INPUT", web, node, "cali10.0.0.1", "");
    assert_eq!(to_node, Outcome::Dropped("prod/web egress: denied".into()), "egress policy holds towards the node");
    let free = at("filter-INPUT", ip("10.0.1.1"), node, "cali10.0.1.1", "");
    assert_eq!(free, Outcome::Accepted, "what a pod may send, its node takes");
    let other_node = at("filter-FORWARD", ip("172.16.0.2"), web, "vxlan.calico", "cali10.0.0.1");
    assert_eq!(other_node, Outcome::Dropped("prod/web ingress: denied".into()), "another node is nobody special");
}

#[test]
fn the_overlay_is_for_known_nodes() {
    let mut world = world();
    let node = json!({
        "metadata": {"name": "n1", "annotations": {
            "projectcalico.org/IPv4Address": "172.16.0.1/24", "projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.0"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.16.0.1"}, {"type": "Hostname", "address": "n1"}]},
    });
    world.put_node(&serde_json::from_value(node).unwrap());
    assert_eq!(world.nodes["n1"].vxlan_tunnel_ips, [ip("10.0.0.0")]);
    let ruleset = compiled(&world);
    let arrives = |from| {
        let packet = Packet::new(ip(from), ip("172.16.0.2"), Protocol::UDP, 4789).between("eth0", "");
        evaluate(ruleset.table(), "filter-INPUT", &mut Packet { local: vec![ip("172.16.0.2")], ..packet })
    };
    assert_eq!(arrives("172.16.0.1"), Outcome::Accepted);
    assert!(matches!(arrives("172.16.0.9"), Outcome::Dropped(_)));
    let smuggled = forwarded(&world, &ruleset, ip("10.0.0.1"), ip("172.16.0.2"), "4789/udp");
    assert!(matches!(smuggled, Outcome::Dropped(comment) if comment.contains("originating in workloads")));
}

#[test]
fn pods_in_the_host_network_are_neither_subject_nor_peer() {
    let mut world = world();
    policy(&mut world, "prod/p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
    let host = json!({
        "metadata": {"namespace": "prod", "name": "agent", "labels": {}},
        "spec": {"hostNetwork": true, "containers": []}, "status": {"podIP": "172.16.0.1"},
    });
    world.put_pod(&serde_json::from_value(host).unwrap());
    let ruleset = compiled(&world);
    let outcome = forwarded(&world, &ruleset, ip("172.16.0.1"), ip("10.0.0.1"), "80/tcp");
    assert!(matches!(outcome, Outcome::Dropped(_)), "{outcome:?}");
}

#[test]
fn terminating_pods_keep_their_connectivity_and_finished_ones_are_forgotten() {
    let mut world = world();
    policy(&mut world, "prod/p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}");
    let passes = |world: &World| {
        forwarded(world, &compiled(world), ip("10.0.0.1"), ip("10.0.0.2"), "80/tcp") == Outcome::Accepted
    };
    world.pods.get_mut(&name("prod/web")).unwrap().terminating = true;
    assert!(passes(&world));
    // Its address now belongs to a pod without the label.
    world.pods.get_mut(&name("prod/web")).unwrap().finished = true;
    pod(&mut world, "prod/heir", "10.0.0.1", "app=heir", json!([]));
    assert!(!passes(&world));
}

#[test]
fn an_address_is_known_before_the_status_has_it() {
    let mut world = World::default();
    let object = json!({"metadata": {"namespace": "a", "name": "b",
        "annotations": {"cni.projectcalico.org/podIPs": "10.0.0.5/32,fd00::5/128"}}});
    world.put_pod(&serde_json::from_value(object).unwrap());
    assert_eq!(world.pods[&name("a/b")].ips, [ip("10.0.0.5"), ip("fd00::5")]);
}

#[test]
fn membership_changes_touch_sets_only() {
    let mut world = world();
    policy(&mut world, "prod/p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}");
    let endpoints = everything_local(&world);
    let before = compile(&world, &endpoints, &Options::default());
    pod(&mut world, "prod/web2", "10.0.2.1", "app=web", json!([]));
    let after = compile(&world, &endpoints, &Options::default());
    assert_eq!(before.table().chains, after.table().chains);
    let change = cknet_kernel::nft::Batch::new().change(before.table(), after.table());
    assert_eq!(change, cknet_kernel::nft::Change { elements_added: 1, ..Default::default() });
}

#[test]
fn names_that_are_too_long_stay_apart() {
    let mut world = world();
    let long = "x".repeat(250);
    for end in ["a", "b"] {
        policy(&mut world, &format!("prod/{long}{end}"), "{podSelector: {}}");
    }
    let names: Vec<_> =
        compiled(&world).table().chains.keys().filter(|name| name.starts_with("cali-pi-")).cloned().collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.len() <= 200));
}

#[test]
fn outgoing_traffic_gets_the_nodes_address() {
    let mut world = world();
    world.pools = vec![
        super::super::Pool { cidr: "10.0.0.0/24".parse().unwrap(), nat_outgoing: true },
        super::super::Pool { cidr: "10.0.1.0/24".parse().unwrap(), nat_outgoing: false },
    ];
    let ruleset = compiled(&world);
    let leaves = |from, to| {
        let mut packet = Packet::new(ip(from), ip(to), Protocol::TCP, 80).between("", "eth0");
        evaluate(ruleset.table(), "nat-POSTROUTING", &mut packet)
    };
    assert_eq!(leaves("10.0.0.1", OUTSIDE), Outcome::Masqueraded);
    assert_eq!(leaves("10.0.0.1", "10.0.1.1"), Outcome::Accepted, "to another pool");
    assert_eq!(leaves("10.0.1.1", OUTSIDE), Outcome::Accepted, "a pool without natOutgoing");
}

#[test]
fn version_six_has_its_own_table() {
    let mut world = World::default();
    namespace(&mut world, "prod", "");
    pod(&mut world, "prod/web", "fd00::1", "", json!([]));
    policy(
        &mut world,
        "prod/p",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 'fd01::/64', except: ['fd01::/65']}}]}]}",
    );
    let options = Options { version: super::super::IpVersion::V6, ..Options::default() };
    let endpoints = [LocalEndpoint { pod: name("prod/web"), interface: "cali1".into(), ip: ip("fd00::1") }];
    let ruleset = compile(&world, &endpoints, &options);
    let from = |source| {
        let mut packet = Packet::new(ip(source), ip("fd00::1"), Protocol::TCP, 80).between("eth0", "cali1");
        evaluate(ruleset.table(), "filter-FORWARD", &mut packet)
    };
    assert_eq!(from("fd01::8000:0:0:1"), Outcome::Accepted);
    assert!(matches!(from("fd01::1"), Outcome::Dropped(_)));
}
