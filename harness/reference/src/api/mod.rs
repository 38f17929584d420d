//! The Kubernetes API server of the reference distribution: an HTTPS server over one in-memory store.
//!
//! A request goes `listen` -> `route` -> (`read`, `watching`, `write`, `kubelet`) -> `store`. The table in `kinds` and
//! the field descriptions in `fields.txt` are data that all of them share. It knows nothing of controllers, kubelets
//! or networks: those are clients of it, as they are of the real one.

mod addresses;
mod answer;
mod auth;
mod bootstrap;
mod cluster;
mod defaults;
mod discovery;
mod events;
mod kinds;
mod kubelet;
mod linger;
mod listen;
mod openapi;
mod ownership;
mod patch;
pub mod pki;
mod protobuf;
mod random;
mod read;
mod request;
mod route;
mod schema;
mod selector;
mod status;
mod store;
mod table;
mod time;
mod tls;
mod validate;
mod watching;
mod write;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use ipnet::Ipv4Net;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

pub use auth::TokenUser;
pub use discovery::VERSION;
pub use tls::ServerTls;

use cluster::Cluster;
use kubelet::KubeletDoor;
use store::Store;

/// What an API server is started with.
pub struct ApiConfig {
    /// Where it listens. They may have been bound in other network namespaces; kubelets are dialled from the
    /// namespace of the thread that serves.
    pub listeners: Vec<TcpListener>,
    /// Its certificate, and the authority that kubelets' certificates are checked against.
    pub tls: ServerTls,
    /// Who may do everything. Others may only ask for the version and the state of health.
    pub tokens: Vec<TokenUser>,
    /// Where cluster addresses of services come from. The first is the server's own service.
    pub service_cidr: Ipv4Net,
    /// The bearer token kubelets know the server by.
    pub kubelet_token: String,
    /// The address under which nodes and pods reach the server.
    pub advertise: SocketAddr,
}

/// The API server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A certificate or key cannot be read.
    #[error("the {what} of the API server cannot be read: {why}")]
    Pem { what: &'static str, why: String },
    /// TLS refuses what it was given.
    #[error("TLS of the API server cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A listener cannot be used.
    #[error("the API server cannot listen on `{address}`")]
    Listen { address: String, source: io::Error },
    /// The objects every cluster begins with were refused.
    #[error("the first objects cannot be created: {0}")]
    FirstObjects(String),
}

/// An API server, furnished and ready to serve.
pub struct ApiServer {
    cluster: Arc<Cluster>,
    acceptor: TlsAcceptor,
    listeners: Vec<TcpListener>,
}

impl ApiServer {
    /// Checks the configuration and creates the objects that every cluster begins with.
    pub fn new(config: ApiConfig) -> Result<Self, ApiError> {
        let acceptor = tls::acceptor(&config.tls)?;
        let kubelets = KubeletDoor::new(&config.tls.ca_pem, config.kubelet_token)?;
        let cluster = Cluster {
            store: Store::default(),
            tokens: config.tokens,
            service_cidr: config.service_cidr,
            advertise: config.advertise,
            ca_pem: config.tls.ca_pem,
            kubelets,
        };
        bootstrap::furnish(&cluster).map_err(|refusal| ApiError::FirstObjects(refusal.message))?;
        Ok(Self { cluster: Arc::new(cluster), acceptor, listeners: config.listeners })
    }

    /// Serves until `shutdown`; open watches end then.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ApiError> {
        let mut listeners = Vec::new();
        for listener in self.listeners {
            let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
            let wrong = |source| ApiError::Listen { address: address.clone(), source };
            listener.set_nonblocking(true).map_err(wrong)?;
            listeners.push(tokio::net::TcpListener::from_std(listener).map_err(wrong)?);
        }
        listen::serve(self.cluster, listeners, self.acceptor, shutdown).await;
        Ok(())
    }
}
