//! A server on loopback for the tests of the API: started, asked over real connections, stopped at the end.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod kubelet;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use cknet_reference::api::pki::Authority;
use cknet_reference::api::{ApiConfig, ApiServer, ServerTls, TokenUser};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const TOKEN: &str = "0123456789abcdef";
pub const KUBELET_TOKEN: &str = "kubelet-secret";
pub const SERVICE_CIDR: &str = "10.252.0.0/16";

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub authority: Authority,
    _stop: DropGuard,
}

/// An answer that is all there.
pub struct Answer {
    pub code: u16,
    pub warnings: Vec<String>,
    pub body: Value,
    pub text: String,
}

impl Server {
    /// Starts a server on a free port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::create("test-ca").unwrap();
        let sans = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let issued = authority.issue("kube-apiserver", &sans).unwrap();
        let config = ApiConfig {
            listeners: vec![listener],
            tls: ServerTls {
                ca_pem: authority.ca_pem().to_owned(),
                cert_pem: issued.cert_pem,
                key_pem: issued.key_pem,
            },
            tokens: vec![TokenUser {
                token: TOKEN.to_owned(),
                user: "admin".to_owned(),
                groups: vec!["system:masters".to_owned()],
            }],
            service_cidr: SERVICE_CIDR.parse().unwrap(),
            kubelet_token: KUBELET_TOKEN.to_owned(),
            advertise: address,
        };
        let stop = CancellationToken::new();
        let server = ApiServer::new(config).unwrap();
        tokio::spawn(server.serve(stop.clone()));
        Self { address, authority, _stop: stop.drop_guard() }
    }

    /// A kubeconfig for this server.
    pub fn kubeconfig(&self) -> String {
        let ca = serde_json::to_value(k8s_openapi::ByteString(self.authority.ca_pem().as_bytes().to_vec())).unwrap();
        let address = self.address;
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: t\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {}\nusers:\n- name: t\n  user:\n    token: {TOKEN}\ncontexts:\n- name: t\n  \
             context: {{cluster: t, user: t, namespace: default}}\ncurrent-context: t\n",
            ca.as_str().unwrap()
        )
    }

    /// A client of the `kube` crate.
    pub async fn client(&self) -> kube::Client {
        let config: kube::config::Kubeconfig = serde_saphyr::from_str(&self.kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// A connection of its own.
    pub async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// Sends a request with headers and returns the answer's head and body as they come.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Incoming> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", "localhost").header("user-agent", "curl/8");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let mut connection = self.connect().await;
        let answer = tokio::time::timeout(Duration::from_secs(20), connection.send_request(request)).await;
        answer.expect("an answer within 20 s").unwrap()
    }

    /// Sends a request as the administrator and waits for the whole answer.
    pub async fn ask(&self, method: &str, path: &str, media: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let mut headers = vec![("authorization", bearer.as_str())];
        if !media.is_empty() {
            headers.push(("content-type", media));
        }
        whole(self.send(method, path, &headers, body.as_bytes()).await).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "application/json", &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, "application/json", &body.to_string()).await
    }

    pub async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, "application/merge-patch+json", &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "", "").await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Watch {
        let bearer = format!("Bearer {TOKEN}");
        let answer = self.send("GET", path, &[("authorization", &bearer)], b"").await;
        assert_eq!(answer.status().as_u16(), 200);
        Watch { body: answer.into_body(), left: Vec::new() }
    }
}

/// Reads an answer to its end.
pub async fn whole(answer: Response<Incoming>) -> Answer {
    let code = answer.status().as_u16();
    let warnings = answer.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    let body = tokio::time::timeout(Duration::from_secs(20), answer.into_body().collect()).await;
    let text = String::from_utf8(body.expect("a whole body within 20 s").unwrap().to_bytes().to_vec()).unwrap();
    Answer { code, warnings, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
}

/// A watch that is read event by event.
pub struct Watch {
    body: Incoming,
    left: Vec<u8>,
}

impl Watch {
    /// The next event, or none when the server has ended the watch.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.left.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.left.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await;
            let frame = frame.expect("an event within 20 s")?;
            self.left.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub async fn told(&mut self) -> String {
        let event = self.next().await.unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }
}
