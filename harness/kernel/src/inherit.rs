//! Descriptors that a child finds at agreed numbers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;

/// Descriptors are first copied above this number, so that no copy overwrites one that is still to be copied.
const ABOVE: libc::c_int = 64;

/// Makes the child find each descriptor open at the number beside it. They stay open here until `command` is dropped.
pub fn pass(command: &mut Command, descriptors: Vec<(OwnedFd, i32)>) {
    // SAFETY: between fork and exec only the async-signal-safe calls fcntl, dup2 and close are made; the vector is
    // read and not resized.
    unsafe {
        command.pre_exec(move || {
            let mut copies = [0; 16];
            for (copy, (descriptor, _)) in copies.iter_mut().zip(&descriptors) {
                *copy = checked(libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD, ABOVE))?;
            }
            for (copy, (_, number)) in copies.iter().zip(&descriptors) {
                checked(libc::dup2(*copy, *number))?;
                libc::close(*copy);
            }
            Ok(())
        });
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
