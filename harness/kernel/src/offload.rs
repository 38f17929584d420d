//! Whether a device computes checksums of what it sends instead of the kernel (ethtool(8), `tx-checksumming`).

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GTXCSUM` and `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const GET: u32 = 0x16;
const SET: u32 = 0x17;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Whether the device of the calling thread's network namespace does it.
///
/// # Errors
/// When there is no such device, or its driver cannot tell.
pub fn computes_checksums(device: &str) -> io::Result<bool> {
    ask(device, EthtoolValue { command: GET, data: 0 }).map(|data| data != 0)
}

/// Lets the device do it, or the kernel.
///
/// # Errors
/// When there is no such device, or its driver cannot be told.
pub fn let_compute_checksums(device: &str, itself: bool) -> io::Result<()> {
    ask(device, EthtoolValue { command: SET, data: u32::from(itself) }).map(drop)
}

fn ask(device: &str, mut value: EthtoolValue) -> io::Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is a plain C structure of integers and arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if device.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the descriptor is open, and for this request the kernel reads an `ifreq` whose data is an `ethtool_value`,
    // which it may write; both live until the call has ended.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    Errno::result(outcome)?;
    Ok(value.data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert_eq!(computes_checksums("nowhere").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(computes_checksums("a-name-that-is-too-long").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
