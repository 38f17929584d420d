//! What counts as an answer: servers that are not ours, handshakes, name servers.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use cknet_probe::wire::{Doubt, Expect, RecordType, Sight, Target};
use libtest_mimic::Trial;

use crate::lab::Lab;
use crate::sights::{probe, tcp, udp};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("foreign_servers_are_no_answer", foreign_servers_are_no_answer),
        trial("a_handshake_is_an_answer_where_asked_for", a_handshake_is_an_answer_where_asked_for),
        trial("dns_answers_and_failures", dns_answers_and_failures),
    ]
}

/// What a strange TCP server does with a connection.
fn foreign_tcp(lab: &Lab, port: u16, behaviour: fn(std::net::TcpStream)) {
    let listener = lab.pods[1].netns.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()).unwrap();
    std::thread::spawn(move || behaviour(listener.accept().unwrap().0));
}

fn foreign_servers_are_no_answer() {
    let lab = Lab::new(2);
    foreign_tcp(&lab, 25, |mut stream| {
        stream.write_all(b"220 mail\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    foreign_tcp(&lab, 26, |mut stream| {
        stream.write_all(b"cknet1 0000000000000000 a/b 10.0.0.1:1\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    foreign_tcp(&lab, 27, |mut stream| {
        stream.read_exact(&mut [0; 24]).unwrap();
    });
    foreign_tcp(&lab, 28, |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    foreign_tcp(&lab, 80, |mut stream| {
        stream.read_exact(&mut [0; 24]).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let socket = lab.pods[1].netns.run(|| UdpSocket::bind("0.0.0.0:54").unwrap()).unwrap();
    std::thread::spawn(move || {
        let (_, client) = socket.recv_from(&mut [0; 100]).unwrap();
        socket.send_to(b"cknet1 0000000000000000 a/b 10.0.0.1:1\n", client).unwrap();
    });
    let to = &lab.pods[1];
    let http = Target::Http { address: to.at(80), host: "x".into(), path: "/".into() };
    let targets = vec![tcp(to.at(25)), tcp(to.at(26)), tcp(to.at(27)), tcp(to.at(28)), udp(to.at(54)), http];
    let seen = probe(&lab, targets);
    let doubts = [Doubt::WrongPeer, Doubt::WrongPeer, Doubt::ClosedEarly, Doubt::NoAnswer, Doubt::WrongPeer];
    for (one, expected) in seen.iter().zip(doubts) {
        assert!(matches!(one.sight, Sight::Inconclusive { reason, .. } if reason == expected), "{one:?}");
        assert_eq!(one.peer, None);
    }
    // For HTTP any status is an answer, if not one of ours.
    assert_eq!((&seen[5].sight, seen[5].http_status, &seen[5].peer), (&Sight::Answered, Some(403), &None));
}

fn a_handshake_is_an_answer_where_asked_for() {
    let lab = Lab::new(2);
    foreign_tcp(&lab, 6443, |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let handshake = |address| Target::Tcp { address, expect: Expect::Handshake };
    let to = &lab.pods[1];
    let seen = probe(&lab, vec![handshake(to.at(6443)), handshake(to.at(6444)), handshake(to.ghost(6443))]);
    let sights: Vec<_> = seen.iter().map(|one| one.sight.clone()).collect();
    assert_eq!(sights, [Sight::Answered, Sight::Refused, Sight::Silent]);
    assert_eq!(seen[0].peer, None);
}

fn dns_answers_and_failures() {
    use simple_dns::rdata::{A, RData};
    use simple_dns::{CLASS, Packet, RCODE, ResourceRecord};
    let lab = Lab::new(2);
    let socket = lab.pods[1].netns.run(|| UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((count, client)) = socket.recv_from(&mut bytes) {
            let query = Packet::parse(&bytes[..count]).unwrap();
            let asked = query.questions[0].clone();
            let mut reply = Packet::new_reply(query.id());
            match asked.qname.to_string().as_str() {
                "web.example" => {
                    let data = RData::A(A { address: 0x0a01_0005 });
                    reply.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 5, data));
                }
                "empty.example" => {}
                "other.example" => reply.set_id(query.id() ^ 1),
                _ => *reply.rcode_mut() = RCODE::NameError,
            }
            reply.questions.push(asked);
            socket.send_to(&reply.build_bytes_vec().unwrap(), client).unwrap();
        }
    });
    let dns = |address, name: &str| Target::Dns { address, name: name.into(), record: RecordType::A };
    let server = lab.pods[1].at(53);
    let names = ["web.example.", "empty.example", "missing.example", "other.example"];
    let mut targets: Vec<_> = names.iter().map(|name| dns(server, name)).collect();
    targets.push(dns(lab.pods[1].ghost(53), "web.example"));
    targets.push(dns(server, &"a".repeat(70)));
    let seen = probe(&lab, targets);
    assert_eq!((&seen[0].sight, seen[0].records.as_slice()), (&Sight::Answered, &["10.1.0.5".to_owned()][..]));
    assert_eq!(seen[1].sight, Sight::DnsFailed { reason: "NODATA".into() });
    assert_eq!(seen[2].sight, Sight::DnsFailed { reason: "NXDOMAIN".into() });
    assert!(matches!(seen[3].sight, Sight::Inconclusive { reason: Doubt::WrongPeer, .. }), "{:?}", seen[3]);
    assert_eq!(seen[4].sight, Sight::Silent);
    assert!(matches!(seen[5].sight, Sight::Inconclusive { reason: Doubt::NeverLeft, .. }), "{:?}", seen[5]);
}
