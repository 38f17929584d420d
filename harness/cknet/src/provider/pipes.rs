//! Pipes between this process and a program whose other ends it gets: ours never block, theirs do.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

/// A pipe whose read end is ours and whose write end is for a program.
pub fn output() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

/// A pipe whose write end is ours and whose read end is for a program.
pub fn input() -> io::Result<(OwnedFd, pipe::Sender)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    set_nonblocking(&write)?;
    Ok((read, pipe::Sender::from_owned_fd(write)?))
}

fn set_nonblocking(pipe: &OwnedFd) -> io::Result<()> {
    nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok(())
}
