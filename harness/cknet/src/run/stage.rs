//! A scenario under way: what its steps change and its expectations look at.

use std::collections::{BTreeMap, BTreeSet};

use super::Run;
use super::firewalld::Behind;
use super::waits::Waiting;
use crate::cluster::Cluster;
use crate::cluster::facts::RunFacts;
use crate::cluster::objects::Coordinates;
use crate::cluster::workloads::{Placed, PlacedPod};
use crate::plan::Purpose;
use crate::scenario::Scenario;
use crate::scenario::model::{ConnectionName, Protocol};
use crate::vantage::{Place, Vantage};

/// Whether the cluster can be used for another scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Yes,
    No,
}

/// A scenario under way.
pub struct Stage<'a> {
    pub run: &'a Run,
    pub cluster: &'a Cluster,
    pub scenario: &'a Scenario,
    pub purpose: &'a Purpose,
    pub placed: Placed,
    pub facts: RunFacts,
    /// What was made and has to go, in the order in which it was made.
    pub made: Vec<Coordinates>,
    /// Nodes that were put behind firewalld, or the rules that it would make.
    pub behind: BTreeMap<String, Behind>,
    /// Machines on which a proxy was started, and which it is, in words.
    pub proxies: BTreeMap<String, String>,
    /// Nodes that were told of a proxy: the variables with which commands are run there.
    pub environment: BTreeMap<String, Vec<(String, String)>>,
    /// Programs that were started on machines: the machine and the service's name.
    pub services: BTreeSet<(String, &'static str)>,
    /// Files of nodes that were replaced, each with its node and what it was before; `None`: it was not there.
    pub replaced: Vec<(String, String, Option<Vec<u8>>)>,
    /// Something was done that cannot be undone by deleting objects and opening firewalls.
    pub tainted: bool,
    pub waiting: Waiting,
    /// Connections that were opened and stay open.
    pub held: BTreeMap<ConnectionName, HeldConnection>,
}

/// A connection that an agent holds.
pub struct HeldConnection {
    /// From where it was opened.
    pub from: Vantage,
    /// The identity that took it.
    pub peer: String,
    pub protocol: Protocol,
}

/// The place of a workload's pod.
pub fn vantage_of(pod: &PlacedPod) -> Vantage {
    let place = match &pod.uid {
        Some(uid) if !pod.host_network => Place::Pod { uid: uid.clone() },
        _ => Place::Node,
    };
    Vantage { node: pod.node.clone(), place }
}
