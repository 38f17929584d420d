//! Services, packet by packet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use cknet_reference::node::proxy::{NodeView, Programmer, compile, service_ports};
use serde_json::{Value, json};

use crate::lab::{Answer, Lab, NODE, OUTSIDE, visitor};

pub const TRIALS: &[(&str, fn())] = &[
    ("service_cluster_address_reaches_every_endpoint", cluster_address_reaches_every_endpoint),
    ("service_node_port_answers_from_outside", node_port_answers_from_outside),
    ("service_without_endpoints_is_refused", without_endpoints_is_refused),
    ("service_hairpin", hairpin),
    ("service_datagrams", datagrams),
    ("service_affinity_keeps_a_client_with_its_endpoint", affinity),
    ("service_policies_see_the_endpoint", policies_see_the_endpoint),
];

const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 152, 183, 10);

fn cluster() -> IpAddr {
    CLUSTER.into()
}

/// Programs the service `prod/web`, 80 -> 8080 and node port 30080, with the given pods behind it.
fn serve(lab: &Lab, programmer: &mut Programmer, extra: &Value, behind: &[&str]) -> cknet_kernel::nft::Applied {
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
                       {"name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    let mut spec = json!({"type": "NodePort", "clusterIP": CLUSTER, "clusterIPs": [CLUSTER], "ports": ports});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let service = json!({"metadata": {"namespace": "prod", "name": "web"}, "spec": spec});
    let endpoints: Vec<_> =
        behind.iter().map(|pod| json!({"addresses": [lab.address(pod)], "nodeName": "n1"})).collect();
    let slice = json!({
        "metadata": {"namespace": "prod", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
    });
    let (service, slice) = (serde_json::from_value(service).unwrap(), serde_json::from_value(slice).unwrap());
    let node = NodeView {
        name: "n1".into(),
        node_port_ips: vec![NODE.into()],
        pod_cidr: Some("10.1.0.0/16".parse().unwrap()),
        v4: true,
    };
    programmer.apply(&compile(&service_ports([&service], [&slice]), &node)).unwrap_or_else(|error| panic!("{error}"))
}

fn lab() -> (Lab, Programmer) {
    let lab = Lab::new().pod("prod/one").pod("prod/two").pod("prod/client");
    lab.program(&mut lab.policies());
    let programmer = Programmer::new(lab.nft());
    (lab, programmer)
}

/// Knocks many times; the servers that were reached, and the addresses they saw.
fn visits(
    lab: &Lab,
    from: &str,
    to: IpAddr,
    port: u16,
    servers: &[&TcpListener],
) -> (BTreeSet<usize>, BTreeSet<IpAddr>) {
    let (mut reached, mut seen) = (BTreeSet::new(), BTreeSet::new());
    // Sixteen draws miss one of two endpoints once in 32,768 times.
    for _ in 0..16 {
        assert_eq!(lab.knock(from, to, port), Answer::Answered, "{from} -> {to}:{port}");
    }
    for (number, server) in servers.iter().enumerate() {
        while let Ok((_, peer)) = server.accept() {
            reached.insert(number);
            seen.insert(peer.ip());
        }
    }
    (reached, seen)
}

fn cluster_address_reaches_every_endpoint() {
    let (lab, mut programmer) = lab();
    let (one, two) = (lab.listen("prod/one", 8080), lab.listen("prod/two", 8080));
    serve(&lab, &mut programmer, &json!({}), &["prod/one", "prod/two"]);
    let all = BTreeSet::from([0, 1]);
    let client = BTreeSet::from([lab.address("prod/client")]);
    assert_eq!(visits(&lab, "prod/client", cluster(), 80, &[&one, &two]), (all.clone(), client));
    assert_eq!(visits(&lab, "outside", cluster(), 80, &[&one, &two]).0, all);

    let change = serve(&lab, &mut programmer, &json!({}), &["prod/two"]).change;
    assert!(!change.replaced && change.chains_deleted > 0, "{change:?}");
    assert_eq!(visits(&lab, "prod/client", cluster(), 80, &[&one, &two]).0, BTreeSet::from([1]));
}

fn node_port_answers_from_outside() {
    let (lab, mut programmer) = lab();
    let one = lab.listen("prod/one", 8080);
    serve(&lab, &mut programmer, &json!({}), &["prod/one"]);
    let (_, seen) = visits(&lab, "outside", NODE.into(), 30080, &[&one]);
    assert!(!seen.contains(&OUTSIDE.into()), "masqueraded, as any endpoint may answer: {seen:?}");
    assert_eq!(lab.knock("node", NODE.into(), 30080), Answer::Answered);
    assert_eq!(lab.knock("prod/client", NODE.into(), 30080), Answer::Answered);

    serve(&lab, &mut programmer, &json!({"externalTrafficPolicy": "Local"}), &["prod/one"]);
    while visitor(&one).is_some() {}
    assert_eq!(visits(&lab, "outside", NODE.into(), 30080, &[&one]).1, BTreeSet::from([OUTSIDE.into()]));
}

fn without_endpoints_is_refused() {
    let (lab, mut programmer) = lab();
    serve(&lab, &mut programmer, &json!({}), &[]);
    for (from, to, port) in [
        ("prod/client", cluster(), 80),
        ("node", cluster(), 80),
        ("prod/client", NODE.into(), 30080),
        ("node", NODE.into(), 30080),
        ("outside", NODE.into(), 30080),
    ] {
        assert_eq!(lab.knock(from, to, port), Answer::Refused, "{from} -> {to}:{port}");
    }
    assert_eq!(lab.counted("kube-proxy", "a service without endpoints"), 5);
}

fn hairpin() {
    let (lab, mut programmer) = lab();
    let one = lab.listen("prod/one", 8080);
    serve(&lab, &mut programmer, &json!({}), &["prod/one"]);
    let (_, seen) = visits(&lab, "prod/one", cluster(), 80, &[&one]);
    assert!(!seen.contains(&lab.address("prod/one")), "{seen:?}");
}

fn datagrams() {
    let (lab, mut programmer) = lab();
    let server = lab.datagrams("prod/one", 5353);
    serve(&lab, &mut programmer, &json!({}), &["prod/one"]);
    assert_eq!(lab.ask("prod/client", cluster(), 53, &server), Answer::Answered);
    assert_eq!(lab.ask("outside", NODE.into(), 30053, &server), Answer::Answered);
    serve(&lab, &mut programmer, &json!({}), &[]);
    assert_eq!(lab.ask("prod/client", cluster(), 53, &server), Answer::Refused);
}

fn affinity() {
    let (lab, mut programmer) = lab();
    let (one, two) = (lab.listen("prod/one", 8080), lab.listen("prod/two", 8080));
    serve(&lab, &mut programmer, &json!({"sessionAffinity": "ClientIP"}), &["prod/one", "prod/two"]);
    let reached = visits(&lab, "prod/client", cluster(), 80, &[&one, &two]).0;
    assert_eq!(reached.len(), 1, "{reached:?}");
}

fn policies_see_the_endpoint() {
    let (mut lab, mut programmer) = lab();
    let _server = lab.listen("prod/one", 8080);
    serve(&lab, &mut programmer, &json!({}), &["prod/one"]);
    lab.policy(
        "prod/port",
        json!({"podSelector": {}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 8080}]}]}),
    );
    let mut policies = lab.policies();
    lab.program(&mut policies);
    assert_eq!(lab.knock("prod/client", cluster(), 80), Answer::Answered, "the endpoint's port counts");
    assert_eq!(lab.knock("prod/two", cluster(), 80), Answer::Silence);

    lab.world.policies.clear();
    lab.policy("prod/deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    lab.program(&mut policies);
    assert_eq!(lab.knock("prod/client", cluster(), 80), Answer::Silence);
    assert_eq!(lab.knock("prod/one", cluster(), 80), Answer::Silence, "to itself through its service");
    assert_eq!(lab.knock("prod/one", lab.address("prod/one"), 8080), Answer::Answered, "to itself directly");
}
