//! A host firewall: closes ports of a node whatever the cluster's own rules accept.
//!
//! It has a table of its own at priority filter + 10, where firewalld sits: a packet that another table accepted there
//! still has to pass here. Every packet that is dropped or rejected is counted, and the counters are evidence. What is closed is kept nowhere but in
//! the kernel: the rules' comments say it.
//!
//! Knows nothing of clusters.

mod closure;
mod command;
pub mod drops;
mod rules;
mod text;

pub use closure::{Action, Closure, Firewall, Nic, Ports, Protocol, Scope, StillClosed, Way};
pub use command::main;
pub use rules::{FirewallError, RuleCount, apply, read};
pub use text::ParseError;
