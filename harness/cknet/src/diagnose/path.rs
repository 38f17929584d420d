//! The way of a flow as it should be: each interface that it passes, in order.

use std::fmt;

use cknet_probe::tap::{Direction, Sighting};

use super::{End, NODE, SENDER, Scene, TARGET};

/// A pod's only interface.
const POD_DEVICE: &str = "eth0";

/// An interface that a flow passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub node: String,
    pub place: String,
    pub device: Device,
    pub direction: Direction,
    /// The packet passes here in a tunnel.
    pub wrapped: bool,
    /// Whose pod it is, inside of a pod.
    pub pod: Option<String>,
}

/// An interface by its name, or by what its name begins with where it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    Named(String),
    Beginning(String),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Beginning(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{} {pod} {}", self.direction, self.device),
            None => write!(f, "{} {} {}", self.direction, self.node, self.device),
        }
    }
}

impl Spot {
    pub(super) fn is_at(&self, node: &str, sighting: &Sighting) -> bool {
        let same_device = match &self.device {
            Device::Named(name) => *name == sighting.device,
            Device::Beginning(prefix) => sighting.device.starts_with(prefix.as_str()),
        };
        same_device
            && self.node == node
            && self.place == sighting.place
            && self.direction == sighting.direction
            && self.wrapped == sighting.outer.is_some()
            && !sighting.for_another
    }

    fn reversed(&self) -> Self {
        let direction = match self.direction {
            Direction::Entering => Direction::Leaving,
            Direction::Leaving => Direction::Entering,
        };
        Self { direction, ..self.clone() }
    }
}

/// The way to the target.
pub(super) fn there(scene: &Scene) -> Vec<Spot> {
    let flow = &scene.flow;
    let mut spots = Vec::new();
    if flow.from.pod.is_some() {
        spots.push(in_pod(&flow.from, SENDER, Direction::Leaving));
        spots.push(on_node(&flow.from.node, veth(scene, &flow.from), Direction::Entering, false));
    }
    if flow.from.node != flow.to.node {
        spots.extend(between(scene, &flow.from, Direction::Leaving));
        let mut arriving = between(scene, &flow.to, Direction::Entering);
        arriving.reverse();
        spots.extend(arriving);
    }
    if flow.to.pod.is_some() {
        spots.push(on_node(&flow.to.node, veth(scene, &flow.to), Direction::Leaving, false));
        spots.push(in_pod(&flow.to, TARGET, Direction::Entering));
    }
    spots
}

/// The way back: the same interfaces the other way round.
pub(super) fn back(there: &[Spot]) -> Vec<Spot> {
    there.iter().rev().map(Spot::reversed).collect()
}

fn in_pod(end: &End, place: &str, direction: Direction) -> Spot {
    let device = Device::Named(POD_DEVICE.into());
    Spot { node: end.node.clone(), place: place.into(), device, direction, wrapped: false, pod: end.pod.clone() }
}

fn on_node(node: &str, device: Device, direction: Direction, wrapped: bool) -> Spot {
    Spot { node: node.into(), place: NODE.into(), device, direction, wrapped, pod: None }
}

/// The interfaces between an end's node and the other one, the innermost first.
fn between(scene: &Scene, end: &End, direction: Direction) -> Vec<Spot> {
    let nic = Device::Named(nic(scene, end));
    if !scene.flow.encapsulated {
        return vec![on_node(&end.node, nic, direction, false)];
    }
    let overlay = Device::Named(scene.overlay.device.clone());
    vec![on_node(&end.node, overlay, direction, false), on_node(&end.node, nic, direction, true)]
}

/// The interface through which a node talks to the other one: the one that carries the overlay, the one that has the
/// end's own address, or the first.
fn nic(scene: &Scene, end: &End) -> String {
    let known = scene.nodes.get(&end.node);
    let parent = || {
        let link = scene.surroundings(&end.node, NODE, true)?.link(&scene.overlay.device)?;
        link.vxlan.as_ref()?.parent.clone()
    };
    let own = || {
        let nics = known.map(|node| &node.nics)?;
        nics.iter().find(|(_, address)| **address == end.address).map(|(name, _)| name.clone())
    };
    let first = || known.and_then(|node| node.nics.keys().next().cloned());
    let carried = scene.flow.encapsulated.then(parent).flatten();
    carried.or_else(own).or_else(first).unwrap_or_else(|| "eth0".into())
}

/// The host's end of a pod's veth pair: the one to which the pod's own route leads.
fn veth(scene: &Scene, end: &End) -> Device {
    let device = [false, true].into_iter().find_map(|after| {
        let routes = &scene.surroundings(&end.node, NODE, after)?.facts.routes;
        let own = routes
            .iter()
            .find(|route| route.destination.addr() == end.address && route.destination.prefix_len() == 32)?;
        own.next_hops.first()?.device.clone()
    });
    device.map_or_else(|| Device::Beginning(scene.overlay.workload_prefix.clone()), Device::Named)
}
