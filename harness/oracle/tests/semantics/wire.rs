//! Objects as the API serves them: the corners of their shapes.

use cknet_oracle::{Exposure, IpBlock, NetworkPolicy, Node, Object, Pod, PortRef, Protocol, Reach, Service, Snapshot};
use rstest::rstest;
use serde_json::{Value, json};

fn pod(spec: Value, status: Value) -> Pod {
    let metadata = json!({"namespace": "x", "name": "a"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
}

#[test]
fn p25_sidecars_name_ports_and_other_init_containers_do_not() {
    let container = |name: &str| json!([{"name": name, "containerPort": 80}]);
    let pod = pod(
        json!({"containers": [{"ports": container("main")}], "initContainers": [
            {"ports": container("sidecar"), "restartPolicy": "Always"},
            {"ports": container("setup")}]}),
        json!({}),
    );
    let named = |name| pod.numbers_of(name, Protocol::Tcp).count();
    assert_eq!([named("main"), named("sidecar"), named("setup")], [1, 1, 0]);
}

#[rstest]
#[case::running_without_conditions(json!({"phase": "Running"}), true, false)]
#[case::ready(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}), true, false)]
#[case::not_ready(json!({"conditions": [{"type": "Ready", "status": "False"}]}), false, false)]
#[case::succeeded(json!({"phase": "Succeeded"}), true, true)]
#[case::failed(json!({"phase": "Failed"}), true, true)]
fn the_state_of_a_pod(#[case] status: Value, #[case] ready: bool, #[case] finished: bool) {
    let pod = pod(json!({}), status);
    assert_eq!((pod.ready, pod.finished), (ready, finished));
}

#[test]
fn the_addresses_of_a_pod_come_from_the_list_or_else_from_the_field() {
    let both = pod(json!({}), json!({"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}));
    assert_eq!(both.ips.len(), 2);
    assert_eq!(pod(json!({}), json!({"podIP": "10.1.0.1"})).ips.len(), 1);
    assert_eq!(pod(json!({}), json!({})).ips.len(), 0);
}

#[test]
fn a_node_has_no_address_that_is_a_host_name_and_its_internal_ones_first() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1", "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": "10.1.0.0"}},
        "status": {"addresses": [{"type": "Hostname", "address": "n1"},
            {"type": "ExternalIP", "address": "203.0.113.1"},
            {"type": "InternalIP", "address": "192.168.60.11"}]},
    }))
    .unwrap();
    let all: Vec<_> = node.all_addresses().map(|address| address.to_string()).collect();
    assert_eq!(all, ["192.168.60.11", "203.0.113.1", "10.1.0.0"]);
}

#[rstest]
#[case::two_families(json!({"clusterIPs": ["10.96.0.1", "fd00::1"]}), 2)]
#[case::one_address(json!({"clusterIP": "10.96.0.1"}), 1)]
#[case::not_given_yet(json!({}), 0)]
fn the_addresses_of_a_service(#[case] spec: Value, #[case] addresses: usize) {
    assert_eq!(service(spec).cluster_ips().len(), addresses);
}

#[test]
fn kinds_of_services() {
    assert_eq!(service(json!({"clusterIP": "None"})).exposure, Exposure::Headless);
    assert_eq!(service(json!({"type": "ExternalName"})).exposure, Exposure::ExternalName);
    let local = service(json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": null}));
    assert_eq!((local.external, local.internal), (Reach::Local, Reach::Cluster));
}

#[test]
fn a_target_port_is_a_number_a_name_or_the_services_own() {
    let ports = json!([{"port": 1, "targetPort": 8}, {"port": 2, "targetPort": "http"}, {"port": 3}]);
    let service = service(json!({ "ports": ports }));
    let targets: Vec<_> = service.ports.iter().map(|port| port.target.clone()).collect();
    assert_eq!(targets, [PortRef::Number(8), PortRef::Name("http".into()), PortRef::Number(3)]);
}

#[test]
fn a_load_balancers_addresses_are_the_services() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "spec": {"externalIPs": ["198.51.100.1"]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}, {"hostname": "lb"}]}},
    }))
    .unwrap();
    assert_eq!(service.external_ips.len(), 2);
}

#[test]
fn a_list_of_mixed_kinds_becomes_a_snapshot() {
    let items = json!([
        {"kind": "Namespace", "metadata": {"name": "x"}},
        {"kind": "Pod", "metadata": {"namespace": "x", "name": "a"}},
        {"kind": "Secret", "metadata": {"namespace": "x", "name": "s"}, "data": {"a": "b"}},
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"}, "spec": {"podSelector": {}}},
    ]);
    let objects: Vec<Object> = serde_json::from_value(items).unwrap();
    let snapshot: Snapshot = objects.into_iter().collect();
    let found = [snapshot.namespaces.len(), snapshot.pods.len(), snapshot.policies.len()];
    assert_eq!(found, [1, 1, 1]);
}

#[test]
fn p08_a_policy_without_namespace_is_in_default() {
    let policy: NetworkPolicy = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
    assert_eq!(policy.to_string(), "default/p");
}

#[rstest]
#[case::p19_inside("10.0.0.0/8", "10.1.2.3", true)]
#[case::p19_mapped_address("10.0.0.0/8", "::ffff:10.1.2.3", true)]
#[case::p19_mapped_block("::ffff:10.0.0.0/104", "10.1.2.3", true)]
#[case::p19_beyond_a_mapped_block("::ffff:10.0.0.0/104", "11.1.2.3", false)]
#[case::p19_mapped_block_of_all("::ffff:0.0.0.0/96", "203.0.113.9", true)]
#[case::p19_mapped_block_and_ipv6("::ffff:0.0.0.0/96", "2001:db8::1", false)]
#[case::p19_all_of_ipv6("::/0", "10.1.2.3", false)]
fn p19_blocks_and_families(#[case] cidr: &str, #[case] address: &str, #[case] expected: bool) {
    let block = IpBlock::new(cidr.parse().unwrap(), []);
    assert_eq!(block.contains(address.parse().unwrap()), expected);
}
