//! flanneld: gives the node's part of the pod network to the CNI plugin `flannel` and lays a VXLAN overlay between
//! nodes: device `flannel.1`, VNI 1, UDP 8472, one route for each other node. It knows no NetworkPolicy.
//!
//! A model of flannel's documented behaviour with its Kubernetes subnet manager. Containers have no volumes here, so it
//! reads its ConfigMap through the API, and installs the CNI configuration itself where the ConfigMap holds one, as an
//! init container of the real manifest does: before anything else, and whatever becomes of it afterwards.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cknet_kernel::link::{Link, Netlink, NetlinkError, Vxlan};
use cknet_kernel::nft::{Base, Chain, Family, Hook, Nft, NftError, Program, Rule, Table, priority};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Neighbour, NeighbourOf, Route, RouteKind, mac_text};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use rtnetlink::MulticastGroup;
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::calico::{install, log};
use super::cni::flannel::{Lease, SUBNET_FILE};
use crate::watched::{Bell, ClientError, client_from, follow};

/// Flannel's defaults for the backend `vxlan` on Linux (its documentation, backends.md).
const VNI: u32 = 1;
const PORT: u16 = 8472;

/// Where the CNI configuration is installed.
const CNI_CONFIG: &str = "/etc/cni/net.d/10-flannel.conflist";

/// Outer IPv4, UDP and VXLAN headers and the inner Ethernet header (RFC 7348).
const OVERHEAD: u32 = 50;

/// RTPROT_BOOT of `linux/rtnetlink.h`.
const BOOT: u8 = 3;

/// How long to wait before trying again what the kernel or the API refused.
const RETRY: Duration = Duration::from_millis(200);

const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";
const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
const MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";

/// flanneld cannot go on.
#[derive(Debug, thiserror::Error)]
enum FlannelError {
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("Error registering network: failed to acquire lease: node {node:?} pod cidr not assigned")]
    NoPodCidr { node: String },
    #[error(
        "Error registering network: failed to acquire lease: subnet {network:?} specified in the flannel net config doesn't contain {subnet:?} PodCIDR of the {node:?} node"
    )]
    Outside { network: String, subnet: String, node: String },
    #[error("Failed to find any valid interface to use: failed to get default interface")]
    NoInterface,
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    #[error("cannot write rules to the kernel: {0}")]
    Rules(#[from] NftError),
    #[error("cannot reach the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error("the watches of the API server ended")]
    WatchesEnded,
}

/// `net-conf.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetConf {
    network: Ipv4Net,
    #[serde(default)]
    backend: Backend,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Backend {
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    #[serde(rename = "Port")]
    port: Option<u16>,
}

/// The hidden command line `cknet flanneld`.
pub fn main(_arguments: &[String]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string()),
    };
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(problem: &str) -> ExitCode {
    log("ERROR", problem);
    ExitCode::FAILURE
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn run() -> Result<(), FlannelError> {
    let kubeconfig = variable("KUBECONFIG").unwrap_or_else(|| "/etc/kubernetes/kubelet.conf".into());
    let client = client_from(Path::new(&kubeconfig)).await?;
    let node = own_name(&client).await?;
    let conf = configuration(&client).await?;
    let bell = Bell::default();
    let nodes = follow(Api::<Node>::all(client.clone()), watcher::Config::default(), &bell);
    ring_at_kernel_changes(&bell)?;
    nodes.wait_until_ready().await.map_err(|_| FlannelError::WatchesEnded)?;
    let subnet = loop {
        match subnet_of(&nodes.state(), &node, &conf) {
            // A cluster that gives each node its part gives it a moment after the node has come.
            Err(FlannelError::NoPodCidr { .. }) if variable("FLANNEL_PATIENT").is_some() => bell.rung().await,
            other => break other?,
        }
    };
    let mut daemon = Daemon {
        api: Api::all(client),
        subnet,
        node,
        conf,
        netlink: Netlink::open(&NetNs::current()?)?,
        rules: Program::new(Nft::open()?),
        announced: false,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let nodes: Vec<Node> = nodes.state().iter().map(|node| node.as_ref().clone()).collect();
        let done = daemon.reconcile(&nodes).await;
        if let Err(error) = &done {
            log("WARNING", &error.to_string());
        }
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(RETRY), if done.is_err() => {}
            _ = terminated.recv() => return Ok(()),
        }
    }
}

/// The node's name: given, or that of the node on which the pod runs.
async fn own_name(client: &Client) -> Result<String, FlannelError> {
    if let Some(name) = variable("NODE_NAME") {
        return Ok(name);
    }
    let missing = |name: &str| FlannelError::Settings(format!("environment variable {name} is not set"));
    let pod = variable("POD_NAME").ok_or_else(|| missing("POD_NAME"))?;
    let namespace = variable("POD_NAMESPACE").ok_or_else(|| missing("POD_NAMESPACE"))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let name = pods.get(&pod).await?.spec.and_then(|spec| spec.node_name);
    name.ok_or_else(|| FlannelError::Settings(format!("node name not present in pod spec `{pod}`")))
}

/// What the network is like: given, or from the ConfigMap, which may hold a CNI configuration to be installed too.
async fn configuration(client: &Client) -> Result<NetConf, FlannelError> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| FlannelError::Settings(format!("{what}: {why}"));
    let (conf, list) = match variable("FLANNEL_NET_CONF") {
        Some(conf) => (conf, variable("FLANNEL_CNI_CONF")),
        None => {
            let namespace = variable("POD_NAMESPACE").unwrap_or_else(|| "kube-flannel".into());
            let name = variable("FLANNEL_CONFIG_MAP").unwrap_or_else(|| "kube-flannel-cfg".into());
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let mut data = maps.get(&name).await?.data.unwrap_or_default();
            let conf = data.remove("net-conf.json");
            let conf = conf.ok_or_else(|| wrong(&name, &"no `net-conf.json` in it"))?;
            (conf, data.remove("cni-conf.json"))
        }
    };
    if let Some(list) = list {
        install(Path::new(CNI_CONFIG), &list)?;
    }
    serde_json::from_str(&conf).map_err(|error| wrong("net-conf.json", &error))
}

/// The node's part of the pod network, which the cluster has to give it.
fn subnet_of(nodes: &[std::sync::Arc<Node>], name: &str, conf: &NetConf) -> Result<Ipv4Net, FlannelError> {
    let own = nodes.iter().find(|node| node.name_any() == name).and_then(|node| pod_cidr(node));
    let subnet = own.ok_or_else(|| FlannelError::NoPodCidr { node: name.to_string() })?;
    if conf.network.contains(&subnet) {
        return Ok(subnet);
    }
    let (network, subnet) = (conf.network.to_string(), subnet.to_string());
    Err(FlannelError::Outside { network, subnet, node: name.to_string() })
}

fn pod_cidr(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()
}

/// Links that change behind our back ring the bell too.
fn ring_at_kernel_changes(bell: &Bell) -> Result<(), FlannelError> {
    use futures::StreamExt;
    let (connection, _, mut changes) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
    tokio::spawn(connection);
    let bell = bell.clone();
    tokio::spawn(async move {
        while changes.next().await.is_some() {
            bell.ring();
        }
    });
    Ok(())
}

/// Another node's end of the overlay.
struct Peer {
    subnet: Ipv4Net,
    address: Ipv4Addr,
    mac: [u8; 6],
}

/// Reads what flanneld has written on another node's object.
fn peer(node: &Node) -> Option<Peer> {
    let annotation = |key: &str| node.annotations().get(key);
    let data: serde_json::Value = serde_json::from_str(annotation(BACKEND_DATA)?).ok()?;
    let mac: Option<Vec<u8>> =
        data["VtepMAC"].as_str()?.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some(Peer { subnet: pod_cidr(node)?, address: annotation(PUBLIC_IP)?.parse().ok()?, mac: mac?.try_into().ok()? })
}

struct Daemon {
    api: Api<Node>,
    node: String,
    conf: NetConf,
    subnet: Ipv4Net,
    netlink: Netlink,
    rules: Program,
    announced: bool,
}

impl Daemon {
    async fn reconcile(&mut self, nodes: &[Node]) -> Result<(), FlannelError> {
        let (address, underlay) = self.public_address().await?;
        let device = self.ensure_device(address, &underlay).await?;
        let others = nodes.iter().filter(|node| node.name_any() != self.node).filter_map(peer);
        self.ensure_peers(device, &others.collect::<Vec<_>>()).await?;
        self.rules.apply(masquerade(self.conf.network, self.subnet))?;
        if self.announced {
            return Ok(());
        }
        let mtu = underlay.mtu.saturating_sub(OVERHEAD);
        let lease = Lease { network: self.conf.network, subnet: self.subnet, mtu, masquerade: true };
        install(Path::new(SUBNET_FILE), &lease.text())?;
        self.announce(address).await?;
        self.announced = true;
        log("INFO", &format!("Wrote subnet file to {SUBNET_FILE}; running backend on {address}, {}", self.device()));
        Ok(())
    }

    fn vni(&self) -> u32 {
        self.conf.backend.vni.unwrap_or(VNI)
    }

    fn device(&self) -> String {
        format!("flannel.{}", self.vni())
    }

    /// The first address of the link with the default route.
    async fn public_address(&self) -> Result<(Ipv4Addr, Link), FlannelError> {
        let routes = self.netlink.routes().await?;
        let index =
            routes.iter().find(|route| route.destination.prefix_len() == 0).and_then(|route| match route.kind {
                RouteKind::Via { device, .. } | RouteKind::Link { device } => Some(device),
                RouteKind::Blackhole => None,
            });
        let link = self.netlink.links().await?.into_iter().find(|link| Some(link.index) == index);
        let link = link.ok_or(FlannelError::NoInterface)?;
        let address = self.netlink.addresses().await?.into_iter().find(|(of, _)| *of == link.index);
        address.map(|(_, address)| (address.addr(), link)).ok_or(FlannelError::NoInterface)
    }

    async fn ensure_device(&self, address: Ipv4Addr, underlay: &Link) -> Result<u32, FlannelError> {
        let name = self.device();
        let port = self.conf.backend.port.unwrap_or(PORT);
        if let Some(link) = self.netlink.link(&name).await? {
            let fits = link.vxlan.is_some_and(|found| {
                found.vni == self.vni() && found.port == port && found.parent == Some(underlay.index)
            });
            if fits {
                if !link.up {
                    self.netlink.up(link.index).await?;
                }
                return Ok(link.index);
            }
            self.netlink.delete(link.index).await?;
        }
        let device = Vxlan {
            name: &name,
            vni: self.vni(),
            port,
            local: address,
            parent: underlay.index,
            mac: self.mac(),
            mtu: underlay.mtu.saturating_sub(OVERHEAD),
        };
        self.netlink.add_vxlan(&device).await?;
        let index = self.netlink.expect_link(&name).await?.index;
        self.netlink.add_address(index, Ipv4Net::from(self.subnet.network())).await?;
        Ok(index)
    }

    async fn ensure_peers(&self, device: u32, peers: &[Peer]) -> Result<(), FlannelError> {
        let wanted: BTreeSet<Neighbour> = peers.iter().flat_map(entries).collect();
        let present = self.netlink.neighbours(device).await?;
        for entry in present.difference(&wanted) {
            self.netlink.delete_neighbour(device, entry).await?;
        }
        for entry in wanted.difference(&present) {
            self.netlink.set_neighbour(device, entry).await?;
        }
        let wanted: BTreeSet<Route> = peers.iter().map(|peer| route(peer, device)).collect();
        let over_us = |route: &Route| matches!(route.kind, RouteKind::Via { device: over, .. } if over == device);
        let present: BTreeSet<Route> = self.netlink.routes().await?.into_iter().filter(over_us).collect();
        for route in present.difference(&wanted) {
            self.netlink.delete_route(route).await?;
        }
        for route in wanted.difference(&present) {
            self.netlink.set_route(route).await?;
        }
        Ok(())
    }

    /// Tells the other nodes where this one is, and the cluster that its network is up.
    async fn announce(&self, address: Ipv4Addr) -> Result<(), FlannelError> {
        let data = json!({"VNI": self.vni(), "VtepMAC": mac_text(self.mac())});
        let annotations = json!({
            PUBLIC_IP: address.to_string(),
            BACKEND_TYPE: "vxlan",
            BACKEND_DATA: data.to_string(),
            MANAGER: "true",
        });
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.api.patch(&self.node, &PatchParams::default(), &patch).await?;
        let now = jiff::Timestamp::now().to_string();
        let condition = json!({
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.api.patch_status(&self.node, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Derived from the node's name so that it survives a restart; locally administered.
    fn mac(&self) -> [u8; 6] {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(format!("flannel.{}", self.node).as_bytes());
        [0x6a, digest[0], digest[1], digest[2], digest[3], digest[4]]
    }
}

fn entries(peer: &Peer) -> [Neighbour; 2] {
    let mac = peer.mac;
    [
        Neighbour { of: NeighbourOf::Forwarding, address: peer.address, mac },
        Neighbour { of: NeighbourOf::Protocol, address: peer.subnet.network(), mac },
    ]
}

fn route(peer: &Peer, device: u32) -> Route {
    let kind = RouteKind::Via { gateway: peer.subnet.network(), device, onlink: true };
    Route { destination: peer.subnet, kind, protocol: BOOT }
}

/// flanneld's `--ip-masq`: what leaves the pod network gets the node's address.
fn masquerade(network: Ipv4Net, own: Ipv4Net) -> Table {
    // RFC 5771: multicast is nobody's address.
    let multicast = Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4);
    let inside = Rule::new().saddr_in(network.into()).daddr_in(network.into()).return_to_caller();
    let out = Rule::new().saddr_in(network.into()).daddr_not_in(multicast.into()).masquerade();
    let to_own = Rule::new().saddr_not_in(network.into()).daddr_in(own.into()).return_to_caller();
    let into = Rule::new().saddr_not_in(network.into()).daddr_in(network.into()).masquerade();
    let chain =
        Chain::base("postrtg", Base::nat(Hook::Postrouting, priority::SNAT)).with_rules([inside, out, to_own, into]);
    Table::new(Family::Ip, "flannel-ipv4").with_chain(chain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    fn node(name: &str, pod_cidr: Option<&str>) -> Arc<Node> {
        let spec = json!({"podCIDR": pod_cidr});
        let annotations = json!({
            PUBLIC_IP: "192.168.60.12",
            BACKEND_DATA: r#"{"VNI":1,"VtepMAC":"6a:00:00:00:00:01"}"#,
        });
        let object = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_node_needs_its_part_of_the_network() {
        let conf: NetConf =
            serde_json::from_str(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#).unwrap();
        let subnet = |cidr| subnet_of(&[node("w1", cidr)], "w1", &conf).map_err(|error| error.to_string());
        assert_eq!(subnet(Some("10.244.1.0/24")), Ok("10.244.1.0/24".parse().unwrap()));
        let message = subnet(None).unwrap_err();
        assert!(message.ends_with("failed to acquire lease: node \"w1\" pod cidr not assigned"), "{message}");
        let message = subnet(Some("10.1.0.0/24")).unwrap_err();
        assert!(message.contains("subnet \"10.244.0.0/16\" specified in the flannel net config"), "{message}");
    }

    #[test]
    fn another_node_is_known_by_its_annotations() {
        let other = peer(&node("w1", Some("10.244.1.0/24"))).unwrap();
        assert_eq!(other.address.to_string(), "192.168.60.12");
        assert_eq!(entries(&other)[1].address.to_string(), "10.244.1.0");
        assert_eq!(route(&other, 7).destination.to_string(), "10.244.1.0/24");
        assert!(peer(&node("w1", None)).is_none());
    }
}
