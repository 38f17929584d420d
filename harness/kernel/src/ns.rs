//! A network namespace as a value: made, opened, entered for one piece of work, pinned to a path.
//!
//! A namespace lives as long as something refers to it: a process or thread inside, an open [`NetNs`], a bind
//! mount. Work inside one is done on a thread of its own that enters, works and ends, because a thread that was
//! left in another namespace would surprise whoever runs on it next. Sockets and netlink handles stay in the
//! namespace they were opened in, so they may be carried out and used from anywhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// An open network namespace. Cheap to clone: clones share one descriptor.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<File>,
}

impl NetNs {
    /// Makes a new, empty namespace (loopback only, and down).
    ///
    /// Needs `CAP_SYS_ADMIN` in the current user namespace.
    pub fn create() -> io::Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens a namespace by path: `/proc/<pid>/ns/net`, or a file it is pinned to.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { file: Arc::new(file) })
    }

    /// Does `work` on a thread of its own inside this namespace and returns what it returned.
    ///
    /// Children started by `work` and sockets opened by it belong to this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Moves the calling thread into this namespace for good.
    ///
    /// For threads and single-threaded processes that own their namespace; everybody else uses [`NetNs::run`].
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Binds the namespace to the file at `path`, which is created, so that it outlives every process in it and
    /// can be opened by path. The mount ends with the mount namespace it was made in.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        File::options().create(true).append(true).open(path)?;
        let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*self.file));
        Ok(mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    }

    /// Device and inode: two handles are of the same namespace exactly when these are equal (namespaces(7)).
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// An rtnetlink handle that acts on this namespace; its connection is driven by the current tokio runtime.
    pub fn netlink(&self) -> io::Result<rtnetlink::Handle> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle) = self.run(|| {
            let _context = runtime.enter();
            rtnetlink::new_connection().map(|(connection, handle, _)| (connection, handle))
        })??;
        tokio::spawn(connection);
        Ok(handle)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` on a scoped thread; a panic inside is carried on in the caller.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn work_happens_inside_and_the_caller_stays_outside() {
        let Ok(inside) = NetNs::create() else {
            // Without CAP_SYS_ADMIN there is nothing to test here; the rootless path is tested through the binary.
            assert!(!nix::unistd::geteuid().is_root(), "root must be able to make a namespace");
            return;
        };
        let before = NetNs::current().unwrap().identity().unwrap();
        let seen = inside.run(|| NetNs::current().unwrap().identity().unwrap()).unwrap();
        assert_eq!(seen, inside.identity().unwrap());
        assert_ne!(seen, before);
        assert_eq!(NetNs::current().unwrap().identity().unwrap(), before);
    }
}
