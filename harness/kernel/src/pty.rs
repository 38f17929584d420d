//! A pseudo terminal: the controlling side as an asynchronous stream, and a process started on the other side with
//! job control.
//!
//! It knows nothing of who types.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::polled::registered;

/// The controlling side of a terminal.
#[derive(Debug)]
pub struct Pty {
    side: AsyncFd<OwnedFd>,
}

/// The side a process runs on.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

/// Opens a terminal; the process side is given to [`Terminal::spawn`]. Needs a tokio runtime.
pub fn open() -> io::Result<(Pty, Terminal)> {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    // Neither side may leak into processes that others start meanwhile.
    for side in [&pair.master, &pair.slave] {
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let side = registered(pair.master, Interest::READABLE | Interest::WRITABLE)?;
    Ok((Pty { side }, Terminal(pair.slave)))
}

impl Pty {
    /// What the process wrote; nothing once every process on the terminal is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.side.async_io(Interest::READABLE, |side| Ok(nix::unistd::read(side, buffer)?)).await;
        match outcome {
            // This is how Linux says that the other side is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }

    /// Types all of `bytes`.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.side.async_io(Interest::WRITABLE, |side| Ok(nix::unistd::write(side, bytes)?)).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Tells the terminal its size in characters; the foreground processes get SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the kernel reads a `winsize` for this request.
        let outcome = unsafe { libc::ioctl(self.side.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        Ok(Errno::result(outcome).map(drop)?)
    }
}

impl Terminal {
    /// Starts `command` as the leader of a new session that this terminal controls.
    pub fn spawn(self, command: &mut Command) -> io::Result<std::process::Child> {
        command.stdin(Stdio::from(self.0.try_clone()?));
        command.stdout(Stdio::from(self.0.try_clone()?));
        command.stderr(Stdio::from(self.0));
        crate::terminal::take_on_start(command);
        command.spawn()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::child::{Child, Exit};

    async fn read_to_end(pty: &Pty) -> String {
        let (mut text, mut buffer) = (Vec::new(), [0; 256]);
        loop {
            match pty.read(&mut buffer).await.unwrap() {
                0 => return String::from_utf8_lossy(&text).into_owned(),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[tokio::test]
    async fn a_process_has_a_terminal_of_the_size_it_was_given() {
        let (pty, terminal) = open().unwrap();
        pty.resize(33, 101).unwrap();
        let child =
            terminal.spawn(Command::new("/bin/sh").args(["-c", "tty >/dev/null && stty size; exit 3"])).unwrap();
        let child = Child::watch(child).unwrap();
        assert_eq!(read_to_end(&pty).await.trim(), "33 101");
        child.ended().await.unwrap();
        assert_eq!(child.reap().unwrap(), Exit::Code(3));
    }

    #[tokio::test]
    async fn the_interrupt_character_reaches_the_foreground() {
        let (pty, terminal) = open().unwrap();
        let child = terminal.spawn(Command::new("/bin/sh").args(["-c", "echo up; exec sleep 600"])).unwrap();
        let child = Child::watch(child).unwrap();
        let mut buffer = [0; 16];
        assert!(pty.read(&mut buffer).await.unwrap() > 0);
        pty.write_all(b"\x03").await.unwrap();
        child.ended().await.unwrap();
        assert_eq!(child.reap().unwrap(), Exit::Signal(libc::SIGINT));
    }
}
