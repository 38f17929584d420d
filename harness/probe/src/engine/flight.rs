//! One cell with a socket of its own, from its first packet to its observation: TCP, SCTP, HTTP, UDP and DNS.
//!
//! Knows its cell and its socket; when to give up is decided by the pass.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error_queue;
use super::failure::{self, Failed};
use super::source_ports::SourcePorts;
use super::talk::{self, Received};
use crate::echo::Nonce;
use crate::wire::{Cell, Doubt, Expect, Observation, Sight, Target};

/// Slower than this, a handshake has needed its first packet twice: the kernel repeats it after 1 s.
const RETRANSMITTED: Duration = Duration::from_millis(950);
/// Ports tried for a datagram before the kernel is left to choose.
const PORT_TRIES: u32 = 32;
/// Bytes of an answer kept while it is incomplete.
const MOST_KEPT: usize = 64 << 10;

/// Buffers that all cells of a pass share.
pub(super) struct Scratch {
    pub(super) received: Box<[u8]>,
    pub(super) control: Vec<u8>,
    pub(super) message: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            received: vec![0; 64 << 10].into_boxed_slice(),
            control: error_queue::control_buffer(),
            message: Vec::with_capacity(2048),
        }
    }
}

/// A socket kept open until the end of the pass.
pub(super) struct Keep {
    socket: Socket,
    reset: bool,
}

impl Keep {
    pub(super) fn new(socket: Socket, reset: bool) -> Self {
        Self { socket, reset }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if self.reset {
            // A reset leaves nothing in TIME-WAIT; that the peer may be gone by now is no matter.
            let _ = self.socket.set_linger(Some(Duration::ZERO));
        }
    }
}

enum Stage {
    Connecting,
    Waiting,
    Settled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Sctp,
    Udp,
}

/// Why a cell has no socket.
pub(super) enum NoSocket {
    /// No file descriptor was left.
    NoFiles,
    Because(Sight),
}

pub(super) struct Flight {
    /// The cell's place in the batch.
    pub(super) cell: usize,
    pub(super) socket: Socket,
    address: SocketAddr,
    transport: Transport,
    nonce: Nonce,
    launched: Instant,
    stage: Stage,
    /// The start of an answer that came in pieces.
    partial: Vec<u8>,
}

impl Flight {
    /// Makes the socket, in the namespace of the calling thread; nothing is sent.
    pub(super) fn open(place: usize, target: &Target, nonce: Nonce, ports: &mut SourcePorts) -> Result<Self, NoSocket> {
        let Some((address, transport)) = socket_of(target) else {
            let detail = "this target has no port".to_owned();
            return Err(NoSocket::Because(Sight::Inconclusive { reason: Doubt::NeverLeft, detail }));
        };
        let socket = open(address, transport).map_err(|error| match errno_of(&error) {
            Errno::EMFILE | Errno::ENFILE => NoSocket::NoFiles,
            errno => NoSocket::Because(failure::no_socket(errno, transport.name())),
        })?;
        match transport {
            Transport::Udp => bind_fresh_port(&socket, address, ports),
            // The end of the handshake travels with the greeting, one packet less (tcp(7), `TCP_QUICKACK`). That a
            // kernel may not do so is no matter.
            Transport::Tcp if !is_handshake(target) => drop(socket.set_tcp_quickack(false)),
            Transport::Tcp | Transport::Sctp => {}
        }
        Ok(Self {
            cell: place,
            socket,
            address,
            transport,
            nonce,
            launched: Instant::now(),
            stage: Stage::Connecting,
            partial: Vec::new(),
        })
    }

    /// Where it is going.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the first packet, from whichever namespace the socket was made in; an observation if that settles it.
    pub(super) fn leave(&mut self, cell: &Cell, scratch: &mut Scratch) -> Option<Observation> {
        self.launched = Instant::now();
        match self.socket.connect(&SockAddr::from(self.address)) {
            Ok(()) => self.connected(cell, scratch),
            // Through links of one kernel the handshake is over as `connect` returns, although it never says so.
            // Then the greeting can go at once, which spares a turn through epoll; else it meets EAGAIN.
            Err(error) if errno_of(&error) == Errno::EINPROGRESS && self.greets_early(cell) => {
                self.connected(cell, scratch)
            }
            Err(error) if errno_of(&error) == Errno::EINPROGRESS => None,
            Err(error) => Some(self.failed(cell, errno_of(&error), scratch)),
        }
    }

    /// Whether a greeting may be tried before the handshake is known to be over. SCTP would queue it and so hide
    /// that nobody answers.
    fn greets_early(&self, cell: &Cell) -> bool {
        self.transport == Transport::Tcp && !is_handshake(&cell.target)
    }

    /// What epoll is asked for; a flight that waits for its answer need not be told that it may send.
    pub(super) fn interest(&self) -> EpollFlags {
        let answer = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match self.stage {
            Stage::Waiting => answer,
            _ => answer | EpollFlags::EPOLLOUT,
        }
    }

    /// Takes in what epoll reports; an observation once the cell is settled.
    pub(super) fn advance(&mut self, cell: &Cell, ready: EpollFlags, scratch: &mut Scratch) -> Option<Observation> {
        if matches!(self.stage, Stage::Settled) {
            return None;
        }
        if ready.intersects(EpollFlags::EPOLLERR) {
            let reported = error_queue::take(self.socket.as_fd(), &mut scratch.received, &mut scratch.control);
            let pending = self.socket.take_error().ok().flatten();
            let errno = pending.as_ref().map(errno_of).or(reported.map(|r| r.errno));
            if let Some(errno) = errno {
                return Some(self.settle_failed(cell, errno, reported));
            }
        }
        let connected = matches!(self.stage, Stage::Connecting) && ready.intersects(EpollFlags::EPOLLOUT);
        if connected && let Some(observation) = self.connected(cell, scratch) {
            return Some(observation);
        }
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP;
        if matches!(self.stage, Stage::Waiting) && ready.intersects(readable) {
            return self.receive(cell, scratch);
        }
        None
    }

    /// The connection is made and the answer outstanding. Datagrams make no connection.
    pub(super) fn is_owed_an_answer(&self) -> bool {
        matches!(self.stage, Stage::Waiting) && self.transport != Transport::Udp
    }

    /// What the cell is if nothing more is heard.
    pub(super) fn expire(&mut self, cell: &Cell) -> Option<Observation> {
        let sight = match (&self.stage, self.transport) {
            (Stage::Settled, _) => return None,
            (Stage::Connecting, _) | (Stage::Waiting, Transport::Udp) => Sight::Silent,
            (Stage::Waiting, _) => Sight::Inconclusive {
                reason: Doubt::NoAnswer,
                detail: "the connection was made, but the answer did not come".into(),
            },
        };
        self.stage = Stage::Settled;
        Some(Observation::of(cell.id, sight))
    }

    /// The socket, to be kept until the end of the pass.
    pub(super) fn into_keep(self) -> Keep {
        Keep::new(self.socket, self.transport != Transport::Udp)
    }

    fn connected(&mut self, cell: &Cell, scratch: &mut Scratch) -> Option<Observation> {
        if is_handshake(&cell.target) {
            return Some(self.settle(Observation::of(cell.id, Sight::Answered)));
        }
        if let Err(detail) = talk::write(&cell.target, self.nonce, &mut scratch.message) {
            let reason = Doubt::NeverLeft;
            let sight = Sight::Inconclusive { reason, detail };
            return Some(self.settle(Observation::of(cell.id, sight)));
        }
        match self.socket.send(&scratch.message) {
            Ok(_) => {
                self.stage = Stage::Waiting;
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.transport == Transport::Tcp => None,
            Err(error) => Some(self.failed(cell, errno_of(&error), scratch)),
        }
    }

    fn receive(&mut self, cell: &Cell, scratch: &mut Scratch) -> Option<Observation> {
        loop {
            let (count, how) = match (&self.socket).read(&mut scratch.received) {
                Ok(count) if self.transport == Transport::Udp => (count, Received::Datagram),
                Ok(0) => (0, Received::WholeStream),
                Ok(count) => (count, Received::Stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Some(self.failed(cell, errno_of(&error), scratch)),
            };
            let received = &scratch.received[..count];
            // Nearly every answer comes whole and is read where it is.
            let seen = if self.partial.is_empty() {
                talk::read(cell, self.nonce, received, how)
            } else {
                self.partial.extend_from_slice(received);
                talk::read(cell, self.nonce, &self.partial, how)
            };
            if let Some(seen) = seen {
                return Some(self.settle(seen));
            }
            if self.partial.is_empty() {
                self.partial.extend_from_slice(received);
            }
            if self.partial.len() > MOST_KEPT {
                return Some(self.settle(talk::wrong_peer(cell, "the answer does not end")));
            }
        }
    }

    fn failed(&mut self, cell: &Cell, errno: Errno, scratch: &mut Scratch) -> Observation {
        let reported = error_queue::take(self.socket.as_fd(), &mut scratch.received, &mut scratch.control);
        self.settle_failed(cell, errno, reported)
    }

    fn settle_failed(&mut self, cell: &Cell, errno: Errno, reported: Option<error_queue::Reported>) -> Observation {
        let failed = Failed {
            errno,
            reported,
            target: self.address.ip(),
            local: self.local().map(|address| address.ip()),
            datagram: self.transport == Transport::Udp,
        };
        self.settle(Observation::of(cell.id, failure::sight(&failed)))
    }

    /// Ends the flight with what was seen, and adds what every outcome has.
    fn settle(&mut self, seen: Observation) -> Observation {
        let took = self.launched.elapsed();
        self.stage = Stage::Settled;
        let answered = self.transport == Transport::Tcp && seen.sight == Sight::Answered;
        Observation {
            rtt_us: u64::try_from(took.as_micros()).ok(),
            local: self.local(),
            retransmitted: answered && took >= RETRANSMITTED,
            ..seen
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket().filter(|address| address.port() != 0)
    }
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Sctp => "SCTP",
            Self::Udp => "UDP",
        }
    }
}

fn socket_of(target: &Target) -> Option<(SocketAddr, Transport)> {
    match target {
        Target::Tcp { address, .. } | Target::Http { address, .. } => Some((*address, Transport::Tcp)),
        Target::Sctp { address, .. } => Some((*address, Transport::Sctp)),
        Target::Udp { address, .. } | Target::Dns { address, .. } => Some((*address, Transport::Udp)),
        Target::Icmp { .. } => None,
    }
}

fn open(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Sctp => (Type::STREAM, Protocol::SCTP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new_raw(Domain::for_address(address), kind.nonblocking().cloexec(), Some(protocol))?;
    if transport != Transport::Sctp {
        error_queue::enable(socket.as_fd(), address.is_ipv6())?;
    }
    Ok(socket)
}

fn bind_fresh_port(socket: &Socket, target: SocketAddr, ports: &mut SourcePorts) {
    let any: IpAddr = if target.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    for _ in 0..PORT_TRIES {
        match socket.bind(&SocketAddr::new(any, ports.draw(target)).into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            // Without a bind the kernel chooses when the socket is connected.
            _ => return,
        }
    }
}

fn is_handshake(target: &Target) -> bool {
    let (Target::Tcp { expect, .. } | Target::Sctp { expect, .. }) = target else {
        return false;
    };
    *expect == Expect::Handshake
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
