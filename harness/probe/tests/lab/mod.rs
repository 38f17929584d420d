//! A small routed network in namespaces of its own: one router, and pods with `/32` and `/128` addresses behind it.
//!
//! Neighbours are permanent on both sides, so no probe ever waits for ARP. The router also knows destinations where
//! packets end: [`PROHIBITED`], [`UNREACHABLE`] and everything in [`GHOSTS`], which is swallowed without a word.
#![allow(clippy::unwrap_used, dead_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cknet_kernel::ns::NetNs;
use cknet_probe::serve::{ListenAt, ServeError, Server};
use futures::TryStreamExt;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 255, 254);
pub const PROHIBITED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// 10.8.0.0/16: for each pod address 10.9.a.b there is a ghost 10.8.a.b.
pub const GHOSTS: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 0);
/// Outside of all routes that pods have.
pub const NOWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

const ROUTER_MAC: [u8; 6] = [0xee, 0xee, 0xee, 0xee, 0xee, 0xee];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xffff);

/// The router and its pods; all is gone when it is dropped.
pub struct Lab {
    runtime: tokio::runtime::Runtime,
    router: NetNs,
    router_netlink: Handle,
    pub pods: Vec<Pod>,
}

/// One pod: a namespace with an address.
pub struct Pod {
    pub netns: NetNs,
    pub ip: Ipv4Addr,
    pub ip6: Ipv6Addr,
    servers: Vec<Running>,
}

/// A server on a thread of its own, which ends when this is dropped.
pub struct Running {
    stop: EventFd,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Lab {
    /// A router with so many pods.
    pub fn new(pods: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let router = NetNs::create().unwrap();
        sysctl(
            &router,
            &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv6/conf/default/accept_dad", "0")],
        );
        let router_netlink = runtime.block_on(async {
            let netlink = router.netlink().unwrap();
            up(&netlink, "lo", None).await;
            let lo = index_of(&netlink, "lo").await;
            netlink.address().add(lo, ROUTER.into(), 32).execute().await.unwrap();
            end(&netlink, PROHIBITED, 32, RouteType::Prohibit).await;
            end(&netlink, UNREACHABLE, 32, RouteType::Unreachable).await;
            end(&netlink, GHOSTS, 16, RouteType::BlackHole).await;
            netlink
        });
        let mut lab = Self { runtime, router, router_netlink, pods: Vec::new() };
        for number in 1..=pods {
            let pod = lab.pod(number);
            lab.pods.push(pod);
        }
        lab.await_links_up();
        lab
    }

    /// Waits until every link carries: the kernel notices some time after both ends of a veth are switched on, and
    /// swallows packets until then.
    fn await_links_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.runtime.block_on(async {
            all_up(&self.router_netlink, deadline).await;
            for pod in &self.pods {
                all_up(&pod.netns.netlink().unwrap(), deadline).await;
            }
        });
    }

    fn pod(&self, number: u16) -> Pod {
        let [high, low] = number.to_be_bytes();
        let ip = Ipv4Addr::new(10, 9, high, low);
        let ip6 = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, number);
        let mac = [2, 0, 0, 0, high, low];
        let netns = NetNs::create().unwrap();
        sysctl(&netns, &[("ipv6/conf/default/accept_dad", "0")]);
        let host_link = format!("v{number}");
        self.runtime.block_on(async {
            let inside = netns.netlink().unwrap();
            inside.link().add(LinkVeth::new("eth0", &host_link).build()).execute().await.unwrap();
            let peer = index_of(&inside, &host_link).await;
            let router = self.router.as_fd().as_raw_fd();
            let there = LinkUnspec::new_with_index(peer).setns_by_fd(router).build();
            inside.link().set(there).execute().await.unwrap();
            self.connect(&host_link, ip, ip6, mac).await;
            equip(&inside, ip, ip6, mac).await;
        });
        Pod { netns, ip, ip6, servers: Vec::new() }
    }

    /// The router's side of a pod: routes to it and its permanent neighbour entries.
    async fn connect(&self, link: &str, ip: Ipv4Addr, ip6: Ipv6Addr, mac: [u8; 6]) {
        let netlink = &self.router_netlink;
        up(netlink, link, Some(ROUTER_MAC)).await;
        let index = index_of(netlink, link).await;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).output_interface(index);
        netlink.route().add(route.build()).execute().await.unwrap();
        let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip6, 128).output_interface(index);
        netlink.route().add(route.build()).execute().await.unwrap();
        neighbour(netlink, index, ip.into(), mac).await;
        neighbour(netlink, index, ip6.into(), mac).await;
    }

    /// Adds a route to a pod that ends there: `prohibit`, `unreachable`, `blackhole`.
    pub fn end_in_pod(&self, pod: usize, target: Ipv4Addr, kind: RouteType) {
        self.runtime.block_on(async {
            let netlink = self.pods[pod].netns.netlink().unwrap();
            end(&netlink, target, 32, kind).await;
        });
    }

    /// Removes a route that [`Lab::end_in_pod`] added.
    pub fn open_in_pod(&self, pod: usize, target: Ipv4Addr) {
        self.runtime.block_on(async {
            let netlink = self.pods[pod].netns.netlink().unwrap();
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(target, 32);
            netlink.route().del(route.kind(RouteType::BlackHole).build()).execute().await.unwrap();
        });
    }

    /// Makes a pod's ghost address its own, and lets the router forward to it.
    pub fn haunt(&self, pod: usize) {
        let pod = &self.pods[pod];
        let IpAddr::V4(ghost) = pod.ghost(0).ip() else {
            return;
        };
        let [_, _, high, low] = pod.ip.octets();
        self.runtime.block_on(async {
            let inside = pod.netns.netlink().unwrap();
            let index = index_of(&inside, "eth0").await;
            inside.address().add(index, ghost.into(), 32).execute().await.unwrap();
            let index = index_of(&self.router_netlink, &format!("v{}", u16::from_be_bytes([high, low]))).await;
            neighbour(&self.router_netlink, index, ghost.into(), [2, 0, 0, 0, high, low]).await;
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ghost, 32).output_interface(index);
            self.router_netlink.route().add(route.build()).execute().await.unwrap();
        });
    }

    /// A path by which anybody in this process can open a pod's namespace.
    pub fn path(&self, pod: usize) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.pods[pod].netns.as_fd().as_raw_fd())
    }
}

impl Pod {
    /// Starts a server in this pod.
    pub fn serve(&mut self, identity: &str, listen: &[&str]) {
        let listen: Vec<ListenAt> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let server = self.netns.run(|| Server::bind(identity, &listen)).unwrap().unwrap();
        self.servers.push(Running::start(server));
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    pub fn at6(&self, port: u16) -> SocketAddr {
        (self.ip6, port).into()
    }

    /// The address behind which everything sent to this pod is swallowed.
    pub fn ghost(&self, port: u16) -> SocketAddr {
        let [_, _, high, low] = self.ip.octets();
        (Ipv4Addr::new(10, 8, high, low), port).into()
    }
}

impl Running {
    pub fn start(server: Server) -> Self {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let waited = stop.as_fd().try_clone_to_owned().unwrap();
        let thread = std::thread::Builder::new().name("server".into()).spawn(move || server.run(waited.as_fd()));
        Self { stop, thread: Some(thread.unwrap()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.write(1).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn sysctl(netns: &NetNs, settings: &[(&str, &str)]) {
    netns
        .run(|| {
            settings.iter().for_each(|(name, value)| std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap())
        })
        .unwrap();
}

async fn equip(netlink: &Handle, ip: Ipv4Addr, ip6: Ipv6Addr, mac: [u8; 6]) {
    up(netlink, "lo", None).await;
    up(netlink, "eth0", Some(mac)).await;
    let index = index_of(netlink, "eth0").await;
    netlink.address().add(index, ip.into(), 32).execute().await.unwrap();
    netlink.address().add(index, ip6.into(), 128).execute().await.unwrap();
    neighbour(netlink, index, GATEWAY.into(), ROUTER_MAC).await;
    neighbour(netlink, index, GATEWAY6.into(), ROUTER_MAC).await;
    for (network, length) in [(Ipv4Addr::new(10, 8, 0, 0), 15), (Ipv4Addr::new(192, 0, 2, 0), 24)] {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, length);
        let route = route.gateway(GATEWAY).output_interface(index).onlink();
        netlink.route().add(route.build()).execute().await.unwrap();
    }
    let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(Ipv6Addr::UNSPECIFIED, 0);
    let route = route.gateway(GATEWAY6).output_interface(index).onlink();
    netlink.route().add(route.build()).execute().await.unwrap();
}

async fn index_of(netlink: &Handle, name: &str) -> u32 {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.unwrap().unwrap().header.index
}

async fn up(netlink: &Handle, name: &str, mac: Option<[u8; 6]>) {
    let mut link = LinkUnspec::new_with_index(index_of(netlink, name).await);
    if let Some(mac) = mac {
        link = link.address(mac.to_vec());
    }
    netlink.link().set(link.up().build()).execute().await.unwrap();
}

async fn all_up(netlink: &Handle, deadline: Instant) {
    loop {
        let links: Vec<_> = netlink.link().get().execute().try_collect().await.unwrap();
        let is_up = |link: &&LinkMessage| {
            link.header.flags.contains(LinkFlags::Loopback)
                || link.attributes.iter().any(|a| matches!(a, LinkAttribute::OperState(State::Up)))
        };
        let down: Vec<_> = links.iter().filter(|link| !is_up(link)).map(|link| link.header.index).collect();
        if down.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "links {down:?} do not carry after 10 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn neighbour(netlink: &Handle, index: u32, ip: IpAddr, mac: [u8; 6]) {
    let entry = netlink.neighbours().add(index, ip).link_layer_address(&mac).state(NeighbourState::Permanent);
    entry.replace().execute().await.unwrap();
}

async fn end(netlink: &Handle, target: Ipv4Addr, length: u8, kind: RouteType) {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(target, length).kind(kind);
    netlink.route().add(route.build()).execute().await.unwrap();
}
