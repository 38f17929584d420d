//! Owns the question whether the process that wrote a ledger still lives. It must not know ledgers.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process, named so that no other can be taken for it: a pid alone comes back, a pid with its start time
/// comes back only after a reboot, and the boot id tells boots apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
    pub boot_id: String,
    /// The pid namespace that `pid` belongs to. In another one the number means another process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<String>,
    /// The machine, for a state folder that several machines share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
}

/// Whether a process lives, as far as one can tell from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    Alive,
    Dead,
    /// It cannot be seen from here, so it must be left alone.
    Unknown {
        why: String,
    },
}

/// The files that say who lives; a parameter so that tests can make them up.
pub(super) struct ProcessTable<'a> {
    pub proc: &'a Path,
    pub machine_id: &'a Path,
}

impl ProcessTable<'static> {
    pub(super) fn system() -> Self {
        Self { proc: Path::new("/proc"), machine_id: Path::new("/etc/machine-id") }
    }
}

impl ProcessTable<'_> {
    fn boot_id(&self) -> std::io::Result<String> {
        Ok(fs::read_to_string(self.proc.join("sys/kernel/random/boot_id"))?.trim().to_owned())
    }

    fn pid_namespace(&self) -> Option<String> {
        let link = fs::read_link(self.proc.join("self/ns/pid")).ok()?;
        Some(link.to_string_lossy().into_owned())
    }

    fn machine_id(&self) -> Option<String> {
        let id = fs::read_to_string(self.machine_id).ok()?.trim().to_owned();
        (!id.is_empty()).then_some(id)
    }

    fn stat(&self, pid: u32) -> std::io::Result<Option<Stat>> {
        let text = match fs::read_to_string(self.proc.join(pid.to_string()).join("stat")) {
            Ok(text) => text,
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // A process that ends between open and read.
            Err(gone) if gone.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(other) => return Err(other),
        };
        Ok(Stat::parse(&text))
    }

    pub(super) fn owner(&self, pid: u32) -> std::io::Result<Owner> {
        let stat = self.stat(pid)?.ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("no start time for process {pid}"))
        })?;
        Ok(Owner {
            pid,
            start_ticks: stat.start_ticks,
            boot_id: self.boot_id()?,
            pid_namespace: self.pid_namespace(),
            machine_id: self.machine_id(),
        })
    }

    pub(super) fn liveness(&self, owner: &Owner) -> Liveness {
        if let (Some(there), Some(here)) = (&owner.machine_id, self.machine_id())
            && *there != here
        {
            return unknown(format!("it ran on the machine `{there}`, this one is `{here}`"));
        }
        match self.boot_id() {
            Err(error) => return unknown(format!("the boot id cannot be read: {error}")),
            Ok(boot) if boot != owner.boot_id => return Liveness::Dead,
            Ok(_) => {}
        }
        if let (Some(there), Some(here)) = (&owner.pid_namespace, self.pid_namespace())
            && *there != here
        {
            return unknown(format!("it ran in the pid namespace `{there}`, this one is `{here}`"));
        }
        match self.stat(owner.pid) {
            Err(error) => unknown(format!("process {} cannot be read: {error}", owner.pid)),
            Ok(Some(stat)) if stat.start_ticks == owner.start_ticks && !stat.ended => Liveness::Alive,
            Ok(_) => Liveness::Dead,
        }
    }
}

fn unknown(why: String) -> Liveness {
    Liveness::Unknown { why }
}

struct Stat {
    start_ticks: u64,
    /// A zombie or dead process holds its pid but can clean up nothing.
    ended: bool,
}

impl Stat {
    /// The second field is the name in parentheses and may itself hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // State is field 3; 22 is eighteen fields after the next one.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { start_ticks, ended: matches!(state, "Z" | "X" | "x") })
    }
}

impl Owner {
    /// This process.
    pub fn current() -> std::io::Result<Self> {
        ProcessTable::system().owner(std::process::id())
    }

    /// Whether it lives.
    pub fn liveness(&self) -> Liveness {
        ProcessTable::system().liveness(self)
    }
}

/// Whether the owner lives or might live: a ledger may be collected only if this is false.
pub fn owner_alive(owner: &Owner) -> bool {
    owner.liveness() != Liveness::Dead
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const BOOT: &str = "11111111-2222-3333-4444-555555555555";

    fn stat_line(name: &str, state: &str, ticks: u64) -> String {
        format!("77 ({name}) {state} 1 77 77 0 -1 4194304 9 0 0 0 1 2 0 0 20 0 1 0 {ticks} 1000 20 0 0\n")
    }

    fn table(stat: Option<String>) -> TempDir {
        let root = TempDir::new().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("sys/kernel/random")).unwrap();
        fs::write(path.join("sys/kernel/random/boot_id"), format!("{BOOT}\n")).unwrap();
        fs::create_dir_all(path.join("self/ns")).unwrap();
        symlink("pid:[4026531836]", path.join("self/ns/pid")).unwrap();
        fs::write(path.join("machine-id"), "abc\n").unwrap();
        if let Some(stat) = stat {
            fs::create_dir(path.join("77")).unwrap();
            fs::write(path.join("77/stat"), stat).unwrap();
        }
        root
    }

    fn owner() -> Owner {
        Owner {
            pid: 77,
            start_ticks: 4242,
            boot_id: BOOT.into(),
            pid_namespace: Some("pid:[4026531836]".into()),
            machine_id: Some("abc".into()),
        }
    }

    fn judge(root: &TempDir, owner: &Owner) -> Liveness {
        let machine_id = root.path().join("machine-id");
        ProcessTable { proc: root.path(), machine_id: &machine_id }.liveness(owner)
    }

    #[rstest]
    #[case::runs(Some(stat_line("cknet", "S", 4242)), Liveness::Alive)]
    #[case::odd_name(Some(stat_line("a) S 1 (b", "R", 4242)), Liveness::Alive)]
    #[case::pid_used_again(Some(stat_line("cknet", "S", 4243)), Liveness::Dead)]
    #[case::zombie(Some(stat_line("cknet", "Z", 4242)), Liveness::Dead)]
    #[case::gone(None, Liveness::Dead)]
    fn by_process(#[case] stat: Option<String>, #[case] expected: Liveness) {
        assert_eq!(judge(&table(stat), &owner()), expected);
    }

    #[test]
    fn another_boot_is_death() {
        let root = table(Some(stat_line("cknet", "S", 4242)));
        assert_eq!(judge(&root, &Owner { boot_id: "other".into(), ..owner() }), Liveness::Dead);
    }

    #[test]
    fn what_cannot_be_seen_is_left_alone() {
        let root = table(None);
        for elsewhere in [
            Owner { pid_namespace: Some("pid:[1]".into()), ..owner() },
            Owner { machine_id: Some("other".into()), boot_id: "other".into(), ..owner() },
        ] {
            assert!(matches!(judge(&root, &elsewhere), Liveness::Unknown { .. }));
        }
    }

    #[test]
    fn this_process_lives() {
        let me = Owner::current().unwrap();
        assert!(owner_alive(&me));
        assert!(!owner_alive(&Owner { start_ticks: me.start_ticks + 1, ..me }));
    }
}
