//! The resolver against name servers on the loopback address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use cknet_probe::dns_client::resolv_conf::ResolvConf;
use cknet_probe::dns_client::{LookupError, Resolver, Transport};
use cknet_probe::wire::RecordType;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, RCODE, ResourceRecord};

const DEADLINE: Duration = Duration::from_secs(5);

/// What a server says to a name: over UDP, and over TCP.
fn answer(query: &[u8], tcp: bool) -> Vec<u8> {
    let query = Packet::parse(query).unwrap();
    let asked = query.questions[0].clone();
    let mut reply = Packet::new_reply(query.id());
    let address = |address| ResourceRecord::new(asked.qname.clone(), CLASS::IN, 5, RData::A(A { address }));
    match asked.qname.to_string().as_str() {
        "backend.svc.cluster.local" => reply.answers.push(address(0x0a01_0005)),
        "big.example" if !tcp => reply.set_flags(PacketFlag::TRUNCATION),
        "big.example" => reply.answers.extend((0..40).map(address)),
        "broken.example" => *reply.rcode_mut() = RCODE::ServerFailure,
        "empty.example" => {}
        _ => *reply.rcode_mut() = RCODE::NameError,
    }
    reply.questions.push(asked);
    reply.build_bytes_vec().unwrap()
}

/// A name server on a port of its own.
fn server() -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((count, client)) = udp.recv_from(&mut query) {
            // A forged datagram first: it must not be taken for the answer.
            let mut forged = answer(&query[..count], false);
            forged[0] ^= 1;
            udp.send_to(&forged, client).unwrap();
            udp.send_to(&answer(&query[..count], false), client).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let reply = answer(&query, true);
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

fn resolver(servers: Vec<SocketAddr>) -> Resolver {
    let search = vec!["production.svc.cluster.local".into(), "svc.cluster.local".into()];
    let conf = ResolvConf { servers, search, ndots: 5, timeout: Duration::from_millis(200), attempts: 1 };
    Resolver::new(conf, PathBuf::from("test")).unwrap()
}

#[test]
fn the_search_suffix_that_fits_is_told_with_all_tries() {
    let server = server();
    let found = resolver(vec![server]).resolve("backend", RecordType::A, DEADLINE).unwrap();
    assert_eq!(
        (found.name.as_str(), found.suffix.as_deref()),
        ("backend.svc.cluster.local", Some("svc.cluster.local"))
    );
    assert_eq!((found.server, found.transport), (server, Transport::Udp));
    assert_eq!(found.addresses().collect::<Vec<_>>(), ["10.1.0.5".parse::<std::net::IpAddr>().unwrap()]);
    let tries: Vec<_> = found.tries.iter().map(|one| (one.name.as_str(), one.outcome.as_str())).collect();
    assert_eq!(tries, [("backend.production.svc.cluster.local", "NXDOMAIN"), ("backend.svc.cluster.local", "NOERROR")]);
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let found = resolver(vec![server()]).resolve("big.example.", RecordType::A, DEADLINE).unwrap();
    assert_eq!((found.transport, found.records.len()), (Transport::Tcp, 40));
    let tries: Vec<_> = found.tries.iter().map(|one| (one.transport, one.outcome.as_str())).collect();
    assert_eq!(tries, [(Transport::Udp, "truncated"), (Transport::Tcp, "NOERROR")]);
}

#[test]
fn a_silent_server_is_passed_over() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = server();
    let servers = vec![silent.local_addr().unwrap(), good];
    let found = resolver(servers).resolve("backend.svc.cluster.local.", RecordType::A, DEADLINE).unwrap();
    assert_eq!(found.server, good);
    assert_eq!(found.tries[0].outcome, "timeout");
    assert!(found.tries[0].took >= Duration::from_millis(200));
}

#[test]
fn failures_say_who_said_what() {
    let server = server();
    let mut resolver = resolver(vec![server]);
    let mut fail = |name: &str| resolver.resolve(name, RecordType::A, DEADLINE).unwrap_err();
    let missing = fail("missing");
    assert!(matches!(&missing, LookupError::NotFound { tries, .. } if tries.len() == 3), "{missing}");
    assert!(
        missing.to_string().starts_with(&format!("`missing` was not found: missing from {server} over udp: NXDOMAIN"))
    );
    assert!(fail("empty.example.").to_string().contains("NODATA"));
    let broken = fail("broken.example.");
    assert!(matches!(broken, LookupError::NoAnswer { .. }) && broken.to_string().contains("SERVFAIL"), "{broken}");
}
