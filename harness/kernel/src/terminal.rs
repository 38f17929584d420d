//! Terminals: a program that owns the terminal on its standard input, and our own terminal in raw mode.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::child::with_default_signals;
use nix::pty::Winsize;
use nix::sys::termios::{self, SetArg, Termios};

/// Makes the program start as the leader of a new session whose controlling terminal is its standard input, so that
/// job control and Ctrl-C work in it (tty_ioctl(4), `TIOCSCTTY`).
pub fn take_on_start(command: &mut Command) {
    // SAFETY: between fork and exec only the async-signal-safe calls setsid and ioctl are made.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    with_default_signals(command);
}

/// The terminal on our own standard input in raw mode: every key goes to the program at the other end. Dropping this
/// gives the terminal back as it was.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that went away needs nothing back.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

/// The size of the terminal on our own standard input.
pub fn window() -> Option<Winsize> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the one structure that it is given.
    let answer = unsafe { nix::libc::ioctl(0, nix::libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(size)
}

/// Gives a terminal a size; programs on it are told with `SIGWINCH` (tty_ioctl(4), `TIOCSWINSZ`).
pub fn resize(terminal: BorrowedFd<'_>, size: &Winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads the one structure that it is given, and the descriptor is open.
    let answer = unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCSWINSZ, std::ptr::from_ref(size)) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Columns and rows of the terminal on our own standard input.
pub fn size() -> Option<(u16, u16)> {
    window().map(|size| (size.ws_col, size.ws_row))
}
