//! Reads a socket's error queue (ip(7), `IP_RECVERR`): which ICMP error came, and who sent it.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// Where an error arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// An ICMP or ICMPv6 message.
    Icmp,
    /// This host's kernel, before anything left.
    Local,
}

/// One entry of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) errno: Errno,
    pub(super) origin: Origin,
    /// ICMP type and code; zero for a local error.
    pub(super) kind: u8,
    pub(super) code: u8,
    /// Who sent the ICMP message.
    pub(super) offender: Option<IpAddr>,
    /// How many bytes of the packet that met the error were copied out.
    pub(super) returned: usize,
}

/// Asks the kernel to queue errors of this socket instead of only counting them.
pub(super) fn enable(socket: BorrowedFd<'_>, v6: bool) -> nix::Result<()> {
    if v6 { setsockopt(&socket, sockopt::Ipv6RecvErr, &true) } else { setsockopt(&socket, sockopt::Ipv4RecvErr, &true) }
}

/// Room for the control messages, made once and used for each read.
pub(super) fn control_buffer() -> Vec<u8> {
    nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6)
}

/// Takes the oldest entry; the packet that met the error is copied into `packet`.
pub(super) fn take(socket: BorrowedFd<'_>, packet: &mut [u8], control: &mut [u8]) -> Option<Reported> {
    let mut parts = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), flags).ok()?;
    let returned = message.bytes;
    message.cmsgs().ok()?.find_map(|entry| match entry {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            let from = from.map(|a| IpAddr::V4(Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr))));
            Some(reported(&error, from, returned))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            let from = from.map(|a| IpAddr::V6(Ipv6Addr::from(a.sin6_addr.s6_addr)));
            Some(reported(&error, from, returned))
        }
        _ => None,
    })
}

fn reported(error: &libc::sock_extended_err, from: Option<IpAddr>, returned: usize) -> Reported {
    let icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
    Reported {
        errno: Errno::from_raw(error.ee_errno.cast_signed()),
        origin: if icmp { Origin::Icmp } else { Origin::Local },
        kind: error.ee_type,
        code: error.ee_code,
        offender: from.filter(|address| icmp && !address.is_unspecified()),
        returned,
    }
}
