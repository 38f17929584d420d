//! What a cluster holds from its first moment: the system's namespaces and the way to this server.

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::kinds::{self, KindIndex};
use super::request::Target;
use super::status::Refusal;
use super::{time, write};

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Puts the first objects into an empty store.
pub(super) fn furnish(cluster: &Cluster) -> Result<(), Refusal> {
    let namespaces = cluster_wide("", "namespaces");
    for name in NAMESPACES {
        write::seed(cluster, &namespaces, json!({ "metadata": { "name": name } }))?;
    }
    write::seed(cluster, &cluster_wide("networking.k8s.io", "servicecidrs"), service_cidr(cluster))?;
    let in_default = |index: KindIndex, body: Value| {
        let target = Target { index, namespace: Some("default".to_owned()), name: None, sub: None };
        write::seed(cluster, &target, body)
    };
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let first = u32::from(cluster.service_cidr.network()) + 1;
    let ports = json!([{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": cluster.advertise.port() }]);
    let spec = json!({ "clusterIP": std::net::Ipv4Addr::from(first).to_string(), "ports": ports });
    in_default(
        kinds::core_index("services"),
        json!({ "metadata": { "name": "kubernetes", "labels": labels }, "spec": spec }),
    )?;
    let (address, port) = (cluster.advertise.ip().to_string(), cluster.advertise.port());
    let port = json!([{ "name": "https", "port": port, "protocol": "TCP" }]);
    let subsets = json!([{ "addresses": [{ "ip": address }], "ports": port }]);
    let skip = json!({ "endpointslice.kubernetes.io/skip-mirror": "true" });
    let endpoints = json!({ "metadata": { "name": "kubernetes", "labels": skip }, "subsets": subsets });
    in_default(kinds::core_index("endpoints"), endpoints)?;
    let slices = kinds::find("discovery.k8s.io", "v1", "endpointslices").unwrap_or_default();
    let slice = json!({
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if cluster.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": port,
    });
    in_default(slices, slice)
}

fn cluster_wide(group: &str, plural: &str) -> Target {
    let index = kinds::find(group, "v1", plural).unwrap_or_default();
    Target { index, namespace: None, name: None, sub: None }
}

/// Where services get addresses from, as the real server and its controller leave it.
fn service_cidr(cluster: &Cluster) -> Value {
    json!({
        "metadata": { "name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"] },
        "spec": { "cidrs": [cluster.service_cidr.to_string()] },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": time::now(),
            "message": "Kubernetes default Service CIDR is ready",
        }] },
    })
}
