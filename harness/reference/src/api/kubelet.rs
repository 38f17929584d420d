//! The way to a node's kubelet: logs, and the streams of exec, attach and port-forward.
//! Streams are passed on byte by byte once both sides have agreed; what is in them is not looked at.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use form_urlencoded::Serializer;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::answer::{self, Answer};
use super::cluster::Cluster;
use super::kinds::{self, KINDS, Sub};
use super::request::{Query, Target};
use super::status::Refusal;
use super::{ApiError, tls};

/// How long a kubelet may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a kubelet may take to begin its answer.
const BEGIN: Duration = Duration::from_secs(30);
/// The port of a kubelet that does not tell its own.
const PORT: u16 = 10_250;
/// An error message of a kubelet is read up to this length, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// Headers that make up the handshake of a stream.
const HANDSHAKE: &[&str] = &[
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
];

/// What it takes to be let in by kubelets.
pub struct KubeletDoor {
    connector: TlsConnector,
    token: String,
}

type Sender = SendRequest<Empty<Bytes>>;

impl KubeletDoor {
    /// Trusts kubelets that the authority has signed, and shows them `token`.
    pub fn new(ca_pem: &str, token: String) -> Result<Self, ApiError> {
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(ca_pem)? {
            roots.add(certificate).map_err(ApiError::Tls)?;
        }
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(ApiError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), token })
    }

    async fn connect(&self, address: SocketAddr) -> Result<Sender, String> {
        let late = || format!("dial tcp {address}: i/o timeout");
        let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(|_| late())?;
        let stream = stream.map_err(|error| format!("dial tcp {address}: connect: {}", plain(&error)))?;
        // Keystrokes of a terminal should not wait for each other.
        let _ = stream.set_nodelay(true);
        let name = ServerName::from(address.ip());
        let stream = timeout(CONNECT, self.connector.connect(name, stream)).await.map_err(|_| late())?;
        let stream = stream.map_err(|error| format!("tls: {error}"))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn send(&self, address: SocketAddr, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, String> {
        let mut sender = self.connect(address).await?;
        let mut request =
            Request::builder().method(Method::GET).uri(path).body(Empty::new()).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let host = address.to_string().parse().map_err(|_| "the address is no host".to_owned())?;
        request.headers_mut().insert(HOST, host);
        let token = format!("Bearer {}", self.token).parse().map_err(|_| "the token is no header".to_owned())?;
        request.headers_mut().insert(AUTHORIZATION, token);
        let answered = timeout(BEGIN, sender.send_request(request)).await;
        answered
            .map_err(|_| "net/http: timeout awaiting response headers".to_owned())?
            .map_err(|error| error.to_string())
    }
}

/// The words of the operating system without Rust's error number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Where a container is.
struct Place {
    address: SocketAddr,
    /// `/NAMESPACE/POD/CONTAINER`.
    path: String,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn container(pod: &Value, asked: Option<&str>, name: &str) -> Result<String, Refusal> {
    let spec = &pod["spec"];
    let all = ["containers", "initContainers", "ephemeralContainers"];
    let named = |field: &str| {
        list(&spec[field])
            .iter()
            .filter_map(|container| container["name"].as_str())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match asked {
        Some(asked) if all.iter().any(|field| named(field).iter().any(|known| known == asked)) => Ok(asked.to_owned()),
        Some(asked) => Err(Refusal::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None => {
            let main = named("containers");
            let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
            match (main.as_slice(), annotated) {
                ([only], _) => Ok(only.clone()),
                (many, Some(chosen)) if many.iter().any(|known| known == chosen) => Ok(chosen.to_owned()),
                (many, _) => {
                    let mut message = format!(
                        "a container name must be specified for pod {name}, choose one of: [{}]",
                        many.join(" ")
                    );
                    let init = named("initContainers");
                    if !init.is_empty() {
                        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                    }
                    Err(Refusal::bad_request(message))
                }
            }
        }
    }
}

/// Finds the node of a pod; none if it has none yet.
fn place(cluster: &Cluster, target: &Target, query: &Query) -> Result<Option<Place>, Refusal> {
    let name = target.named()?;
    let pod = cluster
        .store
        .get(target.shelf(), target.place(), name)
        .ok_or_else(|| Refusal::not_found(target.kind(), name))?;
    let mut path = format!("/{}/{name}", target.place());
    if target.sub != Some(Sub::PortForward) {
        path = format!("{path}/{}", container(&pod.value, query.get("container"), name)?);
    }
    let Some(node) = pod.value["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) else {
        return Ok(None);
    };
    let nodes = kinds::core_index("nodes");
    let found = cluster.store.get(nodes, "", node).ok_or_else(|| Refusal::not_found(&KINDS[nodes], node))?;
    let status = &found.value["status"];
    let internal = list(&status["addresses"]).iter().find(|address| address["type"] == "InternalIP");
    let ip: Option<IpAddr> =
        internal.and_then(|address| address["address"].as_str()).and_then(|text| text.parse().ok());
    let ip = ip.ok_or_else(|| {
        Refusal::kubelet_unreachable(format!("no preferred addresses found for node {node:?}; known addresses: []"))
    })?;
    let port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok(Some(Place { address: SocketAddr::new(ip, port.filter(|port| *port != 0).unwrap_or(PORT)), path }))
}

/// Answers with a container's log, as it comes.
pub async fn log(cluster: &Cluster, target: &Target, query: &Query) -> Result<Answer, Refusal> {
    // A pod that is nowhere yet has said nothing.
    let Some(place) = place(cluster, target, query)? else {
        return Ok(answer::text(200, ""));
    };
    let path = format!("/containerLogs{}{}", place.path, log_query(query));
    let answered = cluster.kubelets.send(place.address, &path, HeaderMap::new()).await;
    let answered = answered
        .map_err(|why| Refusal::kubelet_unreachable(format!("Get \"https://{}{path}\": {why}", place.address)))?;
    if !answered.status().is_success() {
        return Err(told(answered).await);
    }
    let body = answered.into_body().map_err(std::io::Error::other).boxed_unsync();
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain"));
    Ok(answer)
}

fn log_query(query: &Query) -> String {
    let mut text = Serializer::new(String::new());
    for name in ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"] {
        for value in query.all(name) {
            text.append_pair(name, value);
        }
    }
    let text = text.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

/// What a kubelet says it refuses.
async fn told(answered: Response<Incoming>) -> Refusal {
    let code = answered.status().as_u16();
    let body = Limited::new(answered.into_body(), LONGEST_ERROR).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let parsed: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let message = parsed["message"].as_str().map_or_else(|| text.clone(), str::to_owned);
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    Refusal { code, reason, message, details: None }
}

/// The query as kubelets write it.
fn kubelet_query(sub: Sub, query: &Query) -> String {
    let mut text = Serializer::new(String::new());
    if sub == Sub::PortForward {
        for port in query.all("ports").chain(query.all("port")) {
            text.append_pair("port", port);
        }
        return text.finish();
    }
    for (asked, said) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.is_true(asked) {
            text.append_pair(said, "1");
        }
    }
    for word in query.all("command") {
        text.append_pair("command", word);
    }
    text.finish()
}

/// Joins a client's stream with a kubelet's.
pub async fn stream(
    cluster: &Cluster,
    target: &Target,
    query: &Query,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let (sub, verb) = match target.sub {
        Some(Sub::Attach) => (Sub::Attach, "attach"),
        Some(Sub::PortForward) => (Sub::PortForward, "portForward"),
        _ => (Sub::Exec, "exec"),
    };
    let name = target.named()?;
    let place = place(cluster, target, query)?;
    let place = place.ok_or_else(|| Refusal::bad_request(format!("pod {name} does not have a host assigned")))?;
    if !request.headers().contains_key(UPGRADE) {
        return Err(Refusal::bad_request("Upgrade request required"));
    }
    let path = format!("/{verb}{}?{}", place.path, kubelet_query(sub, query));
    let answered = cluster.kubelets.send(place.address, &path, handshake(request.headers())).await;
    let mut answered = answered.map_err(|why| Refusal::kubelet_unreachable(format!("error dialing backend: {why}")))?;
    if answered.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(told(answered).await);
    }
    let headers = handshake(answered.headers());
    let kubelet = hyper::upgrade::on(&mut answered);
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let (Ok(client), Ok(kubelet)) = tokio::join!(client, kubelet) {
            // Either side may drop the connection; that ends the stream and is nobody's error.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(kubelet)).await;
        }
    });
    let mut answer = Response::new(answer::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    Ok(answer)
}

fn handshake(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in HANDSHAKE {
        for value in headers.get_all(*name) {
            kept.append(HeaderName::from_static(name), value.clone());
        }
    }
    kept
}
