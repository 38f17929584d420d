//! The namespaces a group of processes shares apart from its machine: network, mounts, host name. Made, found again,
//! entered and emptied.
//!
//! It knows nothing of pods: who lives inside, what is bound over which file and what is started is the caller's.
//! A mount namespace can only be entered by a thread whose working directory is its own, so all work inside is
//! done on a thread made for it, which ends afterwards (see [`crate::ns`]).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::sethostname;

use crate::child;
use crate::link_flags::bring_loopback_up;
use crate::ns::NetNs;
use crate::own_root::OwnRoot;

/// What a new sandbox has of its own.
#[derive(Clone, Debug, Default)]
pub struct SandboxPlan {
    /// Its host name; `None` keeps the UTS and network namespaces of the caller.
    pub isolated_as: Option<String>,
    /// A network namespace to live in, instead of a new one; only for an isolated sandbox.
    pub network: Option<NetNs>,
    /// A root of its own, and an empty folder of the caller where it is built; else the caller's.
    pub root: Option<(OwnRoot, PathBuf)>,
    /// Files of the caller (left) that are seen inside at another path (right). A missing path is created empty.
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// An open set of namespaces. It needs no living process; clones share the descriptors.
#[derive(Clone, Debug)]
pub struct Sandbox {
    network: NetNs,
    mounts: Arc<File>,
    host_name: Arc<File>,
    /// The network namespace is its own and not the machine's.
    is_isolated: bool,
}

/// A step in making or opening a sandbox failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {cause}")]
pub struct SandboxError {
    pub step: String,
    pub cause: io::Error,
}

/// Names the step that a result belongs to.
trait During<T> {
    fn during(self, step: impl Into<String>) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: impl Into<String>) -> Result<T, SandboxError> {
        self.map_err(|cause| SandboxError { step: step.into(), cause: cause.into() })
    }
}

impl Sandbox {
    /// Makes the namespaces that `plan` asks for, with the loopback device up in a new network namespace.
    ///
    /// Needs `CAP_SYS_ADMIN` in the current user namespace.
    pub async fn create(plan: SandboxPlan) -> Result<Self, SandboxError> {
        on_thread(move || Self::create_here(&plan)).await.during("start a thread for a sandbox")?
    }

    /// The work of [`Sandbox::create`]; leaves the calling thread inside.
    fn create_here(plan: &SandboxPlan) -> Result<Self, SandboxError> {
        let own = match (&plan.isolated_as, &plan.network) {
            (None, _) => CloneFlags::CLONE_NEWNS,
            (Some(_), Some(_)) => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS,
            (Some(_), None) => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNET,
        };
        unshare(own).during("make namespaces")?;
        // What the machine mounts later is seen inside, what is mounted inside stays there.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
            .during("make mounts private")?;
        if let Some((root, staging)) = &plan.root {
            root.enter(staging).during(format!("lay a root over `{}`", staging.display()))?;
        }
        for (source, target) in &plan.binds {
            bind(source, target)?;
        }
        if let Some(name) = &plan.isolated_as {
            sethostname(name).during(format!("set the host name `{name}`"))?;
            if let Some(network) = &plan.network {
                network.enter().during("enter the network namespace")?;
            }
            bring_loopback_up().during("bring the loopback device up")?;
            mount_own_sysfs();
        }
        Self::opened("/proc/thread-self/ns", plan.isolated_as.is_some())
    }

    /// The namespaces that the living process `pid` is in; `isolated` as its sandbox was planned.
    pub fn of_process(pid: i32, isolated: bool) -> Result<Self, SandboxError> {
        Self::opened(&format!("/proc/{pid}/ns"), isolated)
    }

    fn opened(folder: &str, is_isolated: bool) -> Result<Self, SandboxError> {
        let open = |name: &str| {
            let path = format!("{folder}/{name}");
            File::open(&path).map(Arc::new).during(format!("open `{path}`"))
        };
        let path = format!("{folder}/net");
        let network = NetNs::open(Path::new(&path)).during(format!("open `{path}`"))?;
        Ok(Self { network, mounts: open("mnt")?, host_name: open("uts")?, is_isolated })
    }

    /// The network namespace.
    pub fn network(&self) -> &NetNs {
        &self.network
    }

    /// Does `work` on a thread of its own inside all namespaces. Children that it starts belong to them.
    pub async fn run<T, W>(&self, work: W) -> io::Result<T>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let sandbox = self.clone();
        on_thread(move || {
            sandbox.enter()?;
            Ok(work())
        })
        .await?
    }

    fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        setns(self.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
        setns(self.host_name.as_fd(), CloneFlags::CLONE_NEWUTS)?;
        // Last: the /proc that the other descriptors came from may be another one inside.
        setns(self.mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
        Ok(())
    }

    /// Kills every process inside, also those that left the group or session they were started in, and waits up to
    /// `patience` until they are dead. Returns how many were found; blocks the calling thread.
    pub fn kill_all(&self, patience: Duration) -> io::Result<usize> {
        let mounts = identity(&self.mounts.metadata()?);
        let network = if self.is_isolated { Some(self.network.identity()?) } else { None };
        let deadline = Instant::now() + patience;
        let mut killed = HashSet::new();
        loop {
            let members = processes_in(mounts, network)?;
            if members.is_empty() || Instant::now() >= deadline {
                return Ok(killed.len());
            }
            for pid in members {
                killed.insert(pid);
                child::end(pid, Signal::SIGKILL, deadline)?;
            }
        }
    }
}

/// Removes a file that a namespace was pinned to; an absent one is no error.
///
/// Unlinking also detaches the copies of the mount that other mount namespaces inherited.
pub fn unpin(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bind(source: &Path, target: &Path) -> Result<(), SandboxError> {
    if !target.exists() {
        File::options().create(true).append(true).open(target).during(format!("create `{}`", target.display()))?;
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).during(format!(
        "bind `{}` to `{}`",
        source.display(),
        target.display()
    ))
}

/// `/sys/class/net` shows the devices of the namespace that sysfs was mounted in. Only a convenience for people:
/// a user namespace may not be allowed to mount it, and nothing here depends on it.
fn mount_own_sysfs() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>);
}

/// Device and inode, which are equal exactly for the same namespace.
fn identity(about: &fs::Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

/// Every process that shares the mounts, or the network where that is given.
fn processes_in(mounts: (u64, u64), network: Option<(u64, u64)>) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Gone meanwhile, or a zombie, which is in no namespace any more.
        let of = |kind: &str| fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|about| identity(&about));
        if of("mnt") == Some(mounts) || (network.is_some() && of("net") == network) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Does `work` on a new thread and waits for it without blocking the runtime. A panic is carried on here.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("in-sandbox".into()).spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // A caller that stopped waiting needs no answer.
        let _ = done.send(result);
    })?;
    match outcome.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(io::Error::other("the thread in the sandbox ended without an answer")),
    }
}
