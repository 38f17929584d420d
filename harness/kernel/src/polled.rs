//! Descriptors that the tokio runtime polls.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `descriptor` with the current runtime.
pub fn registered(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays so, and refers to the same file, for as long as the `AsyncFd` has it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
