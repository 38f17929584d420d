//! What a cluster that is there already is like, from its API alone: which product it is, its nodes, its CNI, its
//! CIDRs, and which namespaces somebody uses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::service_cidr::service_cidr;
use super::{MARK, rights};
use crate::cluster::objects::{Coordinates, Objects, answer};
use crate::cluster::ready::not_ready;
use crate::event::Fidelity;
use crate::scenario::model::{BlockSize, Cidr, Cluster, Encapsulation};
use crate::scenario::{Premises, PremisesNode};

/// A cluster cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error("cannot use the kubeconfig `{0}`: {1}")]
    Kubeconfig(String, String),
    #[error("the kubeconfig has no context `{named}`; it has: {known}")]
    Context { named: String, known: String },
    #[error("the cluster does not answer: {0}")]
    Silent(String),
    #[error("{0}")]
    Unfit(String),
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The product, in the words of `--distribution`; `unknown` if it is none of those.
    pub distribution: &'static str,
    pub fidelity: Fidelity,
    /// The version of the API server.
    pub version: String,
    /// The names of its CNI, in fixtures/profiles.
    pub profile: &'static str,
    /// The Deployment of cluster DNS.
    pub dns: &'static str,
    pub premises: Premises,
    /// What each node says of the start of its kernel, by which a machine is known.
    pub boots: BTreeMap<String, String>,
}

/// Deployments of cluster DNS, in `kube-system`.
const DNS: [&str; 3] = ["coredns", "rke2-coredns-rke2-coredns", "kube-dns"];

/// Namespaces that each cluster has and that no scenario may use up.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

pub async fn survey(client: &Client) -> Result<Found, SurveyError> {
    let nodes = nodes(client).await?;
    rights::check(client).await?;
    let version = client.apiserver_version().await.map_err(|error| SurveyError::Silent(answer(&error)))?.git_version;
    let objects = Objects::new(client.clone(), None);
    let (distribution, fidelity) = product(&nodes);
    let members = members(&nodes)?;
    let profile = profile(&objects, distribution).await?;
    let dns = dns(&objects).await?;
    let cluster = set_up(client, &objects, &nodes, profile).await?;
    let network = network_of(members.iter().map(|member| member.address));
    let taken = taken(&objects).await?;
    let premises = Premises { nodes: members, network, cluster, taken };
    let boot = |node: &Node| Some((node.name_any(), node.status.as_ref()?.node_info.as_ref()?.boot_id.clone()));
    let boots = nodes.iter().filter_map(boot).collect();
    Ok(Found { distribution, fidelity, version, profile, dns, premises, boots })
}

async fn nodes(client: &Client) -> Result<Vec<Node>, SurveyError> {
    let api: Api<Node> = Api::all(client.clone());
    let mut nodes = api.list(&ListParams::default()).await.map_err(|error| SurveyError::Silent(answer(&error)))?.items;
    nodes.sort_by_key(ResourceExt::name_any);
    if let Some((node, why)) = nodes.iter().find_map(|node| Some((node, not_ready(node)?))) {
        return Err(SurveyError::Unfit(format!("node `{}` is not Ready: {why}", node.name_any())));
    }
    Ok(nodes)
}

/// What the nodes say of their product. What they are made of is all that tells a model from a product.
fn product(nodes: &[Node]) -> (&'static str, Fidelity) {
    let said = |node: &Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.clone());
        info.map(|info| (info.container_runtime_version, info.kubelet_version)).unwrap_or_default()
    };
    let runtime = |word: &str| nodes.iter().any(|node| said(node).0.starts_with(word));
    let kubelet = |word: &str| nodes.iter().any(|node| said(node).1.contains(word));
    let label = |key: &str| nodes.iter().any(|node| node.labels().contains_key(key));
    let annotation = |key: &str| nodes.iter().any(|node| node.annotations().contains_key(key));
    let product = if runtime("cknet://") {
        return ("reference", Fidelity::Model);
    } else if kubelet("+k3s") {
        "k3s"
    } else if kubelet("+rke2") {
        "rke2"
    } else if label("microk8s.io/cluster") {
        "microk8s"
    } else if label("k8sd.io/role") {
        "canonical"
    } else if annotation("kubeadm.alpha.kubernetes.io/cri-socket") {
        "kubeadm"
    } else {
        "unknown"
    };
    (product, Fidelity::Cluster)
}

fn members(nodes: &[Node]) -> Result<Vec<PremisesNode>, SurveyError> {
    let member = |node: &Node| {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let address = internal.filter_map(|address| address.address.parse::<IpAddr>().ok()).find(IpAddr::is_ipv4);
        let none = || SurveyError::Unfit(format!("node `{}` has no InternalIP of IPv4", node.name_any()));
        let control_plane = node.labels().contains_key("node-role.kubernetes.io/control-plane");
        Ok(PremisesNode { name: node.name_any(), address: address.ok_or_else(none)?, control_plane })
    };
    let mut members = nodes.iter().map(member).collect::<Result<Vec<_>, SurveyError>>()?;
    // Some products give their nodes no roles; then any node will do for a control plane.
    if members.iter().all(|member| !member.control_plane)
        && let Some(first) = members.first_mut()
    {
        first.control_plane = true;
    }
    Ok(members)
}

/// The names of the CNI, by the DaemonSet that it runs.
async fn profile(objects: &Objects, distribution: &str) -> Result<&'static str, SurveyError> {
    match distribution {
        "reference" => return Ok("reference"),
        "k3s" => return Ok("k3s"),
        "rke2" => return Ok("rke2"),
        "microk8s" => return Ok("microk8s"),
        _ => {}
    }
    for (namespace, name, profile) in [
        ("calico-system", "calico-node", "calico"),
        ("kube-system", "calico-node", "microk8s"),
        ("kube-system", "cilium", "cilium"),
    ] {
        if is_there(objects, "DaemonSet", namespace, name).await? {
            return Ok(profile);
        }
    }
    let unknown = "it has none of the CNIs that cknet knows: no DaemonSet calico-node in calico-system or kube-system, \
                   and none cilium in kube-system";
    Err(SurveyError::Unfit(unknown.into()))
}

async fn dns(objects: &Objects) -> Result<&'static str, SurveyError> {
    for name in DNS {
        if is_there(objects, "Deployment", "kube-system", name).await? {
            return Ok(name);
        }
    }
    Err(SurveyError::Unfit(format!("it has no cluster DNS: no Deployment {} in kube-system", DNS.join(", "))))
}

async fn is_there(objects: &Objects, kind: &str, namespace: &str, name: &str) -> Result<bool, SurveyError> {
    let at = Coordinates {
        api_version: "apps/v1".into(),
        kind: kind.into(),
        namespace: Some(namespace.into()),
        name: name.into(),
    };
    let found = objects.get(&at).await.map_err(|error| SurveyError::Silent(error.to_string()))?;
    Ok(found.is_some())
}

/// How it is set up: its CIDRs, and what carries packets between nodes.
async fn set_up(client: &Client, objects: &Objects, nodes: &[Node], profile: &str) -> Result<Cluster, SurveyError> {
    let services = service_cidr(client).await?;
    let usual = Cluster { service_cidr: Cidr::of(IpNet::V4(services)), ..Cluster::default() };
    // Only Calico has pools.
    let pools = objects.list("crd.projectcalico.org/v1", "IPPool", None, None).await.unwrap_or_default();
    let usable = |pool: &&Value| pool["spec"]["disabled"] != true && v4(&pool["spec"]["cidr"]).is_some();
    if let Some(pool) = pools.iter().find(usable) {
        return of_pool(pool, usual);
    }
    let mut cidrs = cilium_pool(objects, profile).await;
    if cidrs.is_none() {
        let own = nodes.iter().filter_map(|node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse::<Ipv4Net>().ok());
        cidrs = own.reduce(covering);
    }
    let unknown = || SurveyError::Unfit("from which block pods get addresses cannot be found out".into());
    Ok(Cluster { pod_cidr: Cidr::of(IpNet::V4(cidrs.ok_or_else(unknown)?)), ..usual })
}

fn v4(cidr: &Value) -> Option<Ipv4Net> {
    cidr.as_str()?.parse().ok()
}

fn of_pool(pool: &Value, usual: Cluster) -> Result<Cluster, SurveyError> {
    let spec = &pool["spec"];
    let mode = |key: &str| spec[key].as_str().unwrap_or("Never");
    let encapsulation = match (mode("vxlanMode"), mode("ipipMode")) {
        ("Always", _) => Encapsulation::Vxlan,
        ("CrossSubnet", _) => Encapsulation::VxlanCrossSubnet,
        (_, "Never") => Encapsulation::None,
        (_, ipip) => {
            let name = pool["metadata"]["name"].as_str().unwrap_or_default();
            return Err(SurveyError::Unfit(format!(
                "its IP pool `{name}` has ipipMode {ipip}, which cknet does not know"
            )));
        }
    };
    let block = spec["blockSize"].as_u64().and_then(|bits| BlockSize::of(u8::try_from(bits).ok()?));
    Ok(Cluster {
        pod_cidr: v4(&spec["cidr"]).map_or(usual.pod_cidr, |cidr| Cidr::of(IpNet::V4(cidr))),
        block_size: block.unwrap_or(usual.block_size),
        encapsulation,
        ..usual
    })
}

/// `cluster-pool-ipv4-cidr` of Cilium's settings.
async fn cilium_pool(objects: &Objects, profile: &str) -> Option<Ipv4Net> {
    if profile != "cilium" {
        return None;
    }
    let at = Coordinates {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: Some("kube-system".into()),
        name: "cilium-config".into(),
    };
    let config = objects.get(&at).await.ok()??;
    config["data"]["cluster-pool-ipv4-cidr"].as_str()?.split_whitespace().next()?.parse().ok()
}

/// The smallest block with both.
fn covering(one: Ipv4Net, other: Ipv4Net) -> Ipv4Net {
    let mut block = one.trunc();
    while !block.contains(&other) {
        match block.supernet() {
            Some(wider) => block = wider,
            None => break,
        }
    }
    block
}

/// The smallest network of at most 24 bits with all addresses.
fn network_of(addresses: impl Iterator<Item = IpAddr>) -> Cidr {
    let v4 = addresses.filter_map(|address| match address {
        IpAddr::V4(address) => Some(Ipv4Net::from(address)),
        IpAddr::V6(_) => None,
    });
    let all = v4.reduce(covering).unwrap_or_default();
    let widened = Ipv4Net::new(all.network(), all.prefix_len().min(24)).unwrap_or(all);
    Cidr::of(IpNet::V4(widened))
}

/// Namespaces that are there already: each but those that every cluster has, and `default` where something runs in it.
async fn taken(objects: &Objects) -> Result<BTreeSet<String>, SurveyError> {
    let silent = |error: crate::cluster::objects::ObjectError| SurveyError::Silent(error.to_string());
    let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_string);
    let others = objects.list("v1", "Namespace", None, Some(MARK)).await.map_err(silent)?;
    if let Some(run) = others.first().and_then(|namespace| namespace["metadata"]["labels"][MARK].as_str()) {
        return Err(SurveyError::Unfit(format!(
            "run {run} is at work on this cluster, or was killed: wait for it, or: cknet gc; where its notes are gone: \
             kubectl delete namespaces,pods,services,networkpolicies --all-namespaces --selector {MARK}={run}"
        )));
    }
    let namespaces = objects.list("v1", "Namespace", None, None).await.map_err(silent)?;
    let mut taken: BTreeSet<String> = namespaces.iter().filter_map(name).collect();
    taken.remove("default");
    for system in SYSTEM {
        taken.remove(system);
    }
    for (version, kind) in [("v1", "Pod"), ("networking.k8s.io/v1", "NetworkPolicy")] {
        let there = objects.list(version, kind, Some("default"), None).await.map_err(silent)?;
        if !there.is_empty() {
            taken.insert("default".into());
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_network_of_the_nodes_is_as_small_as_it_can_be_and_no_smaller_than_24_bits() {
        let of = |all: &[&str]| network_of(all.iter().map(|address| address.parse().unwrap())).to_string();
        assert_eq!(of(&["192.168.60.11", "192.168.60.12"]), "192.168.60.0/24");
        assert_eq!(of(&["10.0.0.11"]), "10.0.0.0/24");
        assert_eq!(of(&["10.0.1.11", "10.0.2.12"]), "10.0.0.0/22");
    }

    #[test]
    fn a_product_is_known_by_what_its_nodes_say_and_a_model_is_never_a_product() {
        let node = |runtime: &str, kubelet: &str, labels: Value| -> Node {
            serde_json::from_value(json!({
                "metadata": {"name": "n", "labels": labels},
                "status": {"nodeInfo": {
                    "containerRuntimeVersion": runtime, "kubeletVersion": kubelet, "architecture": "", "bootID": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "",
                    "osImage": "", "systemUUID": "",
                }},
            }))
            .unwrap()
        };
        let canonical = json!({"k8sd.io/role": "control-plane"});
        for (runtime, kubelet, labels, product_, fidelity) in [
            ("cknet://0.1.0", "v1.33.13", canonical.clone(), "reference", Fidelity::Model),
            ("containerd://1.7", "v1.33.4", canonical, "canonical", Fidelity::Cluster),
            ("containerd://2.0", "v1.33.4+k3s1", json!({}), "k3s", Fidelity::Cluster),
            ("containerd://2.0", "v1.33.4", json!({"microk8s.io/cluster": "true"}), "microk8s", Fidelity::Cluster),
            ("containerd://2.0", "v1.33.4", json!({}), "unknown", Fidelity::Cluster),
        ] {
            assert_eq!(product(&[node(runtime, kubelet, labels)]), (product_, fidelity));
        }
    }
}
