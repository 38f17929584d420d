//! Nothing outside of a cluster's namespaces changes, neither while it stands nor after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workplace::Workplace;
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[(Needs::Namespaces, "host::nothing_outside_changes", nothing_outside_changes)];

fn nothing_outside_changes() {
    let workplace = Workplace::new();
    let before = snapshot();
    workplace.run(["up"]).expect(0);
    let during = snapshot();
    workplace.run(["down"]).expect(0);
    workplace.await_nothing_left();
    let after = snapshot();
    assert_same(&before, &during);
    assert_same(&before, &after);
    assert_eq!(workplace.temporary_files(), Vec::<std::path::PathBuf>::new());
}

/// What there is to be changed, by name.
type Snapshot = BTreeMap<String, String>;

fn assert_same(before: &Snapshot, then: &Snapshot) {
    for (name, text) in before {
        assert_eq!(Some(text), then.get(name), "`{name}` has changed");
    }
    assert_eq!(before.len(), then.len(), "something new: {:?}", then.keys().collect::<Vec<_>>());
}

fn snapshot() -> Snapshot {
    let mut found = Snapshot::new();
    for command in ["ip -j link", "ip -j address", "ip -j route", "ip -j rule", "ip netns", "nft list ruleset"] {
        let mut words = command.split(' ');
        // A tool that is not here has nothing to say before, during and after.
        let Ok(output) = Command::new(words.next().unwrap()).args(words).output() else { continue };
        found.insert(command.into(), without_times(&String::from_utf8_lossy(&output.stdout)));
    }
    for folder in ["/proc/sys/net/ipv4/conf/all", "/proc/sys/net/ipv4/conf/default", "/proc/sys/net/ipv4/neigh/default"]
    {
        for file in fs::read_dir(folder).unwrap().flatten() {
            found.insert(file.path().display().to_string(), fs::read_to_string(file.path()).unwrap_or_default());
        }
    }
    for file in [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/core/somaxconn",
        "/proc/sys/net/ipv4/ip_local_port_range",
        "/proc/sys/kernel/hostname",
    ] {
        found.insert(file.into(), fs::read_to_string(file).unwrap_or_default());
    }
    found.insert("mounts".into(), fs::read_to_string("/proc/self/mounts").unwrap());
    found.insert("/run/netns".into(), listing(Path::new("/run/netns")));
    found.insert("/etc".into(), listing(Path::new("/etc")));
    found
}

/// Addresses with a lease count the seconds down.
fn without_times(text: &str) -> String {
    let keeps = |part: &&str| !part.contains("life_time");
    text.split(',').filter(keeps).collect::<Vec<_>>().join(",")
}

/// Names, sizes and times of change of everything in a folder and below, without following links.
fn listing(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "not there".into() };
    let mut lines = Vec::new();
    for entry in entries.flatten() {
        let Ok(data) = entry.metadata() else { continue };
        lines.push(format!("{} {} {:?}", entry.path().display(), data.len(), data.modified().ok()));
        if data.is_dir() {
            lines.push(listing(&entry.path()));
        }
    }
    lines.sort();
    lines.join("\n")
}
