//! A node, its pods and a host outside, in namespaces; and ways to knock at a port and to see who knocked.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use cknet_kernel::link::{Netlink, VethEnd};
use cknet_kernel::nft::{Family, Nft};
use cknet_kernel::ns::NetNs;
use cknet_kernel::route::{Route, RouteKind};
use cknet_reference::node::policy::{self, LocalEndpoint, Options, PodName, Pool, World};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

/// Within one machine an answer takes microseconds; below a second a connection attempt is one packet.
const SILENCE: Duration = Duration::from_millis(200);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const NODE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const MTU: u32 = 1500;
const STATIC_ROUTE: u8 = 4;

/// What happened to a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Answered,
    Silence,
    /// A reset, or an ICMP port unreachable.
    Refused,
}

/// The network, and the world as the cluster sees it.
pub struct Lab {
    runtime: tokio::runtime::Runtime,
    pub node: NetNs,
    pub outside: NetNs,
    pods: BTreeMap<String, (NetNs, Ipv4Addr)>,
    pub world: World,
    pub local: Vec<LocalEndpoint>,
}

impl Lab {
    /// A node with a host outside at the other end of its `eth0`.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (node, outside) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        node.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();
        let pools = vec![Pool { cidr: "10.1.0.0/16".parse().unwrap(), nat_outgoing: true }];
        let world = World { pools, ..World::default() };
        let mut lab = Self { runtime, node, outside, pods: BTreeMap::new(), world, local: Vec::new() };
        let on_segment = |address| Ipv4Net::new(address, 24).unwrap();
        lab.pair(("eth0", on_segment(NODE)), &lab.outside, ("eth0", on_segment(OUTSIDE)));
        let route = |device| Route {
            destination: "10.0.0.0/8".parse().unwrap(),
            kind: RouteKind::Via { gateway: NODE, device, onlink: false },
            protocol: STATIC_ROUTE,
        };
        lab.route(&lab.outside.clone(), "eth0", route);
        // As on any node: what is to be translated, or refused, must have somewhere to go first.
        let default = |device| Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Via { gateway: OUTSIDE, device, onlink: false },
            protocol: STATIC_ROUTE,
        };
        lab.route(&lab.node.clone(), "eth0", default);
        for name in ["prod", "dev"] {
            let namespace = json!({"metadata": {"name": name, "labels": {"env": name}}});
            lab.world.put_namespace(&serde_json::from_value(namespace).unwrap());
        }
        let node =
            json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}});
        lab.world.put_node(&serde_json::from_value(node).unwrap());
        lab
    }

    /// Adds a pod `namespace/name`, which the cluster and the node know, with the label `app=name`.
    pub fn pod(mut self, name: &str) -> Self {
        let address = Ipv4Addr::new(10, 1, 0, 1 + self.pods.len() as u8);
        let interface = format!("cali{}", self.pods.len() + 1);
        let pod = NetNs::create().unwrap();
        self.pair((&interface, GATEWAY.into()), &pod, ("eth0", address.into()));
        let link = |destination: Ipv4Addr| {
            move |device| Route {
                destination: destination.into(),
                kind: RouteKind::Link { device },
                protocol: STATIC_ROUTE,
            }
        };
        self.route(&self.node.clone(), &interface, link(address));
        self.route(&pod, "eth0", link(GATEWAY));
        let default = |device| Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Via { gateway: GATEWAY, device, onlink: true },
            protocol: STATIC_ROUTE,
        };
        self.route(&pod, "eth0", default);
        self.pods.insert(name.into(), (pod, address));
        let (namespace, short) = name.split_once('/').unwrap();
        self.describe(name, &json!({"app": short}));
        let pod = PodName::new(namespace, short);
        self.local.push(LocalEndpoint { pod, interface, ip: address.into() });
        self
    }

    /// Tells the cluster of a pod's labels; each pod names port 8080 `http`.
    pub fn describe(&mut self, name: &str, labels: &Value) {
        let (namespace, short) = name.split_once('/').unwrap();
        let address = self.address(name);
        let object = json!({
            "metadata": {"namespace": namespace, "name": short, "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}], "nodeName": "n1"},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        });
        self.world.put_pod(&serde_json::from_value(object).unwrap());
    }

    pub fn policy(&mut self, name: &str, spec: Value) {
        let (namespace, name) = name.split_once('/').unwrap();
        let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        self.world.put_policy(&serde_json::from_value(object).unwrap());
    }

    pub fn policies(&self) -> policy::Programmer {
        policy::Programmer::new(self.nft())
    }

    /// Brings the node in line with the world.
    pub fn program(&self, programmer: &mut policy::Programmer) -> policy::Applied {
        let ruleset = policy::compile(&self.world, &self.local, &Options::default());
        programmer.apply(&ruleset).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn nft(&self) -> Nft {
        self.node.run(Nft::open).unwrap().unwrap()
    }

    /// Packets that rules with this comment counted.
    pub fn counted(&self, table: &str, comment: &str) -> u64 {
        let rules = self.nft().rules(Family::Ip, table).unwrap();
        let matching: Vec<_> = rules.iter().filter(|rule| rule.comment.as_deref() == Some(comment)).collect();
        assert!(!matching.is_empty(), "no rule `{comment}`");
        matching.iter().filter_map(|rule| rule.counter).map(|counter| counter.packets).sum()
    }

    pub fn address(&self, pod: &str) -> IpAddr {
        self.pods[pod].1.into()
    }

    /// A pod's namespace, or `node`, or `outside`.
    pub fn space(&self, name: &str) -> &NetNs {
        match name {
            "node" => &self.node,
            "outside" => &self.outside,
            pod => &self.pods[pod].0,
        }
    }

    /// A server at a pod (or `node`, `outside`).
    pub fn listen(&self, at: &str, port: u16) -> TcpListener {
        let listener = self.space(at).run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// A UDP socket with a read timeout.
    pub fn datagrams(&self, at: &str, port: u16) -> UdpSocket {
        let socket = self.space(at).run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket
    }

    /// Opens a connection.
    pub fn connect(&self, from: &str, to: IpAddr, port: u16) -> io::Result<TcpStream> {
        self.space(from).run(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), SILENCE)).unwrap()
    }

    /// Tries to open a connection.
    pub fn knock(&self, from: &str, to: IpAddr, port: u16) -> Answer {
        answer(self.connect(from, to, port).map(|_| ()))
    }

    /// Sends a datagram from a fresh port and waits for an echo by `server`, which may be silent.
    pub fn ask(&self, from: &str, to: IpAddr, port: u16, server: &UdpSocket) -> Answer {
        let client = self.datagrams(from, 0);
        answer(client.connect((to, port)).and_then(|()| client.send(b"ask")).and_then(|_| {
            let mut buffer = [0; 16];
            if let Ok((length, peer)) = server.recv_from(&mut buffer) {
                server.send_to(&buffer[..length], peer)?;
            }
            client.recv(&mut buffer).map(|_| ())
        }))
    }

    fn pair(&self, near: (&str, Ipv4Net), far_ns: &NetNs, far: (&str, Ipv4Net)) {
        self.runtime.block_on(async {
            let (here, there) = (Netlink::open(&self.node).unwrap(), Netlink::open(far_ns).unwrap());
            let end = |name| VethEnd { name, mac: None, mtu: MTU };
            let descriptor = std::os::fd::AsFd::as_fd(far_ns);
            here.add_veth(&end(near.0), &end(far.0), descriptor).await.unwrap();
            for (netlink, (name, address)) in [(&here, near), (&there, far)] {
                for link in ["lo", name] {
                    netlink.up(netlink.expect_link(link).await.unwrap().index).await.unwrap();
                }
                let index = netlink.expect_link(name).await.unwrap().index;
                netlink.add_address(index, address).await.unwrap();
            }
        });
    }

    fn route(&self, space: &NetNs, device: &str, route: impl Fn(u32) -> Route) {
        self.runtime.block_on(async {
            let netlink = Netlink::open(space).unwrap();
            let index = netlink.expect_link(device).await.unwrap().index;
            netlink.set_route(&route(index)).await.unwrap();
        });
    }
}

/// Who knocked at a listener since the last question.
pub fn visitor(listener: &TcpListener) -> Option<IpAddr> {
    let deadline = Instant::now() + SILENCE;
    loop {
        match listener.accept() {
            Ok((_, peer)) => return Some(peer.ip()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::yield_now()
            }
            Err(_) => return None,
        }
    }
}

fn answer(outcome: io::Result<()>) -> Answer {
    match outcome {
        Ok(()) => Answer::Answered,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Answer::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Answer::Silence,
            other => panic!("{other:?}: {error}"),
        },
    }
}
