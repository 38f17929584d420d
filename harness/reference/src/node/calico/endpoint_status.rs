//! Which pods are programmed: an empty file for each sandbox in a folder of the node. Felix tells the CNI plugin so
//! (`endpoint-status` below `/var/run/calico`), and the plugin lets a pod start only when its packets can pass: the
//! first one of a pod that starts too early is dropped, and TCP repeats it only after a second.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// The folder, private to the node.
pub const FOLDER: &str = "/run/calico/endpoint-status";

/// Between two looks for a file: Felix needs milliseconds for one pod, longer when many start.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(20);

/// What Felix has told.
pub struct EndpointStatus {
    folder: PathBuf,
    told: BTreeSet<String>,
}

impl EndpointStatus {
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.into(), told: BTreeSet::new() })
    }

    /// Tells that exactly these sandboxes are programmed. Their names come from annotations, which anybody may write:
    /// one that is not a runtime's is left out.
    pub fn tell(&mut self, mut programmed: BTreeSet<String>) -> io::Result<()> {
        programmed.retain(|sandbox| sandbox.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        for sandbox in programmed.difference(&self.told) {
            fs::write(self.folder.join(sandbox), "")?;
        }
        for sandbox in self.told.difference(&programmed) {
            match fs::remove_file(self.folder.join(sandbox)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.told = programmed;
        Ok(())
    }
}

/// Waits until a sandbox is programmed; false when it is not after `patience`.
pub async fn await_programmed(folder: &Path, sandbox: &str, patience: Duration) -> bool {
    let file = folder.join(sandbox);
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_LOOK;
    while !file.exists() {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_sandbox_counts_from_when_it_is_told_until_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = EndpointStatus::new(folder.path()).unwrap();
        let at_once = Duration::ZERO;
        status.tell(names(&["a", "b"])).unwrap();
        assert!(await_programmed(folder.path(), "a", at_once).await);
        assert!(!await_programmed(folder.path(), "c", at_once).await);
        status.tell(names(&["b"])).unwrap();
        assert!(!await_programmed(folder.path(), "a", at_once).await);
        assert!(await_programmed(folder.path(), "b", at_once).await);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_news() {
        let folder = tempfile::tempdir().unwrap();
        let mut status = EndpointStatus::new(folder.path()).unwrap();
        let waiting = await_programmed(folder.path(), "a", Duration::from_secs(10));
        let telling = async { status.tell(names(&["a"])).unwrap() };
        assert!(tokio::join!(waiting, telling).0);
    }
}
