//! Cluster DNS as a process: it finds the API, follows it, answers, and ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use api_support::Server;
use serde_json::json;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};

const DEADLINE: Duration = Duration::from_secs(20);
/// Makes this program cluster DNS, with these arguments.
const ARGUMENTS: &str = "CKNET_TEST_DNS";

#[test]
#[ignore = "this is the process that the other tests start"]
fn process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let code = cknet_reference::dns::main(arguments.split(' ').map(str::to_owned));
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

/// A running process; killed when the test ends before it does.
struct Dns {
    child: Child,
    address: SocketAddr,
    ready: SocketAddr,
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections that others open on this machine come from 127.0.0.1: their ports cannot be in the way here.
fn free_port() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.53.2:0").unwrap();
    udp.local_addr().unwrap()
}

fn start(server: &Server, kubeconfig: &std::path::Path) -> Dns {
    let [address, health, ready] = [free_port(), free_port(), free_port()];
    // The address in the file leads nowhere: as in a pod, the service in front of the API has to be used.
    let text = server.kubeconfig().replace(&server.address.to_string(), "localhost:1");
    std::fs::write(kubeconfig, text).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process", "--ignored"])
        .env(ARGUMENTS, format!("--listen {address} --health {health} --ready {ready}"))
        .env("KUBECONFIG", kubeconfig)
        .env("KUBERNETES_SERVICE_HOST", server.address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", server.address.port().to_string())
        .spawn()
        .unwrap();
    Dns { child, address, ready }
}

/// The addresses of `name` and how having none is put; nothing while nobody answers.
fn ask(server: SocketAddr, name: &str) -> Option<(RCODE, Vec<Ipv4Addr>)> {
    let mut packet = Packet::new_query(1);
    let name = Name::new(name).unwrap();
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(server).unwrap();
    socket.send(&packet.build_bytes_vec().unwrap()).ok()?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).ok()?;
    let reply = Packet::parse(&buffer[..length]).unwrap();
    let addresses = reply.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::A(address) => Some(Ipv4Addr::from(address.address)),
        _ => None,
    });
    Some((reply.rcode(), addresses.collect()))
}

async fn becomes(dns: &Dns, name: &str, wanted: (RCODE, Vec<Ipv4Addr>)) {
    let (address, began) = (dns.address, Instant::now());
    loop {
        let question = name.to_owned();
        let found = tokio::task::spawn_blocking(move || ask(address, &question)).await.unwrap();
        if found.as_ref() == Some(&wanted) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{name}: {found:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ready(dns: &Dns) -> bool {
    let Ok(stream) = tokio::net::TcpStream::connect(dns.ready).await else { return false };
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("/ready").header("host", "x").body(String::new()).unwrap();
    sender.send_request(request).await.unwrap().status() == 200
}

#[tokio::test]
async fn names_follow_the_cluster() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let mut dns = start(&server, &directory.path().join("kubelet.conf"));
    let first = |last| Ipv4Addr::new(10, 252, 0, last);
    becomes(&dns, "kubernetes.default.svc.cluster.local", (RCODE::NoError, vec![first(1)])).await;
    assert!(ready(&dns).await);

    let name = "web.default.svc.cluster.local";
    becomes(&dns, name, (RCODE::NameError, vec![])).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.252.0.77", "ports": [{"port": 80}]}});
    assert_eq!(server.post("/api/v1/namespaces/default/services", &service).await.code, 201);
    becomes(&dns, name, (RCODE::NoError, vec![first(77)])).await;
    assert_eq!(server.delete("/api/v1/namespaces/default/services/web").await.code, 200);
    becomes(&dns, name, (RCODE::NameError, vec![])).await;

    let pid = nix::unistd::Pid::from_raw(i32::try_from(dns.child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || dns.child.wait().unwrap());
    let status = tokio::time::timeout(DEADLINE, ended).await.expect("it ends when told to").unwrap();
    assert!(status.success(), "{status}");
}
