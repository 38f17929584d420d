//! One at a time, in whichever process: a file below the state directory that is locked by whoever has the turn.
//!
//! The lock is one of flock(2). It ends with the last process that holds it, so that whoever comes after a killed run
//! waits for what that run has still under way, and for nothing else.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks whether the one before has finished.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Something that is done by one at a time.
#[derive(Clone, Debug)]
pub struct Turns {
    path: PathBuf,
}

/// The turn was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    #[error("cannot lock `{path}`: {cause}")]
    Lock { path: PathBuf, cause: io::Error },
    #[error("somebody else has had the turn for {0:?}")]
    Late(Duration),
}

/// Whoever has this has the turn.
pub type Turn = Arc<File>;

impl Turns {
    /// `what` is said by the name of a file in that folder.
    pub fn new(folder: &Path, what: &str) -> Self {
        Self { path: folder.join(format!("{what}.lock")) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The turn, if nobody has it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn try_take(&self) -> Result<Option<Turn>, TurnError> {
        let failed = |cause| TurnError::Lock { path: self.path.clone(), cause };
        // What is in it stays: it may say who had the turn last.
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        let file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Arc::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Waits for the turn, so long at most.
    ///
    /// # Errors
    /// When it does not come, or the file cannot be locked.
    pub async fn take(&self, within: Duration) -> Result<Turn, TurnError> {
        let started = Instant::now();
        loop {
            if let Some(turn) = self.try_take()? {
                return Ok(turn);
            }
            if started.elapsed() >= within {
                return Err(TurnError::Late(within));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_the_next_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Turns::new(folder.path(), "launches");
        let turn = turns.take(Duration::ZERO).await.unwrap();
        let late = turns.take(Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(late, TurnError::Late(_)), "{late}");
        let next = tokio::spawn(async move { turns.take(Duration::from_secs(10)).await });
        tokio::time::sleep(LOOK_AGAIN).await;
        assert!(!next.is_finished(), "somebody has the turn");
        drop(turn);
        next.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told() {
        let turns = Turns::new(Path::new("/nowhere/at/all"), "launches");
        let error = turns.take(Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot lock `/nowhere/at/all/launches.lock`"), "{error}");
    }
}
