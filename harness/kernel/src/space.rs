//! The namespaces that make a machine of a few processes: network, mount and UTS, held open as descriptors.
//!
//! A space needs no process of its own: it ends when its last descriptor is closed and its last process has ended.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::ns::NetNs;

/// A network, a mount and a UTS namespace that belong together.
#[derive(Clone, Debug)]
pub struct Space {
    net: NetNs,
    mount: Arc<File>,
    uts: Arc<File>,
}

impl Space {
    /// Makes new namespaces of all three kinds, copies of the caller's, and does `furnish` inside them.
    pub fn create(hostname: &str, furnish: impl FnOnce() -> io::Result<()> + Send) -> io::Result<Self> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
            keep_mounts_private()?;
            nix::unistd::sethostname(hostname)?;
            furnish()?;
            Ok(Self {
                net: NetNs::current()?,
                mount: Arc::new(File::open("/proc/thread-self/ns/mnt")?),
                uts: Arc::new(File::open("/proc/thread-self/ns/uts")?),
            })
        })
    }

    /// The network namespace of the space.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// Does `work` on a thread of its own inside the space. Children started by `work` belong to it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_own_thread(|| {
            // A thread shares its root and working directory with its process until it says otherwise, and a mount
            // namespace cannot be entered while they are shared (setns(2)).
            unshare(CloneFlags::CLONE_FS)?;
            self.net.enter()?;
            setns(self.uts.as_fd(), CloneFlags::CLONE_NEWUTS)?;
            setns(self.mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
            Ok(work())
        })
    }
}

/// Stops mounts from travelling between this mount namespace and the one it was copied from.
pub fn keep_mounts_private() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// Lets mounts below a folder travel into mount namespaces that are copied from this one later, as `ip netns` does with
/// the folder in which it pins namespaces. Doing it again changes nothing.
pub fn share_mounts_below(folder: &Path) -> io::Result<()> {
    let share = || mount(None::<&str>, folder, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // It has to be a mount of its own.
        Err(nix::errno::Errno::EINVAL) => {
            bind(folder, folder)?;
            Ok(share()?)
        }
        shared => Ok(shared?),
    }
}

/// Mounts an empty file system in memory at `path`.
pub fn mount_memory(path: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))?)
}

/// Makes what is at `source` visible at `target` too.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

/// Makes an open file visible at `target`, which exists; the file must have been opened in this mount namespace.
pub fn bind_file(source: &File, target: &Path) -> io::Result<()> {
    bind(Path::new(&format!("/proc/thread-self/fd/{}", source.as_raw_fd())), target)
}

/// Moves a mount to another place.
pub fn move_mount(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?)
}

/// Lays a writable layer kept in `layers` (a folder on a file system in memory) over the folder at `path`.
pub fn overlay(path: &Path, layers: &Path) -> io::Result<()> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = |extra: &str| {
        format!("lowerdir={},upperdir={},workdir={}{extra}", path.display(), upper.display(), work.display())
    };
    let lay = |options: String| mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    // In a user namespace extended attributes must be of the `user.` kind (overlayfs, since Linux 5.11).
    lay(options("")).or_else(|_| lay(options(",userxattr")))?;
    Ok(())
}

/// Mounts a fresh procfs (of the caller's PID namespace) or sysfs (of its network namespace) at `path`.
pub fn mount_kernel_files(kind: KernelFiles, path: &Path) -> io::Result<()> {
    let name = match kind {
        KernelFiles::Proc => "proc",
        KernelFiles::Sys => "sysfs",
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some(name), path, Some(name), flags, None::<&str>)?)
}

/// A file system that the kernel fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFiles {
    Proc,
    Sys,
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("in-space".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
