//! The reference distribution: a small cluster that behaves as the document says a Calico cluster behaves, on the
//! kernel's real data plane. A model, never proof about a product.
//!
//! It knows nothing of scenarios, expectations or the oracle: it is reached through the Kubernetes API only.

pub mod addons;
pub mod api;
pub mod controllers;
pub mod dns;
pub mod watched;
