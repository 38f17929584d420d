//! One node of the fabric: its namespaces, the files that are its own, and the programs started in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cknet_kernel::space::{self, KernelFiles, Space};

use super::super::wire::Spawn;

/// Where a node finds the programs of cknet.
const PROGRAMS: &str = "/run/cknet/bin";

const SEARCH_PATH: &str = "/run/cknet/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The memory that the files of one node may take.
const NODE_FILES: &str = "mode=755,size=256m";

/// Makes the namespaces of a node and gives it files of its own; `forwards`: it passes packets on.
pub fn create(name: &str, forwards: bool) -> io::Result<Space> {
    Space::create(name, || furnish(name, forwards))
}

/// `/run` is empty and private, `/etc` looks like the host's and is private, `/sys` shows the node's own network.
fn furnish(name: &str, forwards: bool) -> io::Result<()> {
    // Opened before anything is covered, because the executable may itself lie below `/tmp` or `/run`.
    let executable = File::open(std::env::current_exe()?)?;
    let staging = Path::new("/tmp");
    space::mount_memory(staging, NODE_FILES)?;
    let programs = staging.join("cknet/bin");
    fs::create_dir_all(&programs)?;
    fs::create_dir_all(staging.join("cknet/log"))?;
    fs::create_dir_all(staging.join("netns"))?;
    fs::create_dir_all(staging.join("lock"))?;
    let program = programs.join("cknet");
    File::create(&program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    space::bind_file(&executable, &program)?;
    std::os::unix::fs::symlink("cknet", programs.join("agnhost"))?;
    own_etc(&staging.join("cknet"))?;
    space::move_mount(staging, Path::new("/run"))?;
    // Without a private view of /sys only `/sys/class/net` is wrong, and only for people who look there.
    let _ = space::mount_kernel_files(KernelFiles::Sys, Path::new("/sys"));
    fs::write("/etc/hostname", format!("{name}\n"))?;
    network_settings(forwards)
}

/// Folders of `/etc` that a node fills by itself, whatever the host has there.
const FILLED_BY_THE_NODE: [&str; 3] = ["cni", "kubernetes", "systemd"];

/// Gives the node an `/etc` in which it can write without the host seeing it.
///
/// A layer above the host's serves root. An ordinary user may not write through it, because inside the user namespace
/// the host's folder belongs to nobody; there `/etc` is new: files are copies, folders lead to the host's.
fn own_etc(private: &Path) -> io::Result<()> {
    let etc = Path::new("/etc");
    let layers = private.join("etc");
    if nix::unistd::access(etc, nix::unistd::AccessFlags::W_OK).is_ok() {
        return space::overlay(etc, &layers);
    }
    let host = private.join("host-etc");
    fs::create_dir_all(&host)?;
    space::bind(etc, &host)?;
    let entries: Vec<_> = fs::read_dir(&host)?.collect::<io::Result<_>>()?;
    space::mount_memory(etc, "mode=755,size=64m")?;
    for entry in entries {
        let (name, from) = (entry.file_name(), entry.path());
        let to = etc.join(&name);
        if FILLED_BY_THE_NODE.iter().any(|own| name == *own) {
            continue;
        }
        if entry.file_type()?.is_file() {
            // Files that this user may not read stay away.
            let _ = fs::copy(&from, &to);
        } else {
            std::os::unix::fs::symlink(Path::new("/run/cknet/host-etc").join(&name), &to)?;
        }
    }
    Ok(())
}

/// Settings of the node's own network namespace (ip-sysctl.rst). Packets may come back another way than they went, and
/// nobody is told of a shorter way: paths stay as they were laid.
fn network_settings(forwards: bool) -> io::Result<()> {
    for (key, value) in [
        ("net/ipv4/ip_forward", if forwards { "1" } else { "0" }),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ] {
        // IPv6 may be absent from the kernel altogether.
        let written = fs::write(Path::new("/proc/sys").join(key), value);
        if !key.starts_with("net/ipv6") {
            written?;
        }
    }
    Ok(())
}

/// Starts a program inside a node with the three standard streams given; returns its process id.
pub fn spawn(space: &Space, spawn: &Spawn, streams: [OwnedFd; 3]) -> io::Result<u32> {
    let [stdin, stdout, stderr] = streams;
    space.run(|| {
        let Some((program, arguments)) = spawn.argv.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program named"));
        };
        let program = if program == "cknet" { format!("{PROGRAMS}/cknet") } else { program.clone() };
        let mut command = Command::new(&program);
        command.args(arguments).env("PATH", SEARCH_PATH).envs(spawn.environment.iter().cloned()).current_dir("/");
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        if spawn.terminal {
            cknet_kernel::terminal::take_on_start(&mut command);
        } else {
            command.process_group(0);
            // A runner that outlives its terminal ignores SIGHUP, and what runs on a node knows nothing of that.
            cknet_kernel::child::with_default_signals(&mut command);
        }
        command.spawn().map(|child| child.id())
    })?
}

/// Writes `content` to a file of the node, whole or not at all.
pub fn put(space: &Space, path: &str, mode: u32, content: OwnedFd) -> io::Result<()> {
    space.run(|| {
        let path = Path::new(path);
        let folder = path.parent().filter(|_| path.is_absolute()).ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let draft = folder.join(format!(".{}.cknet", name.to_string_lossy()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
        io::copy(&mut File::from(content), &mut file)?;
        file.flush()?;
        fs::rename(&draft, path)
    })?
}

/// Opens a file of the node for reading.
pub fn take(space: &Space, path: &str) -> io::Result<OwnedFd> {
    space.run(|| File::open(path).map(OwnedFd::from))?
}

/// Connects from inside the node.
pub fn dial(space: &Space, address: SocketAddr) -> io::Result<OwnedFd> {
    const DEADLINE: Duration = Duration::from_secs(2);
    space.net().run(|| TcpStream::connect_timeout(&address, DEADLINE).map(OwnedFd::from))?
}
