//! The fabric: the process tree that *is* the machines of one topology.
//!
//! `cknet fabric` is two processes. The outer one makes the user (when not root), PID, mount, network, UTS and IPC
//! namespaces and waits; the inner one is PID 1 in them and holds everything: segments as bridges in its own
//! network namespace, nodes as namespaces of their own. When PID 1 ends, the kernel kills every process in its PID
//! namespace and frees every namespace, so a dead runner leaves nothing: the inner process ends when the leash (a
//! pipe whose other end only the runner has) is closed, and it dies with the outer one by PDEATHSIG.

mod init;
mod reaper;
mod segments;
mod space;
mod trial;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Descriptors that the runner leaves open for the fabric: the channel, the listener for other clients, the leash.
pub const CHANNEL: i32 = 3;
pub const LISTENER: i32 = 4;
pub const LEASH: i32 = 5;

/// The hidden command line `cknet fabric [trial]`. Must run before any thread is started.
pub fn main(arguments: &[String]) -> ExitCode {
    let result = match arguments.first().map(String::as_str) {
        Some("init") => init::main(),
        Some("trial") => outer("try-all"),
        Some("try-all") => trial::report().map(|report| {
            // Whoever asked reads it from there.
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }),
        _ => outer("init"),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // The runner reads this as the reason why there are no nodes.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the namespaces and starts the inner process, which is PID 1 in them and does `inner`.
fn outer(inner: &str) -> io::Result<ExitCode> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !user.is_root() {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(|cause| doing("make a user namespace", cause.into()))?;
        become_root_inside(user.as_raw(), group.as_raw()).map_err(|cause| doing("map the user namespace", cause))?;
    }
    let kinds = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(kinds).map_err(|cause| doing("make namespaces", cause.into()))?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut first = Command::new("/proc/self/exe").arg0("cknet").args(["fabric", inner]).spawn()?;
    let status = first.wait()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Maps the caller to root inside the new user namespace (user_namespaces(7)); `setgroups` has to be denied first.
fn become_root_inside(user: u32, group: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// An error that says what was tried.
fn doing(what: &str, cause: io::Error) -> io::Error {
    io::Error::new(cause.kind(), format!("cannot {what}: {cause}"))
}
