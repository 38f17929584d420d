//! Probing: what is asked of a network and what was seen of it, the engine that asks, the side that answers, and
//! facts about a node.
//!
//! Nothing here knows Kubernetes, expectations or verdicts: an observation says what happened on the wire, and
//! somebody else decides whether that was right.

pub mod agent;
pub mod connect;
pub mod dns_client;
pub mod echo;
pub mod engine;
pub mod facts;
pub mod firewall;
pub mod netns;
pub mod serve;
pub mod tap;
pub mod wire;
