//! Whether what a socket sends may be cut into fragments on its way.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// Forbids fragments of what this IPv4 socket sends (`IP_PMTUDISC_PROBE` of ip(7)): packets carry the flag "don't
/// fragment", one that is larger than the first device's MTU is refused with `EMSGSIZE`, and what the kernel has learnt
/// of a path before is not heeded.
pub fn forbid(socket: BorrowedFd<'_>) -> nix::Result<()> {
    let value = libc::IP_PMTUDISC_PROBE;
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes from `value`, which is as large.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, (&raw const value).cast(), length)
    };
    Errno::result(outcome).map(drop)
}
