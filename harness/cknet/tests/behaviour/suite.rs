//! The pods of upstream's policy suite: namespaces x, y and z, in each the pods a, b and c, in each of those one
//! container per port and protocol, and a service per pod. Its two plainest cases: all allowed, and deny-all.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::stand::{AGNHOST, Space, eventually, shared};
use super::trial;

const PORTS: [u16; 2] = [80, 81];
const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];

pub fn trials() -> Vec<Trial> {
    vec![trial("suite::nine_pods_reach_each_other_until_one_namespace_is_closed", nine_pods)]
}

fn container(port: u16, protocol: &str) -> Value {
    let lower = protocol.to_lowercase();
    let command = ["/agnhost", "serve-hostname", &format!("--{lower}"), "--http=false", "--port", &port.to_string()];
    json!({
        "name": format!("cont-{port}-{lower}"), "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
        "command": command, "env": [], "securityContext": {},
        "ports": [{"containerPort": port, "name": format!("serve-{port}-{lower}"), "protocol": protocol}],
    })
}

fn every() -> impl Iterator<Item = (u16, &'static str)> {
    PORTS.into_iter().flat_map(|port| PROTOCOLS.into_iter().map(move |protocol| (port, protocol)))
}

fn populate(space: &Space) {
    for pod in ["a", "b", "c"] {
        let containers: Vec<Value> = every().map(|(port, protocol)| container(port, protocol)).collect();
        space.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": {"pod": pod}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers},
        }));
        let ports: Vec<Value> = every()
            .map(|(port, protocol)| {
                let name = format!("service-port-{}-{port}", protocol.to_lowercase());
                json!({"name": name, "protocol": protocol, "port": port})
            })
            .collect();
        space.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s-{}-{pod}", space.name)},
            "spec": {"selector": {"pod": pod}, "ports": ports},
        }));
    }
}

fn nine_pods() {
    let spaces: Vec<Space> = ["suite-x", "suite-y", "suite-z"].into_iter().map(|name| shared().space(name)).collect();
    spaces.iter().for_each(populate);
    spaces.iter().for_each(|space| space.await_ready(&["a", "b", "c"]));
    // From x/a over its first container to all others, as the suite probes: through the service, by name.
    let targets: Vec<(usize, &str)> = (0..3).flat_map(|space| ["a", "b", "c"].map(|pod| (space, pod))).collect();
    let connect = |target: (usize, &str), port: u16, protocol: &str| {
        let space = &spaces[target.0].name;
        let service = format!("s-{space}-{}.{space}.svc.cluster.local:{port}", target.1);
        let line = format!("/agnhost connect {service} --timeout=1s --protocol={}", protocol.to_lowercase());
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let done = spaces[0].exec_words("a", Some("cont-80-tcp"), &words);
        if done.code == 0 { "allowed".to_string() } else { done.err.trim().to_string() }
    };
    for target in &targets {
        for (port, protocol) in every() {
            eventually(&format!("x/a reaches {target:?} on {port}/{protocol}"), || {
                match connect(*target, port, protocol) {
                    how if how == "allowed" => Ok(()),
                    how => Err(how),
                }
            });
        }
    }
    spaces[1].apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny-all"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    }));
    for target in targets {
        let expected = if target.0 == 1 { "TIMEOUT" } else { "allowed" };
        // One port of each protocol: what is closed takes a second to look at.
        for (port, protocol) in [(80, "TCP"), (81, "UDP")] {
            eventually(&format!("x/a to {target:?} on {port}/{protocol} is {expected}"), || {
                match connect(target, port, protocol) {
                    how if how.starts_with(expected) => Ok(()),
                    how => Err(how),
                }
            });
        }
    }
    // The closed pods reach nobody either, not even a name server.
    let words = ["/agnhost", "connect", "10.152.183.10:53", "--timeout=1s"].map(String::from);
    let out = spaces[1].exec_words("b", Some("cont-81-udp"), &words);
    assert_eq!((out.code, out.err.trim()), (1, "TIMEOUT"));
}
