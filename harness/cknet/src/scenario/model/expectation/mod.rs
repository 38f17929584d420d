//! Owns what a scenario expects to see: what all expectations have in common here, each family of them in a file.
//! Must not know how it is looked at and judged.

mod flows;
mod machine;
mod objects;
mod path_mtu;
mod wire;

pub use self::flows::{Connectivity, Dns, Outcome, ServiceAnswers, SourceAddress};
pub use self::machine::{Addresses, Ear, Link, Listening, Route};
pub use self::objects::{NodeState, NodeStates, Resource};
pub use self::path_mtu::{Beyond, PacketSize, PathMtu};
pub use self::wire::{DeviceOf, Encapsulated, WatchPoint, Wire};

use super::{Capability, ClaimId, Command, Connection, ExpectationId, Log, Matrix, Ping, Point, Refused, Wait};
use crate::scenario::nearest::listed;
use crate::scenario::read::{Keys, Read, Reading, choice};
use crate::scenario::tree::Node as TreeNode;

/// One thing that is expected, and the line in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// Its id, unique in its phase.
    pub id: ExpectationId,
    /// The claim of the document on which it decides.
    pub claim: Option<ClaimId>,
    /// The claim that is wrong if this holds; this or `claim`.
    pub refutes: Option<ClaimId>,
    /// It may become true as late as that; without it, it is judged at once.
    pub within: Option<Wait>,
    /// Once true it has to stay true for as long as that.
    #[schemars(rename = "for")]
    pub hold: Option<Wait>,
    /// The points of checklists that it covers.
    #[schemars(default)]
    pub covers: Vec<Point>,
    /// No specification says what happens here: what is written is what Calico does, and where another CNI does
    /// otherwise, that is noted and no failure.
    #[schemars(default)]
    pub undefined: bool,
    /// Without which of the runner's abilities it cannot be judged, beyond those that the scenario requires.
    #[schemars(default)]
    pub requires: Vec<Capability>,
    /// What is expected.
    #[schemars(flatten)]
    pub check: Check,
    /// Line in the scenario file, from 1.
    #[schemars(skip)]
    pub line: usize,
}

choice! {
    "an expectation", "an expectation's kind";
    /// What can be expected.
    pub enum Check {
        /// What becomes of one flow.
        Connectivity(Connectivity) as "connectivity",
        /// What becomes of many flows.
        Matrix(Matrix) as "matrix",
        /// In which state nodes are.
        Nodes(NodeStates) as "nodes",
        /// What objects of the cluster look like.
        Resource(Resource) as "resource",
        /// Which way a node sends packets.
        Routes(Route) as "routes",
        /// What a device of a node looks like.
        Links(Link) as "links",
        /// Which addresses something has.
        Addresses(Addresses) as "addresses",
        /// Whether a port is listened on.
        Listening(Listening) as "listening",
        /// Whether a service leads to its workloads.
        Service(ServiceAnswers) as "service",
        /// What a name is answered with.
        Dns(Dns) as "dns",
        /// How a command ends and what it prints.
        Command(Command) as "command",
        /// What stands in a log.
        Log(Log) as "log",
        /// An object that the API does not take.
        Refused(Refused) as "refused",
        /// What has become of a connection.
        Connection(Connection) as "connection",
        /// What becomes of an echo request.
        Ping(Ping) as "ping",
        /// How large a packet may be.
        PathMtu(PathMtu) as "pathMtu",
        /// How a flow looks on the way.
        Wire(Wire) as "wire",
    }
}

const COMMON: [&str; 8] = ["id", "claim", "refutes", "within", "for", "covers", "undefined", "requires"];

impl Read for Expectation {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let mut keys = Keys::of(node, "an expectation", r)?;
        let id = keys.field("id", r);
        let claim = keys.take("claim").map(|node| known_claim(node, r));
        let refutes = keys.take("refutes").map(|node| known_claim(node, r));
        if let (Some(entry), true) = (node.entry("refutes"), claim.is_some()) {
            r.problem(entry.key_span, "an expectation decides on one claim: it has `claim` or `refutes`");
        }
        let within: Option<Option<Wait>> = keys.field("within", r);
        let hold: Option<Option<Wait>> = keys.field("for", r);
        let covers: Option<Vec<Point>> = keys.field_or("covers", Vec::new, r);
        let undefined: Option<bool> = keys.field_or("undefined", || false, r);
        let requires: Option<Vec<Capability>> = keys.field_or("requires", Vec::new, r);
        let check = check(node, r);
        keys.done(Check::KINDS, r);
        Some(Self {
            id: id?,
            claim: claim.flatten(),
            refutes: refutes.flatten(),
            within: within.flatten(),
            hold: hold.flatten(),
            covers: covers?,
            undefined: undefined?,
            requires: requires?,
            check: check?,
            line: r.line(node),
        })
    }
}

fn known_claim(node: &TreeNode, r: &mut Reading<'_>) -> Option<ClaimId> {
    let id = ClaimId::read(node, r)?;
    if !r.declared.claims.contains(&id.as_str()) {
        let known = r.declared.claims.clone();
        r.no_such(node.span, "claim", id.as_str(), &known);
        return None;
    }
    Some(id)
}

/// The one key of an expectation that says what is expected.
fn check(node: &TreeNode, r: &mut Reading<'_>) -> Option<Check> {
    let mut kinds = node.entries().iter().filter(|entry| Check::KINDS.contains(&entry.key.as_str()));
    let (first, second) = (kinds.next(), kinds.next());
    if let (Some(first), Some(second)) = (first, second) {
        let message = format!("an expectation has one kind, and `{}` is given already", first.key);
        r.problem(second.key_span, message);
    }
    if let Some(kind) = first {
        return Check::read_kind(&kind.key, kind.key_span, &kind.value, r);
    }
    // A key that is unknown is told as such: it was meant to be the kind.
    if node.entries().iter().all(|entry| COMMON.contains(&entry.key.as_str())) {
        r.problem(
            node.point(),
            format!("says nothing about what is expected; give {}", listed(Check::KINDS.iter().copied())),
        );
    }
    None
}

/// Whether something is there, unless a scenario says.
const fn yes() -> bool {
    true
}
