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
use crate::dns_client::message;
use crate::echo::{self, HttpReply, Nonce};
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
    pub(super) fn open(
        place: usize,
        target: &Target,
        nonce: Nonce,
        ports: &mut SourcePorts,
    ) -> Result<Self, NoSocket> {
        let Some((address, transport)) = socket_of(target) else {
            let detail = "this target has no port".to_owned();
            return Err(NoSocket::Because(Sight::Inconclusive {
                reason: Doubt::NeverLeft,
                detail,
            }));
        };
        let socket = open(address, transport).map_err(|error| match errno_of(&error) {
            Errno::EMFILE | Errno::ENFILE => NoSocket::NoFiles,
            errno => NoSocket::Because(failure::no_socket(errno, transport.name())),
        })?;
        if transport == Transport::Udp {
            bind_fresh_port(&socket, address, ports);
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
        let handshake = matches!(
            cell.target,
            Target::Tcp {
                expect: Expect::Handshake,
                ..
            }
        );
        self.transport == Transport::Tcp && !handshake
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
    pub(super) fn advance(
        &mut self,
        cell: &Cell,
        ready: EpollFlags,
        scratch: &mut Scratch,
    ) -> Option<Observation> {
        if matches!(self.stage, Stage::Settled) {
            return None;
        }
        if ready.intersects(EpollFlags::EPOLLERR) {
            let reported = error_queue::take(
                self.socket.as_fd(),
                &mut scratch.received,
                &mut scratch.control,
            );
            let pending = self.socket.take_error().ok().flatten();
            let errno = pending.as_ref().map(errno_of).or(reported.map(|r| r.errno));
            if let Some(errno) = errno {
                return Some(self.settle_failed(cell, errno, reported));
            }
        }
        let connected =
            matches!(self.stage, Stage::Connecting) && ready.intersects(EpollFlags::EPOLLOUT);
        if connected && let Some(observation) = self.connected(cell, scratch) {
            return Some(observation);
        }
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLRDHUP;
        if matches!(self.stage, Stage::Waiting) && ready.intersects(readable) {
            return self.receive(cell, scratch);
        }
        None
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
        let message = &mut scratch.message;
        message.clear();
        match &cell.target {
            Target::Tcp {
                expect: Expect::Handshake,
                ..
            }
            | Target::Sctp {
                expect: Expect::Handshake,
                ..
            } => {
                return Some(self.settle(cell, Sight::Answered));
            }
            Target::Tcp { .. } | Target::Sctp { .. } | Target::Icmp { .. } => {
                message.extend(echo::hello(self.nonce));
            }
            Target::Udp { payload, .. } => {
                message.extend(echo::hello(self.nonce));
                message.resize(message.len() + usize::from(*payload), b'.');
            }
            Target::Http { host, path, .. } => {
                message.extend(echo::http_request(host, path, self.nonce).as_bytes());
            }
            Target::Dns { name, record, .. } => {
                match message::query(query_id(self.nonce), name, *record) {
                    Ok(query) => message.extend(query),
                    Err(error) => {
                        let detail = error.to_string();
                        return Some(self.settle(
                            cell,
                            Sight::Inconclusive {
                                reason: Doubt::NeverLeft,
                                detail,
                            },
                        ));
                    }
                }
            }
        }
        match self.socket.send(message) {
            Ok(_) => {
                self.stage = Stage::Waiting;
                None
            }
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && self.transport == Transport::Tcp =>
            {
                None
            }
            Err(error) => Some(self.failed(cell, errno_of(&error), scratch)),
        }
    }

    fn receive(&mut self, cell: &Cell, scratch: &mut Scratch) -> Option<Observation> {
        loop {
            let (count, ended) = match (&self.socket).read(&mut scratch.received) {
                Ok(0) if self.transport != Transport::Udp => (0, true),
                Ok(count) => (count, false),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Some(self.failed(cell, errno_of(&error), scratch)),
            };
            let received = &scratch.received[..count];
            // Nearly every answer comes whole and is read where it is.
            let found = if self.partial.is_empty() {
                self.judge_answer(cell, received, ended)
            } else {
                self.partial.extend_from_slice(received);
                let whole = std::mem::take(&mut self.partial);
                let found = self.judge_answer(cell, &whole, ended);
                self.partial = whole;
                found
            };
            if found.is_some() {
                return found;
            }
            if self.partial.is_empty() {
                self.partial.extend_from_slice(received);
            }
            if self.partial.len() > MOST_KEPT {
                return Some(self.wrong_peer(cell, "the answer does not end"));
            }
        }
    }

    /// Reads the bytes that came so far; nothing while they are incomplete.
    fn judge_answer(&mut self, cell: &Cell, bytes: &[u8], ended: bool) -> Option<Observation> {
        match &cell.target {
            Target::Http { .. } => self.judge_http(cell, bytes, ended),
            Target::Dns { name, .. } => Some(self.judge_dns(cell, bytes, name)),
            _ => match echo::read_answer(bytes) {
                Ok(Some(answer)) if answer.nonce == self.nonce => {
                    let mut observation = self.settle(cell, Sight::Answered);
                    observation.peer = Some(answer.identity.to_owned());
                    observation.seen_source = Some(answer.source);
                    Some(observation)
                }
                Ok(Some(_)) => Some(self.wrong_peer(cell, "the answer carries another nonce")),
                Ok(None) if ended => Some(self.closed_early(cell)),
                Ok(None) if self.transport == Transport::Udp => {
                    Some(self.wrong_peer(cell, "the answer is cut short"))
                }
                Ok(None) => None,
                Err(echo::NotAnAnswer) => {
                    Some(self.wrong_peer(cell, "the answer is not of a cknet server"))
                }
            },
        }
    }

    fn judge_http(&mut self, cell: &Cell, bytes: &[u8], ended: bool) -> Option<Observation> {
        let (status, answer) = match echo::read_http(bytes, ended) {
            HttpReply::Incomplete => return None,
            HttpReply::NotHttp if bytes.is_empty() => return Some(self.closed_early(cell)),
            HttpReply::NotHttp => return Some(self.wrong_peer(cell, "the answer is not HTTP/1.1")),
            HttpReply::Foreign { status } => (status, None),
            HttpReply::Ours { status, answer } => (status, Some(answer)),
        };
        if answer
            .as_ref()
            .is_some_and(|answer| answer.nonce.as_deref() != Some(&self.nonce.to_string()))
        {
            return Some(self.wrong_peer(cell, "the answer carries another nonce"));
        }
        let mut observation = self.settle(cell, Sight::Answered);
        observation.http_status = Some(status);
        if let Some(answer) = answer {
            observation.peer = Some(answer.identity);
            observation.seen_source = Some(answer.source);
        }
        Some(observation)
    }

    fn judge_dns(&mut self, cell: &Cell, bytes: &[u8], name: &str) -> Observation {
        let reply = match message::read(bytes) {
            Ok(reply) if reply.answers(query_id(self.nonce), name) => reply,
            Ok(_) => return self.wrong_peer(cell, "the reply is to another query"),
            Err(error) => return self.wrong_peer(cell, &error.to_string()),
        };
        let records: Vec<_> = reply
            .records
            .into_iter()
            .map(|record| record.value)
            .collect();
        let sight = match reply.rcode {
            message::Rcode::NoError if records.is_empty() => Sight::DnsFailed {
                reason: "NODATA".into(),
            },
            message::Rcode::NoError => Sight::Answered,
            rcode => Sight::DnsFailed {
                reason: message::rcode_name(rcode),
            },
        };
        Observation {
            records,
            ..self.settle(cell, sight)
        }
    }

    fn wrong_peer(&mut self, cell: &Cell, detail: &str) -> Observation {
        self.settle(
            cell,
            Sight::Inconclusive {
                reason: Doubt::WrongPeer,
                detail: detail.to_owned(),
            },
        )
    }

    fn closed_early(&mut self, cell: &Cell) -> Observation {
        let detail = "the peer closed the connection before it answered".to_owned();
        self.settle(
            cell,
            Sight::Inconclusive {
                reason: Doubt::ClosedEarly,
                detail,
            },
        )
    }

    fn failed(&mut self, cell: &Cell, errno: Errno, scratch: &mut Scratch) -> Observation {
        let reported = error_queue::take(
            self.socket.as_fd(),
            &mut scratch.received,
            &mut scratch.control,
        );
        self.settle_failed(cell, errno, reported)
    }

    fn settle_failed(
        &mut self,
        cell: &Cell,
        errno: Errno,
        reported: Option<error_queue::Reported>,
    ) -> Observation {
        let failed = Failed {
            errno,
            reported,
            target: self.address.ip(),
            local: self.local().map(|address| address.ip()),
            datagram: self.transport == Transport::Udp,
        };
        self.settle(cell, failure::sight(&failed))
    }

    fn settle(&mut self, cell: &Cell, sight: Sight) -> Observation {
        let took = self.launched.elapsed();
        self.stage = Stage::Settled;
        let retransmitted =
            self.transport == Transport::Tcp && took >= RETRANSMITTED && sight == Sight::Answered;
        Observation {
            rtt_us: u64::try_from(took.as_micros()).ok(),
            local: self.local(),
            retransmitted,
            ..Observation::of(cell.id, sight)
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        self.socket
            .local_addr()
            .ok()?
            .as_socket()
            .filter(|address| address.port() != 0)
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
        Target::Tcp { address, .. } | Target::Http { address, .. } => {
            Some((*address, Transport::Tcp))
        }
        Target::Sctp { address, .. } => Some((*address, Transport::Sctp)),
        Target::Udp { address, .. } | Target::Dns { address, .. } => {
            Some((*address, Transport::Udp))
        }
        Target::Icmp { .. } => None,
    }
}

fn open(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Sctp => (Type::STREAM, Protocol::SCTP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new_raw(
        Domain::for_address(address),
        kind.nonblocking().cloexec(),
        Some(protocol),
    )?;
    if transport != Transport::Sctp {
        error_queue::enable(socket.as_fd(), address.is_ipv6())?;
    }
    Ok(socket)
}

fn bind_fresh_port(socket: &Socket, target: SocketAddr, ports: &mut SourcePorts) {
    let any: IpAddr = if target.is_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    for _ in 0..PORT_TRIES {
        match socket.bind(&SocketAddr::new(any, ports.draw(target)).into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            // Without a bind the kernel chooses when the socket is connected.
            _ => return,
        }
    }
}

fn query_id(nonce: Nonce) -> u16 {
    nonce.0 as u16
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}
