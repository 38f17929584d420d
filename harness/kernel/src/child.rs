//! A process and the group it leads: awaited through a pidfd, signalled as a group, reaped by whoever started it.
//!
//! It knows nothing of what the process does. A pidfd names one process for ever, so nothing here can hit a
//! stranger that inherited a number.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::polled::registered;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was not our child, so only that it ended is known.
    Unknown,
}

/// A process that leads its own process group.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    parentage: Parentage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parentage {
    Ours,
    Adopted,
}

impl Child {
    /// Takes over a process that this one has just started in a group of its own. Needs a tokio runtime.
    pub fn watch(mut child: std::process::Child) -> io::Result<Self> {
        let pid = pid_of(child.id())?;
        let watched = open(pid).and_then(|pidfd| registered(pidfd, Interest::READABLE));
        match watched {
            Ok(pidfd) => Ok(Self { pid, pidfd, parentage: Parentage::Ours }),
            Err(cause) => {
                // A process that nobody watches would outlive its purpose.
                let _ = killpg(pid, Signal::SIGKILL);
                let _ = child.wait();
                Err(cause)
            }
        }
    }

    /// Finds a process again that was started earlier, by a predecessor: `None` when it is dead or the number
    /// belongs to another process now (its start time, in clock ticks since boot, differs).
    pub fn adopt(pid: i32, started: u64) -> io::Result<Option<Self>> {
        let pidfd = match open(Pid::from_raw(pid)) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Read after opening: from here on the number cannot be given away unnoticed.
        if start_time(pid).ok() != Some(started) {
            return Ok(None);
        }
        let pidfd = registered(pidfd, Interest::READABLE)?;
        Ok(Some(Self { pid: Pid::from_raw(pid), pidfd, parentage: Parentage::Adopted }))
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub fn started(&self) -> io::Result<u64> {
        start_time(self.pid.as_raw())
    }

    /// Waits until it has ended. It stays a zombie until [`Child::reap`], so that its number stays its own.
    pub async fn ended(&self) -> io::Result<()> {
        // The readiness is not cleared: a process that ended stays ended.
        self.pidfd.readable().await.map(drop)
    }

    /// Signals the whole group; a group that is gone is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match killpg(self.pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Collects an ended process, kills what is left of its group, and says how it ended.
    pub fn reap(self) -> io::Result<Exit> {
        self.signal(Signal::SIGKILL)?;
        self.collect()
    }

    /// Collects an ended process and leaves its group alone.
    pub fn collect(self) -> io::Result<Exit> {
        if self.parentage == Parentage::Adopted {
            return Ok(Exit::Unknown);
        }
        Ok(match waitid(Id::PIDFd(self.pidfd.get_ref().as_fd()), WaitPidFlag::WEXITED)? {
            WaitStatus::Exited(_, code) => Exit::Code(code),
            WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
            _ => Exit::Unknown,
        })
    }
}

/// Signals one process, not its group, and waits for its end until `deadline`. Blocks the calling thread.
pub fn end(pid: i32, signal: Signal, deadline: Instant) -> io::Result<()> {
    let pidfd = match open(Pid::from_raw(pid)) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(error),
    };
    match nix::sys::signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let patience = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let descriptor = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn pid_of(id: u32) -> io::Result<Pid> {
    i32::try_from(id).map(Pid::from_raw).map_err(io::Error::other)
}

fn start_time(pid: i32) -> io::Result<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces and parentheses: count fields from the last one on.
    line.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("`/proc/{pid}/stat` has no start time: `{line}`")))
}

/// Makes the program start with no signal ignored. An ignored one survives fork and exec (signal(7)), so that a harness
/// that was started by `nohup`, or in the background by a shell without job control, would pass that on.
pub fn with_default_signals(command: &mut Command) {
    // SAFETY: between fork and exec only the async-signal-safe call sigaction is made.
    unsafe {
        command.pre_exec(|| {
            for number in 1..=libc::SIGSYS {
                let mut action: libc::sigaction = std::mem::zeroed();
                // Those that cannot be changed (SIGKILL, SIGSTOP) are never ignored.
                if libc::sigaction(number, std::ptr::null(), &raw mut action) == 0
                    && action.sa_sigaction == libc::SIG_IGN
                {
                    action.sa_sigaction = libc::SIG_DFL;
                    libc::sigaction(number, &raw const action, std::ptr::null_mut());
                }
            }
            Ok(())
        });
    }
}

/// Makes the program inherit an open file, at the same number: what is locked through it (flock(2)) stays locked until
/// the program has ended too. Nobody else inherits it.
pub fn holding(command: &mut Command, file: Arc<fs::File>) {
    // SAFETY: between fork and exec only the async-signal-safe call fcntl is made. The file is open for as long as the
    // command can be started, so that its number is its own.
    unsafe {
        command.pre_exec(move || {
            Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0))?;
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn start(script: &str) -> std::process::Child {
        Command::new("/bin/sh").args(["-c", script]).process_group(0).spawn().unwrap()
    }

    #[tokio::test]
    async fn an_exit_code_is_seen() {
        let child = Child::watch(start("exit 7")).unwrap();
        child.ended().await.unwrap();
        assert_eq!(child.reap().unwrap(), Exit::Code(7));
    }

    /// Whether a program that was started with SIGHUP ignored ignores it.
    fn ignores_the_end_of_its_terminal(prepare: fn(&mut Command)) -> bool {
        let mut command = Command::new("/bin/grep");
        command.args(["SigIgn", "/proc/self/status"]);
        // SAFETY: between fork and exec only the async-signal-safe call signal is made.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            });
        }
        prepare(&mut command);
        let line = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let ignored = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        ignored & 1 << (libc::SIGHUP - 1) != 0
    }

    #[test]
    fn ignored_signals_are_not_passed_on() {
        assert!(ignores_the_end_of_its_terminal(|_| ()));
        assert!(!ignores_the_end_of_its_terminal(with_default_signals));
    }

    #[tokio::test]
    async fn a_signal_ends_the_whole_group() {
        let child = Child::watch(start("sleep 600 & sleep 600; true")).unwrap();
        let group = child.pid();
        child.signal(Signal::SIGTERM).unwrap();
        child.ended().await.unwrap();
        assert_eq!(child.reap().unwrap(), Exit::Signal(libc::SIGTERM));
        // The members die on their own schedule after the signal; nothing answers to the group at last.
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        while killpg(Pid::from_raw(group), None).is_ok() {
            assert!(Instant::now() < deadline, "group {group} still has members");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn only_the_very_same_process_is_adopted() {
        let child = Child::watch(start("sleep 600")).unwrap();
        let started = child.started().unwrap();
        assert!(Child::adopt(child.pid(), started + 1).unwrap().is_none());
        let adopted = Child::adopt(child.pid(), started).unwrap().unwrap();
        adopted.signal(Signal::SIGKILL).unwrap();
        adopted.ended().await.unwrap();
        assert_eq!(adopted.reap().unwrap(), Exit::Unknown);
        child.ended().await.unwrap();
        assert_eq!(child.reap().unwrap(), Exit::Signal(libc::SIGKILL));
    }
}
