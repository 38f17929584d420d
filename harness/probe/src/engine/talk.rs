//! What a probe says once it may, and how the answer to it is read. Pure: bytes and words, no sockets.

use crate::dns_client::message;
use crate::echo::{self, HttpAnswer, HttpReply, Nonce};
use crate::wire::{Cell, Doubt, Observation, Sight, Target};

/// How the bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// One whole datagram.
    Datagram,
    /// What a stream has brought so far.
    Stream,
    /// All that a stream will bring.
    WholeStream,
}

/// Writes what the probe says into `out`; a target that nothing can be said to leaves the reason.
pub(super) fn write(target: &Target, nonce: Nonce, out: &mut Vec<u8>) -> Result<(), String> {
    out.clear();
    match target {
        Target::Tcp { .. } | Target::Sctp { .. } | Target::Icmp { .. } => {
            out.extend(echo::hello(nonce));
        }
        Target::Udp { payload, .. } => {
            out.extend(echo::hello(nonce));
            out.resize(out.len() + usize::from(*payload), b'.');
        }
        Target::Http { host, path, .. } => {
            out.extend(echo::http_request(host, path, nonce).as_bytes());
        }
        Target::Dns { name, record, .. } => {
            let query = message::query(query_id(nonce), name, *record);
            out.extend(query.map_err(|error| error.to_string())?);
        }
    }
    Ok(())
}

/// Reads the bytes that came; nothing while they are incomplete.
pub(super) fn read(cell: &Cell, nonce: Nonce, bytes: &[u8], received: Received) -> Option<Observation> {
    match &cell.target {
        Target::Http { .. } => read_http(cell, nonce, bytes, received),
        Target::Dns { name, .. } => Some(read_dns(cell, nonce, bytes, name)),
        _ => read_echo(cell, nonce, bytes, received),
    }
}

/// The answer is not one to our question.
pub(super) fn wrong_peer(cell: &Cell, detail: &str) -> Observation {
    inconclusive(cell, Doubt::WrongPeer, detail)
}

fn inconclusive(cell: &Cell, reason: Doubt, detail: &str) -> Observation {
    let detail = detail.to_owned();
    Observation::of(cell.id, Sight::Inconclusive { reason, detail })
}

fn read_echo(cell: &Cell, nonce: Nonce, bytes: &[u8], received: Received) -> Option<Observation> {
    match (echo::read_answer(bytes), received) {
        (Ok(Some(answer)), _) if answer.nonce == nonce => Some(Observation {
            peer: Some(answer.identity.to_owned()),
            seen_source: Some(answer.source),
            ..Observation::of(cell.id, Sight::Answered)
        }),
        (Ok(Some(_)), _) => Some(wrong_peer(cell, "the answer carries another nonce")),
        (Ok(None), Received::Stream) => None,
        (Ok(None), Received::WholeStream) => Some(closed_early(cell)),
        (Ok(None), Received::Datagram) => Some(wrong_peer(cell, "the answer is cut short")),
        (Err(echo::NotAnAnswer), _) => Some(wrong_peer(cell, "the answer is not of a cknet server")),
    }
}

fn read_http(cell: &Cell, nonce: Nonce, bytes: &[u8], received: Received) -> Option<Observation> {
    let (status, answer) = match echo::read_http(bytes, received != Received::Stream) {
        HttpReply::Incomplete => return None,
        HttpReply::NotHttp if bytes.is_empty() => return Some(closed_early(cell)),
        HttpReply::NotHttp => return Some(wrong_peer(cell, "the answer is not HTTP/1.1")),
        HttpReply::Foreign { status } => (status, None),
        HttpReply::Ours { status, answer } => (status, Some(answer)),
    };
    let is_ours = |answer: &HttpAnswer| answer.nonce.as_deref() == Some(&nonce.to_string());
    if answer.as_ref().is_some_and(|answer| !is_ours(answer)) {
        return Some(wrong_peer(cell, "the answer carries another nonce"));
    }
    let mut seen = Observation::of(cell.id, Sight::Answered);
    seen.http_status = Some(status);
    if let Some(answer) = answer {
        seen.peer = Some(answer.identity);
        seen.seen_source = Some(answer.source);
    }
    Some(seen)
}

fn read_dns(cell: &Cell, nonce: Nonce, bytes: &[u8], name: &str) -> Observation {
    let reply = match message::read(bytes) {
        Ok(reply) if reply.answers(query_id(nonce), name) => reply,
        Ok(_) => return wrong_peer(cell, "the reply is to another query"),
        Err(error) => return wrong_peer(cell, &error.to_string()),
    };
    let records: Vec<_> = reply.records.into_iter().map(|record| record.value).collect();
    let failed = |reason| Sight::DnsFailed { reason };
    let sight = match reply.rcode {
        message::Rcode::NoError if records.is_empty() => failed("NODATA".into()),
        message::Rcode::NoError => Sight::Answered,
        rcode => failed(message::rcode_name(rcode)),
    };
    Observation { records, ..Observation::of(cell.id, sight) }
}

fn closed_early(cell: &Cell) -> Observation {
    let detail = "the peer closed the connection before it answered";
    inconclusive(cell, Doubt::ClosedEarly, detail)
}

fn query_id(nonce: Nonce) -> u16 {
    nonce.0 as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::Expect;

    const NONCE: Nonce = Nonce(0xabc);

    fn tcp() -> Cell {
        let target = Target::Tcp { address: ([10, 0, 0, 1], 80).into(), expect: Expect::Echo };
        Cell { id: 4, from: "a".into(), target }
    }

    fn doubt(seen: Option<Observation>) -> Doubt {
        match seen.unwrap().sight {
            Sight::Inconclusive { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_our_nonce_is_an_answer() {
        let mut bytes = Vec::new();
        echo::write_answer(&mut bytes, NONCE, "a/b", ([10, 0, 0, 2], 7).into());
        let seen = read(&tcp(), NONCE, &bytes, Received::Stream).unwrap();
        assert_eq!((seen.id, &seen.sight, seen.peer.as_deref()), (4, &Sight::Answered, Some("a/b")));
        assert_eq!(doubt(read(&tcp(), Nonce(1), &bytes, Received::Stream)), Doubt::WrongPeer);
    }

    #[test]
    fn half_an_answer_is_waited_for_only_while_more_can_come() {
        let half = b"cknet1 0000";
        assert_eq!(read(&tcp(), NONCE, half, Received::Stream), None);
        assert_eq!(doubt(read(&tcp(), NONCE, half, Received::WholeStream)), Doubt::ClosedEarly);
        assert_eq!(doubt(read(&tcp(), NONCE, half, Received::Datagram)), Doubt::WrongPeer);
    }
}
