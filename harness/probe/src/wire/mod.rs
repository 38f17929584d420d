//! The words that travel between whoever asks for probes and the agent that makes them.
//!
//! Owns the request and observation types and, in [`frame`], how they are put on a stream. Knows nothing of
//! sockets and nothing of what an observation means for an expectation.

pub mod frame;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of these types. The agent states it in [`AgentReply::Hello`]; a caller of another version must not
/// go on.
pub const VERSION: u32 = 2;

/// The place a probe leaves from: a name the caller gives to a network namespace with [`AgentRequest::Attach`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VantageId(String);

impl VantageId {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for VantageId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for VantageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What counts as an answer on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// A cknet server has to return our nonce; any other answer leaves the cell inconclusive.
    #[default]
    Echo,
    /// The completed handshake is the answer, for servers that are not ours. It names no peer.
    Handshake,
}

/// The record a DNS cell asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    #[default]
    A,
    Aaaa,
    Cname,
    Ptr,
    Srv,
    Txt,
}

/// What one probe is sent to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Target {
    Tcp {
        address: SocketAddr,
        #[serde(default)]
        expect: Expect,
    },
    /// One datagram; only a reply counts as an answer.
    Udp {
        address: SocketAddr,
        /// Bytes of padding after the greeting. The answer is padded to the same size, so both directions are
        /// tested.
        #[serde(default)]
        payload: u16,
    },
    Sctp {
        address: SocketAddr,
        #[serde(default)]
        expect: Expect,
    },
    /// One echo request.
    Icmp {
        address: IpAddr,
        /// Bytes after the ICMP header; at least the eight of the nonce are sent.
        #[serde(default)]
        payload: u16,
        /// No fragments: on IPv4 the packet carries the flag "don't fragment", whatever the kernel knows of the path.
        #[serde(default)]
        whole: bool,
    },
    /// One `GET` over HTTP/1.1.
    Http {
        address: SocketAddr,
        /// The `Host` header.
        host: String,
        path: String,
    },
    /// One query over UDP.
    Dns {
        /// The server that is asked.
        address: SocketAddr,
        /// The full name: no search suffix is added.
        name: String,
        #[serde(default)]
        record: RecordType,
    },
}

impl Target {
    /// The address the first packet is sent to.
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Icmp { address, .. } => *address,
            Self::Tcp { address, .. }
            | Self::Udp { address, .. }
            | Self::Sctp { address, .. }
            | Self::Http { address, .. }
            | Self::Dns { address, .. } => address.ip(),
        }
    }
}

/// One question: can this vantage reach this target?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Chosen by the caller, unique in its batch; the observation carries it back.
    pub id: u32,
    pub from: VantageId,
    pub target: Target,
}

/// Cells that are probed at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Chosen by the caller; the reply carries it back.
    pub pass: u64,
    pub cells: Vec<Cell>,
    /// How long nothing may be heard before what is still open counts as silent. One deadline for all cells: it
    /// runs from the last probe that left, and again from each packet that comes back, because a busy server is
    /// not a silent one.
    pub quiet: Duration,
    /// The longest wait after the last probe left, whatever still comes back.
    pub cap: Duration,
}

/// Why a cell says nothing about the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// The vantage is not attached, or its namespace is gone.
    NoVantage,
    /// The probe could not be made, so no packet left.
    NeverLeft,
    /// Files, ports or memory ran out.
    Limits,
    /// The agent may not make such a socket.
    Permission,
    /// The kernel lacks the protocol.
    Unsupported,
    /// An answer came, but not from a cknet server that read our nonce.
    WrongPeer,
    /// The connection was made, then closed before an answer came.
    ClosedEarly,
    /// The connection was made, but no answer came before the deadline.
    NoAnswer,
}

/// What was seen of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sight", rename_all = "kebab-case")]
pub enum Sight {
    /// The answer that the target calls for came back.
    Answered,
    /// Nothing came back.
    Silent,
    /// The target's address said that nothing listens there: a TCP reset, or ICMP port unreachable from the
    /// target itself for a datagram.
    Refused,
    /// An ICMP or ICMPv6 error came back, from the host named.
    IcmpError {
        #[serde(rename = "type")]
        kind: u8,
        code: u8,
        from: Option<IpAddr>,
    },
    /// The vantage's own kernel could not or would not send: no route, no neighbour, a local packet filter.
    Unreachable {
        /// The symbolic name, `ENETUNREACH`.
        errno: String,
        reason: String,
    },
    /// The server answered, but without the records asked for.
    DnsFailed {
        /// The response code as `dig` writes it (`NXDOMAIN`), or `NODATA`.
        reason: String,
    },
    /// The cell says nothing about the network; it can never satisfy an expectation.
    Inconclusive { reason: Doubt, detail: String },
}

/// What became of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub id: u32,
    #[serde(flatten)]
    pub sight: Sight,
    /// Microseconds from the departure of the probe until the agent read its outcome; absent for silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// The identity that the answering cknet server was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Our address as that server saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_source: Option<SocketAddr>,
    /// Our address as our own kernel saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The answer came only after the kernel must have sent the first packet again (TCP does after 1 s, then 3
    /// and 7): a packet was lost on the way.
    #[serde(default, skip_serializing_if = "is_false")]
    pub retransmitted: bool,
    /// Silent, while ICMP errors came back for other cells: the kernel limits those (per peer to 1/s after a
    /// burst of 6, in all to 1000/s after a burst of 50), so this may have been a reject. Probe it again, alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub maybe_rate_limited: bool,
    /// The records of a DNS answer, in the form of `dig +short`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

impl Observation {
    /// An observation of which only the sight is known.
    pub fn of(id: u32, sight: Sight) -> Self {
        Self {
            id,
            sight,
            rtt_us: None,
            peer: None,
            seen_source: None,
            local: None,
            retransmitted: false,
            maybe_rate_limited: false,
            records: Vec::new(),
            http_status: None,
        }
    }
}

/// What became of a word that was sent over a connection that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// Its echo came back.
    Echoed {
        /// Microseconds from sending it until its echo was read.
        rtt_us: u64,
        /// The identity of the server at the other end.
        peer: String,
        /// Our address as that server sees it.
        seen_source: SocketAddr,
    },
    /// Nothing came back.
    Silent,
    /// The connection was reset, or refused where it was to be opened.
    Reset,
    /// The other end closed it in order.
    Ended,
    /// Our own kernel knows no way to the other end any more.
    Unreachable {
        /// The symbolic name, `EHOSTUNREACH`.
        errno: String,
    },
    /// This says nothing about the network: no such connection is held, or its own end is gone.
    Unknown { detail: String },
}

/// What the agent is asked. It answers each request with one reply, in order, except `Shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum AgentRequest {
    /// Opens the namespace at `netns` (a word of [`crate::netns`]) under a name. A name that is
    /// attached already moves to the new namespace.
    Attach { vantage: VantageId, netns: String },
    /// Forgets a name; the agent no longer keeps its namespace alive.
    Detach { vantage: VantageId },
    /// Probes all cells of the batch.
    Probe(Batch),
    /// Opens a TCP connection and holds it under a name; `quiet` is the longest wait for the handshake, and again for
    /// the echo of a first word.
    Hold { name: String, from: VantageId, address: SocketAddr, quiet: Duration },
    /// Sends a word over each of these connections; `quiet` is the longest wait for the echoes, one for all.
    Exchange { names: Vec<String>, quiet: Duration },
    /// Closes all connections that are held.
    Release,
    /// Ends the agent, as does the end of its input.
    Shutdown,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum AgentReply {
    /// The first frame, before any request.
    Hello {
        version: u32,
        pid: u32,
    },
    Attached {
        vantage: VantageId,
    },
    Detached {
        vantage: VantageId,
    },
    /// An attach or detach that could not be done.
    Failed {
        vantage: VantageId,
        reason: String,
    },
    /// What came of opening a connection; only one whose word was echoed is held.
    Held {
        name: String,
        line: Line,
    },
    /// A line for each connection that was asked about, by its name.
    Exchanged {
        lines: BTreeMap<String, Line>,
    },
    /// How many connections were closed.
    Released {
        count: usize,
    },
    /// One observation for each cell of the batch, in the batch's order.
    Observations {
        pass: u64,
        list: Vec<Observation>,
        /// Microseconds until the last probe had left.
        launched_us: u64,
        /// Microseconds until the last cell was settled.
        took_us: u64,
    },
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_observation_keeps_its_sight_beside_its_fields() {
        let mut seen = Observation::of(7, Sight::IcmpError { kind: 3, code: 13, from: Some([10, 0, 0, 1].into()) });
        seen.rtt_us = Some(120);
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(text, r#"{"id":7,"sight":"icmp-error","type":3,"code":13,"from":"10.0.0.1","rtt_us":120}"#);
        assert_eq!(serde_json::from_str::<Observation>(&text).unwrap(), seen);
    }

    #[test]
    fn a_target_needs_only_its_kind_and_address() {
        let tcp: Target = serde_json::from_str(r#"{"kind":"tcp","address":"10.0.0.1:80"}"#).unwrap();
        assert_eq!(tcp, Target::Tcp { address: "10.0.0.1:80".parse().unwrap(), expect: Expect::Echo });
        let icmp: Target = serde_json::from_str(r#"{"kind":"icmp","address":"fd00::1","payload":1400}"#).unwrap();
        assert_eq!(icmp, Target::Icmp { address: "fd00::1".parse().unwrap(), payload: 1400, whole: false });
    }
}
