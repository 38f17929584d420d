//! cknet: an end-to-end network conformance harness for Canonical Kubernetes.

pub mod personality;
pub mod provider;
