//! NetworkPolicy, packet by packet.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::lab::{Answer, GATEWAY, Lab, NODE, OUTSIDE, visitor};

pub const TRIALS: &[(&str, fn())] = &[
    ("policy_denied_ingress_is_silent_and_counted", denied_ingress_is_silent_and_counted),
    ("policy_selectors_and_ports_narrow", selectors_and_ports_narrow),
    ("policy_egress_is_the_senders", egress_is_the_senders),
    ("policy_named_ports_resolve_at_the_destination", named_ports),
    ("policy_established_connections_outlive_a_denial", established_connections_outlive_a_denial),
    ("policy_unknown_interfaces_lead_nowhere", unknown_interfaces_lead_nowhere),
    ("policy_replacing_the_table_leaves_no_gap", replacing_the_table_leaves_no_gap),
    ("policy_counters_survive_other_changes", counters_survive_other_changes),
    ("policy_outgoing_traffic_is_masqueraded", outgoing_traffic_is_masqueraded),
];

const DENY: &str = "prod/web ingress: denied";

fn lab() -> Lab {
    Lab::new().pod("prod/web").pod("prod/front").pod("prod/other").pod("dev/front")
}

fn deny_ingress() -> serde_json::Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"]})
}

fn denied_ingress_is_silent_and_counted() {
    let mut lab = lab();
    let (_server, web) = (lab.listen("prod/web", 8080), lab.address("prod/web"));
    let datagrams = lab.datagrams("prod/web", 5353);
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    for from in ["prod/front", "dev/front", "outside", "node"] {
        assert_eq!(lab.knock(from, web, 8080), Answer::Answered, "{from}");
        assert_eq!(lab.knock(from, web, 8081), Answer::Refused, "{from}: nobody listens");
    }
    assert_eq!(lab.ask("prod/front", web, 5353, &datagrams), Answer::Answered);

    lab.policy("prod/deny", deny_ingress());
    lab.program(&mut programmer);
    for (count, from) in (1..).zip(["prod/front", "dev/front", "outside"]) {
        assert_eq!(lab.knock(from, web, 8080), Answer::Silence, "{from}");
        assert_eq!(lab.counted("calico", DENY), count);
    }
    assert_eq!(lab.knock("prod/front", web, 8081), Answer::Silence, "a closed port looks like an open one");
    assert_eq!(lab.ask("prod/front", web, 5353, &datagrams), Answer::Silence);
    assert_eq!(lab.knock("node", web, 8080), Answer::Answered, "a node may always reach its pods");
    assert_eq!(lab.knock("prod/web", web, 8080), Answer::Answered, "a pod may always reach itself");
    let _free = lab.listen("dev/front", 80);
    assert_eq!(lab.knock("prod/web", lab.address("dev/front"), 80), Answer::Answered, "answers come back");

    lab.world.policies.clear();
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Answered);
}

fn selectors_and_ports_narrow() {
    let mut lab = lab();
    let (_one, _two, web) = (lab.listen("prod/web", 8080), lab.listen("prod/web", 8090), lab.address("prod/web"));
    let datagrams = lab.datagrams("prod/web", 8080);
    lab.policy("prod/deny", deny_ingress());
    lab.policy(
        "prod/allow",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "front"}}}], "ports": [{"port": 8000, "endPort": 8080}]},
        {"from": [{"ipBlock": {"cidr": "172.16.0.0/16", "except": ["172.16.0.8/29"]}}]}]}),
    );
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Answered);
    assert_eq!(lab.knock("prod/front", web, 8090), Answer::Silence);
    assert_eq!(lab.ask("prod/front", web, 8080, &datagrams), Answer::Silence, "TCP is not UDP");
    assert_eq!(lab.knock("prod/other", web, 8080), Answer::Silence);
    assert_eq!(lab.knock("dev/front", web, 8080), Answer::Silence, "the same label in another namespace");
    assert_eq!(lab.knock("outside", web, 8090), Answer::Answered, "by address");

    lab.describe("prod/other", &json!({"app": "front"}));
    let change = lab.program(&mut programmer).change;
    assert_eq!((change.elements_added, change.chains_changed, change.replaced), (1, 0, false), "{change:?}");
    assert_eq!(lab.knock("prod/other", web, 8080), Answer::Answered, "the label decides");
    lab.describe("prod/other", &json!({"app": "other"}));
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/other", web, 8080), Answer::Silence);
}

fn egress_is_the_senders() {
    let mut lab = lab();
    let (_server, web) = (lab.listen("prod/web", 8080), lab.address("prod/web"));
    let _node_server = lab.listen("node", 9000);
    let node: IpAddr = GATEWAY.into();
    lab.policy("dev/none", json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    assert_eq!(lab.knock("dev/front", web, 8080), Answer::Silence);
    assert_eq!(lab.knock("dev/front", node, 9000), Answer::Silence, "towards its own node too");
    assert_eq!(lab.counted("calico", "dev/front egress: denied"), 2);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Answered);
    assert_eq!(lab.knock("prod/front", node, 9000), Answer::Answered);

    lab.policy(
        "dev/some",
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "prod"}}}]}]}),
    );
    lab.policy("prod/deny", deny_ingress());
    lab.program(&mut programmer);
    assert_eq!(lab.knock("dev/front", web, 8080), Answer::Silence, "the receiver is asked, too");
    assert_eq!(lab.counted("calico", DENY), 1);
    lab.world.policies.retain(|name, _| name.namespace != "prod");
    lab.program(&mut programmer);
    assert_eq!(lab.knock("dev/front", web, 8080), Answer::Answered);
}

fn named_ports() {
    let mut lab = lab();
    let (_one, _two, web) = (lab.listen("prod/web", 8080), lab.listen("prod/web", 8090), lab.address("prod/web"));
    lab.policy("prod/in", json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}));
    lab.policy(
        "dev/out",
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]}),
    );
    lab.program(&mut lab.policies());
    for from in ["prod/front", "dev/front"] {
        assert_eq!(lab.knock(from, web, 8080), Answer::Answered, "{from}");
        assert_eq!(lab.knock(from, web, 8090), Answer::Silence, "{from}");
    }
}

fn established_connections_outlive_a_denial() {
    let mut lab = lab();
    let (server, web) = (lab.listen("prod/web", 8080), lab.address("prod/web"));
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    let mut client = lab.connect("prod/front", web, 8080).unwrap();
    let mut served = server.accept().unwrap().0;
    served.set_nonblocking(false).unwrap();
    lab.policy("prod/deny", deny_ingress());
    lab.program(&mut programmer);
    client.write_all(b"still there?").unwrap();
    let mut heard = [0; 12];
    served.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    served.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still there?");
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Silence);
}

fn unknown_interfaces_lead_nowhere() {
    let mut lab = lab();
    let (_server, web) = (lab.listen("prod/web", 8080), lab.address("prod/web"));
    let _front = lab.listen("prod/front", 80);
    let known = lab.local.clone();
    lab.local.retain(|endpoint| endpoint.pod.name != "web");
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Silence);
    assert_eq!(lab.knock("prod/web", lab.address("prod/front"), 80), Answer::Silence);
    assert_eq!(lab.counted("calico", "Unknown interface: to workload"), 1);
    assert_eq!(lab.counted("calico", "Unknown interface: from workload"), 1);
    lab.local = known;
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Answered);
}

fn replacing_the_table_leaves_no_gap() {
    let mut lab = lab();
    let server = lab.datagrams("prod/web", 5353);
    lab.policy("prod/deny", deny_ingress());
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let (client, to) = (lab.datagrams("prod/front", 0), (lab.address("prod/web"), 5353));
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                client.send_to(b"let me in", to).unwrap();
                sent += 1;
            }
            sent
        });
        for _ in 0..50 {
            programmer.distrust();
            assert!(lab.program(&mut programmer).change.replaced);
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap()
    });
    assert!(sent > 1000, "{sent} datagrams show nothing");
    assert!(server.recv(&mut [0; 16]).is_err(), "one of {sent} datagrams came through");
}

fn counters_survive_other_changes() {
    let mut lab = lab();
    let web = lab.address("prod/web");
    lab.policy("prod/deny", deny_ingress());
    let mut programmer = lab.policies();
    lab.program(&mut programmer);
    assert_eq!(lab.knock("prod/front", web, 8080), Answer::Silence);
    lab.policy("dev/deny", deny_ingress());
    let change = lab.program(&mut programmer).change;
    assert_eq!((change.replaced, change.chains_added, change.chains_changed), (false, 1, 1), "{change:?}");
    assert_eq!(lab.counted("calico", DENY), 1);
}

fn outgoing_traffic_is_masqueraded() {
    let lab = lab();
    let (outside, web) = (lab.listen("outside", 80), lab.listen("prod/web", 80));
    lab.program(&mut lab.policies());
    assert_eq!(lab.knock("prod/front", OUTSIDE.into(), 80), Answer::Answered);
    assert_eq!(visitor(&outside), Some(NODE.into()));
    assert_eq!(lab.knock("prod/front", lab.address("prod/web"), 80), Answer::Answered);
    assert_eq!(visitor(&web), Some(lab.address("prod/front")), "between pods nothing changes");
}
