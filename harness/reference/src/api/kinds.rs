//! The table of everything served: one row per resource drives discovery, routing, field decoding and tables.
//! Data only; knows nothing of requests or of stored objects.

use super::table::Columns;

/// A way into a resource beside the object itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub {
    Status,
    Scale,
    Finalize,
    Binding,
    Eviction,
    Log,
    Exec,
    Attach,
    PortForward,
}

/// What discovery says of a subresource: its name, verbs, and the group, version and kind it speaks.
pub struct SubRow {
    pub sub: Sub,
    pub name: &'static str,
    pub verbs: &'static [&'static str],
    /// Empty for the kind of the object itself.
    pub speaks: (&'static str, &'static str, &'static str),
}

const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// Every subresource there is.
pub static SUBS: &[SubRow] = &[
    SubRow { sub: Sub::Status, name: "status", verbs: READ_WRITE, speaks: ("", "", "") },
    SubRow { sub: Sub::Scale, name: "scale", verbs: READ_WRITE, speaks: ("autoscaling", "v1", "Scale") },
    SubRow { sub: Sub::Finalize, name: "finalize", verbs: &["update"], speaks: ("", "", "") },
    SubRow { sub: Sub::Binding, name: "binding", verbs: &["create"], speaks: ("", "", "Binding") },
    SubRow { sub: Sub::Eviction, name: "eviction", verbs: &["create"], speaks: ("policy", "v1", "Eviction") },
    SubRow { sub: Sub::Log, name: "log", verbs: &["get"], speaks: ("", "", "") },
    SubRow { sub: Sub::Exec, name: "exec", verbs: &["create", "get"], speaks: ("", "", "PodExecOptions") },
    SubRow { sub: Sub::Attach, name: "attach", verbs: &["create", "get"], speaks: ("", "", "PodAttachOptions") },
    SubRow {
        sub: Sub::PortForward,
        name: "portforward",
        verbs: &["create", "get"],
        speaks: ("", "", "PodPortForwardOptions"),
    },
];

/// The verbs of a stored resource, in discovery's order.
pub const STORED: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Namespaces are deleted one at a time.
pub const NAMESPACES: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
/// What the server itself says of the cluster: nobody else writes it.
pub const SAID: &[&str] = &["get", "list", "watch"];
/// Questions are answered, not stored.
pub const ASKED: &[&str] = &["create"];

/// One served resource.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub short: &'static [&'static str],
    pub in_all: bool,
    pub verbs: &'static [&'static str],
    pub subs: &'static [Sub],
    /// Name of its type in `fields.txt`.
    pub fields: &'static str,
    pub columns: Columns,
    /// Whether `metadata.generation` counts changes of the desired state.
    pub counts_generation: bool,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods` or `deployments.apps`, as messages name it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether the kind's schema is open, as that of a custom resource is.
    pub fn is_custom(&self) -> bool {
        self.group == CALICO
    }

    /// Whether this row is `kind` of the core group.
    pub fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// The subresource called `name`, if this resource has it.
    pub fn sub(&self, name: &str) -> Option<Sub> {
        SUBS.iter().find(|row| row.name == name).map(|row| row.sub).filter(|sub| self.subs.contains(sub))
    }

    /// Whether status is written through its own door only.
    pub fn splits_status(&self) -> bool {
        self.subs.contains(&Sub::Status)
    }
}

/// The group of Calico's resources.
pub const CALICO: &str = "crd.projectcalico.org";

const fn core(plural: &'static str, singular: &'static str, kind: &'static str, columns: Columns) -> Kind {
    Kind {
        group: "",
        version: "v1",
        plural,
        singular,
        kind,
        namespaced: true,
        short: &[],
        in_all: false,
        verbs: STORED,
        subs: &[],
        fields: kind,
        columns,
        counts_generation: false,
    }
}

const fn apps(
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    subs: &'static [Sub],
    columns: Columns,
) -> Kind {
    Kind { group: "apps", short, subs, in_all: true, counts_generation: true, ..core(plural, singular, kind, columns) }
}

const fn calico(plural: &'static str, singular: &'static str, kind: &'static str) -> Kind {
    Kind {
        group: CALICO,
        namespaced: false,
        fields: "Custom",
        counts_generation: true,
        ..core(plural, singular, kind, Columns::Plain)
    }
}

const fn review(group: &'static str, plural: &'static str, singular: &'static str, kind: &'static str) -> Kind {
    Kind { group, namespaced: false, verbs: ASKED, fields: "Review", ..core(plural, singular, kind, Columns::Plain) }
}

const POD_SUBS: &[Sub] =
    &[Sub::Attach, Sub::Binding, Sub::Eviction, Sub::Exec, Sub::Log, Sub::PortForward, Sub::Status];

/// Everything served, in discovery's order.
pub static KINDS: &[Kind] = &[
    Kind { short: &["cm"], ..core("configmaps", "configmap", "ConfigMap", Columns::ConfigMap) },
    Kind { short: &["ep"], ..core("endpoints", "endpoints", "Endpoints", Columns::Endpoints) },
    Kind { short: &["ev"], ..core("events", "event", "Event", Columns::Event) },
    Kind {
        short: &["ns"],
        namespaced: false,
        verbs: NAMESPACES,
        subs: &[Sub::Finalize, Sub::Status],
        ..core("namespaces", "namespace", "Namespace", Columns::Namespace)
    },
    Kind { short: &["no"], namespaced: false, subs: &[Sub::Status], ..core("nodes", "node", "Node", Columns::Node) },
    Kind {
        short: &["po"],
        in_all: true,
        subs: POD_SUBS,
        counts_generation: true,
        ..core("pods", "pod", "Pod", Columns::Pod)
    },
    core("secrets", "secret", "Secret", Columns::Secret),
    Kind { short: &["sa"], ..core("serviceaccounts", "serviceaccount", "ServiceAccount", Columns::ServiceAccount) },
    Kind {
        short: &["svc"],
        in_all: true,
        subs: &[Sub::Status],
        ..core("services", "service", "Service", Columns::Service)
    },
    apps("daemonsets", "daemonset", "DaemonSet", &["ds"], &[Sub::Status], Columns::DaemonSet),
    apps("deployments", "deployment", "Deployment", &["deploy"], &[Sub::Scale, Sub::Status], Columns::Deployment),
    apps("replicasets", "replicaset", "ReplicaSet", &["rs"], &[Sub::Scale, Sub::Status], Columns::ReplicaSet),
    Kind {
        group: "events.k8s.io",
        short: &["ev"],
        fields: "EventV1",
        ..core("events", "event", "Event", Columns::Event)
    },
    review("authentication.k8s.io", "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"),
    review("authentication.k8s.io", "tokenreviews", "tokenreview", "TokenReview"),
    review("authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"),
    Kind {
        group: "networking.k8s.io",
        short: &["netpol"],
        counts_generation: true,
        ..core("networkpolicies", "networkpolicy", "NetworkPolicy", Columns::NetworkPolicy)
    },
    // The one block that this server was started with; a real server takes more of them.
    Kind {
        group: "networking.k8s.io",
        namespaced: false,
        verbs: SAID,
        ..core("servicecidrs", "servicecidr", "ServiceCIDR", Columns::ServiceCidr)
    },
    Kind { group: "coordination.k8s.io", ..core("leases", "lease", "Lease", Columns::Lease) },
    Kind {
        group: "discovery.k8s.io",
        counts_generation: true,
        ..core("endpointslices", "endpointslice", "EndpointSlice", Columns::EndpointSlice)
    },
    calico("globalnetworkpolicies", "globalnetworkpolicy", "GlobalNetworkPolicy"),
    calico("bgpconfigurations", "bgpconfiguration", "BGPConfiguration"),
    calico("blockaffinities", "blockaffinity", "BlockAffinity"),
    calico("clusterinformations", "clusterinformation", "ClusterInformation"),
    calico("bgppeers", "bgppeer", "BGPPeer"),
    calico("felixconfigurations", "felixconfiguration", "FelixConfiguration"),
    calico("ipamconfigs", "ipamconfig", "IPAMConfig"),
    calico("ippools", "ippool", "IPPool"),
    calico("ipamblocks", "ipamblock", "IPAMBlock"),
    calico("ipamhandles", "ipamhandle", "IPAMHandle"),
];

/// Index of a row of [`KINDS`].
pub type KindIndex = usize;

/// The row for a resource of a group and version.
pub fn find(group: &str, version: &str, plural: &str) -> Option<KindIndex> {
    KINDS.iter().position(|row| row.group == group && row.version == version && row.plural == plural)
}

/// The row of a core resource, known to exist by the table above.
pub fn core_index(plural: &str) -> KindIndex {
    find("", "v1", plural).unwrap_or_default()
}

/// Where the objects of a row are kept: both faces of events share one place.
pub fn stored_as(index: KindIndex) -> KindIndex {
    if KINDS[index].group == "events.k8s.io" { core_index("events") } else { index }
}

/// Named groups in discovery's order, each once.
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for row in KINDS.iter().filter(|row| !row.group.is_empty()) {
        if !seen.contains(&(row.group, row.version)) {
            seen.push((row.group, row.version));
        }
    }
    seen
}
