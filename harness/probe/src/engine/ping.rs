//! Echo requests. All of one vantage and address family share one socket, because each raw socket is given a copy
//! of every ICMP packet that reaches its namespace.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, recvfrom, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error_queue::{self, Reported};
use super::failure::{self, Failed};
use super::flight::{Keep, Scratch, errno_of};
use crate::echo::Nonce;
use crate::wire::{Batch, Cell, Doubt, Observation, Sight, Target};

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;
const HEADER: usize = 8;
const NONCE: usize = 8;
/// Room for replies that come while the pass still launches; the kernel's default holds about 270.
const RECEIVE_BUFFER: usize = 4 << 20;

/// One echo request that is out.
struct Ping {
    cell: usize,
    target: IpAddr,
    nonce: Nonce,
    launched: Instant,
    settled: bool,
}

/// The socket of one vantage and family, and the requests sent on it; a request's sequence number is its place.
pub(super) struct Lane {
    /// The number of the namespace it was opened in.
    group: usize,
    v6: bool,
    /// Its requests may not be cut into fragments.
    whole: bool,
    raw: bool,
    identifier: u16,
    pub(super) socket: Socket,
    /// Tells the local address towards a target; made in the same namespace, where the thread no longer is when
    /// an error comes.
    compass: Option<Socket>,
    /// Requests that will have left by the end.
    expected: usize,
    pings: Vec<Ping>,
}

impl Lane {
    /// Opens a lane in the namespace of the calling thread: a datagram socket where the kernel lets this user
    /// (`ping_group_range`), else a raw one.
    pub(super) fn open(group: usize, v6: bool, whole: bool, identifier: u16) -> Result<Self, Errno> {
        let (domain, protocol) = if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let open = |kind: Type| Socket::new_raw(domain, kind.nonblocking().cloexec(), Some(protocol));
        let (socket, raw) = match open(Type::DGRAM) {
            Ok(socket) => (socket, false),
            Err(error) if matches!(errno_of(&error), Errno::EMFILE | Errno::ENFILE) => {
                return Err(errno_of(&error));
            }
            Err(_) => (open(Type::RAW).map_err(|error| errno_of(&error))?, true),
        };
        error_queue::enable(socket.as_fd(), v6)?;
        if whole && !v6 {
            cknet_kernel::fragments::forbid(socket.as_fd())?;
        }
        // Without the privilege to pass the system's maximum, as much as is allowed.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        let compass = Socket::new_raw(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP)).ok();
        Ok(Self { group, v6, whole, raw, identifier, socket, compass, expected: 0, pings: Vec::new() })
    }

    pub(super) fn serves(&self, group: usize, v6: bool, whole: bool) -> bool {
        self.group == group && self.v6 == v6 && self.whole == whole && self.expected < usize::from(u16::MAX)
    }

    /// One more request will leave by this lane; sequence numbers limit how many do.
    pub(super) fn expect_one(&mut self) {
        self.expected += 1;
    }

    /// Sends one request; an observation if it could not leave.
    pub(super) fn send(
        &mut self,
        place: usize,
        cell: &Cell,
        nonce: Nonce,
        scratch: &mut Scratch,
    ) -> Option<Observation> {
        let Target::Icmp { address: target, payload, .. } = cell.target else {
            return None;
        };
        let sequence = self.pings.len() as u16;
        write_request(&mut scratch.message, self.v6, self.identifier, sequence, nonce, payload);
        let launched = Instant::now();
        let address = SockAddr::from(SocketAddr::new(target, 0));
        let mut sent = self.socket.send_to(&scratch.message, &address);
        // An error that is pending from an earlier request is reported in place of this send: ask once more.
        if sent.is_err() {
            sent = self.socket.send_to(&scratch.message, &address);
        }
        let settled = sent.is_err();
        self.pings.push(Ping { cell: place, target, nonce, launched, settled });
        sent.err().map(|error| {
            let errno = errno_of(&error);
            let failed = Failed { errno, reported: None, target, local: None, datagram: true };
            Observation::of(cell.id, failure::sight(&failed))
        })
    }

    /// Reads all that has come and hands each settled cell to `settled`.
    pub(super) fn advance(
        &mut self,
        batch: &Batch,
        scratch: &mut Scratch,
        mut settled: impl FnMut(usize, Observation),
    ) {
        while let Some(entry) = self.next_error(batch, scratch) {
            if let Some((place, observation)) = entry {
                settled(place, observation);
            }
        }
        loop {
            match recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut scratch.received) {
                Ok((count, _)) => {
                    if let Some((place, observation)) = self.reply(batch, &scratch.received[..count]) {
                        settled(place, observation);
                    }
                }
                Err(Errno::EAGAIN) => return,
                // Errors of single requests surface here too; they were taken from the queue above.
                Err(Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
                Err(Errno::EMSGSIZE | Errno::EACCES | Errno::EPROTO) => {}
                Err(_) => return,
            }
        }
    }

    /// Everything still open is silent.
    pub(super) fn expire(&mut self, mut settled: impl FnMut(usize, Sight)) {
        for ping in self.pings.iter_mut().filter(|ping| !ping.settled) {
            ping.settled = true;
            settled(ping.cell, Sight::Silent);
        }
    }

    pub(super) fn into_keep(self) -> Keep {
        Keep::new(self.socket, false)
    }

    /// Takes one entry of the error queue; the inner value is nothing where it concerns no open request of ours.
    fn next_error(&mut self, batch: &Batch, scratch: &mut Scratch) -> Option<Option<(usize, Observation)>> {
        let reported = error_queue::take(self.socket.as_fd(), &mut scratch.received, &mut scratch.control)?;
        // Else the next send or receive would report this error once more.
        let _ = self.socket.take_error();
        // The packet that met the error comes back: from its ICMP header on, or for some sockets with the IP
        // header before it.
        let packet = without_ip_header(scratch.received.get(..reported.returned).unwrap_or_default());
        Some(self.failed(batch, packet, reported))
    }

    fn failed(&mut self, batch: &Batch, packet: &[u8], reported: Reported) -> Option<(usize, Observation)> {
        let word = |at: usize| packet.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        if self.raw && word(4) != Some(self.identifier) {
            return None;
        }
        let ping = self.pings.get_mut(usize::from(word(6)?)).filter(|ping| !ping.settled)?;
        ping.settled = true;
        let failed = Failed {
            errno: reported.errno,
            reported: Some(reported),
            target: ping.target,
            local: self.compass.as_ref().and_then(|compass| local_towards(compass, ping.target)),
            datagram: false,
        };
        let mut observation = Observation::of(batch.cells[ping.cell].id, failure::sight(&failed));
        observation.rtt_us = u64::try_from(ping.launched.elapsed().as_micros()).ok();
        Some((ping.cell, observation))
    }

    fn reply(&mut self, batch: &Batch, received: &[u8]) -> Option<(usize, Observation)> {
        let packet = if self.raw && !self.v6 { without_ip_header(received) } else { received };
        let kind = if self.v6 { V6_REPLY } else { V4_REPLY };
        if packet.len() < HEADER + NONCE || packet[0] != kind {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        // Raw sockets see everybody's replies; the kernel sorts those of datagram sockets.
        if self.raw && word(4) != self.identifier {
            return None;
        }
        let ping = self.pings.get_mut(usize::from(word(6))).filter(|ping| !ping.settled)?;
        ping.settled = true;
        let sight = if packet[HEADER..HEADER + NONCE] == ping.nonce.0.to_be_bytes() {
            Sight::Answered
        } else {
            Sight::Inconclusive { reason: Doubt::WrongPeer, detail: "the echo carries another nonce".into() }
        };
        let mut observation = Observation::of(batch.cells[ping.cell].id, sight);
        observation.rtt_us = u64::try_from(ping.launched.elapsed().as_micros()).ok();
        Some((ping.cell, observation))
    }
}

/// The address that packets towards a target leave from; nothing is sent to find out.
fn local_towards(compass: &Socket, target: IpAddr) -> Option<IpAddr> {
    compass.connect(&SocketAddr::new(target, 9).into()).ok()?;
    Some(compass.local_addr().ok()?.as_socket()?.ip())
}

fn write_request(out: &mut Vec<u8>, v6: bool, identifier: u16, sequence: u16, nonce: Nonce, payload: u16) {
    out.clear();
    out.extend([if v6 { V6_REQUEST } else { V4_REQUEST }, 0, 0, 0]);
    out.extend(identifier.to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend(nonce.0.to_be_bytes());
    out.resize(HEADER + NONCE.max(usize::from(payload)), b'.');
    if !v6 {
        // The kernel fills it in for ICMPv6, whose checksum covers the addresses.
        let sum = checksum(out);
        out[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An ICMP message never starts with the version nibble of IP: its types there are 0, 8, 128 and 129.
fn without_ip_header(packet: &[u8]) -> &[u8] {
    let length = match packet.first().map(|first| (first >> 4, first & 0xf)) {
        Some((4, words)) => usize::from(words) * 4,
        Some((6, _)) => 40,
        _ => 0,
    };
    packet.get(length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_checksum_adds_up_to_zero() {
        for payload in [0, 8, 9, 1400] {
            let mut request = Vec::new();
            write_request(&mut request, false, 77, 3, Nonce(0xfeed), payload);
            assert_eq!(checksum(&request), 0, "payload {payload}");
            assert_eq!(request.len(), 8 + usize::from(payload.max(8)));
        }
    }

    #[test]
    fn the_ip_header_is_skipped_only_where_there_is_one() {
        let mut v4 = vec![0x45; 20];
        v4.extend([8, 0, 1, 2]);
        assert_eq!(without_ip_header(&v4), [8, 0, 1, 2]);
        assert_eq!(without_ip_header(&[128, 0, 1, 2]), [128, 0, 1, 2]);
        assert_eq!(without_ip_header(&[0x60; 10]), [0u8; 0]);
    }
}
