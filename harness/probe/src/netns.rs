//! Owns the words by which a request names a network namespace: `self`, a path, or `sandbox:ID` for the one that a
//! container runtime has made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cknet_kernel::ns::NetNs;

/// What begins the word for a namespace of a container runtime.
const SANDBOX: &str = "sandbox:";

/// Where some runtimes pin namespaces under the id itself.
const PINNED: &str = "/run/netns/cni-";

/// The word for the network namespace of the sandbox with this id (in Kubernetes, the uid of its pod).
pub fn of_sandbox(id: &str) -> String {
    format!("{SANDBOX}{id}")
}

/// Opens the namespace that a word names.
///
/// # Errors
/// When there is none, or it cannot be entered.
pub fn open(word: &str) -> io::Result<NetNs> {
    match path(word)? {
        Some(path) => NetNs::open(&path),
        None => NetNs::current(),
    }
}

/// Where the namespace of a word is; `None` for the caller's own.
///
/// # Errors
/// When nothing runs in a sandbox of that id.
pub fn path(word: &str) -> io::Result<Option<PathBuf>> {
    if word == "self" {
        return Ok(None);
    }
    let Some(id) = word.strip_prefix(SANDBOX) else { return Ok(Some(word.into())) };
    let pinned = PathBuf::from(format!("{PINNED}{id}"));
    if pinned.exists() {
        return Ok(Some(pinned));
    }
    let found = eldest(Path::new("/proc"), id)?;
    let none = || io::Error::new(io::ErrorKind::NotFound, format!("no process runs in a sandbox `{id}`"));
    found.map(Some).ok_or_else(none)
}

/// The namespace of the process that was started first in a control group of this id. Runtimes pin namespaces under
/// names of their own choice, but put every process of a sandbox into a group that is named after it; the first process
/// is the one that holds the namespaces and lives as long as they do.
fn eldest(processes: &Path, id: &str) -> io::Result<Option<PathBuf>> {
    // systemd has no `-` within the name of a slice.
    let names = [format!("pod{id}"), format!("pod{}", id.replace('-', "_"))];
    let mut eldest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(processes)?.flatten() {
        let folder = entry.path();
        // Processes end while one looks.
        let Ok(groups) = fs::read_to_string(folder.join("cgroup")) else { continue };
        if !names.iter().any(|name| groups.contains(name.as_str())) {
            continue;
        }
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let Some(started) = started(&stat) else { continue };
        if eldest.as_ref().is_none_or(|(known, _)| started < *known) {
            eldest = Some((started, folder.join("ns/net")));
        }
    }
    Ok(eldest.map(|(_, path)| path))
}

/// When a process was started, in ticks since boot (field 22 of proc_pid_stat(5)). The second field is the program's
/// name in brackets, with anything in it.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UID: &str = "626b64b9-1209-4445-8cb9-8000e257887d";

    fn process(root: &Path, pid: u32, group: &str, started: u64) {
        let folder = root.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup"), format!("0::/{group}\n")).unwrap();
        let before = "S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0";
        fs::write(folder.join("stat"), format!("{pid} (a ) b) {before} {started} 1 2 3\n")).unwrap();
    }

    #[test]
    fn the_first_process_of_a_sandbox_leads_to_its_namespace_whatever_manages_groups() {
        let groups = [
            format!("kubepods/besteffort/pod{UID}/0123"),
            format!("kubepods.slice/kubepods-besteffort-pod{}.slice/cri-0123.scope", UID.replace('-', "_")),
        ];
        for group in groups {
            let root = tempfile::tempdir().unwrap();
            process(root.path(), 9, &group, 400);
            process(root.path(), 70, &group, 300);
            process(root.path(), 8, "kubepods/besteffort/pod0aa0", 100);
            process(root.path(), 7, "init.scope", 1);
            assert_eq!(eldest(root.path(), UID).unwrap(), Some(root.path().join("70/ns/net")));
        }
    }

    #[test]
    fn a_sandbox_without_processes_is_not_found() {
        let error = path(&of_sandbox("0-0")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "no process runs in a sandbox `0-0`");
    }

    #[test]
    fn other_words_are_paths_or_ones_own() {
        assert_eq!(path("self").unwrap(), None);
        assert_eq!(path("/proc/1/ns/net").unwrap(), Some("/proc/1/ns/net".into()));
    }
}
