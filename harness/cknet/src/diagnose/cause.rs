//! Why a packet that was seen at one interface did not come to the next.
//!
//! The candidates are asked in an order: what certainly ends packets (a rule that counted more, a device that is not
//! there) before what merely would (a route that leads elsewhere), and that before what only may.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use cknet_probe::facts::Link;
use cknet_probe::firewall::drops::Drop;
use cknet_probe::tap::{Direction, Outer, Protocol, Says, Sighting};

use super::path::{Device, Spot};
use super::{NODE, Scene, TARGET, Way};

/// Bytes that VXLAN over IPv4 adds to a packet: outer IP, UDP, VXLAN and inner Ethernet headers (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;

/// How the comment of a rule ends that denies a pod something; before it stands the pod and the direction.
const DENIED: &str = ": denied";

/// What kind of thing is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A rule of a packet filter that is not a policy's.
    Rule,
    /// A NetworkPolicy.
    Policy,
    DeviceMissing,
    DeviceDown,
    /// The kernel has no route, or one that leads elsewhere.
    Route,
    /// A neighbour or forwarding entry that is missing or leads elsewhere.
    Forwarding,
    /// A packet that is too large for an interface.
    Mtu,
    /// The two ends of a tunnel differ.
    Tunnel,
    NoServer,
    NoPod,
    /// The CNI's agent does not run.
    Agent,
    /// Policies say something else than was expected of them.
    PolicyMissing,
    /// Something on the way said so by ICMP.
    Told,
}

/// The likely cause, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub kind: Kind,
    /// Where: a node.
    pub node: String,
    pub text: String,
    /// The rule that ended packets, and by how much its counter rose.
    pub drop: Option<(Drop, u64)>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn because(kind: Kind, node: &str, text: impl Into<String>) -> Option<Cause> {
    Some(Cause { kind, node: node.into(), text: text.into(), drop: None })
}

/// Why the flow did not come from `last` to `next`.
pub(super) fn of_hop(scene: &Scene, last: Option<&Spot>, next: &Spot, way: Way) -> Option<Cause> {
    let hop = Hop { scene, last, next, way };
    let found = hop
        .missing_pod()
        .or_else(|| hop.rule())
        .or_else(|| hop.device())
        .or_else(|| hop.too_large())
        .or_else(|| hop.route())
        .or_else(|| hop.tunnel())
        .or_else(|| hop.neighbour())
        .or_else(|| hop.told())?;
    Some(hop.with_agent(found))
}

/// Why the target did not answer what arrived.
pub(super) fn unanswered(scene: &Scene) -> Option<Cause> {
    let (flow, node) = (&scene.flow, &scene.flow.to.node);
    let name = flow.to.pod.clone().unwrap_or_else(|| format!("node {node}"));
    let place = flow.to.place(TARGET);
    let listening = &scene.surroundings(node, place, true)?.facts.listening;
    let protocol = flow.protocol.to_string();
    let open = listening.iter().any(|socket| socket.protocol == protocol && socket.port == flow.port);
    if !open && matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) {
        let text = format!("nothing listens on {}/{} of {name}", flow.port, flow.protocol);
        return because(Kind::NoServer, node, text);
    }
    // A host's own filters come after the last place where a packet is seen.
    let hop = Hop { scene, last: None, next: &nowhere(node), way: Way::There };
    hop.rule()
}

fn nowhere(node: &str) -> Spot {
    let device = Device::Named(String::new());
    Spot { node: node.into(), place: NODE.into(), device, direction: Direction::Entering, wrapped: false, pod: None }
}

/// The step that was not made.
struct Hop<'a> {
    scene: &'a Scene,
    last: Option<&'a Spot>,
    next: &'a Spot,
    way: Way,
}

impl Hop<'_> {
    /// Both nodes of the hop, that of the next interface first: filters end packets where they should appear.
    fn nodes(&self) -> Vec<&str> {
        let mut nodes = vec![self.next.node.as_str()];
        nodes.extend(self.last.map(|last| last.node.as_str()).filter(|node| *node != self.next.node));
        nodes
    }

    fn destination(&self) -> Ipv4Addr {
        match self.way {
            Way::There => self.scene.flow.to.address,
            Way::Back => self.scene.flow.from.address,
        }
    }

    fn link(&self, spot: &Spot) -> Option<&Link> {
        let Device::Named(name) = &spot.device else { return None };
        self.scene.surroundings(&spot.node, &spot.place, true)?.link(name)
    }

    fn missing_pod(&self) -> Option<Cause> {
        let end = match self.way {
            Way::There => &self.scene.flow.to,
            Way::Back => &self.scene.flow.from,
        };
        let pod = end.pod.as_ref().filter(|_| !end.there && self.next.node == end.node)?;
        because(
            Kind::NoPod,
            &end.node,
            format!("the pod {pod} is gone; nobody has its address {} any more", end.address),
        )
    }

    /// The rule that counted most meanwhile, of those that can have to do with the flow.
    fn rule(&self) -> Option<Cause> {
        let (node, drop, rose) = self.nodes().into_iter().find_map(|node| {
            let (drop, rose) = self.most_risen(node)?;
            Some((node, drop, rose))
        })?;
        let policy = drop.matching.ends_with(DENIED);
        let text = if policy {
            let consulted: Vec<&str> = drop.consulted.iter().map(String::as_str).collect();
            let by = match consulted.as_slice() {
                [] => String::new(),
                chains => format!("; no rule of {} allows it", chains.join(", ")),
            };
            format!("a NetworkPolicy denies it on {node}: {}{by}", drop.matching)
        } else if drop.matching.is_empty() {
            format!("a rule in {} of {node} ends it", drop.place)
        } else {
            format!("a rule in {} of {node} ends it: {}", drop.place, drop.matching)
        };
        let kind = if policy { Kind::Policy } else { Kind::Rule };
        Some(Cause { kind, node: node.into(), text, drop: Some((drop, rose)) })
    }

    fn most_risen(&self, node: &str) -> Option<(Drop, u64)> {
        let before = &self.scene.surroundings(node, NODE, false)?.drops;
        let after = &self.scene.surroundings(node, NODE, true)?.drops;
        let rose = |drop: &Drop| {
            let same = |other: &&Drop| (&other.place, other.handle) == (&drop.place, drop.handle);
            drop.packets.saturating_sub(before.iter().find(same).map_or(0, |drop| drop.packets))
        };
        let risen = after.iter().filter(|drop| self.concerns(&drop.matching)).map(|drop| (drop.clone(), rose(drop)));
        risen.filter(|(_, rose)| *rose > 0).max_by_key(|(_, rose)| *rose)
    }

    /// A rule that denies one pod something says nothing about flows of others, which may be denied at the same time.
    fn concerns(&self, matching: &str) -> bool {
        match matching.strip_suffix(DENIED).and_then(|subject| subject.split(' ').next()) {
            Some(pod) => {
                let ends = [&self.scene.flow.from.pod, &self.scene.flow.to.pod];
                ends.into_iter().flatten().any(|end| end == pod)
            }
            None => true,
        }
    }

    /// A device of the hop that is not there or does not carry.
    fn device(&self) -> Option<Cause> {
        let spots = [Some(self.next), self.last];
        // What carries the next device counts too: a tunnel is only as good as what it runs over.
        spots.into_iter().flatten().find_map(|spot| self.broken(spot)).or_else(|| self.broken_below())
    }

    fn broken(&self, spot: &Spot) -> Option<Cause> {
        let Device::Named(name) = &spot.device else { return None };
        // Nothing is known of a place that could not be asked.
        self.scene.surroundings(&spot.node, &spot.place, true)?;
        match self.link(spot) {
            None => because(Kind::DeviceMissing, &spot.node, format!("there is no device {name} on {}", spot.node)),
            Some(link) if !link.up => {
                because(Kind::DeviceDown, &spot.node, format!("the device {name} of {} is down", spot.node))
            }
            Some(link) if !link.lower_up => {
                because(Kind::DeviceDown, &spot.node, format!("the device {name} of {} has no carrier", spot.node))
            }
            Some(_) => None,
        }
    }

    fn broken_below(&self) -> Option<Cause> {
        let parent = self.link(self.last?)?.vxlan.as_ref()?.parent.clone()?;
        let below = Spot { device: Device::Named(parent), ..self.last?.clone() };
        self.broken(&below)
    }

    /// A packet that is larger than an interface of the hop takes, seen from its sightings or from what was told.
    fn too_large(&self) -> Option<Cause> {
        let seen = self.scene.sightings(self.way).map(|(_, sighting)| u32::from(sighting.length)).max();
        let largest = seen.max(self.scene.flow.size.map(u32::from))?;
        let size = |spot: &Spot| largest + if spot.wrapped { VXLAN_OVERHEAD } else { 0 };
        [Some(self.next), self.last].into_iter().flatten().find_map(|spot| {
            let mtu = self.link(spot)?.mtu;
            let text = format!(
                "the packet has {} bytes there, and the MTU of {} on {} is {mtu}",
                size(spot),
                spot.device,
                spot.node
            );
            (size(spot) > mtu).then(|| because(Kind::Mtu, &spot.node, text))?
        })
    }

    /// Where the kernel of the node on which the packet was last seen sends it.
    fn route(&self) -> Option<Cause> {
        let from = self.last.filter(|last| last.node == self.next.node || last.place != NODE);
        let node = &from.map_or(self.next, |from| from).node;
        // Inside of a tunnel it is not the packet that is routed; into a pod the veth leads.
        if self.next.wrapped || self.next.place != NODE || self.next.direction == Direction::Entering {
            return None;
        }
        let told = self.scene.surroundings(node, NODE, true)?;
        let destination = self.destination();
        let Some(route) = told.route_to(IpAddr::V4(destination)) else {
            return because(Kind::Route, node, format!("{node} has no route to {destination}"));
        };
        let hop = route.next_hops.first();
        let device = hop.and_then(|hop| hop.device.clone());
        let leads = device.as_deref().is_some_and(|device| match &self.next.device {
            Device::Named(name) => name == device,
            Device::Beginning(prefix) => device.starts_with(prefix.as_str()),
        });
        if leads {
            return None;
        }
        let way = match (&route.kind[..], hop) {
            ("unicast", Some(hop)) => {
                let via = hop.via.map_or(String::new(), |via| format!(" via {via}"));
                format!("{}{via} dev {}", route.destination, device.unwrap_or_default())
            }
            (kind, _) => format!("{kind} {}", route.destination),
        };
        let wanted = match &self.next.device {
            Device::Named(name) => format!("dev {name}"),
            Device::Beginning(_) => "to a pod".to_string(),
        };
        let kind = if matches!(self.next.device, Device::Beginning(_)) { Kind::NoPod } else { Kind::Route };
        because(kind, node, format!("{node} has no route to {destination} {wanted}; it takes {way}"))
    }

    /// The two ends of a tunnel do not agree, or the tunnel leads to somebody else.
    fn tunnel(&self) -> Option<Cause> {
        let last = self.last.filter(|last| last.wrapped)?;
        let seen = self.scene.sightings(self.way).filter(|(node, sighting)| last.is_at(node, sighting));
        let outer = seen.filter_map(|(_, sighting)| sighting.outer).next()?;
        let far = self.far_node();
        let nics = &self.scene.nodes.get(far)?.nics;
        if last.node != *far && !nics.values().any(|address| *address == outer.destination) {
            let to = outer.destination;
            let own: Vec<String> = nics.values().map(ToString::to_string).collect();
            let text = format!(
                "a forwarding entry on {} leads the tunnel to {to}, which is not an address of {far} ({})",
                last.node,
                own.join(", ")
            );
            return because(Kind::Forwarding, &last.node, text);
        }
        self.mismatch(far, outer)
    }

    fn mismatch(&self, far: &str, outer: Outer) -> Option<Cause> {
        let name = &self.scene.overlay.device;
        let link = self.scene.surroundings(far, NODE, true)?.link(name)?;
        let vxlan = link.vxlan.as_ref()?;
        let differs = [
            ("VNI", u64::from(outer.vni), u64::from(vxlan.vni)),
            ("UDP port", u64::from(outer.port), u64::from(vxlan.port)),
        ];
        let (what, sent, wanted) = differs.into_iter().find(|(_, sent, wanted)| sent != wanted)?;
        because(Kind::Tunnel, far, format!("the tunnel sends with {what} {sent}, and {name} of {far} has {wanted}"))
    }

    /// The node at the other end on this way.
    fn far_node(&self) -> &String {
        match self.way {
            Way::There => &self.scene.flow.to.node,
            Way::Back => &self.scene.flow.from.node,
        }
    }

    /// Who should take the packet on the link is not known, or wrongly.
    fn neighbour(&self) -> Option<Cause> {
        let last = self.last.filter(|last| last.place == NODE && last.direction == Direction::Leaving)?;
        let told = self.scene.surroundings(&last.node, NODE, true)?;
        let overlay = &self.scene.overlay.device;
        let in_tunnel = self.scene.flow.encapsulated && !last.wrapped && last.device == Device::Named(overlay.clone());
        if in_tunnel {
            return self.entries(&last.node);
        }
        // The next hop on the wire: the other node's address, or the gateway to it.
        let Device::Named(device) = &last.device else { return None };
        let target = match last.wrapped {
            true => {
                let seen = self.scene.sightings(self.way).filter(|(node, sighting)| last.is_at(node, sighting));
                seen.filter_map(|(_, sighting)| sighting.outer).next()?.destination
            }
            false => self.destination(),
        };
        let route = told.route_to(IpAddr::V4(target))?;
        let hop = route.next_hops.first().and_then(|hop| hop.via).unwrap_or(IpAddr::V4(target));
        let entry = told.facts.neighbours.iter().find(|entry| entry.address == hop && entry.device == *device);
        let state = entry.map_or("missing", |entry| entry.state.as_str());
        let lost = ["failed", "incomplete", "missing"].contains(&state);
        lost.then(|| {
            because(Kind::Forwarding, &last.node, format!("nobody on {device} of {} answers for {hop}", last.node))
        })?
    }

    /// The entries of the overlay's device for the other node: its tunnel address, its hardware address, its end.
    fn entries(&self, node: &str) -> Option<Cause> {
        let overlay = &self.scene.overlay.device;
        let told = self.scene.surroundings(node, NODE, true)?;
        let route = told.route_to(IpAddr::V4(self.destination()))?;
        let gateway = route.next_hops.first().and_then(|hop| hop.via)?;
        let far = self.far_node();
        let missing = |text: String| because(Kind::Forwarding, node, text);
        let neighbour = told.facts.neighbours.iter().find(|entry| entry.address == gateway && entry.device == *overlay);
        let Some(mac) = neighbour.and_then(|entry| entry.mac.clone()) else {
            return missing(format!("{overlay} of {node} has no neighbour entry for {gateway}, the tunnel of {far}"));
        };
        let entry = told.facts.fdb.iter().find(|entry| entry.mac == mac && entry.device == *overlay);
        let Some(to) = entry.and_then(|entry| entry.destination) else {
            return missing(format!("{overlay} of {node} has no forwarding entry for {mac}, the tunnel of {far}"));
        };
        let nics = &self.scene.nodes.get(far)?.nics;
        if !nics.values().any(|address| IpAddr::V4(*address) == to) {
            let own: Vec<String> = nics.values().map(ToString::to_string).collect();
            return missing(format!(
                "the forwarding entry of {overlay} on {node} for {mac} leads to {to}, which is not an address of \
                 {far} ({})",
                own.join(", ")
            ));
        }
        None
    }

    /// What ICMP said of the flow.
    fn told(&self) -> Option<Cause> {
        let all = self.scene.nodes.values().flat_map(|node| &node.seen.sightings);
        let about = all.filter(|sighting: &&Sighting| {
            self.scene.flow.has(&Sighting { says: Says::Data, ..(*sighting).clone() }, self.way)
        });
        let (kind, code, by, mtu) = about
            .filter_map(|sighting| match sighting.says {
                Says::Error { kind, code, by, mtu } => Some((kind, code, by, mtu)),
                _ => None,
            })
            .next()?;
        const UNREACHABLE: u8 = 3;
        const FRAGMENTATION_NEEDED: u8 = 4;
        if (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED) {
            return because(Kind::Mtu, &self.next.node, format!("{by} says that only {mtu} bytes fit"));
        }
        because(
            Kind::Told,
            &self.next.node,
            format!("{by} says by ICMP type {kind} code {code} that it goes no further"),
        )
    }

    /// What the agent should have made stays unmade where it does not run.
    fn with_agent(&self, mut cause: Cause) -> Cause {
        let makes = [Kind::DeviceMissing, Kind::DeviceDown, Kind::Route, Kind::Forwarding];
        let of_agent = makes.contains(&cause.kind);
        let runs = self.scene.nodes.get(&cause.node).is_none_or(|node| node.agent_runs);
        if of_agent && !runs {
            let agent = &self.scene.overlay.agent;
            cause.text.push_str(&format!("; {agent}, which would mend that, does not run on {}", cause.node));
        }
        cause
    }
}
