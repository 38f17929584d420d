//! Owns the names a file declares, gathered from the tree before anything else is read, so that
//! each use of a name can be judged where it stands, however broken the rest of the file is.
//! Must not know what the named things are like.

use super::tree::Node;

/// Namespaces that exist without being declared.
const BUILT_IN_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// All names of one file.
#[derive(Debug, Default)]
pub(super) struct Declared<'a> {
    pub workloads: Vec<&'a str>,
    pub nodes: Vec<&'a str>,
    pub segments: Vec<&'a str>,
    pub namespaces: Vec<&'a str>,
    pub services: Vec<&'a str>,
    pub claims: Vec<&'a str>,
    pub phases: Vec<DeclaredPhase<'a>>,
}

#[derive(Debug)]
pub(super) struct DeclaredPhase<'a> {
    pub id: &'a str,
    pub steps: usize,
    pub expectations: Vec<&'a str>,
}

impl<'a> Declared<'a> {
    pub fn of(root: &'a Node) -> Self {
        let topology = root.get("topology");
        let mut namespaces = BUILT_IN_NAMESPACES.to_vec();
        namespaces.extend(names(root.get("namespaces")));
        namespaces.extend(applied_namespaces(root));
        let mut workloads = names(root.get("workloads"));
        workloads.extend(added_workloads(root));
        Self {
            workloads,
            nodes: names(topology.and_then(|t| t.get("nodes"))),
            segments: names(topology.and_then(|t| t.get("segments"))),
            namespaces,
            services: names(root.get("services")),
            claims: ids(root.get("claims")),
            phases: items(root.get("phases")).map(phase).collect(),
        }
    }

    pub fn workload_names(&self) -> Vec<&'a str> {
        self.workloads.clone()
    }

    pub fn node_names(&self) -> Vec<&'a str> {
        self.nodes.clone()
    }

    pub fn segment_names(&self) -> Vec<&'a str> {
        self.segments.clone()
    }

    pub fn namespace_names(&self) -> Vec<&'a str> {
        self.namespaces.clone()
    }

    pub fn service_names(&self) -> Vec<&'a str> {
        self.services.clone()
    }

    pub fn phase_ids(&self) -> Vec<&'a str> {
        self.phases.iter().map(|phase| phase.id).collect()
    }
}

fn phase(node: &Node) -> DeclaredPhase<'_> {
    DeclaredPhase { id: id(node), steps: items(node.get("steps")).count(), expectations: ids(node.get("expect")) }
}

fn steps(root: &Node) -> impl Iterator<Item = &Node> {
    items(root.get("phases")).flat_map(|phase| items(phase.get("steps")))
}

/// The namespaces that a step creates later, as objects that stand in the file.
fn applied_namespaces(root: &Node) -> Vec<&str> {
    let applied = steps(root).filter_map(|step| step.get("apply"));
    let objects = applied.flat_map(|apply| match apply.items() {
        [] => std::slice::from_ref(apply),
        several => several,
    });
    objects
        .filter(|object| object.get("kind").and_then(Node::text) == Some("Namespace"))
        .filter_map(|object| object.get("metadata")?.get("name")?.text())
        .collect()
}

/// The workloads that a step adds later.
fn added_workloads(root: &Node) -> Vec<&str> {
    steps(root).flat_map(|step| names(step.get("workload").and_then(|change| change.get("add")))).collect()
}

fn keyed(node: Option<&Node>) -> impl Iterator<Item = (&str, &Node)> {
    let entries = node.map_or(&[][..], Node::entries);
    entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
}

fn names(node: Option<&Node>) -> Vec<&str> {
    keyed(node).map(|(name, _)| name).collect()
}

fn items(node: Option<&Node>) -> impl Iterator<Item = &Node> {
    node.map_or(&[][..], Node::items).iter()
}

fn ids(node: Option<&Node>) -> Vec<&str> {
    items(node).map(id).filter(|id| !id.is_empty()).collect()
}

fn id(node: &Node) -> &str {
    node.get("id").and_then(Node::text).unwrap_or_default()
}
