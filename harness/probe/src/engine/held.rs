//! Connections that stay open from one request to the next, to see whether a change of the network cuts them.
//!
//! Owns their sockets. Each word that is sent carries a nonce of its own, so that a late echo of an earlier one is
//! never taken for the answer. Knows nothing of what ought to become of a connection.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::flight::errno_of;
use crate::echo::{self, Nonce, NotAnAnswer};
use crate::wire::{Line, VantageId};

/// Bytes that are read at once; an answer has about a hundred.
const CHUNK: usize = 4 << 10;
/// Unread bytes kept of a peer that is not ours.
const MOST_KEPT: usize = 64 << 10;

/// One connection that is held.
struct Held {
    socket: Socket,
    from: VantageId,
    unread: Vec<u8>,
    /// How it ended, once it has: nothing more can come of it.
    over: Option<Line>,
}

/// All connections that are held, by the names that the caller gave.
#[derive(Default)]
pub(super) struct HeldConnections {
    by_name: BTreeMap<String, Held>,
}

/// A word on its way.
struct Word {
    nonce: Nonce,
    sent: Instant,
    line: Option<Line>,
}

impl HeldConnections {
    /// Opens a connection in the namespace of the calling thread and exchanges a word over it. It is held only if
    /// the echo came; one that has the name already is closed.
    pub(super) fn open(
        &mut self,
        name: &str,
        from: &VantageId,
        address: SocketAddr,
        quiet: Duration,
        nonce: Nonce,
    ) -> Line {
        self.by_name.remove(name);
        let socket = match dial(address, quiet) {
            Ok(socket) => socket,
            Err(line) => return line,
        };
        let mut held = Held { socket, from: from.clone(), unread: Vec::new(), over: None };
        let mut word = held.say(nonce);
        listen(&mut [(&mut held, &mut word)], quiet);
        let line = word.line.unwrap_or(Line::Silent);
        if matches!(line, Line::Echoed { .. }) {
            self.by_name.insert(name.to_owned(), held);
        }
        line
    }

    /// The vantage from which a connection was opened.
    pub(super) fn vantage(&self, name: &str) -> Option<&VantageId> {
        self.by_name.get(name).map(|held| &held.from)
    }

    /// Sends a word over each of these connections at once and waits for the echoes, `quiet` at the longest.
    pub(super) fn exchange(
        &mut self,
        names: &[String],
        quiet: Duration,
        mut nonce: impl FnMut() -> Nonce,
    ) -> BTreeMap<String, Line> {
        let mut words: Vec<(&String, &mut Held, Word)> = Vec::new();
        for (name, held) in self.by_name.iter_mut().filter(|(name, _)| names.contains(name)) {
            let word = held.say(nonce());
            words.push((name, held, word));
        }
        let mut open: Vec<_> = words.iter_mut().map(|(_, held, word)| (&mut **held, word)).collect();
        listen(&mut open, quiet);
        words.into_iter().map(|(name, _, word)| (name.clone(), word.line.unwrap_or(Line::Silent))).collect()
    }

    /// Closes all connections; says how many there were.
    pub(super) fn release(&mut self) -> usize {
        let count = self.by_name.len();
        self.by_name.clear();
        count
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A reset leaves nothing in TIME-WAIT; that the peer may be gone by now is no matter.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

impl Held {
    fn say(&mut self, nonce: Nonce) -> Word {
        let mut word = Word { nonce, sent: Instant::now(), line: self.over.clone() };
        if word.line.is_none() {
            match self.socket.send(&echo::hello(nonce)) {
                // The buffer is full of words that nobody acknowledges: this one is as silent as they are.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => word.line = Some(self.end(failed(errno_of(&error)))),
            }
        }
        word
    }

    /// Takes in what has come.
    fn hear(&mut self, word: &mut Word) {
        let mut chunk = [0; CHUNK];
        while word.line.is_none() {
            let line = match (&self.socket).read(&mut chunk) {
                Ok(0) => self.end(Line::Ended),
                Ok(count) => {
                    self.unread.extend_from_slice(&chunk[..count]);
                    match self.echo_of(word) {
                        Some(line) => line,
                        None => continue,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.end(failed(errno_of(&error))),
            };
            word.line = Some(line);
        }
    }

    /// The echo of this word among the unread bytes; those of earlier words are passed over.
    fn echo_of(&mut self, word: &Word) -> Option<Line> {
        loop {
            let (ours, line) = match echo::read_answer(&self.unread) {
                Ok(None) if self.unread.len() < MOST_KEPT => return None,
                Ok(None) | Err(NotAnAnswer) => {
                    let detail = "the peer does not speak as a cknet server does".to_owned();
                    return Some(Line::Unknown { detail });
                }
                Ok(Some(answer)) => {
                    let rtt_us = u64::try_from(word.sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let peer = answer.identity.to_owned();
                    (answer.nonce == word.nonce, Line::Echoed { rtt_us, peer, seen_source: answer.source })
                }
            };
            let end = self.unread.iter().position(|byte| *byte == b'\n').map_or(self.unread.len(), |at| at + 1);
            self.unread.drain(..end);
            if ours {
                return Some(line);
            }
        }
    }

    fn end(&mut self, line: Line) -> Line {
        self.over = Some(line.clone());
        line
    }
}

/// Waits until each word has its echo or its connection has ended, until the deadline at the longest.
fn listen(open: &mut [(&mut Held, &mut Word)], quiet: Duration) {
    let deadline = Instant::now() + quiet;
    loop {
        for (held, word) in open.iter_mut() {
            held.hear(word);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let waiting: Vec<&Held> =
            open.iter().filter(|(_, word)| word.line.is_none()).map(|(held, _)| &**held).collect();
        if waiting.is_empty() || left.is_zero() {
            return;
        }
        let mut ready: Vec<PollFd<'_>> =
            waiting.iter().map(|held| PollFd::new(held.socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut ready, timeout(left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// A connection, or what came of the attempt.
fn dial(address: SocketAddr, quiet: Duration) -> Result<Socket, Line> {
    let unknown = |error: io::Error| Line::Unknown { detail: format!("no socket for TCP: {error}") };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP)).map_err(unknown)?;
    // Each word goes at once, although earlier ones may not be acknowledged.
    socket.set_tcp_nodelay(true).map_err(unknown)?;
    match socket.connect(&SockAddr::from(address)) {
        Ok(()) => return Ok(socket),
        Err(error) if errno_of(&error) == Errno::EINPROGRESS => {}
        Err(error) => return Err(failed(errno_of(&error))),
    }
    let deadline = Instant::now() + quiet;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Line::Silent);
        }
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut ready, timeout(left)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(Line::Unknown { detail: format!("cannot wait: {}", errno.desc()) }),
        }
    }
    match socket.take_error() {
        Ok(None) => Ok(socket),
        Ok(Some(error)) => Err(failed(errno_of(&error))),
        Err(error) => Err(unknown(error)),
    }
}

fn failed(errno: Errno) -> Line {
    match errno {
        Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNREFUSED => Line::Reset,
        // The kernel gave up repeating what nobody acknowledged.
        Errno::ETIMEDOUT => Line::Silent,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES | Errno::EPERM => {
            Line::Unreachable { errno: format!("{errno:?}") }
        }
        _ => Line::Unknown { detail: errno.desc().to_lowercase() },
    }
}

fn timeout(left: Duration) -> PollTimeout {
    // Rounded up, lest the last millisecond be a busy loop.
    let millis = left.as_millis().saturating_add(1);
    u16::try_from(millis).map_or(PollTimeout::MAX, PollTimeout::from)
}
