//! The one door to programs of the host: a deadline for each, and nothing of it left past the deadline.
//!
//! Programs on nodes go through [`crate::provider::Node`] instead.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot start `{program}`: {cause}")]
    Start { program: String, cause: io::Error },
    #[error("`{program}` did not end within {deadline:?}; killed")]
    Deadline { program: String, deadline: Duration },
}

/// What a program gets beside its arguments.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Added to the environment of this process.
    pub environment: Vec<(String, String)>,
    /// The folder in which it runs; this process' own unless given.
    pub folder: Option<PathBuf>,
    /// Locked files that it holds open too: a lock of flock(2) then lasts until both it and this process have let go.
    pub held: Option<Arc<File>>,
}

/// Whoever runs programs of the host: [`System`], and in tests one that has written down what they answer.
pub trait Commands: fmt::Debug + Send + Sync {
    /// Runs a program to its end; any exit code is an answer.
    fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        given: &Given,
        stdin: Vec<u8>,
        deadline: Duration,
    ) -> Result<Output, CommandError>;
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Commands for System {
    /// Both outputs are captured. The program leads a process group of its own, so that past the deadline its children
    /// are killed with it: killing the program alone would leave them holding the captured pipes.
    fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        given: &Given,
        stdin: Vec<u8>,
        deadline: Duration,
    ) -> Result<Output, CommandError> {
        let name = || program.display().to_string();
        let failed = |cause| CommandError::Start { program: name(), cause };
        let mut expression = duct::cmd(program.as_os_str(), arguments).stdout_capture().stderr_capture().unchecked();
        expression = if stdin.is_empty() { expression.stdin_null() } else { expression.stdin_bytes(stdin) };
        for (variable, value) in &given.environment {
            expression = expression.env(variable, value);
        }
        if let Some(folder) = &given.folder {
            expression = expression.dir(folder);
        }
        let held = given.held.clone();
        let handle = expression
            .before_spawn(move |command| {
                std::os::unix::process::CommandExt::process_group(command, 0);
                cknet_kernel::child::with_default_signals(command);
                if let Some(held) = &held {
                    cknet_kernel::child::holding(command, held.clone());
                }
                Ok(())
            })
            .start()
            .map_err(failed)?;
        match handle.wait_timeout(deadline).map_err(failed)? {
            Some(output) => Ok(output.clone()),
            None => {
                for process in handle.pids() {
                    // It may have ended in this very moment.
                    let _ = killpg(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
                }
                Err(CommandError::Deadline { program: name(), deadline })
            }
        }
    }
}

/// Runs a program of this machine with nothing on its standard input; any exit code is an answer.
pub fn run(program: &Path, arguments: &[&str], deadline: Duration) -> Result<Output, CommandError> {
    System.run(program, arguments, &Given::default(), Vec::new(), deadline)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn output_and_exit_code_arrive() {
        let output =
            run(Path::new("/bin/sh"), &["-c", "echo out; echo err >&2; exit 3"], Duration::from_secs(10)).unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_lock_lasts_as_long_as_the_program_that_holds_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = File::create(&path).unwrap();
        lock.lock().unwrap();
        let free = || File::open(&path).unwrap().try_lock().is_ok();
        // Its child outlives it, and holds what it held.
        let given = Given { held: Some(Arc::new(lock)), ..Given::default() };
        let script = "sleep 600 >/dev/null 2>&1 & echo $!";
        let (shell, whole) = (Path::new("/bin/sh"), Duration::from_secs(10));
        let output = System.run(shell, &["-c", script], &given, Vec::new(), whole).unwrap();
        drop(given);
        assert!(!free(), "this process has let go, the child has not");
        let child: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
        let started = std::time::Instant::now();
        while !free() {
            assert!(started.elapsed() < Duration::from_secs(5), "nobody holds it any more");
            std::thread::yield_now();
        }
    }

    #[test]
    fn past_the_deadline_its_children_are_gone_too() {
        let marker = "4244.5";
        let script = format!("sleep {marker} & sleep {marker}");
        let late = run(Path::new("/bin/sh"), &["-c", &script], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(late, CommandError::Deadline { .. }), "{late}");
        let alive = || {
            std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
                let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                command.starts_with(format!("sleep\0{marker}").as_bytes())
            })
        };
        let started = std::time::Instant::now();
        while alive() {
            assert!(started.elapsed() < Duration::from_secs(5), "a child outlived the deadline");
            std::thread::yield_now();
        }
    }
}
