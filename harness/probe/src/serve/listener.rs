//! Open ports: how each kind of socket is made.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::ServeError;
use super::datagram::DatagramPort;
use super::listen_at::{ListenAt, ListenProtocol};

/// Connections that may wait to be accepted; the kernel's usual maximum (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// One open port.
pub(super) enum Listener {
    /// TCP or SCTP.
    Streams(Socket),
    Datagrams(DatagramPort),
}

impl Listener {
    pub(super) fn bind(at: &ListenAt) -> Result<Self, ServeError> {
        let failed = |source: io::Error| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if at.protocol == ListenProtocol::Sctp => {
                ServeError::NoSctp { at: *at }
            }
            _ => ServeError::Bind { at: *at, source },
        };
        let socket = open(at).map_err(failed)?;
        match at.protocol {
            ListenProtocol::Udp => Ok(Self::Datagrams(DatagramPort::new(socket).map_err(failed)?)),
            ListenProtocol::Tcp | ListenProtocol::Sctp => {
                socket.listen(BACKLOG).map_err(failed)?;
                Ok(Self::Streams(socket))
            }
        }
    }

    pub(super) fn local(&self) -> (SocketAddr, ListenProtocol) {
        let (socket, protocol) = match self {
            Self::Datagrams(port) => (port.socket(), ListenProtocol::Udp),
            Self::Streams(socket) => {
                let sctp = socket.protocol().ok().flatten() == Some(Protocol::SCTP);
                (socket, if sctp { ListenProtocol::Sctp } else { ListenProtocol::Tcp })
            }
        };
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        (socket.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(unknown), protocol)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Streams(socket) => socket.as_fd(),
            Self::Datagrams(port) => port.socket().as_fd(),
        }
    }
}

/// A bound socket: on the address asked for, else on both families, else on IPv4 where the kernel has no IPv6.
fn open(at: &ListenAt) -> io::Result<Socket> {
    let bind = |address: SocketAddr| {
        let (kind, protocol) = match at.protocol {
            ListenProtocol::Tcp => (Type::STREAM, Protocol::TCP),
            ListenProtocol::Udp => (Type::DGRAM, Protocol::UDP),
            ListenProtocol::Sctp => (Type::STREAM, Protocol::SCTP),
        };
        let domain = Domain::for_address(address);
        let socket = Socket::new_raw(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        if at.protocol != ListenProtocol::Udp {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    if let Some(ip) = at.address {
        return bind(SocketAddr::new(ip, at.port));
    }
    bind((Ipv6Addr::UNSPECIFIED, at.port).into()).or_else(|error: io::Error| {
        match error.raw_os_error().map(Errno::from_raw) {
            // No IPv6 in this kernel, or switched off in this namespace.
            Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => bind((Ipv4Addr::UNSPECIFIED, at.port).into()),
            _ => Err(error),
        }
    })
}
