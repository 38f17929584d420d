//! Reading a query off the wire. Pure.
//!
//! A type that the parser does not know is no mistake of the asker: it gets the answer that there is none of it.

use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, SimpleDnsError, TYPE};

use super::zone::Asked;

const HEADER: usize = 12;
/// A type that nothing has and that the parser knows, put in the place of one that it does not.
const NOTHING: u16 = 10;

/// One question, and what is needed to answer it.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) id: u16,
    pub(super) question: Question<'static>,
    /// The name asked for, in small letters and without a dot at the end.
    pub(super) name: String,
    pub(super) asked: Asked,
    pub(super) recursion: bool,
    /// The longest answer that the asker takes over UDP, if it speaks EDNS.
    pub(super) edns: Option<u16>,
    /// The type as it was asked, if the parser does not know it, and where it stands in the message.
    pub(super) raw_type: Option<(usize, u16)>,
}

/// Why there is no question to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Not worth an answer: too short, or an answer itself.
    Ignore,
    Refuse {
        id: u16,
        code: RCODE,
    },
}

impl Query {
    pub(super) fn read(message: &[u8]) -> Result<Self, Unreadable> {
        let header = message.first_chunk::<HEADER>();
        let header = header.filter(|header| is_query(header)).ok_or(Unreadable::Ignore)?;
        let id = u16::from_be_bytes([header[0], header[1]]);
        let refuse = |code| Unreadable::Refuse { id, code };
        match Packet::parse(message) {
            Ok(packet) => Self::of(&packet, None).map_err(refuse),
            Err(SimpleDnsError::InvalidQType(_)) => {
                let at = type_position(message).ok_or(refuse(RCODE::FormatError))?;
                let raw = u16::from_be_bytes([message[at], message[at + 1]]);
                let mut known = message.to_vec();
                known[at..at + 2].copy_from_slice(&NOTHING.to_be_bytes());
                let packet = Packet::parse(&known).map_err(|_| refuse(RCODE::FormatError))?;
                Self::of(&packet, Some((at, raw))).map_err(refuse)
            }
            Err(_) => Err(refuse(RCODE::FormatError)),
        }
    }

    fn of(packet: &Packet<'_>, raw_type: Option<(usize, u16)>) -> Result<Self, RCODE> {
        if packet.opcode() != OPCODE::StandardQuery {
            return Err(RCODE::NotImplemented);
        }
        let [question] = packet.questions.as_slice() else {
            return Err(RCODE::FormatError);
        };
        if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
            return Err(RCODE::Refused);
        }
        Ok(Self {
            id: packet.id(),
            name: question.qname.to_string().trim_end_matches('.').to_lowercase(),
            asked: asked(question.qtype),
            question: question.clone().into_owned(),
            recursion: packet.has_flags(PacketFlag::RECURSION_DESIRED),
            edns: packet.opt().map(|opt| opt.udp_packet_size),
            raw_type,
        })
    }
}

/// Whether the header is not that of an answer.
fn is_query(header: &[u8; HEADER]) -> bool {
    header[2] & 0x80 == 0
}

fn asked(kind: QTYPE) -> Asked {
    match kind {
        QTYPE::TYPE(TYPE::A) | QTYPE::ANY => Asked::Address,
        QTYPE::TYPE(TYPE::SRV) => Asked::Service,
        QTYPE::TYPE(TYPE::PTR) => Asked::Pointer,
        QTYPE::TYPE(TYPE::CNAME) => Asked::Alias,
        QTYPE::TYPE(TYPE::SOA) => Asked::Authority,
        QTYPE::TYPE(TYPE::NS) => Asked::NameServer,
        QTYPE::TYPE(TYPE::TXT) => Asked::Text,
        _ => Asked::Other,
    }
}

/// Where the type of the first question stands.
fn type_position(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            length @ 1..=63 => at += length + 1,
            _ => return None,
        }
    }
    (at + 3 <= message.len()).then_some(at + 1)
}
