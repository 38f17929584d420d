//! A kubelet that runs nothing: it tells what it was asked, over the same doors as a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{KUBELET_TOKEN, Server};

pub struct FakeKubelet {
    address: SocketAddr,
    _stop: DropGuard,
}

impl FakeKubelet {
    /// Starts it on loopback with a certificate of the server's authority.
    pub async fn start(server: &Server) -> Self {
        let issued = server.authority.issue("system:node:n1", &["127.0.0.1".to_owned()]).unwrap();
        let config = ServerConfig::builder_with_provider(std::sync::Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = stopped.cancelled() => return,
                };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(accepted).await else {
                        return;
                    };
                    let service = TowerToHyperService::new(router());
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, _stop: stop.drop_guard() }
    }

    /// Makes it the node `n1`.
    pub async fn register(&self, server: &Server) {
        let node = json!({"metadata": {"name": "n1"}, "status": {
            "addresses": [{"type": "InternalIP", "address": self.address.ip().to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.address.port()}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        server.post("/api/v1/nodes", &node).await;
    }
}

fn router() -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .route("/exec/{namespace}/{pod}/{container}", get(exec))
        .route("/attach/{namespace}/{pod}/{container}", get(exec))
        .layer(middleware::from_fn(check))
}

async fn check(request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization").and_then(|header| header.to_str().ok());
    if header != Some(&format!("Bearer {KUBELET_TOKEN}")) {
        return (axum::http::StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    }
    next.run(request).await
}

async fn log(Path((namespace, pod, container)): Path<(String, String, String)>, RawQuery(query): RawQuery) -> String {
    format!("log of {namespace}/{pod}/{container} {}\n", query.unwrap_or_default())
}

async fn exec(RawQuery(query): RawQuery, upgrade: WebSocketUpgrade) -> Response {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]).on_upgrade(|socket| run(socket, query))
}

async fn run(mut socket: WebSocket, query: Vec<(String, String)>) {
    let command: Vec<&String> = query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value).collect();
    let mut status = json!({"metadata": {}, "status": "Success"});
    if query.iter().any(|(key, value)| key == "input" && value == "1") {
        // Gives back what comes in, until the client closes its side.
        while let Some(Ok(message)) = socket.recv().await {
            match message {
                Message::Binary(data) if data.first() == Some(&0) && data.len() > 1 => {
                    let mut back = data.to_vec();
                    back[0] = 1;
                    socket.send(Message::Binary(back.into())).await.unwrap();
                }
                Message::Binary(data) if data.first() == Some(&255) => break,
                _ => {}
            }
        }
    } else if command.first().is_some_and(|word| *word == "exit") {
        status = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": command[1]}]}});
    } else {
        let mut told = vec![1];
        told.extend(format!("ran {command:?}\n").bytes());
        socket.send(Message::Binary(told.into())).await.unwrap();
    }
    let mut end = vec![3];
    end.extend(status.to_string().bytes());
    socket.send(Message::Binary(end.into())).await.unwrap();
    let close = CloseFrame { code: 1000, reason: "".into() };
    let _ = socket.send(Message::Close(Some(close))).await;
    // The connection stays until the client has read the end.
    while let Some(Ok(_)) = socket.recv().await {}
}
