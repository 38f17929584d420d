//! NetworkPolicy on a node: what Calico's Felix does, on the kernel's nf_tables.
//!
//! [`World`] is what the cluster says, [`LocalEndpoint`] what this node runs; [`compile`] turns both into a
//! [`Ruleset`], without touching anything, and [`Programmer`] brings the kernel's table in line with it.
//!
//! A packet between pods passes two questions: may its sender send it (`cali-fw-<interface>`), may its receiver get
//! it (`cali-tw-<interface>`). Both are asked where the packet is forwarded; established connections pass first.
//! Policies are chains that endpoints share, selectors are sets of addresses that change without touching a chain.
//! An interface that nobody has told about yet leads nowhere, so a new pod is isolated from its first packet on.
//!
//! Written from the Kubernetes semantics, and knows nothing of the prediction it is checked against.

mod compile;
mod endpoint;
#[cfg(test)]
pub(crate) mod evaluate;
mod masquerade;
mod peers;
mod ports;
mod program;
mod selector;
#[cfg(test)]
mod tests;
mod world;

pub use compile::{IpVersion, LocalEndpoint, Loops, Options, Ruleset, compile};
pub use program::{Applied, Programmer};
pub use selector::selects;
pub(crate) use world::protocol;
pub use world::{ContainerPort, Labels, Node, Pod, PodName, Pool, World};
