//! Names and what they mean.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::Arc;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn service(name: &str, spec: Value) -> Arc<k8s_openapi::api::core::v1::Service> {
    from(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
}

fn slice(service: &str, endpoints: Value) -> Arc<k8s_openapi::api::discovery::v1::EndpointSlice> {
    from(json!({"metadata": {"name": service, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}))
}

fn index() -> Index {
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let services = [
        service("web", json!({"clusterIP": "10.0.0.5", "ports": http})),
        service("db", json!({"clusterIP": "None", "ports": http})),
        service("idle", json!({"clusterIP": "None"})),
        service("out", json!({"type": "ExternalName", "externalName": "example.org"})),
        service("in", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local."})),
        service("ring", json!({"type": "ExternalName", "externalName": "ring.shop.svc.cluster.local"})),
        from(json!({"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.0.0.10"}})),
    ];
    let slices = [
        slice("web", json!([{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}])),
        slice(
            "db",
            json!([
            {"addresses": ["10.1.0.3"], "hostname": "Second"},
            {"addresses": ["10.1.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.1.0.4"], "conditions": {"ready": false}}]),
        ),
        slice("idle", json!([{"addresses": ["10.1.0.9"], "conditions": {"ready": false}}])),
    ];
    let namespaces = ["shop", "kube-system", "empty"].map(|name| from(json!({"metadata": {"name": name}})));
    Index::build("cluster.local", &services, &slices, &namespaces)
}

/// The answers in the form of a zone file, or the word for having none.
fn asked(name: &str, asked: Asked) -> String {
    let line = |record: &Record| {
        let name = record.name.trim_end_matches(".cluster.local").to_owned();
        let short = |target: &String| target.trim_end_matches(".cluster.local").to_owned();
        match &record.data {
            Data::Address(address) => format!("{name} A {address}"),
            Data::Service { port, weight, target } => format!("{name} SRV {weight} {port} {}", short(target)),
            Data::Pointer(target) => format!("PTR {target}"),
            Data::Alias(target) => format!("{name} CNAME {}", short(target)),
            Data::Authority => "SOA".to_owned(),
            Data::NameServer(server) => format!("NS {server}"),
            Data::Text(text) => format!("TXT {text}"),
        }
    };
    match meaning(&index(), name, asked) {
        Meaning::Records { answers, additional } => {
            let mut text = answers.iter().map(line).collect::<Vec<_>>().join("; ");
            if !additional.is_empty() {
                text += " + ";
                text += &additional.iter().map(line).collect::<Vec<_>>().join("; ");
            }
            text
        }
        other => format!("{other:?}"),
    }
}

#[rstest]
#[case("web.shop.svc.cluster.local", "web.shop.svc A 10.0.0.5")]
#[case("db.shop.svc.cluster.local", "db.shop.svc A 10.1.0.2; db.shop.svc A 10.1.0.3")]
#[case("second.db.shop.svc.cluster.local", "second.db.shop.svc A 10.1.0.3")]
#[case("10-1-0-2.db.shop.svc.cluster.local", "10-1-0-2.db.shop.svc A 10.1.0.2")]
#[case("10-1-0-4.db.shop.svc.cluster.local", "NoSuchName")]
#[case("10-1-0-1.web.shop.svc.cluster.local", "10-1-0-1.web.shop.svc A 10.1.0.1")]
#[case("idle.shop.svc.cluster.local", "NoSuchName")]
#[case("nobody.shop.svc.cluster.local", "NoSuchName")]
#[case("web.empty.svc.cluster.local", "NoSuchName")]
#[case("shop.svc.cluster.local", "NoData")]
#[case("missing.svc.cluster.local", "NoSuchName")]
#[case("svc.cluster.local", "NoData")]
#[case("cluster.local", "NoData")]
#[case("web.cluster.local", "NoSuchName")]
#[case("a.b.c.web.shop.svc.cluster.local", "NoSuchName")]
#[case("10-9-8-7.shop.pod.cluster.local", "10-9-8-7.shop.pod A 10.9.8.7")]
#[case("10-9-8-7.missing.pod.cluster.local", "NoSuchName")]
#[case("name.shop.pod.cluster.local", "NoSuchName")]
#[case("10.9.shop.pod.cluster.local", "NoSuchName")]
#[case("shop.pod.cluster.local", "NoData")]
#[case("ns.dns.cluster.local", "ns.dns A 10.0.0.10")]
#[case("_http._tcp.web.shop.svc.cluster.local", "_http._tcp.web.shop.svc A 10.0.0.5")]
#[case("out.shop.svc.cluster.local", "out.shop.svc CNAME example.org")]
#[case("in.shop.svc.cluster.local", "in.shop.svc CNAME web.shop.svc; web.shop.svc A 10.0.0.5")]
#[case("ring.shop.svc.cluster.local", "ring.shop.svc CNAME ring.shop.svc")]
#[case("example.org", "Outside")]
#[case("mycluster.local", "Outside")]
fn addresses(#[case] name: &str, #[case] expected: &str) {
    assert_eq!(asked(name, Asked::Address), expected);
}

#[rstest]
#[case(
    "_http._tcp.web.shop.svc.cluster.local",
    "_http._tcp.web.shop.svc SRV 100 80 web.shop.svc + web.shop.svc A 10.0.0.5"
)]
#[case("_http._udp.web.shop.svc.cluster.local", "NoSuchName")]
#[case(
    "_http._tcp.db.shop.svc.cluster.local",
    "_http._tcp.db.shop.svc SRV 50 8080 10-1-0-2.db.shop.svc; _http._tcp.db.shop.svc SRV 50 8080 second.db.shop.svc + \
     10-1-0-2.db.shop.svc A 10.1.0.2; second.db.shop.svc A 10.1.0.3"
)]
#[case(
    "web.shop.svc.cluster.local",
    "web.shop.svc SRV 50 80 web.shop.svc; web.shop.svc SRV 50 53 web.shop.svc + web.shop.svc A 10.0.0.5"
)]
fn services(#[case] name: &str, #[case] expected: &str) {
    assert_eq!(asked(name, Asked::Service), expected);
}

#[rstest]
#[case("5.0.0.10.in-addr.arpa", "PTR web.shop.svc.cluster.local")]
#[case("3.0.1.10.in-addr.arpa", "PTR second.db.shop.svc.cluster.local")]
#[case("9.9.9.9.in-addr.arpa", "OtherAddress")]
#[case("in-addr.arpa", "Outside")]
fn pointers(#[case] name: &str, #[case] expected: &str) {
    assert_eq!(asked(name, Asked::Pointer), expected);
}

#[rstest]
#[case("cluster.local", Asked::Authority, "SOA")]
#[case("cluster.local", Asked::NameServer, "NS ns.dns.cluster.local + ns.dns A 10.0.0.10")]
#[case("dns-version.cluster.local", Asked::Text, "TXT 1.1.0")]
#[case("web.shop.svc.cluster.local", Asked::Other, "NoData")]
#[case("nobody.shop.svc.cluster.local", Asked::Other, "NoSuchName")]
#[case("5.0.0.10.in-addr.arpa", Asked::Address, "NoData")]
#[case("out.shop.svc.cluster.local", Asked::Alias, "out.shop.svc CNAME example.org")]
fn others(#[case] name: &str, #[case] kind: Asked, #[case] expected: &str) {
    assert_eq!(asked(name, kind), expected);
}
