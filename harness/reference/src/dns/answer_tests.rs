//! Messages in, messages out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rstest::rstest;
use serde_json::json;
use simple_dns::{OPCODE, QCLASS, QTYPE, Question, TYPE};
use std::sync::Arc;

fn index(headless: usize) -> Index {
    let from = |value| Arc::new(serde_json::from_value(value).unwrap());
    let services = [
        from(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.5"}})),
        from(json!({"metadata": {"name": "many", "namespace": "shop"}, "spec": {"clusterIP": "None"}})),
    ];
    let ends: Vec<_> = (0..headless).map(|number| json!({"addresses": [format!("10.1.0.{number}")]})).collect();
    let slice = serde_json::from_value(json!({"metadata": {"name": "many-1", "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "many"}}, "addressType": "IPv4", "endpoints": ends}))
    .unwrap();
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    Index::build("cluster.local", &services, &[Arc::new(slice)], &[Arc::new(namespace)])
}

fn query(name: &str, kind: TYPE) -> Packet<'_> {
    let mut packet = Packet::new_query(7);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Question::new(Name::new(name).unwrap(), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    packet
}

fn reply(index: &Index, packet: &Packet<'_>, transport: Transport) -> Vec<u8> {
    match answer(index, &packet.build_bytes_vec().unwrap(), transport) {
        Reply::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_repeats_the_question_as_it_was_spelled() {
    let bytes = reply(&index(0), &query("Web.Shop.svc.Cluster.local", TYPE::A), Transport::Udp);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.id(), packet.rcode()), (7, RCODE::NoError));
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_DESIRED));
    assert_eq!(packet.questions[0].qname.to_string(), "Web.Shop.svc.Cluster.local");
    let answer = &packet.answers[0];
    assert_eq!((answer.name.to_string().as_str(), answer.ttl), ("Web.Shop.svc.Cluster.local", 5));
    assert_eq!(answer.rdata, RData::A(A { address: 0x0a00_0005 }));
}

#[rstest]
#[case::no_data("web.shop.svc.cluster.local", TYPE::AAAA, RCODE::NoError, "cluster.local")]
#[case::no_name("nobody.shop.svc.cluster.local", TYPE::A, RCODE::NameError, "cluster.local")]
fn having_nothing_is_said_with_authority(
    #[case] name: &str,
    #[case] kind: TYPE,
    #[case] code: RCODE,
    #[case] zone: &str,
) {
    let bytes = reply(&index(0), &query(name, kind), Transport::Udp);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.rcode(), packet.answers.len()), (code, 0));
    assert_eq!(packet.name_servers[0].name.to_string(), zone);
    assert!(matches!(&packet.name_servers[0].rdata, RData::SOA(start) if start.minimum == 5));
}

#[rstest]
#[case::name("example.org", TYPE::A, RCODE::ServerFailure)]
#[case::address("1.2.3.4.in-addr.arpa", TYPE::PTR, RCODE::NameError)]
fn what_is_outside_is_asked_elsewhere(#[case] name: &str, #[case] kind: TYPE, #[case] otherwise: RCODE) {
    let message = query(name, kind).build_bytes_vec().unwrap();
    let Reply::Elsewhere { otherwise: bytes } = answer(&index(0), &message, Transport::Udp) else { panic!() };
    assert_eq!(Packet::parse(&bytes).unwrap().rcode(), otherwise);
}

#[test]
fn a_long_answer_is_cut_over_udp_only() {
    let (index, mut packet) = (index(60), query("many.shop.svc.cluster.local", TYPE::A));
    let bytes = reply(&index, &packet, Transport::Udp);
    assert!(bytes.len() <= 512);
    assert!(Packet::parse(&bytes).unwrap().has_flags(PacketFlag::TRUNCATION));
    let over_tcp = reply(&index, &packet, Transport::Tcp);
    assert_eq!(Packet::parse(&over_tcp).unwrap().answers.len(), 60);
    *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: 4096, version: 0 });
    let bytes = reply(&index, &packet, Transport::Udp);
    let with_edns = Packet::parse(&bytes).unwrap();
    assert_eq!(with_edns.answers.len(), 60);
    assert_eq!(with_edns.opt().unwrap().udp_packet_size, 1232);
}

#[test]
fn addresses_take_turns() {
    let index = index(3);
    let first = |id: u16| {
        let mut packet = query("many.shop.svc.cluster.local", TYPE::A);
        packet.set_id(id);
        let bytes = reply(&index, &packet, Transport::Udp);
        Packet::parse(&bytes).unwrap().answers[0].clone().into_owned().rdata
    };
    assert_ne!(first(0), first(1));
    assert_eq!(first(0), first(3));
}

#[test]
fn an_unknown_type_gets_no_data_and_is_repeated() {
    // 44 is SSHFP, which the parser does not know.
    let mut message = query("web.shop.svc.cluster.local", TYPE::A).build_bytes_vec().unwrap();
    let at = message.len() - 4;
    message[at..at + 2].copy_from_slice(&44u16.to_be_bytes());
    let Reply::Message(bytes) = answer(&index(0), &message, Transport::Udp) else { panic!() };
    assert_eq!(bytes[at..at + 2], 44u16.to_be_bytes());
    assert_eq!((bytes[3] & 0xf, bytes[7], bytes[9]), (0, 0, 1), "no error, no answer, one authority");
}

#[test]
fn what_is_not_a_question_is_not_answered() {
    let mut packet = query("web.shop.svc.cluster.local", TYPE::A);
    packet.set_flags(PacketFlag::RESPONSE);
    let message = packet.build_bytes_vec().unwrap();
    assert_eq!(answer(&index(0), &message, Transport::Udp), Reply::Nothing);
    assert_eq!(answer(&index(0), &[0; 11], Transport::Udp), Reply::Nothing);
}

#[rstest]
#[case::update(OPCODE::Update, 1, RCODE::NotImplemented)]
#[case::two_questions(OPCODE::StandardQuery, 2, RCODE::FormatError)]
#[case::no_question(OPCODE::StandardQuery, 0, RCODE::FormatError)]
fn mistakes_are_refused(#[case] opcode: OPCODE, #[case] questions: usize, #[case] code: RCODE) {
    let mut packet = query("web.shop.svc.cluster.local", TYPE::A);
    *packet.opcode_mut() = opcode;
    packet.questions = vec![packet.questions[0].clone(); questions];
    let bytes = reply(&index(0), &packet, Transport::Udp);
    assert_eq!(Packet::parse(&bytes).unwrap().rcode(), code);
}

#[test]
fn no_garbage_makes_it_fall_over() {
    let index = index(1);
    let message = query("many.shop.svc.cluster.local", TYPE::A).build_bytes_vec().unwrap();
    for at in 0..message.len() {
        for value in [0x00, 0x01, 0x3f, 0x7f, 0xc0, 0xff] {
            let mut broken = message.clone();
            broken[at] = value;
            let _ = answer(&index, &broken, Transport::Udp);
            let _ = answer(&index, &broken[..at], Transport::Udp);
        }
    }
}
