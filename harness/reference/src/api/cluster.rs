//! What every request works on: the store and the settings of this cluster.

use std::net::SocketAddr;

use ipnet::Ipv4Net;

use super::auth::TokenUser;
use super::kubelet::KubeletDoor;
use super::store::Store;

/// The state of one API server.
pub struct Cluster {
    pub store: Store,
    pub tokens: Vec<TokenUser>,
    /// Where cluster addresses of services come from.
    pub service_cidr: Ipv4Net,
    /// Where clients and the `kubernetes` service reach this server.
    pub advertise: SocketAddr,
    /// The cluster's certificate authority, handed to every namespace.
    pub ca_pem: String,
    pub kubelets: KubeletDoor,
}
