//! What was recorded on a real cluster with Calico, line by line, on the shared cluster. What breaks a node is
//! elsewhere.

use libtest_mimic::Trial;

use super::cluster::{Space, policy_for, shared};
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("recorded::without_a_policy_everything_is_open", without_a_policy_everything_is_open),
        trial("recorded::deny_all_ingress_is_silence", deny_all_ingress_is_silence),
        trial("recorded::a_node_reaches_its_own_pods_under_deny", a_node_reaches_its_own_pods_under_deny),
        trial(
            "recorded::a_pod_reaches_itself_but_not_through_its_service",
            a_pod_reaches_itself_but_not_through_its_service,
        ),
        trial("recorded::established_connections_survive_a_policy", established_connections_survive_a_policy),
        trial("recorded::a_node_port_under_deny", a_node_port_under_deny),
    ]
}

/// The frontend on cp1, a backend beside it and one on the other node, and somebody else on each.
fn people(space: &Space) {
    space.pods(&[
        ("frontend", "frontend", "cp1", &[]),
        ("near", "backend", "cp1", &["8080/tcp", "8081/udp"]),
        ("far", "backend", "w1", &["8080/tcp", "8081/udp"]),
        ("other", "other", "w1", &[]),
    ]);
    space.ok("create service clusterip backend --tcp=80:8080");
}

fn apply(space: &Space, policy: &str) {
    space.ok_with("apply -f -", &policy_for(policy, &space.name));
}

fn without_a_policy_everything_is_open() {
    let space = shared().space("rec-open");
    people(&space);
    let (near, far) = (space.address("near"), space.address("far"));
    let (by_near, by_far) = ("allowed by rec-open/near", "allowed by rec-open/far");
    space.see(&[
        ("frontend", &format!("{near}:8080"), by_near),
        ("frontend", &format!("{far}:8080"), by_far),
        ("frontend", &format!("{near}:81"), "REFUSED"),
        ("frontend", &format!("{far}:81"), "REFUSED"),
        ("frontend", &format!("{far}:8081 --protocol udp"), by_far),
        ("frontend", &format!("{far}:81 --protocol udp"), "REFUSED"),
        ("other", &format!("{near}:8080"), by_near),
    ]);
    let ended = space.connect("frontend", "backend:80");
    assert!(ended == by_near || ended == by_far, "{ended}");
    let ping = space.connect("frontend", &format!("{far} --protocol icmp"));
    assert!(ping.starts_with("allowed: "), "{ping}");
}

fn deny_all_ingress_is_silence() {
    let space = shared().space("rec-deny");
    people(&space);
    let (near, far) = (space.address("near"), space.address("far"));
    apply(&space, "deny-all-ingress");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    space.await_connect("frontend", &format!("{near}:8080"), "TIMEOUT");
    space.see(&[
        ("frontend", &format!("{far}:81"), "TIMEOUT"),
        ("frontend", &format!("{near}:81"), "TIMEOUT"),
        ("frontend", "backend:80", "TIMEOUT"),
        ("frontend", &format!("{near}:8081 --protocol udp"), "TIMEOUT"),
        ("frontend", &format!("{far}:8081 --protocol udp"), "TIMEOUT"),
        ("frontend", &format!("{far} --protocol icmp"), "TIMEOUT"),
    ]);
    apply(&space, "allow-from-frontend");
    space.await_connect("frontend", &format!("{far}:8080"), "allowed by rec-deny/far");
    space.await_connect("frontend", &format!("{near}:8080"), "allowed by rec-deny/near");
    space.see(&[
        ("other", &format!("{near}:8080"), "TIMEOUT"),
        ("other", &format!("{far}:8080"), "TIMEOUT"),
        // One port of one protocol was opened, nothing else.
        ("frontend", &format!("{far}:81"), "TIMEOUT"),
        ("frontend", &format!("{far}:8081 --protocol udp"), "TIMEOUT"),
    ]);
    let through = space.connect("frontend", "backend:80");
    assert!(through.starts_with("allowed by rec-deny/"), "{through}");
    space.ok("delete networkpolicy --all");
    space.await_connect("frontend", &format!("{far}:81"), "REFUSED");
    space.await_connect("frontend", &format!("{near}:81"), "REFUSED");
}

fn a_node_reaches_its_own_pods_under_deny() {
    let space = shared().space("rec-node");
    people(&space);
    let far = format!("{}:8080", space.address("far"));
    let answer = "allowed by rec-node/far";
    assert_eq!(shared().connect_from_node("cp1", &far), answer, "before the policy");
    apply(&space, "deny-all-ingress");
    space.await_connect("frontend", &far, "TIMEOUT");
    assert_eq!(shared().connect_from_node("w1", &far), answer);
    assert_eq!(shared().connect_from_node("cp1", &far), "TIMEOUT");
    assert_eq!(shared().connect_from_node("w2", &far), "TIMEOUT");
    // That is what keeps its probes alive.
    assert_eq!(space.field("pod far", ".status.containerStatuses[0].restartCount"), "0");
}

fn a_pod_reaches_itself_but_not_through_its_service() {
    let space = shared().space("rec-self");
    space.pods(&[("self", "self", "w1", &["8080/tcp"]), ("peer", "peer", "w1", &[])]);
    space.ok("expose pod self --port=80 --target-port=8080");
    let own = format!("{}:8080", space.address("self"));
    let answer = "allowed by rec-self/self";
    space.await_connect("peer", "self:80", answer);
    space.see(&[("self", &own, answer), ("self", "self:80", answer), ("self", "127.0.0.1:8080", answer)]);
    apply(&space, "deny-all-ingress");
    space.await_connect("peer", &own, "TIMEOUT");
    space.see(&[("self", &own, answer), ("self", "127.0.0.1:8080", answer)]);
    space.see(&[("self", "self:80", "TIMEOUT"); 4]);
}

fn established_connections_survive_a_policy() {
    let space = shared().space("rec-old");
    people(&space);
    let far = space.address("far");
    // Asks once for each line that it is given, always on the same connection.
    let script = format!(
        "exec 3<>/dev/tcp/{far}/8080; while read -r nonce; do echo cknet1 $nonce >&3; \
         IFS= read -r -t 3 -u 3 answer || answer=lost; echo ${{answer%% *}} ${{answer##* }}; done"
    );
    let mut talk = space.start(&format!("exec -i frontend -- bash -c '{script}'"));
    talk.say("0000000000000001");
    let first = talk.next();
    assert!(first.starts_with(&format!("cknet1 {}:", space.address("frontend"))), "{first}");
    apply(&space, "deny-all-ingress");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    for turn in 2..=8 {
        talk.say(&format!("{turn:016}"));
        assert_eq!(talk.next(), first, "request {turn}, on the connection from before the policy");
    }
    space.see(&[("frontend", &format!("{far}:8080"), "TIMEOUT")]);
}

fn a_node_port_under_deny() {
    let space = shared().space("rec-port");
    people(&space);
    space.ok("expose pod far --type=NodePort --port=80 --target-port=8080");
    let port = space.field("service far", ".spec.ports[0].nodePort");
    let through = |node: u8| format!("192.168.60.{node}:{port}");
    let answer = "allowed by rec-port/far";
    space.await_connect("frontend", &through(13), answer);
    apply(&space, "deny-all-ingress");
    space.await_connect("frontend", &through(13), "TIMEOUT");
    space.see(&[("frontend", &through(11), "TIMEOUT"), ("other", &through(12), "TIMEOUT")]);
    assert_eq!(shared().connect_from_node("cp1", &through(12)), "TIMEOUT", "from another node through the pod's own");
    assert_eq!(shared().connect_from_node("w1", &through(12)), answer, "from the pod's own node");
}
