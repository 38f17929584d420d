//! PID 1 collects every dead process of its namespace, its own children and orphans alike.
//!
//! The standard library waits by itself for a child whose `exec` failed. Starting programs and reaping therefore
//! exclude each other, or the reaper could take that status away and the library would panic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::provider::Exit;

/// Who waits for which process.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    waiting: Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>,
}

impl Reaper {
    /// Starts a program with `start`, which returns its process id, and tells when it ends.
    pub fn started<E>(&self, start: impl FnOnce() -> Result<u32, E>) -> Result<(u32, oneshot::Receiver<Exit>), E> {
        let mut waiting = self.locked();
        let process = start()?;
        let (tell, told) = oneshot::channel();
        waiting.insert(i32::try_from(process).unwrap_or(i32::MAX), tell);
        Ok((process, told))
    }

    /// Collects all that are dead now; to be called at every SIGCHLD.
    pub fn reap(&self) {
        let mut waiting = self.locked();
        loop {
            let (process, exit) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(process, code)) => (process, Exit::Code(code)),
                Ok(WaitStatus::Signaled(process, signal, _)) => (process, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(tell) = waiting.remove(&process.as_raw()) {
                // Nobody has to be interested any more.
                let _ = tell.send(exit);
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
