//! A resolver of our own, which never asks the C library: which server answered, over what, after which search
//! suffix, and how long each try took.

pub mod message;
pub mod resolv_conf;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::echo::Nonces;
use crate::wire::RecordType;
use message::{MessageError, Rcode, Record, Reply};
use resolv_conf::{Candidate, ResolvConf};

/// How a query travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
}

/// One query and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// The complete name that was asked for.
    pub name: String,
    pub server: SocketAddr,
    pub transport: Transport,
    pub took: Duration,
    /// `NOERROR`, `NXDOMAIN`, `NODATA`, `timeout`, or what failed.
    pub outcome: String,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let ms = self.took.as_secs_f64() * 1000.0;
        write!(f, "{} from {} over {transport}: {} ({ms:.1} ms)", self.name, self.server, self.outcome)
    }
}

/// A name that was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The complete name that was found.
    pub name: String,
    /// The search domain that made it complete.
    pub suffix: Option<String>,
    pub server: SocketAddr,
    pub transport: Transport,
    pub records: Vec<Record>,
    /// All queries, the successful one last.
    pub tries: Vec<Try>,
}

impl Lookup {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.records.iter().filter_map(|record| record.address)
    }
}

/// A name that was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{path}` names no server", path = .path.display())]
    NoServers { path: PathBuf },
    #[error(transparent)]
    Name(#[from] MessageError),
    #[error("`{name}` was not found: {}", last(.tries))]
    NotFound { name: String, tries: Vec<Try> },
    #[error("`{name}` was found, but it has no address")]
    NoAddress { name: String },
    #[error("`{name}`: no server answered within {waited:.1?}; last {}", last(.tries))]
    NoAnswer { name: String, waited: Duration, tries: Vec<Try> },
}

fn last(tries: &[Try]) -> String {
    tries.last().map_or_else(|| "nothing was asked".to_owned(), Try::to_string)
}

/// Asks the servers of one resolv.conf.
#[derive(Debug)]
pub struct Resolver {
    conf: ResolvConf,
    path: PathBuf,
    ids: Nonces,
}

/// Whether one candidate was found, is not there, or could not be asked for.
enum Asked {
    Found(Reply, SocketAddr, Transport),
    Absent,
    NoAnswer,
}

impl Resolver {
    /// The resolver that `/etc/resolv.conf` describes.
    pub fn of_this_host() -> Result<Self, LookupError> {
        Self::from_file(Path::new("/etc/resolv.conf"))
    }

    pub fn from_file(path: &Path) -> Result<Self, LookupError> {
        let path = path.to_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::new(ResolvConf::parse(&text), path),
            Err(source) => Err(LookupError::Unreadable { path, source }),
        }
    }

    /// A resolver over a configuration; `path` is where it is said to come from.
    pub fn new(conf: ResolvConf, path: PathBuf) -> Result<Self, LookupError> {
        if conf.servers.is_empty() {
            return Err(LookupError::NoServers { path });
        }
        Ok(Self { conf, path, ids: Nonces::default() })
    }

    /// Where the configuration came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves `name`, with the search domains where they apply, within `deadline` over all.
    pub fn resolve(&mut self, name: &str, record: RecordType, deadline: Duration) -> Result<Lookup, LookupError> {
        let started = Instant::now();
        let mut tries = Vec::new();
        for candidate in self.conf.candidates(name) {
            match self.ask_all(&candidate, record, started + deadline, &mut tries)? {
                Asked::Found(reply, server, transport) => {
                    let Candidate { name, suffix } = candidate;
                    return Ok(Lookup { name, suffix, server, transport, records: reply.records, tries });
                }
                Asked::Absent => {}
                // A server that is silent for one name is silent for all.
                Asked::NoAnswer => {
                    let (name, waited) = (name.to_owned(), started.elapsed());
                    return Err(LookupError::NoAnswer { name, waited, tries });
                }
            }
        }
        Err(LookupError::NotFound { name: name.to_owned(), tries })
    }

    fn ask_all(
        &mut self,
        candidate: &Candidate,
        record: RecordType,
        deadline: Instant,
        tries: &mut Vec<Try>,
    ) -> Result<Asked, LookupError> {
        for _ in 0..self.conf.attempts {
            for server in self.conf.servers.clone() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && !tries.is_empty() {
                    return Ok(Asked::NoAnswer);
                }
                let timeout = self.conf.timeout.min(left).max(Duration::from_millis(1));
                let Some((reply, transport)) = self.ask(candidate, record, server, timeout, tries)? else {
                    continue;
                };
                match reply.rcode {
                    Rcode::NoError if !reply.records.is_empty() => {
                        return Ok(Asked::Found(reply, server, transport));
                    }
                    Rcode::NoError | Rcode::NameError => return Ok(Asked::Absent),
                    // This server cannot say; another may.
                    _ => {}
                }
            }
        }
        Ok(Asked::NoAnswer)
    }

    /// Asks one server, over TCP again if the answer does not fit a datagram.
    fn ask(
        &mut self,
        candidate: &Candidate,
        record: RecordType,
        server: SocketAddr,
        timeout: Duration,
        tries: &mut Vec<Try>,
    ) -> Result<Option<(Reply, Transport)>, LookupError> {
        for transport in [Transport::Udp, Transport::Tcp] {
            let id = self.ids.draw().0 as u16;
            let query = message::query(id, &candidate.name, record)?;
            let started = Instant::now();
            let reply = match transport {
                Transport::Udp => over_udp(server, &query, id, &candidate.name, timeout),
                Transport::Tcp => over_tcp(server, &query, id, &candidate.name, timeout),
            };
            let name = candidate.name.clone();
            tries.push(Try { name, server, transport, took: started.elapsed(), outcome: outcome(&reply) });
            match reply {
                Ok(reply) if reply.truncated && transport == Transport::Udp => {}
                Ok(reply) => return Ok(Some((reply, transport))),
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn outcome(reply: &io::Result<Reply>) -> String {
    match reply {
        Ok(reply) if reply.truncated => "truncated".into(),
        Ok(reply) if reply.rcode == Rcode::NoError && reply.records.is_empty() => "NODATA".into(),
        Ok(reply) => message::rcode_name(reply.rcode),
        Err(error) if is_timeout(error) => "timeout".into(),
        Err(error) => error.to_string().to_lowercase(),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn over_udp(server: SocketAddr, query: &[u8], id: u16, name: &str, timeout: Duration) -> io::Result<Reply> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(query)?;
    let deadline = Instant::now() + timeout;
    let mut bytes = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let count = socket.recv(&mut bytes)?;
        // A stray or forged datagram is not an answer: keep listening for the real one.
        match message::read(&bytes[..count]) {
            Ok(reply) if reply.answers(id, name) => return Ok(reply),
            _ => {}
        }
    }
}

fn over_tcp(server: SocketAddr, query: &[u8], id: u16, name: &str, timeout: Duration) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(query.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    match message::read(&bytes) {
        Ok(reply) if reply.answers(id, name) => Ok(reply),
        Ok(_) => Err(io::Error::other("the reply is to another query")),
        Err(error) => Err(io::Error::other(error)),
    }
}
