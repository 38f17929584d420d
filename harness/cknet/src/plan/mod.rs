//! From checked scenarios to what will be done: which clusters are made, which scenarios share one, in which order.
//!
//! Pure: the same scenarios and the same seed give the same plan.

mod partition;
mod trial;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

pub use self::partition::{MOST as MOST_PARTITIONS, Partition};
pub use self::trial::{Purpose, Sabotaged, Trial};

use crate::distribution::{Carries, ClusterSpec, Distribution, Encapsulation, Flavour, Member};
use crate::event::Fidelity;
use crate::provider::{Nic, NodeSpec, Provider, Segment, StaticRoute, Topology};
use crate::scenario::model::{self, Capability, ExpectationRef};
use crate::scenario::{Premises, Profile, Scenario};

/// MTU of a segment that names none: Ethernet's 1500 bytes.
const DEFAULT_MTU: u32 = 1500;

/// What a run will do.
#[derive(Debug)]
pub struct Plan {
    pub clusters: Vec<PlannedCluster>,
    /// Scenarios that cannot run on this provider and distribution, and why.
    pub skipped: Vec<(Scenario, String)>,
}

/// What a provider and a distribution can do together.
#[derive(Clone, Debug)]
pub struct Offer {
    /// `reference on netns`, for people.
    pub name: String,
    pub capabilities: Vec<Capability>,
    pub fidelity: Fidelity,
    /// The clusters that can be had.
    pub carries: Carries,
    /// The only one that can be had, where it is there already.
    pub premises: Option<Premises>,
}

impl Offer {
    pub fn new(provider: &dyn Provider, distribution: &dyn Distribution) -> Self {
        let profile = Profile::embedded(distribution.profile()).and_then(Result::ok);
        let calico = profile.is_some_and(|profile| profile.ways_of.as_deref() == Some("calico"));
        let cni = if calico { vec![Capability::Calico] } else { Vec::new() };
        Self {
            name: format!("{} on {}", distribution.name(), provider.name()),
            capabilities: [provider.capabilities(), distribution.capabilities(), cni].concat(),
            fidelity: fidelity(provider, distribution),
            carries: distribution.carries(),
            premises: distribution.premises().cloned(),
        }
    }

    /// What is required beyond this offer.
    fn beyond(&self, required: &[Capability]) -> Option<String> {
        let missing: Vec<&Capability> =
            required.iter().filter(|capability| !self.capabilities.contains(capability)).collect();
        if missing.is_empty() {
            return None;
        }
        let words: Vec<&str> = missing.iter().map(|capability| capability.word()).collect();
        // Where one of them cannot be had, the others are of no use.
        let remedies: Option<Vec<&str>> = missing.iter().map(|capability| capability.remedy()).collect();
        let remedy = remedies.map_or_else(String::new, |all| format!("; to have it: {}", all.join(", ")));
        Some(format!("requires {}; {} lacks it{remedy}", words.join(", "), self.name))
    }

    /// The scenario, in which it stands of each expectation that cannot be judged here why that is so.
    fn fitted(&self, mut scenario: Scenario) -> Scenario {
        let beyond = scenario.expectations().filter_map(|(phase, expectation)| {
            let named = ExpectationRef { phase: phase.id.clone(), expectation: expectation.id.clone() };
            Some((named, self.beyond(&expectation.requires)?))
        });
        let beyond: Vec<_> = beyond.collect();
        scenario.lacks.expectations.extend(beyond);
        scenario
    }

    /// What a scenario requires beyond this offer.
    fn lacks(&self, scenario: &Scenario) -> Option<String> {
        let required = &scenario.requires;
        let least = match required.fidelity {
            model::Fidelity::Model => Fidelity::Model,
            model::Fidelity::Dataplane => Fidelity::Dataplane,
            model::Fidelity::Cluster => Fidelity::Cluster,
        };
        if let Some(beyond) = self.beyond(&required.capabilities) {
            return Some(beyond);
        }
        if least > self.fidelity {
            let (least, own) = (least.as_str(), self.fidelity.as_str());
            return Some(format!("requires fidelity {least}; {} is of fidelity {own}", self.name));
        }
        if let Some(lacking) = &scenario.lacks.whole {
            return Some(lacking.clone());
        }
        if let Some(lacking) = self.premises.as_ref().and_then(|premises| premises.lacks(scenario)) {
            return Some(format!("requires {lacking}; the cluster is taken as it is"));
        }
        // What cannot be planned at all is told where it is planned.
        let (_, spec) = cluster_of(scenario).ok()?;
        self.carries.lacks(&spec).map(|lacking| format!("requires {lacking}; {} cannot be that", self.name))
    }
}

/// What a result on such a cluster is a statement about. The model on machines of its own is still a model of the
/// distribution, but the kernels, wires and firewalls between its nodes are real.
pub fn fidelity(provider: &dyn Provider, distribution: &dyn Distribution) -> Fidelity {
    match distribution.fidelity() {
        Fidelity::Model if provider.gives_machines() => Fidelity::Dataplane,
        own => own,
    }
}

/// A cluster and what is done on it. Batches may be shared out among several clusters that are made alike; the trials
/// of a batch follow each other.
#[derive(Debug)]
pub struct PlannedCluster {
    /// `cp1+w1+w2`: its nodes.
    pub name: String,
    pub topology: Topology,
    pub spec: ClusterSpec,
    pub batches: Vec<Vec<Trial>>,
}

/// A scenario that asks for more than the providers and distributions of today can give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{scenario}`: {what}")]
pub struct Unplannable {
    pub scenario: String,
    pub what: String,
}

/// Plans a run: scenarios with the same topology and cluster share one, and `seed` decides about the order.
pub fn plan(scenarios: Vec<Scenario>, seed: u64, offer: &Offer) -> Result<Plan, Unplannable> {
    let mut shuffled = scenarios;
    shuffle(&mut shuffled, seed);
    let mut plan = Plan { clusters: Vec::new(), skipped: Vec::new() };
    for scenario in shuffled {
        match offer.lacks(&scenario) {
            Some(reason) => plan.skipped.push((scenario, reason)),
            None => plan.add(vec![Trial::judge(offer.fitted(scenario))])?,
        }
    }
    Ok(plan)
}

/// Plans a proof: each scenario as it is, then with each of its sabotages. What can share a cluster does.
pub fn proof(scenarios: &[Scenario], offer: &Offer) -> Result<Plan, Unplannable> {
    let mut plan = Plan { clusters: Vec::new(), skipped: Vec::new() };
    let mut apart = Vec::new();
    for scenario in scenarios {
        if let Some(reason) = offer.lacks(scenario) {
            plan.skipped.push((scenario.clone(), reason));
            continue;
        }
        let scenario = &offer.fitted(scenario.clone());
        let own = cluster_of(scenario)?;
        let mut batch = vec![Trial::flip(scenario.clone())];
        for sabotage in &scenario.sabotage {
            let trial = Trial::sabotage(scenario, sabotage);
            if cluster_of(&trial.scenario)? == own { batch.push(trial) } else { apart.push(vec![trial]) }
        }
        plan.add(batch)?;
    }
    // The last of all: by then it is known how long the scenario takes without the sabotage.
    for batch in apart {
        plan.add(batch)?;
    }
    Ok(plan)
}

impl Plan {
    /// Adds trials that want the same cluster.
    fn add(&mut self, batch: Vec<Trial>) -> Result<(), Unplannable> {
        let Some(first) = batch.first() else { return Ok(()) };
        let (topology, spec) = cluster_of(&first.scenario)?;
        match self.clusters.iter_mut().find(|planned| planned.topology == topology && planned.spec == spec) {
            Some(planned) => planned.batches.push(batch),
            None => {
                let name = topology.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join("+");
                let name = match spec.flavour.label() {
                    Some(label) => format!("{name} ({label})"),
                    None => name,
                };
                self.clusters.push(PlannedCluster { name, topology, spec, batches: vec![batch] });
            }
        }
        Ok(())
    }
}

/// The machines and the cluster that a scenario wants.
pub fn cluster_of(scenario: &Scenario) -> Result<(Topology, ClusterSpec), Unplannable> {
    let unplannable = |what: String| Unplannable { scenario: scenario.id().to_string(), what };
    let v4 = |network: IpNet, what: &str| match network {
        IpNet::V4(network) => Ok(network),
        IpNet::V6(_) => Err(unplannable(format!("{what} is an IPv6 network; only IPv4 clusters can be made"))),
    };
    let mut segments = Vec::new();
    for (name, segment) in scenario.topology.segments.iter() {
        let cidr = v4(segment.cidr.net(), "a segment")?;
        segments.push(Segment { name: name.to_string(), cidr, mtu: segment.mtu.map_or(DEFAULT_MTU, u32::from) });
    }
    let mut nodes = Vec::new();
    let mut members = Vec::new();
    for (name, node) in scenario.topology.nodes.iter() {
        let nics = nics(node).map_err(&unplannable)?;
        let first = nics.first().ok_or_else(|| unplannable(format!("node `{name}` has no NIC")))?;
        if node.role.is_member() {
            let control_plane = node.role == model::Role::ControlPlane;
            members.push(Member { name: name.to_string(), address: first.address.addr(), control_plane });
        }
        let routes = routes(&scenario.topology, name, &segments, first);
        let forwards = node.role != model::Role::Outside;
        nodes.push(NodeSpec { name: name.to_string(), nics, forwards, routes });
    }
    let control_plane = members.iter().find(|member| member.control_plane);
    let control_plane = control_plane.ok_or_else(|| unplannable("no node is a control plane".into()))?.name.clone();
    let cluster = &scenario.cluster;
    let spec = ClusterSpec {
        flavour: match cluster.flavour {
            model::Flavour::Canonical => Flavour::Canonical,
            model::Flavour::Kubeadm => Flavour::Kubeadm,
            model::Flavour::K3s => Flavour::K3s,
            model::Flavour::Rke2 => Flavour::Rke2,
        },
        pod_cidr: v4(cluster.pod_cidr.net(), "`podCidr`")?,
        service_cidr: v4(cluster.service_cidr.net(), "`serviceCidr`")?,
        encapsulation: encapsulation(cluster.encapsulation),
        bird: cluster.backend() == model::Backend::Bird,
        block_size: cluster.block_size.prefix_len(),
        autodetection: cluster.node_address.autodetection_method(),
        control_plane,
        members,
    };
    Ok((Topology { segments, nodes }, spec))
}

/// How packets travel, from the scenario's words to the distributions'.
pub fn encapsulation(said: model::Encapsulation) -> Encapsulation {
    match said {
        model::Encapsulation::Vxlan => Encapsulation::Vxlan,
        model::Encapsulation::VxlanCrossSubnet => Encapsulation::VxlanCrossSubnet,
        model::Encapsulation::None => Encapsulation::None,
    }
}

/// To the segments that routers join to the machine's own, and to everything else. The default route of a router leads
/// nowhere: without one it would say so, but the kernel says that a few times a second at most (`ip_error`), and then
/// what is seen would depend on how often one looks.
fn routes(topology: &model::Topology, name: &model::NodeName, segments: &[Segment], first: &Nic) -> Vec<StaticRoute> {
    let segment = |name: &str| segments.iter().find(|segment| segment.name == *name);
    let mut routes = Vec::new();
    for way in topology.ways(name) {
        if let (IpAddr::V4(via), Some(segment)) = (way.via, segment(way.segment.as_str())) {
            routes.push(StaticRoute { destination: segment.cidr, via });
        }
    }
    let default = match topology.default_router(name) {
        Some(IpAddr::V4(router)) => Some(router),
        _ => segment(&first.segment).map(Segment::gateway),
    };
    routes.extend(default.map(|via| StaticRoute { destination: Ipv4Net::default(), via }));
    routes
}

fn nics(node: &model::Node) -> Result<Vec<Nic>, String> {
    let nic = |(name, nic): (&model::NicName, &model::Nic)| {
        let IpAddr::V4(address) = nic.address else { return Err(format!("NIC `{name}` has an IPv6 address")) };
        let address: Ipv4Net = Ipv4Net::new(address, nic.prefix_len).map_err(|error| error.to_string())?;
        Ok(Nic { name: name.to_string(), segment: nic.segment.to_string(), address })
    };
    node.nics.iter().map(nic).collect()
}

/// A cluster for nobody in particular: one control plane and `workers` workers on one segment, the document's defaults.
pub fn standard_cluster(workers: u8) -> (Topology, ClusterSpec) {
    const SEGMENT: &str = "lan";
    let network = |prefix: u8, octets: [u8; 4]| Ipv4Net::new_assert(Ipv4Addr::from(octets), prefix);
    let names = std::iter::once("cp1".to_string()).chain((1..=workers).map(|number| format!("w{number}")));
    let segment = Segment { name: SEGMENT.into(), cidr: network(24, [192, 168, 60, 0]), mtu: DEFAULT_MTU };
    let (mut nodes, mut members) = (Vec::new(), Vec::new());
    for (name, host) in names.zip(11u8..) {
        let address = network(24, [192, 168, 60, host]);
        let nics = vec![Nic { name: "eth0".into(), segment: SEGMENT.into(), address }];
        members.push(Member { name: name.clone(), address: address.addr(), control_plane: host == 11 });
        let routes = vec![StaticRoute { destination: Ipv4Net::default(), via: segment.gateway() }];
        nodes.push(NodeSpec { name, nics, forwards: true, routes });
    }
    let segments = vec![segment];
    let spec = ClusterSpec {
        flavour: Flavour::Canonical,
        pod_cidr: network(16, [10, 1, 0, 0]),
        service_cidr: network(24, [10, 152, 183, 0]),
        encapsulation: Encapsulation::Vxlan,
        bird: false,
        block_size: 26,
        autodetection: "first-found".into(),
        control_plane: "cp1".into(),
        members,
    };
    (Topology { segments, nodes }, spec)
}

/// Fisher and Yates' shuffle, driven by SplitMix64 (Steele, Lea, Flood 2014): the same seed, the same order.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    for last in (1..items.len()).rev() {
        let other = usize::try_from(next() % (last as u64 + 1)).unwrap_or(0);
        items.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..20).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut sorted = order(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>(), "nothing is lost");
    }
}
