//! Hostile clients at the forwarded port of a cluster: each gets a proper answer, and the cluster goes on.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::workplace::{SOON, Workplace};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[(Needs::Namespaces, "api::hostile_clients_do_not_disturb_the_cluster", hostile_clients)];

/// Connections that watch at the same time.
const WATCHES: usize = 1000;

fn hostile_clients() {
    let workplace = Workplace::new();
    workplace.run(["up", "--workers", "1"]).expect(0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::of(&workplace);
        let all = timeout(Duration::from_secs(300), server.abuse()).await;
        all.unwrap_or_else(|_| panic!("the server kept a client waiting for ever"));
    });
    runtime.shutdown_background();
    workplace.run(["status"]).expect(0);
    workplace.run(["down"]).expect(0);
    workplace.await_nothing_left();
}

/// The API server as a client without manners sees it.
struct Server {
    address: SocketAddr,
    connector: TlsConnector,
    token: String,
}

struct Answer {
    code: u16,
    head: String,
    body: Value,
}

impl Answer {
    /// Asserts that this is a failure told the way Kubernetes tells it.
    fn is_failure(&self, code: u16, reason: &str) {
        assert_eq!(self.code, code, "{}{}", self.head, self.body);
        assert_eq!((&self.body["kind"], &self.body["status"]), (&"Status".into(), &"Failure".into()), "{}", self.body);
        assert_eq!((&self.body["code"], &self.body["reason"]), (&code.into(), &reason.into()), "{}", self.body);
    }
}

impl Server {
    fn of(workplace: &Workplace) -> Self {
        let runs = workplace.runs();
        let kubeconfig = fs::read_to_string(runs[0].join("up.kubeconfig")).unwrap();
        let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let address = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        let authority = BASE64_STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap().to_string();
        Self { address, connector: TlsConnector::from(Arc::new(config)), token }
    }

    async fn abuse(&self) {
        self.is_well().await;
        self.bad_requests().await;
        self.is_well().await;
        self.a_large_body().await;
        self.is_well().await;
        self.noise().await;
        self.is_well().await;
        self.slow_clients().await;
        self.is_well().await;
        self.many_watches().await;
        self.is_well().await;
        self.vanishing_exec().await;
        self.is_well().await;
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        self.connector.connect(name, tcp).await.unwrap_or_else(|error| panic!("no TLS with the server: {error}"))
    }

    fn authorized(&self, request: &str, body: &str) -> String {
        let (token, length) = (&self.token, body.len());
        format!(
            "{request}\r\nHost: cknet\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    /// Says something and reads the whole answer.
    async fn say(&self, text: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.say(&self.authorized(&format!("GET {path} HTTP/1.1"), "")).await
    }

    /// Everybody else is served: the list comes, the nodes are Ready, and something can be written.
    async fn is_well(&self) {
        let nodes = timeout(SOON, self.get("/api/v1/nodes")).await.unwrap();
        assert_eq!((nodes.code, nodes.body["items"].as_array().map(Vec::len)), (200, Some(2)), "{}", nodes.body);
        for node in nodes.body["items"].as_array().unwrap() {
            let conditions = node["status"]["conditions"].as_array().unwrap();
            let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            assert!(ready, "{node}");
        }
        let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"trial"}}"#;
        let post = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nContent-Type: application/json";
        assert_eq!(self.say(&self.authorized(post, map)).await.code, 201);
        let delete = "DELETE /api/v1/namespaces/default/configmaps/trial HTTP/1.1";
        assert_eq!(self.say(&self.authorized(delete, "")).await.code, 200);
    }

    async fn bad_requests(&self) {
        let post = "POST /api/v1/namespaces HTTP/1.1\r\nContent-Type: application/json";
        self.say(&self.authorized(post, "{\"kind\": ")).await.is_failure(400, "BadRequest");
        self.say(&self.authorized(post, "\0\x01\x7f")).await.is_failure(400, "BadRequest");
        let deep = "[".repeat(100_000);
        self.say(&self.authorized(post, &deep)).await.is_failure(400, "BadRequest");
        let get = "GET /api/v1/nodes HTTP/1.1\r\nHost: cknet\r\nConnection: close\r\n";
        self.say(&format!("{get}Authorization: Bearer wrong\r\n\r\n")).await.is_failure(401, "Unauthorized");
        // Nobody in particular may ask and may not see anything, as on a real cluster.
        self.say(&format!("{get}\r\n")).await.is_failure(403, "Forbidden");
        self.get("/api/v1/nothing").await.is_failure(404, "NotFound");
        let old =
            self.say(&format!("GET /api/v1/nodes HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", self.token)).await;
        assert_eq!(old.code, 200);
        assert!(!old.head.to_lowercase().contains("chunked"), "HTTP/1.0 knows no chunks: {}", old.head);
    }

    /// 50 MB are refused, and not after all of them were kept.
    async fn a_large_body(&self) {
        let stream = self.connect().await;
        let (mut from, mut to) = tokio::io::split(stream);
        let head = format!(
            "POST /api/v1/namespaces HTTP/1.1\r\nHost: cknet\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.token, 50_000_000
        );
        let writing = tokio::spawn(async move {
            let chunk = vec![b' '; 100_000];
            let mut sent = to.write_all(head.as_bytes()).await;
            for _ in 0..500 {
                if sent.is_err() {
                    break;
                }
                sent = to.write_all(&chunk).await;
            }
        });
        answer(&mut from).await.is_failure(413, "RequestEntityTooLarge");
        writing.abort();
    }

    /// Bytes that are no TLS, and TLS that stops in the middle.
    async fn noise(&self) {
        for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0x16, 3, 1, 0x40, 0], &[]] {
            let mut tcp = TcpStream::connect(self.address).await.unwrap();
            tcp.write_all(noise).await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // An alert, a plain refusal or a reset: anything but silence.
            let _ = timeout(SOON, tcp.read_to_end(&mut rest)).await.unwrap();
        }
        // HTTP inside TLS that is none.
        let mut stream = self.connect().await;
        stream.write_all(&[0, 255, 13, 10].repeat(100)).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    }

    /// Fifty clients that say one byte each 100 ms hold nobody up.
    async fn slow_clients(&self) {
        let text = self.authorized("GET /api/v1/nodes HTTP/1.1", "");
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(self.connect().await);
        }
        for byte in text.bytes().take(15) {
            for client in &mut clients {
                client.write_all(&[byte]).await.unwrap();
                client.flush().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.is_well().await;
        // One of them gets to its end; the others vanish.
        let mut last = clients.pop().unwrap();
        last.write_all(&text.as_bytes()[15..]).await.unwrap();
        assert_eq!(answer(&mut last).await.code, 200);
    }

    async fn many_watches(&self) {
        let text = self.authorized("GET /api/v1/configmaps?watch=true HTTP/1.1", "");
        let mut watches = Vec::new();
        for _ in 0..WATCHES {
            let mut stream = self.connect().await;
            stream.write_all(text.as_bytes()).await.unwrap();
            watches.push(stream);
        }
        // What changes is told to each of them.
        self.is_well().await;
        for (number, watch) in watches.iter_mut().enumerate() {
            let mut told = String::new();
            while !told.contains("\"DELETED\"") {
                let mut buffer = vec![0; 16 * 1024];
                let read = timeout(SOON, watch.read(&mut buffer)).await;
                let length = read.unwrap_or_else(|_| panic!("watch {number} was not told: {told}")).unwrap();
                assert_ne!(length, 0, "watch {number} ended: {told}");
                told.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        }
        drop(watches);
    }

    async fn vanishing_exec(&self) {
        let pods = self.get("/api/v1/namespaces/kube-system/pods").await;
        let names = pods.body["items"].as_array().unwrap().iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        let dns = names.into_iter().find(|name| name.starts_with("coredns")).unwrap().to_string();
        for _ in 0..20 {
            let mut stream = self.connect().await;
            let path = format!(
                "/api/v1/namespaces/kube-system/pods/{dns}/exec?command=sleep&command=25.4712&stdout=true&stderr=true"
            );
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: cknet\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
                self.token
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
            assert_eq!(&head, b"HTTP/1.1 101");
            // Gone without a word, in the middle of a frame.
            let _ = stream.write_all(&[0x82, 0xfe]).await;
            let (tcp, _) = stream.into_inner();
            tcp.set_zero_linger().unwrap();
        }
    }
}

async fn answer(stream: &mut (impl AsyncReadExt + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    // The end of a stream that is not closed politely is an error.
    while let Ok(length @ 1..) = timeout(SOON, stream.read(&mut buffer)).await.unwrap() {
        bytes.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: `{text}`"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    // Chunks have their lengths around them.
    let json = rest.find('{').zip(rest.rfind('}')).map(|(start, end)| &rest[start..=end]).unwrap_or_default();
    let body = serde_json::from_str(json).unwrap_or(Value::Null);
    Answer { code, head: head.to_string(), body }
}
