//! Writing answers. Pure: a message in, a message out, or the word that somebody else has to be asked.

use simple_dns::rdata::{A, CNAME, NS, OPT, PTR, RData, SOA, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};

use super::index::Index;
use super::query::{Query, Unreadable};
use super::zone::{Data, Meaning, Record, meaning};

/// How long an answer may be kept, in seconds: what CoreDNS' Kubernetes plugin says by default.
const TTL: u32 = 5;
/// What a message over UDP may always be long, without and with EDNS (the DNS flag day's number).
const PLAIN: u16 = 512;
const EDNS: u16 = 1232;

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// Not worth an answer.
    Nothing,
    Message(Vec<u8>),
    /// To be asked outside the cluster, or else answered with this message.
    Elsewhere {
        otherwise: Vec<u8>,
    },
}

/// Answers `message` from `index`.
pub(super) fn answer(index: &Index, message: &[u8], transport: Transport) -> Reply {
    let query = match Query::read(message) {
        Ok(query) => query,
        Err(Unreadable::Ignore) => return Reply::Nothing,
        Err(Unreadable::Refuse { id, code }) => return finished(bare(id, code)),
    };
    let meaning = meaning(index, &query.name, query.asked);
    let mut reply = begun(&query);
    match meaning {
        Meaning::Records { answers, additional } => {
            let turned = turned(answers, query.id);
            reply.answers = turned.iter().filter_map(|one| record(one, &query, index)).collect();
            reply.additional_records = additional.iter().filter_map(|one| record(one, &query, index)).collect();
        }
        Meaning::NoData => reply.name_servers.extend(authority(&query, index)),
        Meaning::NoSuchName => {
            *reply.rcode_mut() = RCODE::NameError;
            reply.name_servers.extend(authority(&query, index));
        }
        Meaning::Outside => {
            *reply.rcode_mut() = RCODE::ServerFailure;
            reply.remove_flags(PacketFlag::AUTHORITATIVE_ANSWER);
            return Reply::Elsewhere { otherwise: written(reply, &query, transport) };
        }
        Meaning::OtherAddress => {
            *reply.rcode_mut() = RCODE::NameError;
            reply.name_servers.extend(authority(&query, index));
            return Reply::Elsewhere { otherwise: written(reply, &query, transport) };
        }
    }
    finished(written(reply, &query, transport))
}

/// The answer to any question while nothing is known yet.
pub(super) fn unready(message: &[u8]) -> Reply {
    match Query::read(message) {
        Ok(query) => finished(bare(query.id, RCODE::ServerFailure)),
        Err(Unreadable::Ignore) => Reply::Nothing,
        Err(Unreadable::Refuse { id, code }) => finished(bare(id, code)),
    }
}

fn finished(message: Vec<u8>) -> Reply {
    if message.is_empty() { Reply::Nothing } else { Reply::Message(message) }
}

/// A header that says nothing but `code`.
fn bare(id: u16, code: RCODE) -> Vec<u8> {
    let mut packet = Packet::new_reply(id);
    *packet.rcode_mut() = code;
    packet.build_bytes_vec().unwrap_or_default()
}

fn begun<'a>(query: &Query) -> Packet<'a> {
    let mut reply = Packet::new_reply(query.id);
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    if query.recursion {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(query.question.clone());
    if query.edns.is_some() {
        *reply.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: EDNS, version: 0 });
    }
    reply
}

/// Turns the addresses of an answer so that each asker begins with another one; aliases stay in front.
fn turned(mut answers: Vec<Record>, by: u16) -> Vec<Record> {
    let first = answers.iter().position(|one| matches!(one.data, Data::Address(_)));
    if let Some(addresses) = first.map(|first| &mut answers[first..])
        && addresses.iter().all(|one| matches!(one.data, Data::Address(_)))
    {
        let by = usize::from(by) % addresses.len();
        addresses.rotate_left(by);
    }
    answers
}

fn written(mut reply: Packet<'_>, query: &Query, transport: Transport) -> Vec<u8> {
    let mut bytes = reply.build_bytes_vec_compressed().unwrap_or_default();
    let most = query.edns.map_or(PLAIN, |most| most.clamp(PLAIN, EDNS));
    if transport == Transport::Udp && bytes.len() > usize::from(most) {
        // The asker comes back over TCP for the rest.
        reply.set_flags(PacketFlag::TRUNCATION);
        reply.answers.clear();
        reply.additional_records.clear();
        bytes = reply.build_bytes_vec_compressed().unwrap_or_default();
    }
    if let Some((at, kind)) = query.raw_type
        && let Some(place) = bytes.get_mut(at..at + 2)
    {
        place.copy_from_slice(&kind.to_be_bytes());
    }
    bytes
}

fn name(text: &str) -> Option<Name<'static>> {
    Name::new(text).ok().map(Name::into_owned)
}

/// A record for the wire; about the name asked for, it is spelled as it was asked.
fn record(record: &Record, query: &Query, index: &Index) -> Option<ResourceRecord<'static>> {
    let about = match record.name == query.name {
        true => query.question.qname.clone(),
        false => name(&record.name)?,
    };
    let data = match &record.data {
        Data::Address(address) => RData::A(A::from(*address)),
        Data::Service { port, weight, target } => {
            RData::SRV(SRV { priority: 0, weight: *weight, port: *port, target: name(target)? })
        }
        Data::Pointer(target) => RData::PTR(PTR(name(target)?)),
        Data::Alias(target) => RData::CNAME(CNAME(name(target)?)),
        Data::NameServer(server) => RData::NS(NS(name(server)?)),
        Data::Text(text) => RData::TXT(TXT::new().with_string(text).ok()?.into_owned()),
        Data::Authority => RData::SOA(start(index)?),
    };
    Some(ResourceRecord::new(about, CLASS::IN, TTL, data))
}

/// Who says that there is nothing, and how long to believe it.
fn authority(query: &Query, index: &Index) -> Option<ResourceRecord<'static>> {
    let zone = if query.name.ends_with(".in-addr.arpa") { "in-addr.arpa" } else { &index.domain };
    Some(ResourceRecord::new(name(zone)?, CLASS::IN, TTL, RData::SOA(start(index)?)))
}

fn start(index: &Index) -> Option<SOA<'static>> {
    Some(SOA {
        mname: name(&format!("ns.dns.{}", index.domain))?,
        rname: name(&format!("hostmaster.{}", index.domain))?,
        // Nobody transfers this zone, so its number never has to grow.
        serial: 1,
        refresh: 7200,
        retry: 1800,
        expire: 86400,
        minimum: TTL,
    })
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
