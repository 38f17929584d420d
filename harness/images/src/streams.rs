//! Listening and connecting, over TCP and SCTP, with a bounded number of conversations at a time.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Conversations of one program at a time; who comes on top is sent away.
const MOST: usize = 256;
/// How long a peer may be silent.
pub const IDLE: Duration = Duration::from_secs(30);

/// Listens on all addresses, of both families where there are two.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// A UDP port on all addresses.
pub fn datagrams(port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
}

/// Listens for SCTP; an error of kind `Unsupported` where the kernel has none.
pub fn listen_sctp(port: u16) -> io::Result<Socket> {
    let socket = sctp()?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(128)?;
    Ok(socket)
}

fn sctp() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP))
        .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, format!("this kernel has no SCTP: {error}")))
}

/// Connects over SCTP.
pub fn connect_sctp(address: SocketAddr, patience: Duration) -> io::Result<Socket> {
    let socket = sctp()?;
    socket.connect_timeout(&address.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Connects over TCP; a patience of zero is that of the kernel.
pub fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    if patience.is_zero() { TcpStream::connect(address) } else { TcpStream::connect_timeout(&address, patience) }
}

/// Answers every connection on a thread of its own, until accepting fails.
pub fn accept_all(listener: &TcpListener, talk: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Error {
    let (talk, going) = (Arc::new(talk), Arc::new(AtomicUsize::new(0)));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The peer has gone meanwhile.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => return error,
        };
        if going.fetch_add(1, Ordering::Relaxed) >= MOST {
            going.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (talk, counted) = (Arc::clone(&talk), Arc::clone(&going));
        let started = thread::Builder::new().spawn(move || {
            talk(stream);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            going.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Does `call` again when only a signal disturbed it: with a time limit on a socket the kernel does not do so itself
/// (signal(7)).
pub fn undisturbed<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// An address as peers are shown it: one of IPv4 that came in over a socket of both families is one of IPv4.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
