//! `cknet node-clean`: takes off a machine what a node of the reference distribution has put there, where the machine
//! goes on without it. Machines that end with their cluster need none of it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cknet_kernel::link::Netlink;
use cknet_kernel::nft::{Batch, Family, Nft};
use cknet_kernel::ns::NetNs;
use cknet_kernel::sandbox::unpin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where namespaces of pods are pinned.
const PINS: &str = "/run/netns";

/// What pins of pods begin with.
const PIN: &str = "cni-";

/// Longest time for killed processes to be gone.
const GONE: Duration = Duration::from_secs(10);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// RTPROT of routes that Calico makes.
const CALICO: u8 = 80;

/// Tables of packet rules that the agent, the service proxy and the plugins have.
const TABLES: [&str; 3] = ["calico", "kube-proxy", "cni_hostport"];

/// Devices of the CNIs, but for those of pods.
const DEVICES: [&str; 3] = ["vxlan.calico", "flannel.1", "cni0"];

/// What devices of pods begin with.
const POD_DEVICE: &str = "cali";

/// Files and folders of a node and of the control plane.
const FILES: [&str; 10] = [
    super::CONFIG,
    super::KUBECONFIG,
    crate::control_plane::CONFIG,
    "/etc/cni/net.d/10-calico.conflist",
    "/etc/cni/net.d/10-canal.conflist",
    "/etc/cni/net.d/10-flannel.conflist",
    "/etc/cni/net.d/calico-kubeconfig",
    "/run/calico",
    "/run/flannel",
    "/run/cknet",
];

/// Folders that go if nothing of somebody else is in them.
const FOLDERS: [&str; 4] = ["/etc/kubernetes", "/etc/cni/net.d", "/etc/cni", PINS];

pub fn main() -> ExitCode {
    match clean() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nowhere to complain about a closed standard error.
            let _ = writeln!(io::stderr(), "error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn clean() -> Result<(), String> {
    end_processes()?;
    for pin in pins() {
        unpin(&pin).map_err(|error| format!("`{}`: {error}", pin.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(clear_network())?;
    drop_rules().map_err(|error| format!("packet rules: {error}"))?;
    for file in FILES.map(Path::new) {
        let removed = if file.is_dir() { fs::remove_dir_all(file) } else { fs::remove_file(file) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("`{}`: {error}", file.display()));
            }
            _ => {}
        }
    }
    for folder in FOLDERS {
        // What is not empty, or still a mount that others use, stays.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn pins() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(PINS) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PIN));
    named.map(|entry| entry.path()).collect()
}

/// Kills whatever our executable is, and what runs in the networks of pods.
fn end_processes() -> Result<(), String> {
    let ours = fs::read_link("/proc/self/exe").map_err(|error| format!("our own executable: {error}"))?;
    let networks: Vec<(u64, u64)> =
        pins().iter().filter_map(|pin| NetNs::open(pin).and_then(|netns| netns.identity()).ok()).collect();
    let started = Instant::now();
    loop {
        let left = processes_of(&ours, &networks);
        if left.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= GONE {
            return Err(format!("processes {left:?} do not end"));
        }
        for process in left {
            // It may have ended in this very moment.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn processes_of(ours: &Path, networks: &[(u64, u64)]) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let all = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|process| {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let is_ours = || fs::read_link(folder.join("exe")).is_ok_and(|exe| same(&exe, ours));
        let is_inside = || {
            let network = NetNs::open(&folder.join("ns/net")).and_then(|netns| netns.identity());
            network.is_ok_and(|network| networks.contains(&network))
        };
        *process != own && is_alive(&folder) && (is_ours() || is_inside())
    })
    .collect()
}

/// The executable may have been replaced while it runs.
fn same(exe: &Path, ours: &Path) -> bool {
    exe == ours || exe.to_string_lossy().strip_suffix(" (deleted)").is_some_and(|path| Path::new(path) == ours)
}

/// A zombie holds nothing but its number.
fn is_alive(folder: &Path) -> bool {
    let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

async fn clear_network() -> Result<(), String> {
    let text = |error: cknet_kernel::link::NetlinkError| error.to_string();
    let here = NetNs::current().map_err(|error| error.to_string())?;
    let netlink = Netlink::open(&here).map_err(|error| error.to_string())?;
    for link in netlink.links().await.map_err(text)? {
        if link.name.starts_with(POD_DEVICE) || DEVICES.contains(&link.name.as_str()) {
            netlink.delete(link.index).await.map_err(text)?;
        }
    }
    for route in netlink.routes().await.map_err(text)?.iter().filter(|route| route.protocol == CALICO) {
        netlink.delete_route(route).await.map_err(text)?;
    }
    Ok(())
}

fn drop_rules() -> Result<(), cknet_kernel::nft::NftError> {
    let mut nft = Nft::open()?;
    let mut batch = Batch::new();
    for family in [Family::Ip, Family::Ip6] {
        let there = nft.tables(family)?;
        for table in TABLES.iter().filter(|table| there.iter().any(|name| name == *table)) {
            batch.delete_table(family, table);
        }
    }
    nft.send(batch)?;
    super::calico::iptables::withdraw(nft)
}
