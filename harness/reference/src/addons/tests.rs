//! The objects of a few clusters.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rstest::rstest;
use serde_json::json;

fn spec() -> AddonSpec {
    AddonSpec {
        cni: Cni::Calico,
        pod_cidr: "10.1.0.0/16".parse().unwrap(),
        service_cidr: "10.152.183.0/24".parse().unwrap(),
        block_size: 26,
        encapsulation: Encapsulation::Always,
        bird: false,
        autodetection: Some("interface=eth1".to_owned()),
        cluster_domain: "cluster.local".to_owned(),
    }
}

fn objects(spec: &AddonSpec) -> Vec<Value> {
    let mut objects = calico::objects(spec, "cafe").unwrap();
    objects.extend(dns::objects(spec).unwrap());
    objects
}

fn found(objects: &[Value], kind: &str, name: &str) -> Value {
    let mut all = objects.iter().filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    all.next().unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

fn variable(objects: &[Value], name: &str) -> Option<Value> {
    let set = found(objects, "DaemonSet", "calico-node");
    let env = set.pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap().clone();
    env.into_iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
}

#[rstest]
#[case(Encapsulation::Always, "Always", "vxlan")]
#[case(Encapsulation::CrossSubnet, "CrossSubnet", "vxlan")]
#[case(Encapsulation::Never, "Never", "bird")]
fn the_pool_follows_the_encapsulation_and_the_backend_bird(
    #[case] encapsulation: Encapsulation,
    #[case] mode: &str,
    #[case] backend: &str,
) {
    let objects = objects(&AddonSpec { encapsulation, bird: backend == "bird", ..spec() });
    let pool = found(&objects, "IPPool", "default-ipv4-ippool");
    assert_eq!(pool["apiVersion"], "crd.projectcalico.org/v1");
    assert_eq!(
        pool["spec"],
        json!({"allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic",
        "blockSize": 26, "cidr": "10.1.0.0/16", "ipipMode": "Never", "natOutgoing": true, "nodeSelector": "all()",
        "vxlanMode": mode})
    );
    assert_eq!(found(&objects, "ConfigMap", "calico-config")["data"]["calico_backend"], backend);
    assert_eq!(variable(&objects, "CALICO_IPV4POOL_VXLAN"), Some(json!(mode)));
}

#[test]
fn the_way_to_find_the_address_is_set_only_when_asked_for() {
    assert_eq!(variable(&objects(&spec()), "IP_AUTODETECTION_METHOD"), Some(json!("interface=eth1")));
    let plain = AddonSpec { autodetection: None, ..spec() };
    assert_eq!(variable(&objects(&plain), "IP_AUTODETECTION_METHOD"), None);
    assert_eq!(variable(&objects(&plain), "CALICO_IPV4POOL_CIDR"), Some(json!("10.1.0.0/16")));
}

#[test]
fn cluster_dns_has_the_tenth_address_and_the_domain() {
    let objects = objects(&AddonSpec { cluster_domain: "lab.test".to_owned(), ..spec() });
    assert_eq!(found(&objects, "Service", "kube-dns")["spec"]["clusterIP"], "10.152.183.10");
    let deployment = found(&objects, "Deployment", "coredns");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["--domain", "lab.test"]));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/ready", "port": 8181}));
    let corefile = &found(&objects, "ConfigMap", "coredns")["data"]["Corefile"];
    assert!(corefile.as_str().unwrap().contains("kubernetes lab.test in-addr.arpa"));
}

#[test]
fn the_cluster_has_an_identity() {
    let information = found(&objects(&spec()), "ClusterInformation", "default");
    assert_eq!(information["spec"]["clusterGUID"], "cafe");
    assert_eq!(information["spec"]["calicoVersion"], "v3.31.2");
}

#[test]
fn calico_runs_on_every_node_as_a_part_of_it() {
    let set = found(&objects(&spec()), "DaemonSet", "calico-node");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["tolerations"][0], json!({"effect": "NoSchedule", "operator": "Exists"}));
    let probe = &pod["containers"][0]["readinessProbe"]["httpGet"];
    assert_eq!(probe, &json!({"host": "127.0.0.1", "path": "/readiness", "port": 9099}));
}

#[rstest]
#[case(AddonSpec { service_cidr: "10.0.0.0/29".parse().unwrap(), ..spec() },
    "service network `10.0.0.0/29` is too small: cluster DNS takes its tenth address")]
#[case(AddonSpec { block_size: 33, ..spec() },
    "blocks of size /33 do not fit pod network `10.1.0.0/16`: 20 to 32 and no larger than the network are allowed")]
#[case(AddonSpec { pod_cidr: "10.1.0.0/27".parse().unwrap(), ..spec() },
    "blocks of size /26 do not fit pod network `10.1.0.0/27`: 20 to 32 and no larger than the network are allowed")]
fn impossible_clusters_are_refused(#[case] spec: AddonSpec, #[case] message: &str) {
    assert_eq!(spec.check().unwrap_err().to_string(), message);
}
