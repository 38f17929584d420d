//! What runs on a node: the kubelet, the CNI plugin it calls, Calico's agent, and the service proxy.
//!
//! Every part is a list+watch client of the API server; they meet nowhere else but in the kernel and in the files of
//! the node, as on a real one.

pub mod calico;
pub mod clean;
pub mod cni;
pub mod flannel;
pub mod kubelet;
pub mod policy;
mod process;
pub mod proxy;

pub use self::process::{CONFIG, Config, KUBECONFIG, main};
