//! The loop of calico-node: follow the cluster and the kernel, and make the data plane what they call for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cknet_kernel::link::{Link, Netlink, NetlinkError};
use cknet_kernel::nft::{Nft, NftError};
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
use tokio::time::Instant;

use super::autodetect::{self, Method};
use super::bgp;
use super::bird::Bird;
use super::dataplane::{self, Look, Overlay, View};
use super::endpoint_status::{self, EndpointStatus};
use super::health::Health;
use super::iptables::{Admitted, Entrance};
use super::node_object::{self, CalicoNode, Tunnel};
use super::resources::{
    BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec, Encapsulation, FelixConfiguration,
    FelixConfigurationSpec, IPAMBlock, IPPool, IPPoolSpec,
};
use super::{Backend, Settings, log};
use crate::node::cni::config::calico_list;
use crate::node::cni::interface_name;
use crate::node::cni::ipam::{Ipam, IpamError};
use crate::node::policy::{self, LocalEndpoint, PodName, Pool, World};
use crate::watched::{Bell, ClientError, client_from, follow};

/// Calico's defaults for the overlay: VNI 4096, UDP 4789 (`FELIX_VXLANVNI`, `FELIX_VXLANPORT`).
const DEFAULT_VNI: u32 = 4096;
const DEFAULT_PORT: u16 = 4789;

/// Where the CNI configuration is installed.
const CNI_CONFIG: &str = "/etc/cni/net.d/10-calico.conflist";

/// Where it is installed where flannel carries the packets.
const CANAL_CONFIG: &str = "/etc/cni/net.d/10-canal.conflist";

/// How long to wait before trying again what the kernel or the API refused.
const RETRY: Duration = Duration::from_millis(200);

/// Shortest time between two looks. A change after a quiet time is seen at once; in a storm, as when many pods start,
/// several changes are one look.
const SPACING: Duration = Duration::from_millis(5);

/// How long to look for an address before the container ends for want of one.
const AUTODETECTION: Duration = Duration::from_secs(1);

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
    Policy(#[from] NftError),
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
    bgp: Store<BGPConfiguration>,
    peers: Store<BGPPeer>,
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
            bgp: follow(Api::all(client.clone()), all(), bell),
            peers: follow(Api::all(client.clone()), all(), bell),
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
            self.bgp.wait_until_ready(),
            self.peers.wait_until_ready(),
        )
        .map_err(|_| AgentError::WatchesEnded)?;
        Ok(())
    }

    /// Also those that are disabled: that keeps a pool from giving new addresses and leaves the pods that have one alone
    /// (Calico's guide "Migrate from one IP pool to another").
    fn pool_specs(&self) -> Vec<IPPoolSpec> {
        self.pools.state().iter().map(|pool| pool.spec.clone()).collect()
    }

    fn felix_spec(&self) -> FelixConfigurationSpec {
        let default = self.felix.state().into_iter().find(|felix| felix.name_any() == "default");
        default.map(|felix| felix.spec.clone()).unwrap_or_default()
    }

    fn bgp_spec(&self) -> BGPConfigurationSpec {
        let default = self.bgp.state().into_iter().find(|bgp| bgp.name_any() == "default");
        default.map(|bgp| bgp.spec.clone()).unwrap_or_default()
    }

    fn peer_specs(&self) -> Vec<BGPPeerSpec> {
        self.peers.state().iter().map(|peer| peer.spec.clone()).collect()
    }

    /// Everything that policy depends on.
    fn policy_world(&self) -> World {
        let mut world = World::default();
        self.namespaces.state().iter().for_each(|namespace| world.put_namespace(namespace));
        self.pods.state().iter().for_each(|pod| world.put_pod(pod));
        self.policies.state().iter().for_each(|policy| world.put_policy(policy));
        self.nodes.state().iter().for_each(|node| world.put_node(node));
        let pools = self.pool_specs();
        world.pools =
            pools.iter().map(|pool| Pool { cidr: pool.cidr.into(), nat_outgoing: pool.nat_outgoing }).collect();
        world
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
    let started = Instant::now();
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let next = Instant::now() + SPACING;
        let reconciled = agent.reconcile().await;
        health.set_ready(reconciled.is_ok());
        if let Err(error) = &reconciled {
            log("WARNING", &error.to_string());
        }
        if matches!(reconciled, Err(AgentError::NoAddress(_))) && started.elapsed() >= AUTODETECTION {
            return reconciled;
        }
        let try_again = reconciled.is_err() || !agent.announced || agent.refused.is_some();
        tokio::select! {
            () = rung(&bell, next) => {}
            () = tokio::time::sleep(RETRY), if try_again => {}
            _ = terminated.recv() => return Ok(()),
        }
    }
}

/// Waits until something rang, but not less than until `earliest`.
async fn rung(bell: &Bell, earliest: Instant) {
    tokio::time::sleep_until(earliest).await;
    bell.rung().await;
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

/// A pod of this node.
struct LocalPod {
    namespace: String,
    name: String,
    /// The host's end of its link.
    interface: String,
    address: Ipv4Addr,
    sandbox: String,
}

impl LocalPod {
    fn endpoint(self) -> LocalEndpoint {
        let pod = PodName::new(self.namespace, self.name);
        LocalEndpoint { pod, interface: self.interface, ip: self.address.into() }
    }
}

struct Agent {
    settings: Settings,
    method: Method,
    cluster: Cluster,
    nodes: Api<Node>,
    ipam: Ipam,
    netlink: Netlink,
    enforcer: policy::Programmer,
    entrance: Entrance,
    status: EndpointStatus,
    /// What was last written on the Node object.
    written: Option<CalicoNode>,
    /// The CNI configuration is installed and the node has been told.
    announced: bool,
    bird: Bird,
    /// The node's address and the index of its link, as found last.
    detected: Option<(Ipv4Net, u32)>,
    /// Why the kernel refused the overlay device the last time.
    refused: Option<String>,
}

impl Agent {
    async fn start(settings: Settings, client: Client, cluster: Cluster) -> Result<Self, AgentError> {
        log("INFO", &format!("calico-node starts on node {}", settings.node));
        Ok(Self {
            method: settings.autodetection.parse()?,
            nodes: Api::all(client.clone()),
            ipam: Ipam::new(client.clone(), &settings.node),
            netlink: Netlink::open(&NetNs::current()?)?,
            enforcer: policy::Programmer::new(Nft::open()?),
            entrance: Entrance::new(Nft::open()?),
            status: EndpointStatus::new(Path::new(endpoint_status::FOLDER))?,
            settings,
            cluster,
            written: None,
            announced: false,
            bird: Bird::default(),
            detected: None,
            refused: None,
        })
    }

    /// One look at everything, and every correction that follows from it.
    async fn reconcile(&mut self) -> Result<(), AgentError> {
        if self.settings.backend == Backend::None {
            return self.enforce_only();
        }
        let pools = self.cluster.pool_specs();
        let felix = self.cluster.felix_spec();
        let look = Look::at(&self.netlink).await?;
        let (address, underlay) = self.detect(&look)?;
        let own = self.own_node(address, &pools, &felix).await?;
        let overlay = own.tunnel.map(|tunnel| Overlay {
            vni: felix.vxlan_vni.unwrap_or(DEFAULT_VNI),
            port: felix.vxlan_port.unwrap_or(DEFAULT_PORT),
            tunnel,
            local: own.address.addr(),
        });
        let device = dataplane::ensure_overlay(&self.netlink, &look, overlay, underlay).await;
        let device = self.overlay_or_later(device);
        if device.is_some()
            && let Err(error) = dataplane::ensure_checksum_offload(felix.trusts_checksum_offload())
        {
            log("WARNING", &format!("Failed to set checksum offload of {}: {error}", dataplane::DEVICE));
        }
        self.program_policy(&own, &felix)?;
        if let Some(overlay) = overlay {
            self.entrance.admit(Admitted { nodes: self.other_nodes(&own), port: overlay.port })?;
        }
        self.program_routes(&own, &pools, &look, underlay, device).await?;
        self.speak_bgp(&own, &pools)?;
        self.announce(underlay, device).await
    }

    /// Canal: policy on the links of pods, and nothing of how packets travel.
    fn enforce_only(&mut self) -> Result<(), AgentError> {
        let address = Ipv4Net::from(Ipv4Addr::UNSPECIFIED);
        let own = CalicoNode { name: self.settings.node.clone(), address, tunnel: None };
        self.program_policy(&own, &self.cluster.felix_spec())?;
        if !self.announced {
            let ipam = serde_json::json!({"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}]]});
            let list = calico_list("k8s-pod-network", &self.settings.node, 0, &ipam);
            super::install(Path::new(CANAL_CONFIG), &format!("{list:#}\n"))?;
            self.announced = true;
            log("INFO", "calico-node is up");
        }
        Ok(())
    }

    /// As Felix does it: a device that the kernel refuses is tried again and again, the rest goes on without it, and
    /// the pod stays ready.
    fn overlay_or_later(&mut self, device: Result<Option<u32>, NetlinkError>) -> Option<u32> {
        let refused = device.as_ref().err().map(ToString::to_string);
        if let Some(why) = refused.as_ref().filter(|_| self.refused != refused) {
            log("WARNING", &format!("Failed to configure VXLAN tunnel device, retrying... error={why:?}"));
        }
        self.refused = refused;
        device.unwrap_or_default()
    }

    /// The node's address and the link that has it. What was found once is kept while nothing can be found: Calico
    /// finds an address when it starts, and then only follows changes.
    fn detect<'a>(&mut self, look: &'a Look) -> Result<(Ipv4Net, &'a Link), AgentError> {
        let nodes = self.cluster.nodes.state();
        let own = nodes.iter().find(|node| node.name_any() == self.settings.node);
        let internal = own.and_then(|node| node_object::internal_address(node)).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let found = autodetect::find(&self.method, &look.links, &look.addresses, internal);
        let found = found.and_then(|(address, name)| Some((address, look.link(&name)?)));
        let kept = self
            .detected
            .and_then(|(address, index)| Some((address, look.links.iter().find(|link| link.index == index)?)));
        let (address, link) =
            found.or(kept).ok_or_else(|| AgentError::NoAddress(self.settings.autodetection.clone()))?;
        self.detected = Some((address, link.index));
        Ok((address, link))
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
        look: &Look,
        underlay: &Link,
        device: Option<u32>,
    ) -> Result<(), AgentError> {
        let nodes = self.cluster.nodes.state();
        let others: Vec<_> =
            nodes.iter().filter_map(|node| node_object::read(node)).filter(|node| node.name != own.name).collect();
        let links: BTreeMap<&str, u32> = look.links.iter().map(|link| (link.name.as_str(), link.index)).collect();
        let index = |pod: &LocalPod| links.get(pod.interface.as_str()).copied();
        let pods: Vec<_> = self.local_pods().filter_map(|pod| Some((pod.address, index(&pod)?))).collect();
        let blocks = self.cluster.block_owners();
        let bird = self.settings.backend == Backend::Bird;
        let view = View { own, others: &others, pools, blocks: &blocks, pods: &pods, underlay, bird };
        Ok(dataplane::apply(&self.netlink, look, device, &dataplane::desired(&view)).await?)
    }

    /// Addresses of the nodes beside this one.
    fn other_nodes(&self, own: &CalicoNode) -> BTreeSet<Ipv4Addr> {
        let nodes = self.cluster.nodes.state();
        let others = nodes.iter().filter_map(|node| node_object::read(node)).filter(|node| node.name != own.name);
        others.map(|node| node.address.addr()).collect()
    }

    /// Gives BIRD what follows from the objects, where the backend is BIRD.
    fn speak_bgp(&mut self, own: &CalicoNode, pools: &[IPPoolSpec]) -> Result<(), AgentError> {
        if self.settings.backend != Backend::Bird {
            return Ok(());
        }
        let nodes = self.cluster.nodes.state();
        let numbered = nodes.iter().filter_map(|node| Some((node_object::read(node)?, node_object::as_number(node))));
        let (this, others): (Vec<_>, Vec<_>) = numbered.partition(|(node, _)| node.name == own.name);
        let blocks = self.cluster.block_owners().into_iter().filter(|(_, owner)| *owner == own.name);
        let mut blocks: Vec<Ipv4Net> = blocks.map(|(block, _)| block).collect();
        // The store has no order, and another order would be another configuration.
        blocks.sort();
        let view = bgp::View {
            name: &own.name,
            address: own.address.addr(),
            as_number: this.first().and_then(|(_, number)| *number),
            others: &others.iter().map(|(node, number)| (node.address.addr(), *number)).collect::<Vec<_>>(),
            configuration: &self.cluster.bgp_spec(),
            peers: &self.cluster.peer_specs(),
            pools,
            blocks: &blocks,
        };
        Ok(self.bird.serve(view.config())?)
    }

    /// Pods of this node with a link of their own.
    fn local_pods(&self) -> impl Iterator<Item = LocalPod> + '_ {
        self.cluster.pods.state().into_iter().filter_map(|pod| {
            let here = pod.spec.as_ref()?.node_name.as_deref() == Some(self.settings.node.as_str());
            let address = pod.annotations().get("cni.projectcalico.org/podIP").filter(|_| here)?;
            let address: Ipv4Net = address.parse().ok()?;
            let (namespace, name) = (pod.namespace()?, pod.name_any());
            let interface = interface_name(&namespace, &name);
            let sandbox = pod.annotations().get("cni.projectcalico.org/containerID")?.clone();
            Some(LocalPod { namespace, name, interface, address: address.addr(), sandbox })
        })
    }

    /// Enforces what the policies say about the pods of this node.
    fn program_policy(&mut self, own: &CalicoNode, felix: &FelixConfigurationSpec) -> Result<(), AgentError> {
        let world = self.cluster.policy_world();
        let pods: Vec<LocalPod> = self.local_pods().collect();
        let sandboxes = pods.iter().map(|pod| pod.sandbox.clone()).collect();
        let local: Vec<LocalEndpoint> = pods.into_iter().map(LocalPod::endpoint).collect();
        let vxlan_port = own.tunnel.map(|_| felix.vxlan_port.unwrap_or(DEFAULT_PORT));
        let announced = self.cluster.bgp_spec().service_cluster_ips.iter().map(|block| block.cidr.into()).collect();
        let loops = match felix.service_loop_prevention.as_deref() {
            Some("Disabled") => None,
            Some("Reject") => Some(policy::Loops { blocks: announced, reject: true }),
            _ => Some(policy::Loops { blocks: announced, reject: false }),
        };
        let options =
            policy::Options { vxlan_port, vxlan_device: dataplane::DEVICE.into(), loops, ..policy::Options::default() };
        self.enforcer.apply(&policy::compile(&world, &local, &options))?;
        Ok(self.status.tell(sandboxes)?)
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
        super::install(
            Path::new(CNI_CONFIG),
            &format!(
                "{:#}\n",
                calico_list("k8s-pod-network", &self.settings.node, mtu, &serde_json::json!({"type": "calico-ipam"}))
            ),
        )?;
        node_object::announce_network(&self.nodes, &self.settings.node).await?;
        self.announced = true;
        log("INFO", "calico-node is up");
        Ok(())
    }
}
