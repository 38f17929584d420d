//! Owns what is known of a cluster that is there already, and whether a scenario can be carried out on it without
//! changing what others have there. Scenarios are read for it: its nodes have the addresses that they have.
//! Must not know how that was found out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::model::{Action, Check, Cidr, Cluster, Endpoint, NodeName, Object, Role, Scenario, Topology};

/// Kinds whose objects live in namespaces and go with them.
const ORDINARY: [&str; 15] = [
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "EndpointSlice",
    "Endpoints",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "Pod",
    "ReplicaSet",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
];

/// A cluster that is there already.
#[derive(Debug, Clone)]
pub struct Premises {
    /// Its nodes, in the order in which scenarios get them.
    pub nodes: Vec<PremisesNode>,
    /// The smallest network of at most 24 bits that has the addresses of all nodes.
    pub network: Cidr,
    /// How it is set up.
    pub cluster: Cluster,
    /// Namespaces in which there is something already.
    pub taken: BTreeSet<String>,
}

/// A node of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PremisesNode {
    /// What the cluster calls it.
    pub name: String,
    pub address: IpAddr,
    pub control_plane: bool,
}

impl Premises {
    /// Which node of the cluster each member of a topology is: control planes are control planes, workers are workers
    /// as far as there are any, then control planes that are left.
    ///
    /// # Errors
    /// What of the topology the cluster cannot be.
    pub fn seats(&self, topology: &Topology) -> Result<BTreeMap<NodeName, &PremisesNode>, String> {
        if let Some((name, node)) = topology.nodes.iter().find(|(_, node)| !node.role.is_member()) {
            return Err(format!("machine `{name}`, a {}, which is no member of the cluster", node.role.word()));
        }
        if topology.segments.iter().count() != 1 || topology.nodes.iter().any(|(_, node)| node.nics.len() != 1) {
            return Err("networks of its own between nodes".into());
        }
        let mut free: Vec<&PremisesNode> = self.nodes.iter().filter(|node| node.control_plane).collect();
        let mut workers: Vec<&PremisesNode> = self.nodes.iter().filter(|node| !node.control_plane).collect();
        let (wanted, there) = (topology.nodes.iter().count(), self.nodes.len());
        let few = || format!("{wanted} nodes; the cluster has {there}");
        let mut seats = BTreeMap::new();
        let of_role = |role: Role| topology.nodes.iter().filter(move |(_, node)| node.role == role);
        for (name, _) in of_role(Role::ControlPlane) {
            if free.is_empty() {
                return Err(few());
            }
            seats.insert(name.clone(), free.remove(0));
        }
        workers.extend(free);
        for ((name, _), member) in of_role(Role::Worker).zip(&workers) {
            seats.insert(name.clone(), *member);
        }
        if seats.len() == wanted { Ok(seats) } else { Err(few()) }
    }

    /// What of a scenario cannot be had here.
    #[must_use]
    pub fn lacks(&self, scenario: &Scenario) -> Option<String> {
        if let Err(lacking) = self.seats(&scenario.topology) {
            return Some(lacking);
        }
        let (own, wanted) = (&self.cluster, &scenario.cluster);
        let same = own.flavour == wanted.flavour
            && own.pod_cidr == wanted.pod_cidr
            && own.service_cidr == wanted.service_cidr
            && own.encapsulation == wanted.encapsulation
            && own.backend() == wanted.backend()
            && own.block_size == wanted.block_size
            && own.node_address == wanted.node_address;
        if !same {
            return Some("a cluster that is set up as its `cluster` says".into());
        }
        if let Some(namespace) = namespaces(scenario).into_iter().find(|name| self.taken.contains(name)) {
            return Some(format!("namespace `{namespace}` for itself; there is something in it already"));
        }
        let members = scenario.topology.members().count();
        if members != self.nodes.len() && counts_what_nodes_have(scenario) {
            return Some(format!(
                "exactly {members} nodes, because it counts what each has; the cluster has {}",
                self.nodes.len()
            ));
        }
        if let Some((name, _)) = scenario.namespaces.iter().find(|(name, _)| is_system(name.as_str())) {
            return Some(format!("to label namespace `{name}` of the cluster itself"));
        }
        if let Some(address) = addresses(scenario).into_iter().find(|address| !self.knows(*address)) {
            return Some(format!("the address {address}, which is in none of the cluster's networks"));
        }
        if let Some(block) = blocks(scenario).find(|block| !self.holds(*block)) {
            return Some(format!("the addresses {block}, which are in none of the cluster's networks"));
        }
        lasting_change(scenario)
    }

    fn holds(&self, block: Cidr) -> bool {
        let own = [self.network, self.cluster.pod_cidr, self.cluster.service_cidr];
        own.iter().any(|network| network.overlaps(block))
    }

    fn knows(&self, address: IpAddr) -> bool {
        [self.network, self.cluster.pod_cidr, self.cluster.service_cidr].iter().any(|block| block.contains(address))
    }
}

/// Blocks in which something is expected to have its address.
fn blocks(scenario: &Scenario) -> impl Iterator<Item = Cidr> {
    let expectations = scenario.phases.iter().flat_map(|phase| &phase.expect);
    expectations.filter_map(|expectation| match &expectation.check {
        Check::Addresses(expected) => Some(expected.within),
        _ => None,
    })
}

/// Addresses that are themselves ends of flows.
fn addresses(scenario: &Scenario) -> Vec<IpAddr> {
    let mut all = Vec::new();
    let mut add = |end: &Endpoint| {
        if let Endpoint::Address(address) = end {
            all.push(*address);
        }
    };
    for expectation in scenario.phases.iter().flat_map(|phase| &phase.expect) {
        match &expectation.check {
            Check::Connectivity(flow) => add(&flow.to),
            Check::Matrix(matrix) => matrix.columns.iter().for_each(|column| add(&column.to)),
            _ => {}
        }
    }
    all
}

/// Whether an expectation counts objects that are not the scenario's own, of which there may be one for each node.
fn counts_what_nodes_have(scenario: &Scenario) -> bool {
    let expectations = scenario.phases.iter().flat_map(|phase| &phase.expect);
    expectations
        .filter_map(|expectation| match &expectation.check {
            Check::Resource(resource) if resource.count.is_some() => Some(resource),
            _ => None,
        })
        .any(|resource| resource.namespace.as_ref().is_none_or(|name| is_system(name.as_str())))
}

/// Whether each cluster has a namespace of this name.
fn is_system(name: &str) -> bool {
    name == "default" || name.starts_with("kube-")
}

/// Every namespace that the scenario puts something into.
fn namespaces(scenario: &Scenario) -> BTreeSet<String> {
    let workloads = scenario.workloads.iter().map(|(_, workload)| workload.namespace.as_str().to_string());
    let services = scenario.services.iter().map(|(_, service)| service.namespace.as_str().to_string());
    let declared = scenario.namespaces.iter().map(|(name, _)| name.as_str().to_string());
    let mut all: BTreeSet<String> = workloads.chain(services).chain(declared).collect();
    for object in applied(scenario) {
        match object.kind() {
            "Namespace" => all.insert(object.name().to_string()),
            _ => all.insert(object.namespace().unwrap_or("default").to_string()),
        };
    }
    all
}

fn applied(scenario: &Scenario) -> impl Iterator<Item = &Object> {
    let steps = scenario.phases.iter().flat_map(|phase| &phase.steps);
    steps.flat_map(|step| match &step.action {
        Action::Apply(manifest) => manifest.objects.as_slice(),
        _ => &[],
    })
}

/// The first step that changes what the cluster has already, in words; deleting what the scenario made would not undo
/// it.
fn lasting_change(scenario: &Scenario) -> Option<String> {
    let mut made: BTreeSet<(&str, &str)> = BTreeSet::new();
    made.extend(scenario.workloads.iter().map(|(name, _)| ("Pod", name.as_str())));
    made.extend(scenario.services.iter().map(|(name, _)| ("Service", name.as_str())));
    made.extend(scenario.namespaces.iter().map(|(name, _)| ("Namespace", name.as_str())));
    made.extend(applied(scenario).map(|object| (object.kind(), object.name())));
    for step in scenario.phases.iter().flat_map(|phase| &phase.steps) {
        match &step.action {
            Action::Apply(manifest) => {
                let strange = manifest.objects.iter().find(|object| {
                    let ordinary = object.kind() == "Namespace" || ORDINARY.contains(&object.kind());
                    !ordinary || object.namespace().is_some_and(|name| name.starts_with("kube-"))
                });
                if let Some(object) = strange {
                    return Some(format!("to set {} `{}` of the cluster itself", object.kind(), object.name()));
                }
            }
            Action::Patch(patch) if !made.contains(&(patch.kind.as_str(), patch.name.as_str())) => {
                return Some(format!("to change {} `{}` of the cluster itself", patch.kind, patch.name));
            }
            Action::Delete(manifest) => {
                let strange = manifest.objects.iter().find(|one| !made.contains(&(one.kind(), one.name())));
                if let Some(object) = strange {
                    return Some(format!("to delete {} `{}` of the cluster itself", object.kind(), object.name()));
                }
            }
            Action::NodeRun(run) => {
                return Some(format!("to run a command on node `{}`, which nobody could undo", run.node));
            }
            Action::InstallCni(_) | Action::ProxySettings(_) => {
                return Some("to change settings of the cluster's nodes themselves".into());
            }
            Action::Proxy(_) | Action::Registry(_) | Action::Bird(_) => {
                return Some("to start programs on the cluster's nodes themselves".into());
            }
            _ => {}
        }
    }
    None
}
