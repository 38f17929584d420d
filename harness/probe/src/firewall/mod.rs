//! A host firewall: closes ports of a node whatever the cluster's own rules accept.
//!
//! It has a table of its own at priority filter + 10, where firewalld sits: a packet that another table accepted there
//! still has to pass here. Every packet that is dropped or rejected is counted, and the counters are evidence. What is closed is kept nowhere but in
//! the kernel: the rules' comments say it.
//!
//! Besides what is closed there may be a guard, which lets nothing in but what is opened (`guard`).
//!
//! Knows nothing of clusters.

mod closure;
mod command;
pub mod drops;
mod guard;
pub mod listing;
mod rules;
mod text;

pub use closure::{Action, Closure, Firewall, Nic, Place, Ports, Protocol, Scope, StillClosed, Way};
pub use command::main;
pub use guard::{Guard, Manner, apply as apply_guard, read as read_guard};
pub use rules::{FirewallError, RuleCount, apply, read};
pub use text::ParseError;
