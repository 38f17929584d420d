//! A UDP port: answers each greeting from the address it was sent to, padded to the greeting's size.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::Socket;

use super::connection::canonical;
use crate::echo::{self, Opening};

/// Datagrams answered at one go.
const BATCH: usize = 256;
/// Room for questions that come faster than they are answered.
const RECEIVE_BUFFER: usize = 4 << 20;

pub(super) struct DatagramPort {
    socket: Socket,
}

/// Where a datagram was sent to: what to answer from.
#[derive(Clone, Copy)]
enum Arrived {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
    Unknown,
}

impl DatagramPort {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        // On a host with several addresses the kernel would answer from another one, and the client, or the
        // connection tracking between, would not know the answer.
        if socket.local_addr()?.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        Ok(Self { socket })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Answers what has come.
    pub(super) fn answer_all(&self, identity: &str) {
        let mut buffer = vec![0; 64 << 10];
        let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
        let mut answer = Vec::with_capacity(2048);
        for _ in 0..BATCH {
            match self.answer_one(identity, &mut buffer, &mut control, &mut answer) {
                // An error of an earlier answer (its client is gone) says nothing about the next question.
                Ok(()) | Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EINTR) => {}
                Err(Errno::EPERM | Errno::EMSGSIZE | Errno::EINVAL) => {}
                Err(_) => return,
            }
        }
    }

    fn answer_one(
        &self,
        identity: &str,
        buffer: &mut [u8],
        control: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let fd = self.socket.as_raw_fd();
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(control), MsgFlags::MSG_DONTWAIT)?;
        let (count, address) = (message.bytes, message.address);
        let arrived = message.cmsgs()?.find_map(arrived).unwrap_or(Arrived::Unknown);
        let (Some(address), Some(source)) = (address, address.as_ref().and_then(socket_addr)) else {
            return Ok(());
        };
        let Opening::Hello(nonce) = echo::opening(&buffer[..count]) else {
            return Ok(());
        };
        answer.clear();
        echo::write_answer(answer, nonce, identity, canonical(source));
        answer.resize(answer.len().max(count), b'.');
        let parts = [IoSlice::new(answer)];
        let control = match &arrived {
            Arrived::V4(info) => Some(ControlMessage::Ipv4PacketInfo(info)),
            Arrived::V6(info) => Some(ControlMessage::Ipv6PacketInfo(info)),
            Arrived::Unknown => None,
        };
        sendmsg(fd, &parts, control.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&address)).map(drop)
    }
}

fn arrived(message: ControlMessageOwned) -> Option<Arrived> {
    match message {
        // The interface is left to routing: the answer may have to leave by another one.
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Arrived::V4(libc::in_pktinfo { ipi_ifindex: 0, ..info })),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let link_local = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
            let ipi6_ifindex = if link_local { info.ipi6_ifindex } else { 0 };
            Some(Arrived::V6(libc::in6_pktinfo { ipi6_ifindex, ..info }))
        }
        _ => None,
    }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::new(v4.ip(), v4.port())));
    v4.or_else(|| {
        let v6 = address.as_sockaddr_in6()?;
        let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
        Some(SocketAddr::V6(SocketAddrV6::new(v6.ip(), v6.port(), 0, scope)))
    })
    .filter(|address| !matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified()))
}
