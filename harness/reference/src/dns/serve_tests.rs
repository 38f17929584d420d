//! Both sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use serde_json::json;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};

const DEADLINE: Duration = Duration::from_secs(10);

fn question(name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(42);
    let name = Name::new(name).unwrap();
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().unwrap()
}

async fn started(upstreams: Vec<SocketAddr>) -> SocketAddr {
    // Connections that others open on this machine come from 127.0.0.1: their ports cannot be in the way here.
    let port = UdpSocket::bind("127.0.53.1:0").await.unwrap().local_addr().unwrap();
    let options = Options { listen: port, ..Options::default() };
    let server = Arc::new(Server::with_upstreams(&options, upstreams));
    assert!(!server.is_ready());
    let early = server.answer(&question("web.shop.svc.cluster.local"), Transport::Udp);
    assert!(matches!(early, Reply::Message(early) if early[3] & 0xf == 2));
    let service = serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.0.0.5"}}))
    .unwrap();
    server.set_index(Index::build("cluster.local", &[Arc::new(service)], &[], &[]));
    assert!(server.is_ready());
    listen(server, port).await.unwrap();
    port
}

async fn over_udp(server: SocketAddr, name: &str) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(DEADLINE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

#[tokio::test]
async fn both_transports_answer() {
    let server = started(Vec::new()).await;
    let datagram = over_udp(server, "web.shop.svc.cluster.local").await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    for _ in 0..2 {
        forward::write(&mut stream, &question("web.shop.svc.cluster.local")).await.unwrap();
        let message = tokio::time::timeout(DEADLINE, forward::read(&mut stream)).await.unwrap().unwrap();
        assert_eq!(message, datagram);
    }
    assert_eq!(Packet::parse(&datagram).unwrap().answers.len(), 1);
}

#[tokio::test]
async fn without_anybody_to_ask_the_outside_fails_at_once() {
    let server = started(Vec::new()).await;
    let began = Instant::now();
    let message = over_udp(server, "example.org").await;
    assert_eq!(Packet::parse(&message).unwrap().rcode(), RCODE::ServerFailure);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_slow_outside_holds_up_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = started(vec![silent.local_addr().unwrap()]).await;
    let outside = tokio::spawn(over_udp(server, "example.org"));
    let mut buffer = [0; 512];
    let (length, from) = silent.recv_from(&mut buffer).await.unwrap();
    assert_eq!(Packet::parse(&over_udp(server, "web.shop.svc.cluster.local").await).unwrap().answers.len(), 1);
    assert!(!outside.is_finished());
    let mut reply = buffer[..length].to_vec();
    reply[2] |= 0x80;
    silent.send_to(&reply, from).await.unwrap();
    assert_eq!(outside.await.unwrap(), reply, "what the outside says is passed on as it is");
}
