//! DNS messages as bytes: the query we send and the reply we read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, TYPE};

pub use simple_dns::RCODE as Rcode;

use crate::wire::RecordType;

/// A name that no query can be made of, or bytes that are no reply.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("`{name}` is not a DNS name: {source}")]
    Name { name: String, source: simple_dns::SimpleDnsError },
    #[error("the reply is not a DNS message: {0}")]
    Reply(#[source] simple_dns::SimpleDnsError),
    #[error("the message is a query, not a reply")]
    NotAReply,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// The value as `dig +short` writes it.
    pub value: String,
    /// The address, of an A or AAAA record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// A reply, as far as a client cares.
#[derive(Clone, Debug)]
pub struct Reply {
    id: u16,
    /// The name it answers, without the last dot; some servers leave it out of errors.
    question: Option<String>,
    pub rcode: Rcode,
    /// The answer did not fit a datagram: ask again over TCP.
    pub truncated: bool,
    /// The answer section; aliases on the way included.
    pub records: Vec<Record>,
}

impl Reply {
    /// Whether this is the reply to that query.
    pub fn answers(&self, id: u16, name: &str) -> bool {
        let asked = name.trim_end_matches('.');
        self.id == id && self.question.as_ref().is_none_or(|question| question.eq_ignore_ascii_case(asked))
    }
}

/// The bytes of a recursive query.
pub fn query(id: u16, name: &str, record: RecordType) -> Result<Vec<u8>, MessageError> {
    let invalid = |source| MessageError::Name { name: name.to_owned(), source };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Name::new(name.trim_end_matches('.')).map_err(invalid)?;
    packet.questions.push(Question::new(asked, QTYPE::TYPE(type_of(record)), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(invalid)
}

/// Reads a reply.
pub fn read(bytes: &[u8]) -> Result<Reply, MessageError> {
    let packet = Packet::parse(bytes).map_err(MessageError::Reply)?;
    if !packet.has_flags(PacketFlag::RESPONSE) {
        return Err(MessageError::NotAReply);
    }
    let records = packet.answers.iter().map(|record| Record {
        name: record.name.to_string(),
        ttl: record.ttl,
        value: value_of(&record.rdata),
        address: address_of(&record.rdata),
    });
    Ok(Reply {
        id: packet.id(),
        question: packet.questions.first().map(|question| question.qname.to_string()),
        rcode: packet.rcode(),
        truncated: packet.has_flags(PacketFlag::TRUNCATION),
        records: records.collect(),
    })
}

/// A response code as `dig` writes it.
pub fn rcode_name(rcode: Rcode) -> String {
    let name = match rcode {
        Rcode::NoError => "NOERROR",
        Rcode::FormatError => "FORMERR",
        Rcode::ServerFailure => "SERVFAIL",
        Rcode::NameError => "NXDOMAIN",
        Rcode::NotImplemented => "NOTIMP",
        Rcode::Refused => "REFUSED",
        other => return format!("{other:?}").to_uppercase(),
    };
    name.to_owned()
}

fn type_of(record: RecordType) -> TYPE {
    match record {
        RecordType::A => TYPE::A,
        RecordType::Aaaa => TYPE::AAAA,
        RecordType::Cname => TYPE::CNAME,
        RecordType::Ptr => TYPE::PTR,
        RecordType::Srv => TYPE::SRV,
        RecordType::Txt => TYPE::TXT,
    }
}

fn address_of(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
        RData::AAAA(a) => Some(Ipv6Addr::from(a.address).into()),
        _ => None,
    }
}

fn value_of(data: &RData<'_>) -> String {
    match data {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
        RData::CNAME(name) => format!("{}.", name.0),
        RData::PTR(name) => format!("{}.", name.0),
        RData::NS(name) => format!("{}.", name.0),
        RData::SRV(srv) => format!("{} {} {} {}.", srv.priority, srv.weight, srv.port, srv.target),
        RData::TXT(txt) => {
            let part = |(key, value): (&[u8], Option<&[u8]>)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                value.map_or_else(|| text(key), |value| format!("{}={}", text(key), text(value)))
            };
            format!("\"{}\"", txt.iter_raw().map(part).collect::<Vec<_>>().join(" "))
        }
        other => format!("{:?}", other.type_code()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME, SRV};

    fn reply(id: u16, name: &str, data: Vec<RData<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let asked = Name::new(name).unwrap();
        packet.questions.push(Question::new(asked.clone(), QTYPE::TYPE(TYPE::A), CLASS::IN.into(), false));
        packet.answers = data.into_iter().map(|data| ResourceRecord::new(asked.clone(), CLASS::IN, 5, data)).collect();
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn a_query_asks_for_the_name_with_recursion() {
        let bytes = query(77, "kubernetes.default.svc.cluster.local.", RecordType::Aaaa).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 77);
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
        assert_eq!(packet.questions[0].qname.to_string(), "kubernetes.default.svc.cluster.local");
        assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(TYPE::AAAA));
        assert!(matches!(read(&bytes), Err(MessageError::NotAReply)));
        assert!(query(1, &"a".repeat(64), RecordType::A).is_err());
    }

    #[test]
    fn records_are_written_as_dig_does() {
        let srv = SRV { priority: 0, weight: 100, port: 443, target: Name::new("b.c").unwrap() };
        let data =
            vec![RData::CNAME(CNAME(Name::new("x.y").unwrap())), RData::A(A { address: 0x0a01_0005 }), RData::SRV(srv)];
        let reply = read(&reply(9, "a.b", data)).unwrap();
        let values: Vec<_> = reply.records.iter().map(|record| record.value.as_str()).collect();
        assert_eq!(values, ["x.y.", "10.1.0.5", "0 100 443 b.c."]);
        assert!(reply.answers(9, "A.b."));
        assert!(!reply.answers(8, "a.b") && !reply.answers(9, "a.c"));
    }
}
