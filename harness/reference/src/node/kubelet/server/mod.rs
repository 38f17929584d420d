//! The kubelet's own server on port 10250: who may come in, and which path leads where.

mod answer;
mod attach;
mod channel;
mod exec;
mod log;
mod session;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::KubeletConfig;
use super::context::NodeContext;
use super::journal::journal;
use answer::refusal;

/// How long a client may take for the handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at the same time; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// The server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on port {port}: {cause}")]
    Listen { port: u16, cause: io::Error },
    #[error("cannot use the serving certificate: {0}")]
    Certificate(String),
}

/// A bound server that does not serve yet.
pub struct Listening {
    listener: tokio::net::TcpListener,
    tls: TlsAcceptor,
}

/// What the paths share.
#[derive(Clone)]
pub(super) struct Shared {
    pub node: Arc<NodeContext>,
    pub pods: Store<Pod>,
}

impl Listening {
    /// Listens on all addresses of the node, of both families where the kernel has them.
    pub fn bind(config: &KubeletConfig) -> Result<Self, ServerError> {
        let port = config.port;
        let unheard = |cause| ServerError::Listen { port, cause };
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = match TcpListener::bind(both) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(unheard(error)),
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(unheard)?,
            Ok(listener) => listener,
        };
        listener.set_nonblocking(true).map_err(unheard)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(unheard)?;
        Ok(Self { listener, tls: acceptor(config)? })
    }

    /// Serves until the kubelet ends.
    pub async fn serve(self, node: Arc<NodeContext>, pods: Store<Pod>) {
        let shutdown = node.shutdown.clone();
        let paths = paths(Shared { node, pods });
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = async {
                    let place = Arc::clone(&places).acquire_owned().await;
                    (self.listener.accept().await, place)
                } => accepted,
            };
            let (Ok((stream, _)), place) = accepted else {
                // Out of descriptors, most likely: taking a breath lets others end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (tls, paths, shutdown) = (self.tls.clone(), paths.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = converse(stream, tls, paths) => {}
                    () = shutdown.cancelled() => {}
                }
                drop(place);
            });
        }
    }
}

fn acceptor(config: &KubeletConfig) -> Result<TlsAcceptor, ServerError> {
    let chain = CertificateDer::pem_slice_iter(config.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ServerError::Certificate(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(config.key_pem.as_bytes())
        .map_err(|error| ServerError::Certificate(error.to_string()))?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|error| ServerError::Certificate(error.to_string()))?;
    // Terminals need the upgrade that only HTTP/1.1 has.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

async fn converse(stream: TcpStream, tls: TlsAcceptor, paths: Router) {
    // Keystrokes and small answers should not wait for company.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else {
        return;
    };
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let service = TowerToHyperService::new(paths);
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        let is_quiet = error
            .downcast_ref::<hyper::Error>()
            .is_some_and(|error| error.is_incomplete_message() || error.is_closed() || error.is_timeout());
        if !is_quiet {
            journal(format_args!("a connection to the kubelet failed: {error}"));
        }
    }
}

fn paths(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(list_pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log::container_logs))
        .route("/exec/{namespace}/{pod}/{container}", any(exec::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(attach::attach))
        .route("/portForward/{namespace}/{pod}", any(forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(forward))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(middleware::from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

async fn admit(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if is_authentic(request.headers(), &shared.node.config.kubelet_token) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "Unauthorized").into_response()
}

fn is_authentic(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim).unwrap_or_default();
    // In a time that does not depend on how much of it is right.
    let differing = shown.bytes().zip(token.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    !token.is_empty() && shown.len() == token.len() && differing == 0
}

async fn list_pods(State(shared): State<Shared>) -> Response {
    let pods = shared.pods.state();
    let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
    axum::Json(list).into_response()
}

async fn forward() -> Response {
    let text = "the reference distribution forwards no ports: probe from inside a pod instead";
    refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented", text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Some("Bearer secret"), true)]
    #[case(Some("Bearer secre"), false)]
    #[case(Some("Bearer secret2"), false)]
    #[case(Some("Basic secret"), false)]
    #[case(Some("Bearer "), false)]
    #[case(None, false)]
    fn only_the_token_opens_the_door(#[case] shown: Option<&str>, #[case] expected: bool) {
        let mut headers = HeaderMap::new();
        if let Some(shown) = shown {
            headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
        }
        assert_eq!(is_authentic(&headers, "secret"), expected);
        assert!(!is_authentic(&headers, ""), "an empty token must not open anything");
    }
}
