//! A host firewall: closes ports of a node whatever the cluster's own rules accept.
//!
//! It has a table of its own at priority filter + 10, where firewalld sits: a packet that another table accepted there
//! still has to pass here. Every drop is counted, and the counters are evidence. What is closed is kept nowhere but in
//! the kernel: the rules' comments say it.
//!
//! Knows nothing of clusters.

mod closure;
mod command;
mod rules;

pub use closure::{Closure, Firewall, ParseError, Ports, Protocol, Way};
pub use command::main;
pub use rules::{FirewallError, RuleCount, apply, read};
