//! The runner: what a scenario claims, held against a real network.

pub mod event;
pub mod exit;
pub mod ledger;
pub mod report;
