//! The answering side of a probe: says who it is to whoever greets it, on TCP, SCTP, UDP and HTTP.
//!
//! Owns its listeners and one epoll loop on the calling thread. Knows nothing of who asks or why.

mod connection;
mod datagram;
mod listen_at;
mod listener;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use connection::Connections;
use listener::Listener;

pub use listen_at::{ListenAt, ListenProtocol, ParseListenError};

/// What `cknet probe serve` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Who answers, `namespace/pod`; else the environment's CKNET_IDENTITY.
    #[arg(long)]
    pub identity: Option<String>,
    /// What to listen on, such as 8080/tcp, 53/udp or 127.0.0.1:9/sctp; nothing unless given.
    #[arg(long = "listen")]
    pub listen: Vec<ListenAt>,
    /// Goes on answering after SIGTERM, until it is killed: a pod that takes its time to end.
    #[arg(long)]
    pub linger: bool,
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("no identity: give `--identity NAMESPACE/NAME` or set `CKNET_IDENTITY`")]
    NoIdentity,
    #[error("`{identity}` cannot be an identity: it has to be 1 to 512 characters without white space")]
    BadIdentity { identity: String },
    #[error("cannot listen on `{at}`: {source}")]
    Bind { at: ListenAt, source: io::Error },
    #[error("cannot listen on `{at}`: SCTP is unsupported by this kernel")]
    NoSctp { at: ListenAt },
    #[error("cannot wait for connections: {0}")]
    Wait(#[from] io::Error),
}

const EVENTS: usize = 256;
/// Marks listeners among the values that epoll returns; connections have generations below it.
const LISTENER: u64 = 1 << 63;
const STOP: u64 = u64::MAX;
/// How often connections are looked at for their age.
const SWEEP: Duration = Duration::from_secs(1);

/// A server whose ports are open.
pub struct Server {
    epoll: Epoll,
    listeners: Vec<Listener>,
    connections: Connections,
}

impl Server {
    /// Opens all listeners in the namespace of the calling thread, or none.
    pub fn bind(identity: &str, listen: &[ListenAt]) -> Result<Self, ServeError> {
        if identity.is_empty() || identity.len() > 512 || identity.contains(char::is_whitespace) {
            return Err(ServeError::BadIdentity { identity: identity.to_owned() });
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?;
        let listeners = listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        for (place, listener) in listeners.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | place as u64);
            epoll.add(listener, event).map_err(io::Error::from)?;
        }
        Ok(Self { epoll, listeners, connections: Connections::new(identity) })
    }

    /// What it listens on, in the order asked for; an IPv6 wildcard takes IPv4 as well.
    pub fn listening(&self) -> impl Iterator<Item = (SocketAddr, ListenProtocol)> + '_ {
        self.listeners.iter().map(Listener::local)
    }

    /// Answers until `stop` is readable.
    pub fn run(mut self, stop: BorrowedFd<'_>) -> Result<(), ServeError> {
        self.epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(io::Error::from)?;
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            let wait = if self.connections.is_empty() { EpollTimeout::NONE } else { sweep_timeout() };
            let count = match self.epoll.wait(&mut events, wait) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
            };
            let now = Instant::now();
            for event in &events[..count] {
                match event.data() {
                    STOP => return Ok(()),
                    data if data & LISTENER != 0 => self.take((data & !LISTENER) as usize, now),
                    data => self.connections.advance(data, event.events(), now),
                }
            }
            self.connections.drop_older(now);
        }
    }

    fn take(&mut self, listener: usize, now: Instant) {
        match &self.listeners[listener] {
            Listener::Streams(socket) => self.connections.accept(socket, &self.epoll, now),
            Listener::Datagrams(port) => port.answer_all(self.connections.identity()),
        }
    }
}

/// The personality `cknet probe serve`: says on `out` what it listens on, and answers until SIGTERM or SIGINT.
pub fn run(options: &Options, out: &mut impl Write) -> Result<(), ServeError> {
    let identity = options.identity.clone().or_else(|| std::env::var("CKNET_IDENTITY").ok());
    let identity = identity.ok_or(ServeError::NoIdentity)?;
    // Before the ports are open, so that whoever sees them open can already end us in order.
    let stop = stop_signals(options.linger)?;
    let _ = crate::engine::raise_open_file_limit();
    let server = Server::bind(&identity, &options.listen)?;
    for (address, protocol) in server.listening() {
        writeln!(out, "listening on {address}/{protocol}")?;
    }
    out.flush()?;
    server.run(stop.as_fd())
}

/// Turns the signals that end a server into something to wait for. Needed also as a container's first process,
/// where signals without a handler are ignored. One that lingers is never told of SIGTERM.
fn stop_signals(linger: bool) -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    if linger {
        signals.remove(Signal::SIGTERM);
    }
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn sweep_timeout() -> EpollTimeout {
    EpollTimeout::try_from(SWEEP).unwrap_or(EpollTimeout::ZERO)
}
