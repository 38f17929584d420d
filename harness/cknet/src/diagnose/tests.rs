//! Hops and causes from made-up sightings and facts: no kernel is asked.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use cknet_probe::facts::{Facts, Fdb, Link, LinkCounters, Listening, Neighbour, NextHop, Route, Vxlan};
use cknet_probe::firewall::drops::Drop;
use cknet_probe::tap::{Outer, Tuple};

use super::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);
const TUNNEL: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 0);
const CP1: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 11);
const W1: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 12);
const MAC: &str = "66:00:00:00:00:01";

fn link(name: &str) -> Link {
    let vxlan = Vxlan { vni: 4096, port: 4789, parent: Some("eth0".into()), ..Vxlan::default() };
    Link {
        name: name.into(),
        index: 1,
        kind: "veth".into(),
        up: true,
        lower_up: true,
        mtu: if name == "vxlan.calico" { 1450 } else { 1500 },
        mac: None,
        checksum_offload: None,
        master: None,
        parent: None,
        vxlan: (name == "vxlan.calico").then_some(vxlan),
        counters: LinkCounters::default(),
    }
}

fn route(destination: &str, via: Option<Ipv4Addr>, device: &str) -> Route {
    let hop = NextHop { via: via.map(IpAddr::V4), device: Some(device.into()), onlink: false };
    Route {
        destination: destination.parse().unwrap(),
        kind: "unicast".into(),
        table: 254,
        protocol: "80".into(),
        scope: "global".into(),
        source: None,
        metric: None,
        next_hops: vec![hop],
    }
}

/// A sound node: its pod at `veth`, and the way to the other node's block.
fn sound(pod: Ipv4Addr, veth: &str, block: &str, tunnel: Ipv4Addr, other: Ipv4Addr) -> Facts {
    let neighbour = |address: Ipv4Addr, device: &str, mac: &str| Neighbour {
        address: address.into(),
        device: device.into(),
        mac: Some(mac.into()),
        state: "permanent".into(),
        proxy: false,
    };
    let entry = Fdb {
        mac: MAC.into(),
        device: "vxlan.calico".into(),
        destination: Some(other.into()),
        vni: None,
        master: None,
        state: "permanent".into(),
    };
    Facts {
        links: ["eth0", "vxlan.calico", veth].map(link).to_vec(),
        routes: vec![
            route("0.0.0.0/0", Some(Ipv4Addr::new(192, 168, 60, 1)), "eth0"),
            route("192.168.60.0/24", None, "eth0"),
            route(&format!("{pod}/32"), None, veth),
            route(block, Some(tunnel), "vxlan.calico"),
        ],
        neighbours: vec![neighbour(tunnel, "vxlan.calico", MAC), neighbour(other, "eth0", "66:00:00:00:00:02")],
        fdb: vec![entry],
        ..Facts::default()
    }
}

/// The interfaces that the flow passes on its way to the server, and back.
const THERE: [(&str, &str, &str, Direction, bool); 8] = [
    ("cp1", SENDER, "eth0", Direction::Leaving, false),
    ("cp1", NODE, "cali1", Direction::Entering, false),
    ("cp1", NODE, "vxlan.calico", Direction::Leaving, false),
    ("cp1", NODE, "eth0", Direction::Leaving, true),
    ("w1", NODE, "eth0", Direction::Entering, true),
    ("w1", NODE, "vxlan.calico", Direction::Entering, false),
    ("w1", NODE, "cali2", Direction::Leaving, false),
    ("w1", TARGET, "eth0", Direction::Entering, false),
];

struct Stage(Scene);

impl Stage {
    /// Two sound nodes and a flow between their pods, of which nothing has been seen yet.
    fn new() -> Self {
        let node = |facts: Facts, pod: &str, nic: Ipv4Addr| {
            let listening =
                Listening { protocol: "tcp".into(), address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 8080 };
            let inside = Facts { links: vec![link("eth0")], listening: vec![listening], ..Facts::default() };
            let told =
                |place: &str, facts: &Facts| Surroundings { place: place.into(), facts: facts.clone(), drops: vec![] };
            let all = vec![told(NODE, &facts), told(pod, &inside)];
            let seen = Seen { before: all.clone(), after: all, ..Seen::default() };
            Node { seen, nics: [("eth0".to_string(), nic)].into(), agent_runs: true }
        };
        let end =
            |node: &str, address, pod: &str| End { node: node.into(), address, pod: Some(pod.into()), there: true };
        let (near, far) = (
            sound(CLIENT, "cali1", "10.1.1.0/26", TUNNEL, W1),
            sound(SERVER, "cali2", "10.1.0.0/26", Ipv4Addr::new(10, 1, 0, 0), CP1),
        );
        Self(Scene {
            flow: Flow {
                from: end("cp1", CLIENT, "a/client"),
                to: end("w1", SERVER, "a/server"),
                protocol: Protocol::Tcp,
                port: 8080,
                service: None,
                source_port: Some(40_000),
                encapsulated: true,
                size: None,
            },
            nodes: [("cp1".to_string(), node(near, SENDER, CP1)), ("w1".to_string(), node(far, TARGET, W1))].into(),
            overlay: Overlay {
                device: "vxlan.calico".into(),
                port: 4789,
                workload_prefix: "cali".into(),
                agent: "calico-node".into(),
            },
        })
    }

    /// The flow was seen at the first `there` interfaces, and its answer at the first `back` of the way back.
    fn seen(mut self, there: usize, back: usize) -> Self {
        let (forth, answer) = (
            Tuple {
                source: CLIENT,
                destination: SERVER,
                protocol: Protocol::Tcp,
                source_port: 40_000,
                destination_port: 8080,
            },
            Tuple {
                source: SERVER,
                destination: CLIENT,
                protocol: Protocol::Tcp,
                source_port: 8080,
                destination_port: 40_000,
            },
        );
        let turned = |direction| match direction {
            Direction::Entering => Direction::Leaving,
            Direction::Leaving => Direction::Entering,
        };
        let forths = THERE.iter().take(there).map(|at| (*at, forth, false));
        let backs = THERE.iter().rev().take(back).map(|at| (*at, answer, true));
        for ((node, place, device, direction, wrapped), tuple, back) in forths.chain(backs) {
            let outer = Outer { source: CP1, destination: if back { CP1 } else { W1 }, port: 4789, vni: 4096 };
            self.node(node).seen.sightings.push(Sighting {
                place: place.into(),
                device: device.into(),
                direction: if back { turned(direction) } else { direction },
                for_another: false,
                at_us: 0,
                tuple,
                outer: wrapped.then_some(outer),
                says: if back { Says::Data } else { Says::Syn },
                length: 60,
            });
        }
        self
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.0.nodes.get_mut(name).unwrap()
    }

    fn facts(mut self, node: &str, place: &str, change: impl Fn(&mut Facts)) -> Self {
        let seen = &mut self.node(node).seen;
        for told in seen.before.iter_mut().chain(&mut seen.after).filter(|told| told.place == place) {
            change(&mut told.facts);
        }
        self
    }

    fn drop(mut self, node: &str, place: &str, matching: &str, consulted: &[&str]) -> Self {
        let drop = |packets| Drop {
            place: place.into(),
            handle: 7,
            matching: matching.into(),
            packets,
            consulted: consulted.iter().map(ToString::to_string).collect(),
        };
        let seen = &mut self.node(node).seen;
        seen.before[0].drops.push(drop(3));
        seen.after[0].drops.push(drop(5));
        self
    }

    fn kind(&self) -> (String, Option<Kind>) {
        let found = diagnose(&self.0);
        (found.to_string(), found.cause.map(|cause| cause.kind))
    }

    fn cause(&self) -> String {
        diagnose(&self.0).cause.unwrap().text
    }
}

#[test]
fn a_tunnel_that_is_dropped_on_arrival() {
    let stage = Stage::new().seen(5, 0).drop("w1", "inet cknet_firewall input", "udp dport 4789", &[]);
    let hop = "last seen entering w1 eth0, not entering w1 vxlan.calico";
    assert_eq!(stage.kind(), (hop.into(), Some(Kind::Rule)));
    assert_eq!(stage.cause(), "a rule in inet cknet_firewall input of w1 ends it: udp dport 4789");
}

#[test]
fn an_answer_that_is_dropped_on_arrival() {
    let stage = Stage::new().seen(8, 5).drop("cp1", "inet cknet_firewall input", "udp dport 4789", &[]);
    let hop = "the answer was last seen entering cp1 eth0, not entering cp1 vxlan.calico";
    assert_eq!(stage.kind(), (hop.into(), Some(Kind::Rule)));
}

#[test]
fn a_policy_is_named_by_its_chain() {
    let chain = ["cali-pi-a.deny-all"];
    let stage = Stage::new().seen(6, 0).drop("w1", "ip calico cali-tw-cali2", "a/server ingress: denied", &chain);
    let hop = "last seen entering w1 vxlan.calico, not leaving w1 cali2";
    assert_eq!(stage.kind(), (hop.into(), Some(Kind::Policy)));
    let text = "a NetworkPolicy denies it on w1: a/server ingress: denied; no rule of cali-pi-a.deny-all allows it";
    assert_eq!(stage.cause(), text);
}

#[test]
fn a_denial_of_another_pod_is_no_cause() {
    let stage = Stage::new().seen(6, 0).drop("w1", "ip calico cali-tw-cali3", "a/other ingress: denied", &[]);
    assert_eq!(stage.kind().1, None);
}

#[test]
fn a_missing_route_takes_another_one() {
    let stage = Stage::new().seen(2, 0).facts("cp1", NODE, |facts| {
        facts.routes.retain(|route| route.destination.to_string() != "10.1.1.0/26");
    });
    assert_eq!(stage.kind().1, Some(Kind::Route));
    let text = "cp1 has no route to 10.1.1.7 dev vxlan.calico; it takes 0.0.0.0/0 via 192.168.60.1 dev eth0";
    assert_eq!(stage.cause(), text);
}

#[test]
fn a_missing_device_comes_before_its_routes_and_after_it_the_agent() {
    let mut stage = Stage::new().seen(2, 0).facts("cp1", NODE, |facts| {
        facts.routes.retain(|route| route.destination.to_string() != "10.1.1.0/26");
        facts.links.retain(|link| link.name != "vxlan.calico");
    });
    stage.node("cp1").agent_runs = false;
    assert_eq!(stage.kind().1, Some(Kind::DeviceMissing));
    let text = "there is no device vxlan.calico on cp1; calico-node, which would mend that, does not run on cp1";
    assert_eq!(stage.cause(), text);
}

#[test]
fn a_device_that_is_down() {
    let down =
        |facts: &mut Facts| facts.links.iter_mut().filter(|link| link.name == "eth0").for_each(|link| link.up = false);
    let stage = Stage::new().seen(4, 0).facts("w1", NODE, down);
    let hop = "last seen leaving cp1 eth0, not entering w1 eth0";
    assert_eq!(stage.kind(), (hop.into(), Some(Kind::DeviceDown)));
    assert_eq!(stage.cause(), "the device eth0 of w1 is down");
}

#[test]
fn a_forwarding_entry_that_leads_elsewhere() {
    let mut stage = Stage::new().seen(4, 0);
    let elsewhere = Ipv4Addr::new(192, 168, 60, 99);
    for sighting in &mut stage.node("cp1").seen.sightings {
        sighting.outer.iter_mut().for_each(|outer| outer.destination = elsewhere);
    }
    assert_eq!(stage.kind().1, Some(Kind::Forwarding));
    let text =
        "a forwarding entry on cp1 leads the tunnel to 192.168.60.99, which is not an address of w1 (192.168.60.12)";
    assert_eq!(stage.cause(), text);
}

#[test]
fn an_entry_that_leads_where_nobody_is_sends_nothing() {
    let wrong = |facts: &mut Facts| facts.fdb[0].destination = Some(IpAddr::V4(Ipv4Addr::new(192, 168, 60, 99)));
    assert_eq!(Stage::new().seen(3, 0).facts("cp1", NODE, wrong).kind().1, Some(Kind::Forwarding));
    let none = |facts: &mut Facts| facts.fdb.clear();
    assert!(Stage::new().seen(3, 0).facts("cp1", NODE, none).cause().contains("no forwarding entry"));
    let nobody = |facts: &mut Facts| facts.neighbours.clear();
    assert!(Stage::new().seen(3, 0).facts("cp1", NODE, nobody).cause().contains("no neighbour entry"));
}

#[test]
fn a_packet_that_is_too_large_on_the_way() {
    let small = |facts: &mut Facts| facts.links[0].mtu = 1400;
    let mut stage = Stage::new().seen(4, 0).facts("w1", NODE, small);
    stage.node("cp1").seen.sightings.iter_mut().for_each(|sighting| sighting.length = 1450);
    assert_eq!(stage.kind().1, Some(Kind::Mtu));
    assert_eq!(stage.cause(), "the packet has 1500 bytes there, and the MTU of eth0 on w1 is 1400");
}

#[test]
fn the_ends_of_a_tunnel_differ() {
    let other = |facts: &mut Facts| facts.links[1].vxlan.as_mut().unwrap().vni = 1;
    let stage = Stage::new().seen(5, 0).facts("w1", NODE, other);
    assert_eq!(stage.kind().1, Some(Kind::Tunnel));
    assert_eq!(stage.cause(), "the tunnel sends with VNI 4096, and vxlan.calico of w1 has 1");
}

#[test]
fn a_pod_that_is_gone_and_one_without_a_server() {
    let mut stage = Stage::new().seen(6, 0);
    stage.0.flow.to.there = false;
    assert_eq!(stage.kind().1, Some(Kind::NoPod));
    let stage = Stage::new().seen(8, 0).facts("w1", TARGET, |facts| facts.listening.clear());
    let hop = "last seen entering a/server eth0, not leaving a/server eth0";
    assert_eq!(stage.kind(), (hop.into(), Some(Kind::NoServer)));
}

#[test]
fn what_is_not_known_is_not_made_up() {
    assert_eq!(Stage::new().seen(5, 0).kind().1, None);
    assert_eq!(Stage::new().kind(), ("never seen, not even leaving a/client eth0".into(), None));
}

fn policies(namespace: &str, label: &str, agent_runs: bool) -> Option<(Kind, String)> {
    let labels = |value: &str| [("app".to_string(), value.to_string())].into();
    let policy =
        Policy { namespace: namespace.into(), name: "deny".into(), match_labels: labels(label), expressions: false };
    let end =
        Subject { namespace: "a".into(), name: "web".into(), labels: labels("web"), node: "w1".into(), agent_runs };
    let all = Policies { all: vec![policy], ends: vec![end], agent: "calico-node".into() };
    not_enforced(&all).map(|cause| (cause.kind, cause.text))
}

#[test]
fn why_nothing_denies() {
    assert_eq!(policies("a", "web", false).unwrap().0, Kind::Agent);
    assert_eq!(policies("a", "web", true), None);
    let elsewhere = "namespace a, where web runs, has no NetworkPolicy; `deny` is in namespace b";
    assert_eq!(policies("b", "web", true), Some((Kind::PolicyMissing, elsewhere.into())));
    let typo = "no NetworkPolicy of namespace a selects web (labels app=web); `deny` selects app=wbe";
    assert_eq!(policies("a", "wbe", true), Some((Kind::PolicyMissing, typo.into())));
}
