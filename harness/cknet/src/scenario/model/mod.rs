//! Owns what a scenario is, as plain typed data: names are known to exist, references that can be
//! resolved before a run are resolved, addresses are assigned, and each step and expectation
//! knows its line. Must not know YAML, files, clusters and providers.

mod checklist;
mod cluster;
mod connection;
mod endpoint;
mod expectation;
mod firewall;
mod firewalld;
mod matrix;
mod metadata;
mod named;
mod names;
mod object;
mod output;
mod ports;
mod proxy;
mod refusal;
mod sabotage;
mod step;
mod topology;
mod values;
mod ways;
mod workload;

pub use checklist::Point;
pub use cluster::{Backend, BlockSize, Cluster, Encapsulation, Flavour, NodeAddress};
pub use connection::{Connect, Connection, ConnectionState, Ping};
pub use endpoint::{Endpoint, Via};
pub use expectation::{
    Addresses, Beyond, Check, Connectivity, DeviceOf, Dns, Ear, Encapsulated, Expectation, Link, Listening, NodeState,
    NodeStates, Outcome, PacketSize, PathMtu, Resource, Route, ServiceAnswers, SourceAddress, WatchPoint, Wire,
};
pub use firewall::{Direction, Firewall, FirewallChange, Place};
pub use firewalld::{FirewallEngine, Firewalld};
pub use matrix::{Cell, Column, Matrix};
pub use metadata::{Capability, Citation, Claim, Fidelity, Kind, KnownDeviation, Metadata, Requirements, Severity};
pub use named::Named;
pub use names::{
    BadText, ClaimId, ConnectionName, ExpectationId, NamespaceName, NicName, NodeName, PhaseId, PortName, SabotageId,
    ScenarioId, SegmentName, ServiceName, Tag, WorkloadName,
};
pub use object::{Manifest, Object};
pub use output::{Command, Kubelet, Log};
pub use ports::{PortNumber, PortProto, PortRange, Protocol};
pub use proxy::{HttpProxy, ImageRegistry, ProxyEngine, ProxySettings, VariableName};
pub use refusal::Refused;
pub use sabotage::{Change, ClusterChange, ExpectationRef, ExtraStep, Sabotage, StepRef, TopologyChange};
pub use step::{
    Action, Bird, Component, FdbChange, InstallCni, LinkChange, LinkState, NewLink, NewLinkKind, NodeRun, NodeSet,
    Patch, PatchType, Relabel, RouteChange, Step, WorkloadChange,
};
pub use topology::{Nic, Node, Role, Segment, Topology};
pub use values::{Address, Cidr, Day, Selector, Wait};
pub use ways::Way;
pub use workload::{
    LabelKey, Labels, Namespace, Service, ServicePort, ServiceType, TargetPort, TrafficPolicy, Workload,
};

use std::collections::BTreeMap;

use super::read::{Keys, Read, Reading, read_text};
use super::reference::Fact;
use super::tree::Node as TreeNode;

/// The version of the format.
pub const API_VERSION: &str = "cknet/v1";
/// What a scenario file says it is.
pub const KIND: &str = "Scenario";

/// A scenario: a topology, a cluster, and phases of steps and expectations.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Version of the format.
    pub api_version: ApiVersion,
    /// What the file is.
    pub kind: KindWord,
    /// What the scenario is called and where it comes from.
    pub metadata: Metadata,
    /// What the document says.
    #[schemars(default)]
    pub claims: Vec<Claim>,
    /// Without which of the runner's abilities it cannot run.
    #[schemars(default)]
    pub requires: Requirements,
    /// The nodes and the networks that join them.
    pub topology: Topology,
    /// How the cluster is set up.
    #[schemars(default)]
    pub cluster: Cluster,
    /// Namespaces that are made before the first phase.
    #[schemars(default)]
    pub namespaces: Named<NamespaceName, Namespace>,
    /// Workloads that run from before the first phase on.
    #[schemars(default)]
    pub workloads: Named<WorkloadName, Workload>,
    /// Services that exist from before the first phase on.
    #[schemars(default)]
    pub services: Named<ServiceName, Service>,
    /// What is done and expected, in order.
    #[schemars(length(min = 1))]
    pub phases: Vec<Phase>,
    /// Ways to make the scenario fail on purpose.
    #[schemars(default)]
    pub sabotage: Vec<Sabotage>,
    /// Expectations that are known not to hold somewhere.
    #[schemars(default)]
    pub expect_failure: Vec<KnownDeviation>,
    /// The name of the file, as messages show it.
    #[schemars(skip)]
    pub file: String,
    /// What it refers to and the cluster at hand does not have. Where it does, the reference's own stands here, and is
    /// never used.
    #[schemars(skip)]
    pub lacks: Lacks,
}

/// Why something cannot be done or judged on a cluster: a reference, and that its CNI has no such thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacks {
    /// For which the scenario cannot run at all.
    pub whole: Option<String>,
    /// For which single expectations cannot be judged.
    pub expectations: BTreeMap<ExpectationRef, String>,
}

impl Lacks {
    /// Why an expectation cannot be judged.
    #[must_use]
    pub fn of(&self, phase: &Phase, expectation: &Expectation) -> Option<&str> {
        let named = ExpectationRef { phase: phase.id.clone(), expectation: expectation.id.clone() };
        self.expectations.get(&named).map(String::as_str)
    }
}

/// The one version there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
pub enum ApiVersion {
    /// `cknet/v1`
    #[schemars(rename = "cknet/v1")]
    V1,
}

/// The one kind of file there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
pub enum KindWord {
    /// `Scenario`
    Scenario,
}

/// Steps, and what is expected after the last of them.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Phase {
    /// Its id; a pitfall has the phases `wrong` and `correct`.
    pub id: PhaseId,
    /// What is shown, in a line.
    pub title: Option<String>,
    /// What is done, in order.
    #[schemars(default)]
    pub steps: Vec<Step>,
    /// What is expected afterwards.
    #[schemars(length(min = 1))]
    pub expect: Vec<Expectation>,
    /// Line in the scenario file, from 1.
    #[schemars(skip)]
    pub line: usize,
}

impl Scenario {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ScenarioId {
        &self.metadata.id
    }

    /// The phase of that id.
    #[must_use]
    pub fn phase(&self, id: &PhaseId) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.id == *id)
    }

    /// The expectation of that name.
    #[must_use]
    pub fn expectation(&self, name: &ExpectationRef) -> Option<&Expectation> {
        let phase = self.phase(&name.phase)?;
        phase.expect.iter().find(|expectation| expectation.id == name.expectation)
    }

    /// Each expectation with its phase, in order.
    pub fn expectations(&self) -> impl Iterator<Item = (&Phase, &Expectation)> {
        self.phases.iter().flat_map(|phase| phase.expect.iter().map(move |expectation| (phase, expectation)))
    }

    /// The one name of a case, for filters, reports and folders: `SCENARIO/PHASE/EXPECTATION`.
    #[must_use]
    pub fn case_id(&self, phase: &Phase, expectation: &Expectation) -> String {
        format!("{}/{}/{}", self.id(), phase.id, expectation.id)
    }

    /// The claim of that id.
    #[must_use]
    pub fn claim(&self, id: &ClaimId) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == *id)
    }

    /// The passage in which a claim stands: its own, or the scenario's.
    #[must_use]
    pub fn citation<'s>(&'s self, claim: &'s Claim) -> &'s Citation {
        claim.docs.as_ref().unwrap_or(&self.metadata.docs)
    }
}

impl Read for Phase {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "a phase", r)?;
        let id = match keys.take("id") {
            Some(node) => read_text(node, r),
            None => {
                r.problem(node.point(), "a phase needs `id`");
                None
            }
        };
        let title: Option<Option<String>> = keys.field("title", r);
        let steps: Option<Vec<Step>> = keys.field_or("steps", Vec::new, r);
        let expect = match keys.take("expect") {
            Some(node) => expectations(node, r),
            None => {
                r.problem(node.point(), "a phase needs `expect`");
                None
            }
        };
        keys.done(&[], r);
        Some(Self { id: id?, title: title.flatten(), steps: steps?, expect: expect?, line: r.line(node) })
    }
}

/// A phase in which nothing is expected proves nothing.
fn expectations(node: &TreeNode, r: &mut Reading<'_>) -> Option<Vec<Expectation>> {
    if node.is_null() || (node.kind() == "a list" && node.items().is_empty()) {
        r.problem(node.point(), "nothing is expected; a phase has at least one expectation");
        return None;
    }
    Vec::read(node, r)
}

impl Read for ApiVersion {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.fixed_text(node, "`cknet/v1`")?;
        if text == API_VERSION {
            return Some(Self::V1);
        }
        r.problem(node.span, format!("not a version of this format; use `{API_VERSION}`"));
        None
    }
}

impl Read for KindWord {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let text = r.fixed_text(node, "`Scenario`")?;
        if text == KIND {
            return Some(Self::Scenario);
        }
        r.problem(node.span, format!("not a kind of file; use `{KIND}`"));
        None
    }
}

impl Read for Scenario {
    /// Topology and cluster come first, whatever the order of the file: the rest refers to them.
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "a scenario", r)?;
        let api_version = keys.field("apiVersion", r);
        let kind = keys.field("kind", r);
        let metadata = keys.field("metadata", r);
        let claims: Option<Vec<Claim>> = keys.field_or("claims", Vec::new, r);
        let requires = keys.field_or("requires", Requirements::default, r);
        let topology: Option<Topology> = keys.field("topology", r);
        let cluster: Option<Cluster> = match keys.take("cluster") {
            Some(node) => Cluster::read_whole(node, r),
            None => Some(r.premises.map(|premises| premises.cluster.clone()).unwrap_or_default()),
        };
        learn(topology.as_ref(), cluster.as_ref(), r);
        let namespaces: Option<Named<_, _>> = keys.field_or("namespaces", Named::default, r);
        let workloads: Option<Named<_, _>> = keys.field_or("workloads", Named::default, r);
        let services: Option<Named<_, _>> = keys.field_or("services", Named::default, r);
        let phases: Option<Vec<Phase>> = keys.field("phases", r);
        let sabotage: Option<Vec<Sabotage>> = keys.field_or("sabotage", Vec::new, r);
        let expect_failure: Option<Vec<KnownDeviation>> = keys.field_or("expectFailure", Vec::new, r);
        keys.done(&[], r);
        Some(Self {
            api_version: api_version?,
            kind: kind?,
            metadata: metadata?,
            claims: claims?,
            requires: requires?,
            topology: topology?,
            cluster: cluster?,
            namespaces: namespaces?,
            workloads: workloads?,
            services: services?,
            phases: phases?,
            sabotage: sabotage?,
            expect_failure: expect_failure?,
            file: r.source.name().to_owned(),
            lacks: Lacks::default(),
        })
    }
}

/// What references to topology and cluster stand for.
fn learn(topology: Option<&Topology>, cluster: Option<&Cluster>, r: &mut Reading<'_>) {
    match topology {
        None => r.facts.unreadable.extend(["node", "segment"]),
        Some(topology) => {
            for (name, segment) in topology.segments.iter() {
                r.facts.learn(format!("segment.{name}.cidr"), Fact::Text(segment.cidr.to_string()));
            }
            for (name, node) in topology.nodes.iter() {
                for (nic, place) in node.nics.iter() {
                    let path = format!("node.{name}.{nic}.address");
                    r.facts.learn(path, Fact::Text(place.address.to_string()));
                }
                if let Some((_, nic)) = node.first_nic() {
                    let path = format!("node.{name}.address");
                    r.facts.learn(path, Fact::Text(nic.address.to_string()));
                }
            }
        }
    }
    match cluster {
        None => r.facts.unreadable.push("cluster"),
        Some(cluster) => {
            r.facts.learn("cluster.podCidr", Fact::Text(cluster.pod_cidr.to_string()));
            r.facts.learn("cluster.serviceCidr", Fact::Text(cluster.service_cidr.to_string()));
        }
    }
}
