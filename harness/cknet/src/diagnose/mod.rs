//! Where a flow was lost and why: facts about nodes and sightings of packets in, the hop and its likely cause out.
//!
//! Pure: nothing is looked at here, and no verdict is changed. Whoever calls this has sent the flow once more while
//! taps looked on.

mod advice;
mod cause;
mod path;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use cknet_probe::tap::{Direction, Protocol, Says, Seen, Sighting, Surroundings};

pub use self::advice::{Advice, advice};
pub use self::cause::{Cause, Kind};
pub use self::path::Spot;
pub use self::policy::{Policies, Policy, Subject, not_enforced};

/// The names of the places that are looked at on a node: its own network namespace, and those of the ends' pods.
pub const NODE: &str = "node";
pub const SENDER: &str = "sender";
pub const TARGET: &str = "target";

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub node: String,
    /// The address of the pod, or of the node itself.
    pub address: Ipv4Addr,
    /// `NAMESPACE/NAME` of a pod with a network of its own; nothing for a node.
    pub pod: Option<String>,
    /// The pod is there. A flow can be sent to one that has gone.
    pub there: bool,
}

/// The flow that was sent, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub from: End,
    pub to: End,
    pub protocol: Protocol,
    /// The port on which the target itself is to answer; 0 where the protocol has none.
    pub port: u16,
    /// The address and port to which it was sent, where a service has another one.
    pub service: Option<(Ipv4Addr, u16)>,
    /// The port from which it was sent, if that is known.
    pub source_port: Option<u16>,
    /// Between these nodes packets of pods are to be encapsulated.
    pub encapsulated: bool,
    /// Bytes of the packet with its IP header, where its size is what matters.
    pub size: Option<u16>,
}

/// What a node of the path is like.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub seen: Seen,
    /// The node's interfaces and their addresses, as the topology has them.
    pub nics: BTreeMap<String, Ipv4Addr>,
    /// The CNI's agent runs there.
    pub agent_runs: bool,
}

/// Everything that is known when a hop is looked for.
#[derive(Clone, Debug)]
pub struct Scene {
    pub flow: Flow,
    pub nodes: BTreeMap<String, Node>,
    pub overlay: Overlay,
}

/// The names of the CNI's things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    pub device: String,
    pub port: u16,
    /// What the host's end of a pod's veth begins with.
    pub workload_prefix: String,
    /// The DaemonSet of the agents.
    pub agent: String,
}

/// On which way something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

/// What is said of a lost flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub way: Way,
    pub last_seen: Option<Spot>,
    /// Where it should have appeared next; nothing if it arrived.
    pub next: Option<Spot>,
    pub cause: Option<Cause>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.way == Way::Back { "the answer was " } else { "" };
        match (&self.last_seen, &self.next) {
            (Some(last), Some(next)) => write!(f, "{way}last seen {last}, not {next}"),
            (Some(last), None) => write!(f, "{way}last seen {last}"),
            (None, Some(next)) => write!(f, "{way}never seen, not even {next}"),
            (None, None) => write!(f, "{way}never seen"),
        }
    }
}

/// Finds the hop at which the flow was lost, and what may be the cause.
pub fn diagnose(scene: &Scene) -> Diagnosis {
    let there = path::there(scene);
    let reached = scene.reached(&there, Way::There);
    if reached == there.len() {
        return scene.on_the_way_back(&there);
    }
    scene.lost(&there, reached, Way::There)
}

impl Scene {
    fn on_the_way_back(&self, there: &[Spot]) -> Diagnosis {
        let back = path::back(there);
        let reached = self.reached(&back, Way::Back);
        let arrived = there.last().cloned();
        if reached == 0 || self.refused_by_target() {
            // What arrived and was not answered has its cause at the target itself.
            let cause = cause::unanswered(self);
            let next = if reached == 0 { back.first().cloned() } else { None };
            return Diagnosis { way: Way::There, last_seen: arrived, next, cause };
        }
        if reached == back.len() {
            return Diagnosis { way: Way::Back, last_seen: back.last().cloned(), next: None, cause: None };
        }
        self.lost(&back, reached, Way::Back)
    }

    fn lost(&self, spots: &[Spot], reached: usize, way: Way) -> Diagnosis {
        let last = reached.checked_sub(1).and_then(|index| spots.get(index)).cloned();
        let next = spots.get(reached).cloned();
        let cause = next.as_ref().and_then(|next| cause::of_hop(self, last.as_ref(), next, way));
        Diagnosis { way, last_seen: last, next, cause }
    }

    /// How many spots of the way lie up to the last one where the flow was seen.
    fn reached(&self, spots: &[Spot], way: Way) -> usize {
        let seen = |spot: &Spot| self.sightings(way).any(|(node, sighting)| spot.is_at(node, sighting));
        spots.iter().rposition(seen).map_or(0, |last| last + 1)
    }

    /// The packets of the flow on one way, with the node.
    fn sightings(&self, way: Way) -> impl Iterator<Item = (&str, &Sighting)> {
        let all = self
            .nodes
            .iter()
            .flat_map(|(node, known)| known.seen.sightings.iter().map(move |sighting| (node.as_str(), sighting)));
        all.filter(move |(_, sighting)| self.flow.has(sighting, way))
    }

    fn refused_by_target(&self) -> bool {
        let at_target =
            |node: &str, sighting: &Sighting| node == self.flow.to.node && sighting.place == self.flow.to.place(TARGET);
        self.sightings(Way::Back).any(|(node, sighting)| {
            at_target(node, sighting) && sighting.direction == Direction::Leaving && sighting.says == Says::Reset
        })
    }

    fn surroundings(&self, node: &str, place: &str, after: bool) -> Option<&Surroundings> {
        let seen = &self.nodes.get(node)?.seen;
        let told = if after { &seen.after } else { &seen.before };
        told.iter().find(|told| told.place == place)
    }
}

impl End {
    /// The place of the end: that of its pod, which has this name among places, or the node itself.
    fn place<'a>(&self, pod: &'a str) -> &'a str {
        if self.pod.is_some() { pod } else { NODE }
    }
}

impl Flow {
    /// Whether a packet is one of this flow on this way. Address translation may give it another source on its way,
    /// and gives a service's packets another target.
    fn has(&self, sighting: &Sighting, way: Way) -> bool {
        let tuple = &sighting.tuple;
        if tuple.protocol != self.protocol || matches!(sighting.says, Says::Error { .. }) {
            return false;
        }
        let (target, near, far) = match way {
            Way::There => (tuple.destination, tuple.source_port, tuple.destination_port),
            Way::Back => (tuple.source, tuple.destination_port, tuple.source_port),
        };
        let to_target = (target, far) == (self.to.address, self.port)
            || self.service.is_some_and(|service| (target, far) == service);
        to_target && self.source_port.is_none_or(|port| port == near)
    }
}
