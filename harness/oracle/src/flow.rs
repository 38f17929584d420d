//! What the oracle is asked about: a new connection from somewhere to something.

use std::fmt;
use std::net::IpAddr;

use crate::transport::{PortOf, Protocol};

/// A flow: its opening packet, to be exact. Replies belong to the connection that was let through
/// and are never judged by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    pub from: Endpoint,
    pub to: Target,
    /// The port that is dialled, before any translation. Zero for ICMP, where it means nothing.
    pub port: u16,
    pub protocol: Protocol,
}

/// Where a flow starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A process in a pod.
    Pod(PodRef),
    /// A process in a node's own network.
    Node(String),
    /// A host with this address. An address that a pod or a node has is that pod or node.
    External(IpAddr),
}

/// What a flow is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A pod, at its address in the first family that both ends have.
    Pod(PodRef),
    /// Whatever has this address: a pod, a Service, a node, or something outside.
    Ip(IpAddr),
    /// A Service by its name, as DNS answers for it.
    Service { namespace: String, name: String },
    /// A node's own address: a node port, a host port, or something listening on the node.
    Node(String),
}

/// The name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
}

impl PodRef {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Endpoint {
    pub fn pod(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Pod(PodRef::new(namespace, name))
    }
}

impl Target {
    pub fn pod(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Pod(PodRef::new(namespace, name))
    }

    pub fn service(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Service { namespace: namespace.into(), name: name.into() }
    }
}

impl Flow {
    /// A TCP connection.
    pub fn tcp(from: Endpoint, to: Target, port: u16) -> Self {
        Self::over(Protocol::Tcp, from, to, port)
    }

    /// A first datagram.
    pub fn udp(from: Endpoint, to: Target, port: u16) -> Self {
        Self::over(Protocol::Udp, from, to, port)
    }

    /// An SCTP association.
    pub fn sctp(from: Endpoint, to: Target, port: u16) -> Self {
        Self::over(Protocol::Sctp, from, to, port)
    }

    /// An echo request.
    pub fn icmp(from: Endpoint, to: Target) -> Self {
        Self::over(Protocol::Icmp, from, to, 0)
    }

    /// A flow over any protocol.
    pub fn over(protocol: Protocol, from: Endpoint, to: Target, port: u16) -> Self {
        Self { from, to, port, protocol }
    }

    /// The dialled port with its protocol.
    pub fn dialled(&self) -> PortOf {
        PortOf { number: self.port, protocol: self.protocol }
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
