//! Notice of changes in a folder, from inotify: no polling.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::polled::registered;

/// Tells when something in a folder appeared, went away, was renamed or was written.
#[derive(Debug)]
pub struct FolderWatch {
    queue: AsyncFd<OwnedFd>,
}

impl FolderWatch {
    /// Starts to watch `folder`, which must exist. What changes from now on is seen. Needs a tokio runtime.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let interesting = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(folder, interesting)?;
        Ok(Self { queue: registered(inotify.into(), Interest::READABLE)? })
    }

    /// Waits until there was a change since the last call; several changes are one.
    pub async fn changed(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        self.queue.async_io(Interest::READABLE, |queue| Ok(nix::unistd::read(queue, &mut buffer)?)).await?;
        // What else is queued belongs to the same look at the folder.
        loop {
            match nix::unistd::read(self.queue.get_ref(), &mut buffer) {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_file_that_comes_or_goes_is_noticed_and_silence_is_kept_otherwise() {
        let folder = std::env::temp_dir().join(format!("cknet-folder-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let watch = FolderWatch::new(&folder).unwrap();
        std::fs::write(folder.join("10-a.conflist"), "{}").unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(20), watch.changed()).await;
        assert!(quiet.is_err(), "a change was told twice");
        std::fs::remove_file(folder.join("10-a.conflist")).unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
