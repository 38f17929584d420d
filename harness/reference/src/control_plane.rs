//! The control plane of the cluster: one process with the API server, the controllers and the objects that every
//! cluster has from the start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

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
    /// The objects that the cluster has from the start.
    pub addons: AddonSpec,
    /// Whether each node is given a part of the pod network.
    #[serde(default)]
    pub allocate_node_cidrs: bool,
}

/// The hidden command line `cknet control-plane FILE`.
pub fn main(arguments: &[String]) -> ExitCode {
    let path = arguments.first().map_or(CONFIG, String::as_str);
    match start(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log("control-plane", &problem);
            ExitCode::FAILURE
        }
    }
}

fn start(path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    let config: Config = serde_json::from_str(&text).map_err(|error| format!("cannot use `{path}`: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(run(config))
}

/// Serves until SIGTERM.
async fn run(config: Config) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.port));
    let listener = TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let server = ApiServer::new(ApiConfig {
        listeners: vec![listener],
        tls: ServerTls {
            ca_pem: config.ca_pem.clone(),
            cert_pem: config.cert_pem.clone(),
            key_pem: config.key_pem.clone(),
        },
        tokens: vec![
            user(&config.admin_token, "kubernetes-admin", "system:masters"),
            user(&config.node_token, "system:node", "system:nodes"),
        ],
        service_cidr: config.addons.service_cidr,
        kubelet_token: config.kubelet_token.clone(),
        advertise: SocketAddr::from((config.advertise, config.port)),
    });
    let server = server.map_err(|error| error.to_string())?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(shutdown.clone()));
    let client = own_client(&config).await?;
    addons::apply(&client, &config.addons).await.map_err(|error| error.to_string())?;
    let node_cidrs_of = config.allocate_node_cidrs.then_some(config.addons.pod_cidr);
    let controllers = ControllersConfig { node_cidrs_of, ..ControllersConfig::default() };
    tokio::spawn(controllers::run(client, controllers, shutdown.clone()));
    terminated().await.map_err(|error| error.to_string())?;
    shutdown.cancel();
    serving.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn user(token: &str, user: &str, group: &str) -> TokenUser {
    TokenUser { token: token.into(), user: user.into(), groups: vec![group.into(), "system:authenticated".into()] }
}

/// The controllers are clients like any other.
async fn own_client(config: &Config) -> Result<kube::Client, String> {
    let uri = format!("https://127.0.0.1:{}", config.port);
    let mut client = kube::Config::new(uri.parse().map_err(|error| format!("`{uri}`: {error}"))?);
    client.root_cert = Some(certificates(&config.ca_pem)?);
    client.auth_info.token = Some(config.admin_token.clone().into());
    kube::Client::try_from(client).map_err(|error| error.to_string())
}

fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, String> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    Ok(found.map_err(|error| error.to_string())?.iter().map(|one| one.to_vec()).collect())
}

/// Waits for SIGTERM.
pub(crate) async fn terminated() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

/// One line of a service's log.
pub(crate) fn log(service: &str, message: &str) {
    use std::io::Write;
    // A log that cannot be written must not stop the service.
    let _ = writeln!(std::io::stderr(), "{} {service}: {message}", jiff::Timestamp::now());
}
