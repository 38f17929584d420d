//! Messages with file descriptors between processes of one machine (unix(7), `SCM_RIGHTS`).
//!
//! A channel keeps message boundaries (`SOCK_SEQPACKET`) and is bounded: a message has at most [`MAX_MESSAGE`]
//! bytes and [`MAX_DESCRIPTORS`] descriptors. What the bytes mean is the business of its two users.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use tokio::io::unix::AsyncFd;

/// Longest message, in bytes: below the kernel's default socket buffer (net.core.wmem_default, 208 KiB).
pub const MAX_MESSAGE: usize = 160 * 1024;

/// Most descriptors in one message (the kernel allows 253, `SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 8;

const FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);

/// One end of a connection that carries messages and descriptors.
#[derive(Debug)]
pub struct Channel {
    socket: AsyncFd<OwnedFd>,
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// A connected pair as plain descriptors, close-on-exec; each becomes a channel with [`Channel::adopt`].
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, FLAGS)?)
    }

    /// Takes a connected socket over; needs a tokio runtime.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { socket: watched(socket)? })
    }

    /// Connects to the listener at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?;
        at(path, |address| connect(socket.as_raw_fd(), address))?;
        Self::adopt(socket)
    }

    /// Sends one message; waits while the other side is behind.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large for the channel"));
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| {
                let data = [IoSlice::new(bytes)];
                sendmsg::<UnixAddr>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None)
                    .map_err(io::Error::from)
            });
            if let Ok(result) = sent {
                return result.map(|_| ());
            }
        }
    }

    /// The next message, or `None` when the other side is gone.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive_now(socket.as_fd())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

/// Uses the address of a path of any length: a socket's own is at most 107 bytes (unix(7)), the way through an open
/// folder is short.
fn at<T>(path: &Path, act: impl FnOnce(&UnixAddr) -> nix::Result<T>) -> io::Result<T> {
    if let Ok(address) = UnixAddr::new(path) {
        return Ok(act(&address)?);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(act(&UnixAddr::new(&short)?)?)
}

fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same open file until it is dropped, and nothing takes it out again.
    let watched = unsafe { AsyncFd::register(socket) };
    watched.map_err(|refused| refused.into_parts().1)
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut data = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut data, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just installed these descriptors for this process and nobody else knows them.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = received.bytes;
    if length == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(Message { bytes, descriptors }))
}

/// Accepts channels at a path in the file system.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
}

impl Listener {
    /// Binds `path` (which must not exist) as a plain descriptor; it becomes a listener with [`Listener::adopt`].
    pub fn bind(path: &Path) -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, FLAGS, None)?;
        at(path, |address| bind(socket.as_raw_fd(), address))?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(socket)
    }

    /// Takes a bound socket over; needs a tokio runtime.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: watched(socket)? })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Channel> {
        loop {
            let mut ready = self.socket.readable().await?;
            let accepted = ready.try_io(|socket| match accept4(socket.as_raw_fd(), FLAGS) {
                // SAFETY: accept4 has just made this descriptor for us alone.
                Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
                Err(Errno::ECONNABORTED) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error.into()),
            });
            if let Ok(result) = accepted {
                return Channel::adopt(result?);
            }
        }
    }
}

/// Takes over a descriptor that the parent left open at a known number, once.
///
/// # Errors
/// When nothing is open there.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    // SAFETY: only borrowed for the check below, which fails if the descriptor is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, was inherited across exec, and each number is taken over once, before any other thread runs.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Seek, Write};

    #[tokio::test]
    async fn a_descriptor_travels_with_its_message() {
        let (left, right) = Channel::pair().unwrap();
        let (left, right) = (Channel::adopt(left).unwrap(), Channel::adopt(right).unwrap());
        let memory = nix::sys::memfd::memfd_create("letter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let mut file = std::fs::File::from(memory);
        file.write_all(b"inside").unwrap();
        left.send(b"hello", &[file.as_fd()]).await.unwrap();

        let message = right.receive().await.unwrap().unwrap();
        assert_eq!(message.bytes, b"hello");
        let mut received = std::fs::File::from(message.descriptors.into_iter().next().unwrap());
        received.rewind().unwrap();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
    }

    #[tokio::test]
    async fn a_path_may_be_longer_than_a_socket_address() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let listener = Listener::adopt(Listener::bind(&deep.join("door.sock")).unwrap()).unwrap();
        let outside = Channel::connect(&deep.join("door.sock")).unwrap();
        let inside = listener.accept().await.unwrap();
        outside.send(b"knock", &[]).await.unwrap();
        assert_eq!(inside.receive().await.unwrap().unwrap().bytes, b"knock");
    }

    #[tokio::test]
    async fn the_end_of_the_other_side_is_seen() {
        let (left, right) = Channel::pair().unwrap();
        let right = Channel::adopt(right).unwrap();
        drop(left);
        assert!(right.receive().await.unwrap().is_none());
    }
}
