//! Terminals: a program that owns the terminal on its standard input.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the program start as the leader of a new session whose controlling terminal is its standard input, so that
/// job control and Ctrl-C work in it (tty_ioctl(4), `TIOCSCTTY`).
pub fn take_on_start(command: &mut Command) {
    // SAFETY: between fork and exec only the async-signal-safe calls setsid and ioctl are made.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
