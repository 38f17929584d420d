//! The kubelet end to end: a real API server, real namespaces, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod life;
mod node;
mod node_object;
mod restart;
mod stream;
