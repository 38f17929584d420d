//! What was recorded on a real cluster with Calico when something breaks, and when a node dies. A cluster of their
//! own, which the trials take in turns and leave as they found it, and one more for the node that dies.

use std::sync::{Mutex, MutexGuard, PoisonError};

use libtest_mimic::Trial;

use super::cluster::{SOON, Space, breakable, doomed, policy_for};
use super::program::eventually;
use super::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("broken::a_deleted_overlay_device_comes_back", a_deleted_overlay_device_comes_back),
        trial("broken::a_blocked_overlay_port_parts_the_nodes", a_blocked_overlay_port_parts_the_nodes),
        trial("broken::without_calico_what_was_programmed_stays", without_calico_what_was_programmed_stays),
        trial("broken::the_first_cni_configuration_wins", the_first_cni_configuration_wins),
        trial(
            "broken::without_a_cni_configuration_a_node_is_not_ready",
            without_a_cni_configuration_a_node_is_not_ready,
        ),
        trial("broken::a_node_whose_process_dies_is_not_ready", a_node_whose_process_dies_is_not_ready),
    ]
}

/// The right to break something of the breakable cluster, until it is dropped.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client and a backend on cp1, a backend on w1.
fn people(space: &Space) -> (String, String) {
    space.pods(&[
        ("client", "client", "cp1", &["8080/tcp"]),
        ("near", "backend", "cp1", &["8080/tcp"]),
        ("far", "backend", "w1", &["8080/tcp"]),
    ]);
    (format!("{}:8080", space.address("near")), format!("{}:8080", space.address("far")))
}

/// A shell line that mends a node again, also when the trial fails.
struct Mend(&'static str, String);

impl Drop for Mend {
    fn drop(&mut self) {
        let line = format!("shell {} -- sh -c '{}'", self.0, self.1);
        // A failure shows in the trials that come after.
        let _ = breakable().cknet(&line);
    }
}

fn a_deleted_overlay_device_comes_back() {
    let _turn = turn();
    let space = breakable().space("overlay");
    let (near, far) = people(&space);
    space.see(&[("client", &far, "allowed by overlay/far")]);
    let index = || breakable().on_node("cp1", "cat /sys/class/net/vxlan.calico/ifindex 2>/dev/null || echo none");
    let before = index();
    breakable().on_node("cp1", "ip link delete vxlan.calico");
    let after = eventually("the device is back", SOON, || match index() {
        none if none == "none\n" => Err(none),
        index => Ok(index),
    });
    assert_ne!(after, before, "it is another device");
    space.await_connect("client", &far, "allowed by overlay/far");
    space.see(&[("client", &near, "allowed by overlay/near")]);
    let device = breakable().on_node("cp1", "ip -d link show vxlan.calico");
    assert!(device.contains("vxlan id 4096 ") && device.contains(" dstport 4789 "), "{device}");
}

fn a_blocked_overlay_port_parts_the_nodes() {
    let _turn = turn();
    let space = breakable().space("blocked");
    let (near, far) = people(&space);
    let back = format!("{}:8080", space.address("client"));
    // Early, where nothing of Calico can let it pass; and late, where a firewall of its own sits.
    for (name, hook) in [("early", "prerouting priority -300"), ("late", "input priority 10")] {
        let table = format!(
            "nft \"add table ip {name}; add chain ip {name} c {{ type filter hook {hook}; }}; add rule ip {name} c udp dport 4789 drop\""
        );
        let mend = Mend("w1", format!("nft delete table ip {name}"));
        breakable().on_node("w1", &table);
        space.await_connect("client", &far, "TIMEOUT");
        space.see(&[("far", &back, "TIMEOUT"), ("client", &near, "allowed by blocked/near")]);
        let ready =
            breakable().kubectl("get nodes -o 'jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}'");
        assert!(ready.starts_with("True True"), "the nodes notice nothing: {ready}");
        drop(mend);
        space.await_connect("client", &far, "allowed by blocked/far");
    }
}

fn without_calico_what_was_programmed_stays() {
    let _turn = turn();
    let space = breakable().space("felix");
    let (near, far) = people(&space);
    let place = |selector: &str| {
        let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"cknet/none":{selector}}}}}}}}}}}"#);
        breakable().kubectl(&format!("-n kube-system patch daemonset calico-node -p '{patch}'"));
    };
    place("\"such\"");
    eventually("calico-node is gone", SOON, || {
        match breakable().kubectl("-n kube-system get pods -l k8s-app=calico-node -o name") {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    });
    let (by_near, by_far) = ("allowed by felix/near", "allowed by felix/far");
    space.see(&[("client", &near, by_near), ("client", &far, by_far)]);
    space.ok_with("apply -f -", &policy_for("deny-all-ingress", "felix"));
    space.pods(&[("late", "late", "w1", &[])]);
    // Nobody is there to enforce it. Three rounds of probes are time enough for somebody who were.
    for _ in 0..3 {
        space.see(&[("client", &near, by_near), ("client", &far, by_far)]);
    }
    place("null");
    space.await_connect("client", &near, "TIMEOUT");
    space.await_connect("client", &far, "TIMEOUT");
    breakable().kubectl("-n kube-system rollout status daemonset/calico-node --timeout=30s");
}

fn the_first_cni_configuration_wins() {
    let _turn = turn();
    let space = breakable().space("cni");
    let other = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"flannel"}]}"#;
    let write =
        |file: &str| breakable().on_node("w1", &format!("cat > /etc/cni/net.d/{file} <<\"END\"\n{}\nEND\n", other));
    let second = Mend("w1", "rm /etc/cni/net.d/10-flannel.conflist".into());
    write("10-flannel.conflist");
    space.pods(&[("second", "second", "w1", &["8080/tcp"])]);
    assert!(space.address("second").starts_with("10.1."), "a file that sorts after Calico's changes nothing");
    drop(second);
    let first = Mend("w1", "rm /etc/cni/net.d/05-other.conflist".into());
    write("05-other.conflist");
    space.ok_with("apply -f -", &super::cluster::pod("first", "first", "w1", &[]).to_string());
    let said = eventually("the other plugin is asked", SOON, || {
        let said = space.ok("get events --field-selector involvedObject.name=first,reason=FailedCreatePodSandBox -o 'jsonpath={.items[*].message}'");
        if said.is_empty() { Err("no event".into()) } else { Ok(said) }
    });
    let why = "plugin type=\"flannel\" failed (add): failed to load flannel 'subnet.env' file: open /run/flannel/subnet.env: no such file or directory";
    assert!(said.contains(why), "{said}");
    drop(first);
    space.ok("wait --for=condition=Ready pod/first --timeout=60s");
}

fn without_a_cni_configuration_a_node_is_not_ready() {
    let _turn = turn();
    const SAVED: &str = "/run/cknet/saved.conflist";
    let mend = Mend("w1", format!("mv {SAVED} /etc/cni/net.d/10-calico.conflist"));
    breakable().on_node("w1", &format!("mv /etc/cni/net.d/10-calico.conflist {SAVED}"));
    let said = breakable().kubectl_with("wait --for=condition=Ready=false node/w1 --timeout=30s", "");
    let message = breakable().kubectl("get node w1 -o 'jsonpath={.status.conditions[?(@.type==\"Ready\")].message}'");
    drop(mend);
    assert_eq!(said.out, "node/w1 condition met\n", "{}", said.err);
    assert_eq!(
        message,
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns \
         error: cni plugin not initialized"
    );
    assert_eq!(breakable().kubectl("wait --for=condition=Ready node/w1 --timeout=30s"), "node/w1 condition met\n");
}

/// A real cluster takes 40 s to notice; this one some seconds.
fn a_node_whose_process_dies_is_not_ready() {
    let cluster = doomed();
    // Processes of all nodes are seen on each; that of this node lives in this network.
    let killed = cluster.on_node(
        "w1",
        "own=$(readlink /proc/self/ns/net); for process in /proc/[0-9]*; do \
         [ \"$(readlink $process/ns/net)\" = $own ] || continue; \
         case $(tr \"\\0\" \" \" < $process/cmdline) in \"cknet node \"*) kill -9 ${process#/proc/}; echo killed;; esac; done",
    );
    assert_eq!(killed, "killed\n");
    let row = eventually("w1 is not ready", SOON, || {
        let row = cluster.kubectl("get node w1 --no-headers");
        if row.contains(" NotReady ") { Ok(row) } else { Err(row) }
    });
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["w1", "NotReady", "worker"]);
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")]";
    let words = cluster.kubectl(&format!(
        "get node w1 -o '{ready}.status}} {}.reason}} {}.message}}'",
        &ready[9..],
        &ready[9..]
    ));
    assert_eq!(words, "Unknown NodeStatusUnknown Kubelet stopped posting node status.");
    let taints = cluster.kubectl("get node w1 -o 'jsonpath={.spec.taints[*].key}'");
    assert!(taints.contains("node.kubernetes.io/unreachable"), "{taints}");
}
