//! The oracle predicts what becomes of a flow in a cluster, and names the rule that decides.
//!
//! It follows the semantics of Kubernetes' NetworkPolicy v1 and of Services, and knows nothing
//! else: no data plane, no API client, no files, no clock. It never looks at the code of the
//! reference distribution, whose policy engine it is there to check.
//!
//! Where Kubernetes leaves something to the network plugin, the oracle judges the flow under every
//! permitted answer. Only if the answers lead to different ends is the outcome
//! [`Outcome::Undefined`], and then it says on what it depends and what the [`Profile`] expects.
//!
//! What it does not model: rules of a plugin beyond NetworkPolicy v1 (host endpoints, tiers, global
//! policies), connections that are older than a policy, and the time that enforcement takes.
//!
//! ```
//! use cknet_oracle::{Endpoint, Flow, Oracle, Profile, Snapshot, Target};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let snapshot: Snapshot = serde_json::from_str(r#"{
//!     "pods": [
//!         {"metadata": {"namespace": "shop", "name": "web"}, "status": {"podIP": "10.1.0.2"}},
//!         {"metadata": {"namespace": "shop", "name": "db"}, "status": {"podIP": "10.1.0.3"}}
//!     ],
//!     "policies": [
//!         {"metadata": {"namespace": "shop", "name": "deny-all"}, "spec": {"podSelector": {}}}
//!     ]
//! }"#)?;
//! let oracle = Oracle::new(&snapshot, Profile::calico());
//! let flow = Flow::tcp(Endpoint::pod("shop", "web"), Target::pod("shop", "db"), 5432);
//! assert_eq!(
//!     oracle.predict(&flow)?.to_string(),
//!     "denied at destination `shop/db`: isolated for ingress by `deny-all`, which allows nothing",
//! );
//! # Ok(())
//! # }
//! ```

mod advice;
mod cluster;
mod flow;
mod isolation;
mod labels;
mod oracle;
mod path;
mod policy;
mod prediction;
mod profile;
mod route;
mod sentence;
mod snapshot;
mod transport;
mod view;
mod weigh;

pub use advice::{Advice, Finding, Weight, validate};
pub use flow::{Endpoint, Flow, PodRef, Target};
pub use labels::{Labels, NAMESPACE_NAME_LABEL, Requirement, Selector};
pub use oracle::Oracle;
pub use policy::{
    Direction, Fault, InvalidPolicy, IpBlock, Manifest, NetworkPolicy, Peer, PortMatch, PortRange, Problem, Rule,
};
pub use prediction::{
    Allowance, Because, Decision, Denial, Exemption, Hinge, Identity, Leg, Mismatch, Miss, NoAnswer, Outcome, Party,
    Prediction, Reading, Through, Translator, Undefined, Unknown, Verdict,
};
pub use profile::{
    BlockScope, Hairpin, HostNetwork, Icmp, NodeSource, OwnNode, Profile, Question, RemoteNodePort, RewrittenSource,
    ServiceAddress,
};
pub use snapshot::{
    ContainerPort, EndpointSlice, Exposure, Namespace, Node, Object, Pod, Reach, Service, ServiceEndpoint, ServicePort,
    Snapshot,
};
pub use transport::{PortOf, PortRef, Protocol};

/// Predicts every flow from each of `from` to each of `to`, as Calico is expected to behave.
///
/// The answers stand row by row: all of the first source's first.
///
/// # Errors
/// An end is not in the snapshot.
pub fn matrix(
    snapshot: &Snapshot,
    from: &[Endpoint],
    to: &[(PodRef, u16, Protocol)],
) -> Result<Vec<Prediction>, Unknown> {
    Oracle::new(snapshot, Profile::calico()).matrix(from, to)
}
