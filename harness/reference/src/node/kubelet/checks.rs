//! Makes one probe of a container, from the node, as a kubelet does: a command inside, an HTTP request or a
//! connection. The sentences of its failures are those that people know from events.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use cknet_kernel::child::Exit;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::launch::{Program, Streams, launch};
use super::registry::Running;

/// What of an answer or an output is looked at, in bytes.
const LARGEST_ANSWER: usize = 10 * 1024;

/// Why a probe did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    /// It could not be made, rather than having been answered badly.
    pub errored: bool,
}

impl Failure {
    fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), errored: false }
    }

    fn errored(message: impl Into<String>) -> Self {
        Self { message: message.into(), errored: true }
    }
}

/// Probes one container.
pub struct Checker {
    /// The address of the pod, that of the node for a pod on the node's network.
    pub address: Ipv4Addr,
    pub inside: Running,
    /// The named ports of the container.
    pub ports: Vec<(String, u16)>,
}

impl Checker {
    pub fn new(address: Ipv4Addr, inside: Running, container: &Container) -> Self {
        let ports = container
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)));
        Self { address, inside, ports: ports.collect() }
    }

    /// Makes `probe` once.
    pub async fn check(&self, probe: &Probe, timeout: Duration) -> Result<(), Failure> {
        if let Some(exec) = &probe.exec {
            return self.exec(exec, timeout).await;
        }
        if let Some(http) = &probe.http_get {
            return self.http(http, timeout).await;
        }
        match &probe.tcp_socket {
            Some(tcp) => self.tcp(tcp, timeout).await,
            None => Err(Failure::errored("the reference distribution probes by exec, httpGet and tcpSocket only")),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, Failure> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number)
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| Failure::errored(format!("invalid port number: {number}"))),
            IntOrString::String(name) => self
                .ports
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| *number)
                .ok_or_else(|| Failure::errored(format!("couldn't find port: {name}"))),
        }
    }

    /// The host of the spec, which may only be an address, or the pod's own.
    fn host(&self, host: Option<&str>) -> Result<IpAddr, Failure> {
        match host.filter(|host| !host.is_empty()) {
            None => Ok(self.address.into()),
            Some("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
            Some(host) => host.parse().map_err(|_| Failure::errored(format!("`{host}` is not an address"))),
        }
    }

    async fn tcp(&self, tcp: &TCPSocketAction, timeout: Duration) -> Result<(), Failure> {
        let address = SocketAddr::new(self.host(tcp.host.as_deref())?, self.port(&tcp.port)?);
        match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::failed(dial_error(address, &error))),
            Err(_) => Err(Failure::failed(format!("dial tcp {address}: i/o timeout"))),
        }
    }

    async fn http(&self, http: &HTTPGetAction, timeout: Duration) -> Result<(), Failure> {
        if http.scheme.as_deref().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
            return Err(Failure::errored("the reference distribution probes over plain HTTP only"));
        }
        let address = SocketAddr::new(self.host(http.host.as_deref())?, self.port(&http.port)?);
        let path = http.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let url = format!("http://{address}{path}");
        let status = match tokio::time::timeout(timeout, get(address, &path, http)).await {
            Ok(Ok(status)) => status,
            Ok(Err(problem)) => return Err(Failure::failed(format!("Get \"{url}\": {problem}"))),
            Err(_) => {
                let text = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
                return Err(Failure::failed(format!("Get \"{url}\": {text}")));
            }
        };
        if (200..400).contains(&status) {
            return Ok(());
        }
        Err(Failure::failed(format!("HTTP probe failed with statuscode: {status}")))
    }

    async fn exec(&self, exec: &ExecAction, timeout: Duration) -> Result<(), Failure> {
        let program = Program {
            argv: exec.command.clone().unwrap_or_default(),
            variables: self.inside.variables.clone(),
            folder: self.inside.folder.clone(),
            executable: PathBuf::clone(&self.inside.executable),
        };
        let streams = Streams::Pipes { stdin: false, stdout: true, stderr: false };
        let started = launch(&self.inside.sandbox, program, streams).await;
        let started = started.map_err(|error| Failure::errored(error.to_string()))?;
        let stdout = started.stdout.and_then(|stdout| tokio::process::ChildStdout::from_std(stdout).ok());
        let mut output = Vec::new();
        let finished = tokio::time::timeout(timeout, async {
            if let Some(stdout) = stdout {
                let _ = stdout.take(LARGEST_ANSWER as u64).read_to_end(&mut output).await;
            }
            started.child.ended().await
        });
        if finished.await.is_err() {
            // The signal goes to the group, and nothing outlives SIGKILL.
            let _ = started.child.signal(Signal::SIGKILL);
            let _ = started.child.ended().await;
            let _ = started.child.reap();
            return Err(Failure::failed(format!("command timed out: \"{}\" timed out after {timeout:?}", words(exec))));
        }
        match started.child.reap() {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(_) => Err(Failure::failed(String::from_utf8_lossy(&output).trim_end())),
            Err(error) => Err(Failure::errored(error.to_string())),
        }
    }
}

fn words(exec: &ExecAction) -> String {
    exec.command.as_deref().unwrap_or_default().join(" ")
}

fn dial_error(address: SocketAddr, error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_string(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_string(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {text}")
}

/// The status of one request; the connection is closed afterwards.
async fn get(address: SocketAddr, path: &str, http: &HTTPGetAction) -> Result<u16, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| dial_error(address, &error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the sender, which is dropped below.
    tokio::spawn(connection);
    let headers = http.http_headers.iter().flatten();
    let has_host = headers.clone().any(|header| header.name.eq_ignore_ascii_case("host"));
    let mut request = Request::get(path).header("user-agent", "kube-probe/1.33").header("accept", "*/*");
    request = request.header("connection", "close");
    if !has_host {
        request = request.header("host", address.to_string());
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    // The body is of no interest, but an answer that is cut off disturbs some servers.
    let _ = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
    Ok(status)
}
