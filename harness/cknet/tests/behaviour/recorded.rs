//! What was recorded on a real cluster (Kubernetes 1.33, Calico 3.31), line by line, of what breaks nothing. The
//! frontend is on cp1, one backend beside it and one on w1, all of stock images.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use super::stand::{AGNHOST, Space, eventually, shared};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("recorded::01_without_policy_all_is_allowed_and_a_closed_port_refused", without_policy),
        trial("recorded::04_deny_all_ingress_is_silence_everywhere", deny_all_ingress),
        trial("recorded::05_a_node_reaches_its_own_pod_and_no_other", nodes_under_deny),
        trial("recorded::06_ping_is_lost", ping_under_deny),
        trial("recorded::07_allow_from_frontend_opens_to_it_alone", allow_from_frontend),
        trial("recorded::09_an_established_connection_lives_on", established_connection),
        trial("recorded::16_a_pod_reaches_itself_but_not_through_its_service", itself),
        trial("recorded::21_twenty_execs_in_a_row_are_allowed", twenty_execs),
        trial("recorded::26_a_cluster_is_up_sooner_than_the_recorded_one", bring_up),
    ]
}

/// Frontend, both backends with their service, and somebody else.
pub fn people(space: &Space) -> (String, String) {
    let serve = &["netexec", "--http-port=8080", "--udp-port=8080"];
    space.run("frontend", AGNHOST, "cp1", &[("app", "frontend")], &["pause"]);
    space.run("near", AGNHOST, "cp1", &[("app", "backend")], serve);
    space.run("far", AGNHOST, "w1", &[("app", "backend")], serve);
    space.run("other", AGNHOST, "w1", &[("app", "other")], &["pause"]);
    space.expose("backend", ("app", "backend"), 80, 8080);
    space.await_ready(&["frontend", "near", "far", "other"]);
    (space.address("near"), space.address("far"))
}

fn without_policy() {
    let space = shared().space("rec-open");
    let (near, far) = people(&space);
    let service = format!("{}:80", space.cluster_ip("backend"));
    space.await_connect("frontend", &service, "allowed");
    space.see(&[
        ("frontend", &format!("{near}:8080"), "allowed"),
        ("frontend", &format!("{far}:8080"), "allowed"),
        ("frontend", &format!("{near}:81"), "REFUSED"),
        ("frontend", &format!("{far}:81"), "REFUSED"),
        ("frontend", &format!("{far}:8080 --protocol=udp"), "allowed"),
    ]);
}

fn deny_all_ingress() {
    let space = shared().space("rec-deny");
    let (near, far) = people(&space);
    space.see(&[("frontend", &format!("{near}:8080"), "allowed"), ("frontend", &format!("{far}:8080"), "allowed")]);
    let policy = space.apply_file("policy/deny-all-ingress.yaml");
    space.await_connect("frontend", &format!("{near}:8080"), "TIMEOUT");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    space.see(&[
        ("frontend", &format!("{near}:81"), "TIMEOUT"),
        ("frontend", &format!("{far}:81"), "TIMEOUT"),
        ("frontend", &format!("{}:80", space.cluster_ip("backend")), "TIMEOUT"),
        ("frontend", &format!("{far}:8080 --protocol=udp"), "TIMEOUT"),
    ]);
    space.delete(&policy);
    // Without a policy again: a closed port is refused.
    space.await_connect("frontend", &format!("{near}:81"), "REFUSED");
    space.await_connect("frontend", &format!("{far}:81"), "REFUSED");
}

fn nodes_under_deny() {
    let space = shared().space("rec-nodes");
    let (_, far) = people(&space);
    space.apply_file("policy/deny-all-ingress.yaml");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    let connect = format!("agnhost connect {far}:8080 --timeout=1s");
    assert_eq!(shared().on_node("w1", &connect), "");
    let other = shared().try_on_node("cp1", &connect);
    assert_eq!((other.code, other.err.trim()), (1, "TIMEOUT"));
}

fn ping_under_deny() {
    let space = shared().space("rec-ping");
    let (_, far) = people(&space);
    let ping = format!("ping -c 2 -W 1 {far}");
    assert!(space.exec("frontend", &ping).out.contains(" 0% packet loss"));
    space.apply_file("policy/deny-all-ingress.yaml");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    let lost = space.exec("frontend", &ping);
    assert!(lost.code == 1 && lost.out.contains("2 packets transmitted, 0 packets received, 100% packet loss"));
}

fn allow_from_frontend() {
    let space = shared().space("rec-allow");
    let (near, far) = people(&space);
    space.apply_file("policy/deny-all-ingress.yaml");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    space.apply_file("policy/allow-from-frontend.yaml");
    space.await_connect("frontend", &format!("{far}:8080"), "allowed");
    space.await_connect("frontend", &format!("{near}:8080"), "allowed");
    space.see(&[
        ("other", &format!("{near}:8080"), "TIMEOUT"),
        ("other", &format!("{far}:8080"), "TIMEOUT"),
        ("frontend", &format!("{}:80", space.cluster_ip("backend")), "allowed"),
    ]);
}

fn established_connection() {
    let space = shared().space("rec-long");
    space.run("frontend", "alpine", "cp1", &[("app", "frontend")], &["sleep", "3600"]);
    space.run("db", "redis:7", "w1", &[("app", "db")], &[]);
    space.await_ready(&["frontend", "db"]);
    let db = space.address("db");
    let talk =
        format!("(for i in 1 2 3 4 5 6 7 8; do echo PING; sleep 0.5; done) | nc {db} 6379 > /tmp/said & echo begun");
    assert_eq!(space.sh("frontend", &talk).out, "begun\n");
    let heard = || space.sh("frontend", "grep -c PONG /tmp/said").out.trim().parse::<u32>().unwrap_or(0);
    eventually("the connection is established", || if heard() >= 2 { Ok(()) } else { Err("silent".into()) });
    space.apply_file("policy/deny-all-ingress.yaml");
    eventually("a new connection is lost", || match space.exec("frontend", &format!("nc -z -w 1 {db} 6379")).code {
        0 => Err("open".into()),
        _ => Ok(()),
    });
    eventually("all eight requests are answered", || if heard() == 8 { Ok(()) } else { Err(heard().to_string()) });
}

fn itself() {
    let space = shared().space("rec-self");
    space.run("backend", AGNHOST, "w1", &[("app", "backend")], &["netexec", "--http-port=8080"]);
    space.expose("backend", ("app", "backend"), 80, 8080);
    space.await_ready(&["backend"]);
    let service = format!("{}:80", space.cluster_ip("backend"));
    space.await_connect("backend", &service, "allowed");
    space.apply_file("policy/deny-all-ingress.yaml");
    space.await_connect("backend", &service, "TIMEOUT");
    let own = format!("{}:8080", space.address("backend"));
    space.see(&[
        ("backend", &own, "allowed"),
        ("backend", &service, "TIMEOUT"),
        ("backend", &service, "TIMEOUT"),
        ("backend", &service, "TIMEOUT"),
        ("backend", &service, "TIMEOUT"),
    ]);
}

fn twenty_execs() {
    let space = shared().space("rec-execs");
    let (near, _) = people(&space);
    for _ in 0..20 {
        assert_eq!(space.connect("frontend", &format!("{near}:8080")), "allowed");
    }
}

/// 19 s were recorded until the nodes were Ready, 36 s until CoreDNS was.
fn bring_up() {
    assert!(shared().took < Duration::from_secs(36), "{:?}", shared().took);
    for node in ["cp1", "w1", "w2"] {
        let (status, reason, message) = shared().condition(node, "Ready");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "KubeletReady"), "{message}");
    }
    let deployment = shared().get(("apps/v1", "Deployment"), "kube-system", "coredns");
    assert_eq!(deployment["status"]["availableReplicas"], json!(1));
}
