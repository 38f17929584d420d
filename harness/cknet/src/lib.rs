//! cknet: an end-to-end network conformance harness for Canonical Kubernetes.
//!
//! Data flows one way: `scenario` loads and checks, `plan` decides what is done, `cluster` makes it out of a
//! `provider` and a `distribution`, `vantage` probes, `judge` decides, `run` puts these in order, and `event` is all
//! that `report` is told. `predict` says what the rules of Kubernetes make of a scenario's flows.

pub mod claims;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod compare;
pub mod diagnose;
pub mod distribution;
pub mod event;
pub mod existing;
pub mod exit;
pub mod image;
pub mod judge;
pub mod ledger;
mod merge_patch;
pub mod personality;
pub mod plan;
pub mod predict;
mod private_file;
pub mod provider;
pub mod report;
pub mod run;
pub mod scenario;
pub mod vantage;
