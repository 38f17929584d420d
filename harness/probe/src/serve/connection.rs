//! Accepted connections: read a greeting or an HTTP request, answer, stay until the peer closes.
//!
//! A connection stays open after its answer, because a client that probes again must not be given the same ports
//! while the network between still remembers them; it ends after [`LONGEST`] at the latest.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockAddr, Socket};

use crate::echo::{self, HELLO_LEN, HttpAnswer, MAX_HEAD, Opening};

/// How long a connection may be silent.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections accepted at one go, so that those already accepted are answered in between.
const BATCH: usize = 256;

struct Connection {
    /// Left blocking, which saves two calls for each connection: every use says that it will not wait.
    socket: Socket,
    source: SocketAddr,
    /// Which of its successive owners holds this slot.
    generation: u32,
    /// The start of a message that came in pieces.
    partial: Vec<u8>,
    /// When it was accepted, or last heard of.
    heard: Instant,
    /// HTTP was answered; what else comes is read and dropped.
    done: bool,
}

/// All connections, in slots that are used again; epoll knows each by generation and slot.
pub(super) struct Connections {
    identity: String,
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    by_age: VecDeque<(Instant, u64)>,
    generation: u32,
    buffer: Box<[u8]>,
    answer: Vec<u8>,
}

impl Connections {
    pub(super) fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            slots: Vec::new(),
            free: Vec::new(),
            by_age: VecDeque::new(),
            generation: 0,
            buffer: vec![0; 16 << 10].into_boxed_slice(),
            answer: Vec::with_capacity(1024),
        }
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// Accepts what waits at a listener.
    pub(super) fn accept(&mut self, listener: &Socket, epoll: &Epoll, now: Instant) {
        for _ in 0..BATCH {
            match listener.accept_raw() {
                Ok((socket, source)) => self.take_in(socket, &source, epoll, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // Out of descriptors: the oldest makes room, else the listener would be ready for ever.
                    Some(Errno::EMFILE | Errno::ENFILE) if self.drop_oldest() => {}
                    Some(Errno::ECONNABORTED | Errno::EINTR) => {}
                    _ => return,
                },
            }
        }
    }

    fn take_in(&mut self, socket: Socket, source: &SockAddr, epoll: &Epoll, now: Instant) {
        let Some(source) = source.as_socket().map(canonical) else {
            return;
        };
        // 31 bits, so that the value stays below the mark of listeners.
        self.generation = (self.generation + 1) & 0x3fff_ffff;
        let generation = self.generation;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let key = key(slot, generation);
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET, key);
        let mut connection = Connection { socket, source, generation, partial: Vec::new(), heard: now, done: false };
        // The greeting is often here by now; answered before epoll knows the connection, it costs no event.
        let goes_on = connection.converse(&self.identity, &mut self.buffer, &mut self.answer, false);
        if !goes_on || epoll.add(&connection.socket, event).is_err() {
            self.free.push(slot);
            return;
        }
        self.slots[slot as usize] = Some(connection);
        self.by_age.push_back((now, key));
    }

    /// Takes in what epoll reports of a connection.
    pub(super) fn advance(&mut self, key: u64, ready: EpollFlags, now: Instant) {
        let slot = (key & 0xffff_ffff) as usize;
        let Some(connection) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        if u64::from(connection.generation) != key >> 32 {
            return;
        }
        connection.heard = now;
        let broken = ready.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        let ended = ready.intersects(EpollFlags::EPOLLRDHUP);
        let (identity, buffer, answer) = (&self.identity, &mut self.buffer, &mut self.answer);
        if broken || !connection.converse(identity, buffer, answer, ended) {
            self.close(key);
        }
    }

    /// Closes connections that have been silent for long enough, and forgets those that are closed.
    pub(super) fn drop_older(&mut self, now: Instant) {
        while let Some((age, key)) = self.by_age.front().copied() {
            let heard = self.heard(key);
            if heard.is_some() && now.duration_since(age) < LONGEST {
                return;
            }
            self.by_age.pop_front();
            match heard {
                // One that has spoken meanwhile queues again, with those accepted when it spoke or a little later.
                Some(heard) if now.duration_since(heard) < LONGEST => self.by_age.push_back((heard, key)),
                _ => {
                    self.close(key);
                }
            }
        }
    }

    /// When an open connection was last heard of.
    fn heard(&self, key: u64) -> Option<Instant> {
        let connection = self.slots.get((key & 0xffff_ffff) as usize).and_then(Option::as_ref)?;
        (u64::from(connection.generation) == key >> 32).then_some(connection.heard)
    }

    /// Forgets the oldest entry; says whether that closed a connection.
    fn drop_oldest(&mut self) -> bool {
        while let Some((_, key)) = self.by_age.pop_front() {
            if self.close(key) {
                return true;
            }
        }
        false
    }

    /// Closes a connection; says whether it was still open.
    fn close(&mut self, key: u64) -> bool {
        let open = self.heard(key).is_some();
        if open {
            let slot = (key & 0xffff_ffff) as u32;
            self.slots[slot as usize] = None;
            self.free.push(slot);
        }
        open
    }
}

impl Connection {
    /// Reads and answers all that has come; false when the connection is over.
    ///
    /// A read that does not fill the buffer has emptied the socket, so that another is due only where the peer is
    /// known to have `ended`: epoll does not say that twice.
    fn converse(&mut self, identity: &str, buffer: &mut [u8], answer: &mut Vec<u8>, ended: bool) -> bool {
        loop {
            let count = match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => continue,
                Err(_) => return false,
            };
            let emptied = count < buffer.len() && !ended;
            if self.done {
                if emptied {
                    return true;
                }
                continue;
            }
            self.partial.extend_from_slice(&buffer[..count]);
            answer.clear();
            let goes_on = self.read_messages(identity, answer);
            // An answer is far smaller than a send buffer: one that does not fit is to a peer that never reads.
            if !answer.is_empty() && !self.send(answer) {
                return false;
            }
            if self.done {
                let _ = self.socket.shutdown(Shutdown::Write);
            }
            if !goes_on || emptied {
                return goes_on;
            }
        }
    }

    /// Sends without waiting; says whether all of it went.
    fn send(&self, answer: &[u8]) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.as_raw_fd(), answer, flags).is_ok_and(|sent| sent == answer.len())
    }

    /// Answers each whole message in `partial`; false for one that is not ours to answer.
    fn read_messages(&mut self, identity: &str, answer: &mut Vec<u8>) -> bool {
        while !self.partial.is_empty() {
            match echo::opening(&self.partial) {
                Opening::Hello(nonce) => {
                    echo::write_answer(answer, nonce, identity, self.source);
                    self.partial.drain(..HELLO_LEN);
                }
                Opening::Incomplete => return true,
                Opening::Foreign => return false,
                Opening::Http => {
                    let Some(end) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
                        return self.partial.len() <= MAX_HEAD;
                    };
                    let head = String::from_utf8_lossy(&self.partial[..end]).into_owned();
                    self.answer_http(identity, &head, answer);
                    self.partial = Vec::new();
                    self.done = true;
                }
            }
        }
        true
    }

    fn answer_http(&self, identity: &str, head: &str, answer: &mut Vec<u8>) {
        let local = self.socket.local_addr().ok().and_then(|address| address.as_socket()).map(canonical);
        let nonce = echo::http_nonce(head).map(|nonce| nonce.to_string());
        let body = HttpAnswer { identity: identity.to_owned(), source: self.source, local, nonce };
        echo::write_http(answer, &body, head.starts_with("HEAD "));
    }
}

fn key(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

/// An IPv4 client of a listener for both families comes as a mapped IPv6 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}
