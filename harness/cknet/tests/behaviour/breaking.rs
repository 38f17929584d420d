//! What was recorded on a real cluster of what breaks: on a cluster of its own, in turns, left as it was found.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::recorded::people;
use super::stand::{AGNHOST, SOON, Stand, breakable, eventually};
use super::{trial, trial_with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("recorded::02_cross_subnet_becomes_always", encapsulation),
        trial_with("ip", "recorded::08_an_unrouted_address_is_unreachable", unrouted),
        trial("recorded::10_a_deleted_overlay_device_comes_back", overlay_deleted),
        trial_with("iptables", "recorded::11_appended_to_input_changes_nothing", iptables_appended),
        trial_with("iptables", "recorded::12_inserted_into_input_parts_the_nodes", iptables_inserted),
        trial("recorded::13_a_closed_overlay_port_parts_the_nodes", overlay_port_closed),
        trial_with("nft", "recorded::15_so_does_a_late_input_hook", late_input_hook),
        trial("recorded::17_without_calico_node_what_was_programmed_stays", without_calico_node),
        trial("recorded::22_a_second_configuration_that_sorts_later_changes_nothing", later_configuration),
        trial("recorded::23_a_second_configuration_that_sorts_first_wins", earlier_configuration),
        trial("recorded::24_without_configuration_a_node_is_not_ready", without_configuration),
    ]
}

/// A shell line that mends a node again, also when the trial fails.
struct Mend<'a> {
    stand: &'a Stand,
    node: &'static str,
    line: String,
}

impl Drop for Mend<'_> {
    fn drop(&mut self) {
        // A failure shows in the trials that come after.
        let _ = self.stand.try_on_node(self.node, &self.line);
    }
}

fn mend<'a>(stand: &'a Stand, node: &'static str, line: &str) -> Mend<'a> {
    Mend { stand, node, line: line.into() }
}

/// The routes of a node to the blocks of others, by their device.
fn block_routes(stand: &Stand, node: &str) -> Vec<String> {
    let facts: Value = serde_json::from_str(&stand.on_node(node, "cknet facts routes")).unwrap();
    let routes = facts["routes"].as_array().cloned().unwrap_or_default();
    let to_blocks = routes.iter().filter(|route| {
        route["destination"].as_str().is_some_and(|to| to.starts_with("10.1.") && to.ends_with("/26"))
            && route["kind"] == "unicast"
    });
    to_blocks.map(|route| route["next_hops"][0]["device"].as_str().unwrap_or_default().to_string()).collect()
}

fn encapsulation() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-modes");
    let (near, far) = people(&space);
    let pool = json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool",
        "metadata": {"name": "default-ipv4-ippool"}});
    let mode = |mode: &str| stand.patch(&pool, "", &json!({"spec": {"vxlanMode": mode}}));
    let routed = |wanted: &str| {
        eventually(&format!("the route is via {wanted}"), || match block_routes(stand, "cp1") {
            devices if !devices.is_empty() && devices.iter().all(|device| device == wanted) => Ok(()),
            devices => Err(format!("{devices:?}")),
        });
    };
    mode("CrossSubnet");
    routed("eth0");
    // As the other trials want it, and as it was.
    mode("Always");
    routed("vxlan.calico");
    space.see(&[("frontend", &format!("{near}:8080"), "allowed"), ("frontend", &format!("{far}:8080"), "allowed")]);
}

/// There somebody on the way knew no route. Here that is the node: it passes over its default route for that network.
fn unrouted() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-unrouted");
    people(&space);
    let _mended = mend(stand, "cp1", "ip route del throw 10.251.0.0/16");
    stand.on_node("cp1", "ip route add throw 10.251.0.0/16");
    let expected = "OTHER: dial tcp 10.251.99.9:80: connect: network is unreachable";
    space.see(&[("frontend", "10.251.99.9:80", expected)]);
}

fn overlay_deleted() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-overlay");
    let (near, far) = people(&space);
    let index = || stand.on_node("cp1", "cat /sys/class/net/vxlan.calico/ifindex 2>/dev/null || echo none");
    let before = index();
    stand.on_node("cp1", "cknet node-link vxlan.calico delete");
    eventually("another device is there", || match index() {
        now if now == before || now == "none\n" => Err(now),
        _ => Ok(()),
    });
    space.await_connect("frontend", &format!("{far}:8080"), "allowed");
    space.see(&[("frontend", &format!("{near}:8080"), "allowed")]);
}

fn overlay_port_closed() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-blocked");
    let (near, far) = people(&space);
    space.run("server", AGNHOST, "w1", &[], &["netexec", "--http-port=8080"]);
    space.await_ready(&["server"]);
    let mended = mend(stand, "w1", "cknet node-firewall open 4789/udp");
    stand.on_node("w1", "cknet node-firewall close 4789/udp");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    space.see(&[("other", &format!("{near}:8080"), "TIMEOUT"), ("frontend", &format!("{near}:8080"), "allowed")]);
    // Nothing else notices.
    stand.on_node("cp1", "agnhost connect 192.168.60.12:10250 --timeout=2s");
    for node in ["cp1", "w1"] {
        assert_eq!(stand.condition(node, "Ready").0, "True", "{node}");
    }
    drop(mended);
    space.await_connect("frontend", &format!("{far}:8080"), "allowed");
}

fn late_input_hook() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-late");
    let (_, far) = people(&space);
    let _mended = mend(stand, "w1", "nft delete table ip late");
    stand.on_node(
        "w1",
        "nft 'add table ip late; add chain ip late c { type filter hook input priority 10; }; \
         add rule ip late c udp dport 4789 drop'",
    );
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
}

fn iptables_appended() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-append");
    let (near, far) = people(&space);
    let _mended = mend(stand, "w1", "iptables -D INPUT -p udp --dport 4789 -j DROP");
    stand.on_node("w1", "iptables -A INPUT -p udp --dport 4789 -j DROP");
    space.see(&[("frontend", &format!("{far}:8080"), "allowed"), ("frontend", &format!("{near}:8080"), "allowed")]);
}

fn iptables_inserted() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-insert");
    let (_, far) = people(&space);
    let _mended = mend(stand, "w1", "iptables -D INPUT -p udp --dport 4789 -j DROP");
    stand.on_node("w1", "iptables -I INPUT 1 -p udp --dport 4789 -j DROP");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
}

fn without_calico_node() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-felix");
    let (near, far) = people(&space);
    let daemon_set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "calico-node"}});
    let place = |selector: Value| {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"cknet/none": selector}}}}});
        stand.patch(&daemon_set, "kube-system", &patch);
    };
    place(json!("such"));
    eventually("calico-node is gone", || match stand.list(("v1", "Pod"), "kube-system", "k8s-app=calico-node").len() {
        0 => Ok(()),
        left => Err(format!("{left} left")),
    });
    for node in ["cp1", "w1"] {
        assert_eq!(stand.condition(node, "Ready").0, "True");
        assert_eq!(stand.condition(node, "NetworkUnavailable").1, "CalicoIsUp");
    }
    let both = |how: &'static str| {
        space.see(&[("frontend", &format!("{near}:8080"), how), ("frontend", &format!("{far}:8080"), how)]);
    };
    both("allowed");
    space.apply_file("policy/deny-all-ingress.yaml");
    space.run("late", AGNHOST, "w1", &[], &["pause"]);
    space.await_pod("late", "running", |pod| pod["status"]["phase"] == "Running");
    // Nobody is there to enforce it: rounds of probes are time enough for somebody who were.
    (0..3).for_each(|_| both("allowed"));
    place(Value::Null);
    space.await_connect("frontend", &format!("{near}:8080"), "TIMEOUT");
    space.await_connect("frontend", &format!("{far}:8080"), "TIMEOUT");
    assert_eq!(space.pod("late")["status"]["phase"], "Running");
    eventually("calico-node is back", || {
        let ready = stand.get(("apps/v1", "DaemonSet"), "kube-system", "calico-node")["status"]["numberReady"].clone();
        if ready == json!(2) { Ok(()) } else { Err(ready.to_string()) }
    });
}

fn later_configuration() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-later");
    let _mended = mend(stand, "w1", "rm -f /etc/cni/net.d/10-flannel.conflist");
    let file = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"flannel"}]}"#;
    stand.on_node("w1", &format!("echo '{file}' > /etc/cni/net.d/10-flannel.conflist"));
    space.run("second", AGNHOST, "w1", &[], &["pause"]);
    space.await_ready(&["second"]);
    assert!(space.address("second").starts_with("10.1."), "a file that sorts after Calico's changes nothing");
    for node in ["cp1", "w1"] {
        assert_eq!(stand.condition(node, "Ready").0, "True");
    }
}

fn earlier_configuration() {
    let (stand, _turn) = breakable();
    let space = stand.space("rec-first");
    let _mended = mend(stand, "w1", "rm -f /etc/cni/net.d/05-other.conflist");
    let file = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}]]}}]}"#;
    stand.on_node("w1", &format!("echo '{file}' > /etc/cni/net.d/05-other.conflist"));
    space.run("first", AGNHOST, "w1", &[], &["pause"]);
    space.await_ready(&["first"]);
    assert_eq!(space.address("first"), "10.244.1.2");
    for node in ["cp1", "w1"] {
        assert_eq!(stand.condition(node, "Ready").0, "True");
    }
    // While its plugin is still configured, so that it is undone by it.
    space.delete(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first"}}));
    eventually("the pod is gone", || if space.pod("first").is_null() { Ok(()) } else { Err("there".into()) });
}

fn without_configuration() {
    let (stand, _turn) = breakable();
    const SAVED: &str = "/run/cknet/saved.conflist";
    let mended = mend(stand, "w1", &format!("mv {SAVED} /etc/cni/net.d/10-calico.conflist"));
    stand.on_node("w1", &format!("mv /etc/cni/net.d/10-calico.conflist {SAVED}"));
    let (reason, message) = eventually("w1 is not ready", || match stand.condition("w1", "Ready") {
        (status, reason, message) if status == "False" => Ok((reason, message)),
        (status, ..) => Err(status),
    });
    drop(mended);
    assert_eq!(reason, "KubeletNotReady");
    assert_eq!(
        message,
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin \
         returns error: cni plugin not initialized"
    );
    eventually(&format!("w1 is ready again within {SOON:?}"), || match stand.condition("w1", "Ready").0 {
        status if status == "True" => Ok(()),
        status => Err(status),
    });
}
