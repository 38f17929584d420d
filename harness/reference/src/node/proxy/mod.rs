//! Services on a node: kube-proxy's work, on the kernel's nf_tables.
//!
//! [`ServicePort`]s are made from Services and their EndpointSlices, [`compile`] turns them into the table
//! `kube-proxy`, without touching anything, and [`Programmer`] brings the kernel's table in line with it.
//!
//! The first packet of a connection to a service finds its chain by (address, protocol, port), draws an endpoint and
//! is translated; connection tracking does the rest. Traffic whose answer would not come back by the same way is
//! marked, and leaves with the node's address.
//!
//! Knows nothing of policies: those see packets after translation.

mod agent;
mod chains;
mod compile;
mod program;
mod service;
#[cfg(test)]
mod tests;

pub use agent::{ProxyError, run};
pub use compile::{NodeView, Ruleset, compile};
pub use program::Programmer;
pub use service::{Endpoint, Readiness, ServicePort, TrafficPolicy, service_ports};
