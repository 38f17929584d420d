//! What runs on each node: the kubelet and, through it, everything else.

pub mod cni;
pub mod kubelet;
