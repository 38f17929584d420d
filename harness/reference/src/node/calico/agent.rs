//! The loop of calico-node: follow the cluster and the kernel, and make the data plane what they call for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cknet_kernel::link::{Link, Netlink, NetlinkError};
use cknet_kernel::ns::NetNs;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use rtnetlink::MulticastGroup;
use tokio::signal::unix::{SignalKind, signal};

use super::autodetect::{self, Method};
use super::dataplane::{self, Overlay, View};
use super::health::Health;
use super::node_object::{self, CalicoNode, Tunnel};
use super::resources::{Encapsulation, FelixConfiguration, FelixConfigurationSpec, IPAMBlock, IPPool, IPPoolSpec};
use super::{PROTOCOL, Settings, log};
use crate::node::cni::config::calico_list;
use crate::node::cni::interface_name;
use crate::node::cni::ipam::{Ipam, IpamError};
use crate::watched::{Bell, ClientError, client_from, follow};

/// Calico's defaults for the overlay: VNI 4096, UDP 4789 (`FELIX_VXLANVNI`, `FELIX_VXLANPORT`).
const DEFAULT_VNI: u32 = 4096;
const DEFAULT_PORT: u16 = 4789;

/// Where the CNI configuration is installed.
const CNI_CONFIG: &str = "/etc/cni/net.d/10-calico.conflist";

/// How long to wait before trying again what the kernel or the API refused.
const RETRY: Duration = Duration::from_millis(200);

/// calico-node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Method(#[from] autodetect::InvalidMethod),
    #[error("unable to autodetect an IPv4 address using method `{0}`")]
    NoAddress(String),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    #[error("cannot write policy to the kernel: {0}")]
    Policy(String),
    #[error("cannot reach the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    System(#[from] std::io::Error),
    #[error("the watches of the API server ended")]
    WatchesEnded,
}

/// What is followed.
struct Cluster {
    nodes: Store<Node>,
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    pools: Store<IPPool>,
    blocks: Store<IPAMBlock>,
    felix: Store<FelixConfiguration>,
}

impl Cluster {
    fn follow(client: &Client, bell: &Bell) -> Self {
        let all = watcher::Config::default;
        Self {
            nodes: follow(Api::all(client.clone()), all(), bell),
            pods: follow(Api::all(client.clone()), all(), bell),
            namespaces: follow(Api::all(client.clone()), all(), bell),
            policies: follow(Api::all(client.clone()), all(), bell),
            pools: follow(Api::all(client.clone()), all(), bell),
            blocks: follow(Api::all(client.clone()), all(), bell),
            felix: follow(Api::all(client.clone()), all(), bell),
        }
    }

    async fn ready(&self) -> Result<(), AgentError> {
        tokio::try_join!(
            self.nodes.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.pools.wait_until_ready(),
            self.blocks.wait_until_ready(),
            self.felix.wait_until_ready(),
        )
        .map_err(|_| AgentError::WatchesEnded)?;
        Ok(())
    }

    fn pool_specs(&self) -> Vec<IPPoolSpec> {
        self.pools.state().iter().filter(|pool| !pool.spec.disabled).map(|pool| pool.spec.clone()).collect()
    }

    fn felix_spec(&self) -> FelixConfigurationSpec {
        let default = self.felix.state().into_iter().find(|felix| felix.name_any() == "default");
        default.map(|felix| felix.spec.clone()).unwrap_or_default()
    }

    /// Every block and the node it belongs to.
    fn block_owners(&self) -> Vec<(Ipv4Net, String)> {
        let owner = |block: &IPAMBlock| {
            let node = block.spec.affinity.as_deref()?.strip_prefix("host:")?;
            (!block.spec.deleted).then(|| (block.spec.cidr, node.to_string()))
        };
        self.blocks.state().iter().filter_map(|block| owner(block)).collect()
    }
}

/// Runs until SIGTERM.
pub async fn run(settings: Settings) -> Result<(), AgentError> {
    let client = client_from(Path::new(&settings.kubeconfig)).await?;
    let health = Health::default();
    health.serve().await?;
    let bell = Bell::default();
    let cluster = Cluster::follow(&client, &bell);
    ring_at_kernel_changes(&bell)?;
    cluster.ready().await?;
    let mut agent = Agent::start(settings, client, cluster).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let reconciled = agent.reconcile().await;
        health.set_ready(reconciled.is_ok());
        if let Err(error) = &reconciled {
            log("WARNING", &error.to_string());
        }
        let try_again = reconciled.is_err() || !agent.announced;
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(RETRY), if try_again => {}
            _ = terminated.recv() => return Ok(()),
        }
    }
}

/// Links, addresses and routes that change behind our back ring the bell too.
fn ring_at_kernel_changes(bell: &Bell) -> Result<(), AgentError> {
    use futures::StreamExt;
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, _, mut changes) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    let bell = bell.clone();
    tokio::spawn(async move {
        while changes.next().await.is_some() {
            bell.ring();
        }
    });
    Ok(())
}

struct Agent {
    settings: Settings,
    method: Method,
    cluster: Cluster,
    nodes: Api<Node>,
    ipam: Ipam,
    netlink: Netlink,
    /// What was last written on the Node object.
    written: Option<CalicoNode>,
    /// The CNI configuration is installed and the node has been told.
    announced: bool,
}

impl Agent {
    async fn start(settings: Settings, client: Client, cluster: Cluster) -> Result<Self, AgentError> {
        log("INFO", &format!("calico-node starts on node {}", settings.node));
        Ok(Self {
            method: settings.autodetection.parse()?,
            nodes: Api::all(client.clone()),
            ipam: Ipam::new(client.clone(), &settings.node),
            netlink: Netlink::open(&NetNs::current()?)?,
            settings,
            cluster,
            written: None,
            announced: false,
        })
    }

    /// One look at everything, and every correction that follows from it.
    async fn reconcile(&mut self) -> Result<(), AgentError> {
        let pools = self.cluster.pool_specs();
        let felix = self.cluster.felix_spec();
        let (address, underlay) = self.detect().await?;
        let own = self.own_node(address, &pools, &felix).await?;
        let overlay = own.tunnel.map(|tunnel| Overlay {
            vni: felix.vxlan_vni.unwrap_or(DEFAULT_VNI),
            port: felix.vxlan_port.unwrap_or(DEFAULT_PORT),
            tunnel,
            local: own.address.addr(),
        });
        let device = dataplane::ensure_overlay(&self.netlink, overlay, &underlay).await?;
        self.program_policy(&own).await?;
        self.program_routes(&own, &pools, &underlay, device).await?;
        self.announce(&underlay, device).await
    }

    async fn detect(&self) -> Result<(Ipv4Net, Link), AgentError> {
        let links = self.netlink.links().await?;
        let addresses = self.netlink.addresses().await?;
        let nodes = self.cluster.nodes.state();
        let own = nodes.iter().find(|node| node.name_any() == self.settings.node);
        let internal = own.and_then(|node| node_object::internal_address(node)).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let found = autodetect::find(&self.method, &links, &addresses, internal);
        let (address, name) = found.ok_or_else(|| AgentError::NoAddress(self.settings.autodetection.clone()))?;
        let underlay = links.into_iter().find(|link| link.name == name);
        Ok((address, underlay.ok_or_else(|| AgentError::NoAddress(self.settings.autodetection.clone()))?))
    }

    /// This node as the others shall see it; written to the API when it changed.
    async fn own_node(
        &mut self,
        address: Ipv4Net,
        pools: &[IPPoolSpec],
        felix: &FelixConfigurationSpec,
    ) -> Result<CalicoNode, AgentError> {
        let wanted = pools.iter().any(|pool| pool.vxlan_mode != Encapsulation::Never);
        let name = self.settings.node.clone();
        let tunnel = if felix.vxlan_enabled.unwrap_or(wanted) && wanted {
            let known = self.written.as_ref().and_then(|own| own.tunnel).map(|tunnel| tunnel.address);
            let address = match known {
                Some(address) => address,
                None => self.tunnel_address().await?,
            };
            Some(Tunnel { address, mac: node_object::tunnel_mac(&name) })
        } else {
            None
        };
        let own = CalicoNode { name, address, tunnel };
        if self.written.as_ref() != Some(&own) {
            node_object::annotate(&self.nodes, &own).await?;
            log("INFO", &format!("using IPv4 address {} of this node", own.address));
            self.written = Some(own.clone());
        }
        Ok(own)
    }

    async fn tunnel_address(&self) -> Result<Ipv4Addr, IpamError> {
        let handle = format!("vxlan-tunnel-addr-{}", self.settings.node);
        self.ipam.assign(&handle, &[("node", &self.settings.node), ("type", "vxlanTunnelAddress")]).await
    }

    async fn program_routes(
        &self,
        own: &CalicoNode,
        pools: &[IPPoolSpec],
        underlay: &Link,
        device: Option<u32>,
    ) -> Result<(), AgentError> {
        let nodes = self.cluster.nodes.state();
        let others: Vec<_> =
            nodes.iter().filter_map(|node| node_object::read(node)).filter(|node| node.name != own.name).collect();
        let links: BTreeMap<String, u32> =
            self.netlink.links().await?.into_iter().map(|link| (link.name, link.index)).collect();
        let pods: Vec<_> = self.local_pods().filter_map(|(name, ip)| Some((ip, *links.get(&name)?))).collect();
        let blocks = self.cluster.block_owners();
        let view = View { own, others: &others, pools, blocks: &blocks, pods: &pods, underlay };
        Ok(dataplane::apply(&self.netlink, device, &dataplane::desired(&view)).await?)
    }

    /// Pods of this node with a link of their own: the host's interface and the address.
    fn local_pods(&self) -> impl Iterator<Item = (String, Ipv4Addr)> + '_ {
        self.cluster.pods.state().into_iter().filter_map(|pod| {
            let here = pod.spec.as_ref()?.node_name.as_deref() == Some(self.settings.node.as_str());
            let address = pod.annotations().get("cni.projectcalico.org/podIP").filter(|_| here)?;
            let address: Ipv4Net = address.parse().ok()?;
            Some((interface_name(&pod.namespace()?, &pod.name_any()), address.addr()))
        })
    }

    async fn program_policy(&mut self, _own: &CalicoNode) -> Result<(), AgentError> {
        let _ = (&self.cluster.namespaces, &self.cluster.policies, PROTOCOL);
        Ok(())
    }

    /// The first time that everything is programmed: install the CNI configuration and tell the cluster.
    async fn announce(&mut self, underlay: &Link, device: Option<u32>) -> Result<(), AgentError> {
        if self.announced {
            return Ok(());
        }
        let mtu = match device {
            Some(_) => self.netlink.expect_link(dataplane::DEVICE).await?.mtu,
            None => underlay.mtu,
        };
        super::install(Path::new(CNI_CONFIG), &format!("{:#}\n", calico_list(&self.settings.node, mtu)))?;
        node_object::announce_network(&self.nodes, &self.settings.node).await?;
        self.announced = true;
        log("INFO", "calico-node is up");
        Ok(())
    }
}
