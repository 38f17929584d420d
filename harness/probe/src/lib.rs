//! Probing.

pub mod firewall;
