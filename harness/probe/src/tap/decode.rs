//! Packets from bytes: IPv4, the ports of what it carries, VXLAN and the packet in it, and what ICMP errors quote.
//!
//! Only what a tap tells is read; whatever is cut off, malformed or something else is nothing.

use std::net::Ipv4Addr;

use super::{Outer, Protocol, Says, Tuple};

/// A packet as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub tuple: Tuple,
    pub outer: Option<Outer>,
    pub says: Says,
    pub length: u16,
}

/// Bytes of the headers of UDP, VXLAN and Ethernet.
const UDP: usize = 8;
const VXLAN: usize = 8;
const ETHERNET: usize = 14;

/// The flag of VXLAN that says that there is a VNI (RFC 7348, section 5).
const HAS_VNI: u8 = 0x08;
const ETHERTYPE_IPV4: u16 = 0x0800;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;

/// The packet that begins with the IPv4 header at the start of `bytes`; a datagram to one of the `tunnels` is opened.
pub(super) fn packet(bytes: &[u8], tunnels: &[u16]) -> Option<Packet> {
    let header = Header::read(bytes)?;
    let rest = bytes.get(header.bytes..)?;
    if header.protocol == Protocol::Udp && header.first {
        let port = number(rest, 2)?;
        if let Some((vni, inner)) = opened(rest).filter(|_| tunnels.contains(&port))
            && let Some(packet) = packet(inner, &[])
        {
            let outer = Outer { source: header.source, destination: header.destination, port, vni };
            return Some(Packet { outer: Some(outer), ..packet });
        }
    }
    if header.protocol == Protocol::Icmp
        && let Some((says, about)) = error(rest, header.source)
    {
        return Some(Packet { tuple: about, outer: None, says, length: header.length });
    }
    Some(Packet { tuple: header.tuple(rest), outer: None, says: says(&header, rest), length: header.length })
}

/// An IPv4 header.
struct Header {
    bytes: usize,
    length: u16,
    /// Not a later fragment.
    first: bool,
    protocol: Protocol,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        let protocol = match *bytes.get(9)? {
            1 => Protocol::Icmp,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            _ => return None,
        };
        Some(Self {
            bytes: header,
            length: number(bytes, 2)?,
            first: number(bytes, 6)? & 0x1fff == 0,
            protocol,
            source: address(bytes, 12)?,
            destination: address(bytes, 16)?,
        })
    }

    fn tuple(&self, rest: &[u8]) -> Tuple {
        let ported = self.first && self.protocol != Protocol::Icmp;
        let port = |at| number(rest, at).filter(|_| ported).unwrap_or(0);
        Tuple {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_port: port(0),
            destination_port: port(2),
        }
    }
}

fn says(header: &Header, rest: &[u8]) -> Says {
    match rest.get(13) {
        Some(flags) if header.protocol == Protocol::Tcp && header.first => match flags & (SYN | RST | ACK) {
            SYN => Says::Syn,
            flags if flags & RST != 0 => Says::Reset,
            _ => Says::Data,
        },
        _ => Says::Data,
    }
}

/// The VNI and the packet in a VXLAN datagram.
fn opened(datagram: &[u8]) -> Option<(u32, &[u8])> {
    let vxlan = datagram.get(UDP..)?;
    let frame = vxlan.get(VXLAN..)?;
    let inner = frame.get(ETHERNET..)?;
    let vni = u32::from_be_bytes([0, *vxlan.get(4)?, *vxlan.get(5)?, *vxlan.get(6)?]);
    (vxlan[0] & HAS_VNI != 0 && number(frame, 12)? == ETHERTYPE_IPV4).then_some((vni, inner))
}

/// What an ICMP error says and the packet that it quotes. Echoes and the like are no errors.
fn error(icmp: &[u8], by: Ipv4Addr) -> Option<(Says, Tuple)> {
    const TIME_EXCEEDED: u8 = 11;
    const BAD_PARAMETER: u8 = 12;
    let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
    if ![UNREACHABLE, TIME_EXCEEDED, BAD_PARAMETER].contains(&kind) {
        return None;
    }
    let quoted = icmp.get(8..)?;
    let header = Header::read(quoted)?;
    let about = header.tuple(quoted.get(header.bytes..)?);
    let needs = (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED);
    let mtu = number(icmp, 6).filter(|_| needs).unwrap_or(0);
    Some((Says::Error { kind, code, by, mtu }, about))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 7);
    const NEAR: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 11);
    const FAR: Ipv4Addr = Ipv4Addr::new(192, 168, 60, 12);

    fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + rest.len()).unwrap();
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        bytes.extend(source.octets());
        bytes.extend(destination.octets());
        bytes.extend(rest);
        bytes
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut bytes = [40_000_u16.to_be_bytes(), 8080_u16.to_be_bytes()].concat();
        bytes.extend([0; 8]);
        bytes.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    fn vxlan(vni: u32, port: u16, inner: &[u8]) -> Vec<u8> {
        let mut bytes = [50_000_u16.to_be_bytes(), port.to_be_bytes(), [0, 0], [0, 0]].concat();
        bytes.extend([HAS_VNI, 0, 0, 0]);
        bytes.extend((vni << 8).to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(ETHERTYPE_IPV4.to_be_bytes());
        bytes.extend(inner);
        bytes
    }

    const FLOW: Tuple = Tuple {
        source: CLIENT,
        destination: SERVER,
        protocol: Protocol::Tcp,
        source_port: 40_000,
        destination_port: 8080,
    };

    #[test]
    fn a_segment_with_its_flags() {
        for (flags, says) in [(SYN, Says::Syn), (SYN | ACK, Says::Data), (RST | ACK, Says::Reset), (ACK, Says::Data)] {
            let found = packet(&ipv4(6, CLIENT, SERVER, &tcp(flags)), &[4789]).unwrap();
            assert_eq!(found, Packet { tuple: FLOW, outer: None, says, length: 40 });
        }
    }

    #[test]
    fn a_tunnel_is_opened_only_at_its_port() {
        let inner = ipv4(6, CLIENT, SERVER, &tcp(SYN));
        let bytes = ipv4(17, NEAR, FAR, &vxlan(4096, 4789, &inner));
        let outer = Outer { source: NEAR, destination: FAR, port: 4789, vni: 4096 };
        let found = packet(&bytes, &[8472, 4789]).unwrap();
        assert_eq!(found, Packet { tuple: FLOW, outer: Some(outer), says: Says::Syn, length: 40 });
        let closed = packet(&bytes, &[8472]).unwrap();
        assert_eq!((closed.tuple.destination_port, closed.outer), (4789, None));
    }

    #[test]
    fn an_error_is_about_the_packet_that_it_quotes() {
        let quoted = ipv4(6, CLIENT, SERVER, &tcp(SYN));
        let icmp = [&[3, 4, 0, 0, 0, 0, 5, 0xaa][..], &quoted[..28]].concat();
        let found = packet(&ipv4(1, NEAR, CLIENT, &icmp), &[]).unwrap();
        let says = Says::Error { kind: 3, code: 4, by: NEAR, mtu: 1450 };
        assert_eq!((found.tuple, found.says), (FLOW, says));
        let echo = packet(&ipv4(1, CLIENT, SERVER, &[8, 0, 0, 0, 0, 1, 0, 1]), &[]).unwrap();
        assert_eq!((echo.tuple.protocol, echo.says), (Protocol::Icmp, Says::Data));
    }

    #[test]
    fn no_cut_packet_is_a_danger() {
        let inner = ipv4(6, CLIENT, SERVER, &tcp(SYN));
        let whole = ipv4(17, NEAR, FAR, &vxlan(4096, 4789, &inner));
        for cut in 0..whole.len() {
            let _ = packet(&whole[..cut], &[4789]);
        }
        assert_eq!(packet(&[0x60; 40], &[]), None);
    }
}
