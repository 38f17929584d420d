//! The control plane of the cluster: one process with the API server, the controllers and the objects that every
//! cluster has from the start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::addons::{self, AddonSpec};
use crate::api::{ApiConfig, ApiServer, ServerTls, TokenUser};
use crate::controllers::{self, ControllersConfig};

/// Where the configuration lies on the node.
pub const CONFIG: &str = "/etc/kubernetes/control-plane.json";

/// What a control plane is told when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The address by which nodes and pods reach the API server.
    pub advertise: Ipv4Addr,
    pub port: u16,
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub admin_token: String,
    pub node_token: String,
    pub kubelet_token: String,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub block_size: u8,
    pub encapsulation: Encapsulation,
    /// Calico's `IP_AUTODETECTION_METHOD`.
    pub autodetection: String,
}

/// How packets for pods of other nodes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encapsulation {
    Vxlan,
    VxlanCrossSubnet,
    None,
}
