//! The way back: what Vagrant knows of a cluster is destroyed by it, and what it does not know is swept away.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hypervisor::Hypervisor;
use super::topology::{FILE, Written, prefix};
use super::{DESTROY, QUICK, VAGRANTFILE_NAME, Vagrant, failed};
use crate::commands::Given;
use crate::provider::ProviderError;
use crate::provider::machine::{Tool, ToolError};

/// Between two looks whether what was killed is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Vagrant {
    pub(super) async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        let place = self.place(key);
        if !place.join(VAGRANTFILE_NAME).is_file() {
            return Ok(());
        }
        end_strays(&place).await;
        // What that run has written down, and not what this one would choose.
        let written = Written::read(&place);
        let turn = self.turn(written.hypervisor).await?;
        let tool = self.tool(&place, written.hypervisor);
        let tool = turn.map_or_else(|| tool.clone(), |turn| tool.holding(turn));
        let destroy = || tool.call(&["destroy", "--force"], DESTROY);
        let mut destroyed = destroy().await;
        if written.hypervisor == Hypervisor::Libvirt {
            let swept = sweep(&prefix(&self.run, key), &written, &place).await;
            swept.map_err(self.failed("remove what Vagrant has forgotten"))?;
            if destroyed.is_err() {
                // It may have stumbled over what is swept away now. Where it still complains something is left.
                destroyed = destroy().await;
            }
        }
        destroyed.map_err(self.failed("remove its machines"))?;
        let removed = std::fs::remove_dir_all(&place);
        removed.map_err(|error| failed(format!("remove `{}`", place.display()), &error))
    }
}

/// Vagrant writes down what it has made, and one that was killed has not written everything: it refuses to destroy
/// a domain that it finds and does not remember. Domains and volumes are known by their names, networks by the
/// topology.
async fn sweep(prefix: &str, written: &Written, place: &Path) -> Result<(), ToolError> {
    let virsh = Tool::new("virsh").given(Given { folder: Some(place.to_path_buf()), ..Given::default() });
    let call = async |words: &[&str]| virsh.call(&[&["-c", &written.uri], words].concat(), QUICK).await;
    // One that does not run cannot be stopped, and is undefined all the same.
    let stop = async |words: &[&str]| virsh.ask(&[&["-c", &written.uri], words].concat(), &[], QUICK).await;
    let domains = call(&["list", "--all", "--name"]).await?;
    for domain in domains.lines().map(str::trim).filter(|name| name.starts_with(prefix)) {
        let _ = stop(&["destroy", domain]).await?;
        call(&["undefine", domain, "--nvram", "--snapshots-metadata"]).await?;
    }
    let pool = written.storage_pool.as_str();
    // A run that came to nothing may have come before its pool.
    if call(&["pool-list", "--all", "--name"]).await?.lines().any(|line| line.trim() == pool) {
        let volumes = call(&["vol-list", pool]).await?;
        let names = volumes.lines().filter_map(|line| line.split_whitespace().next());
        for volume in names.filter(|name| name.starts_with(prefix)) {
            call(&["vol-delete", volume, "--pool", pool]).await?;
        }
    }
    let known = call(&["net-list", "--all", "--name"]).await?;
    for network in written.networks.iter().filter(|name| known.lines().any(|line| line.trim() == **name)) {
        let _ = stop(&["net-destroy", network]).await?;
        call(&["net-undefine", network]).await?;
    }
    Ok(())
}

/// Ends calls of Vagrant for a cluster whose caller has died: they hold its locks and would go on making machines. They
/// are known by their program and by the topology in their environment. Others have that too: a shell in which somebody
/// works by hand, and a daemon of VirtualBox, which carries the machines of others as well.
async fn end_strays(place: &Path) {
    // Whoever looks into that folder by hand may have the variable too, and call us.
    let ours = ourselves();
    let variable = format!("CKNET_TOPOLOGY={}", place.join(FILE).display());
    let strays = || -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|id| !ours.contains(id) && is_vagrant(*id))
            .filter(|id| {
                let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|own| own == variable.as_bytes())
            })
            .collect()
    };
    let started = Instant::now();
    loop {
        let found = strays();
        if found.is_empty() || started.elapsed() >= QUICK {
            return;
        }
        for id in found {
            // It may have ended in this very moment.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether a process is Vagrant, which is a program in Ruby behind one of the same name or a script.
fn is_vagrant(id: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    // Some have their version behind it.
    program.starts_with("ruby") || program.starts_with("vagrant") || name.trim_end() == "vagrant"
}

/// This process and those that it descends from (proc_pid_stat(5), field 4).
fn ourselves() -> Vec<i32> {
    let parent = |id: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let own = i32::try_from(std::process::id()).ok();
    std::iter::successors(own, |id| parent(*id).filter(|parent| *parent > 0)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell under another name, which waits for a word.
    fn process(folder: &Path, name: &str, place: &Path) -> Child {
        let program = folder.join(name);
        std::fs::copy("/bin/sh", &program).unwrap();
        let topology = place.join(FILE);
        let mut command = Command::new(program);
        command.args(["-c", "echo up; read word"]).env("CKNET_TOPOLOGY", topology);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It is what it is called when it speaks.
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        child
    }

    #[tokio::test]
    async fn vagrant_of_this_very_cluster_is_ended_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (place, other) = (folder.path().join("c1.vagrant"), folder.path().join("c2.vagrant"));
        let strays = ["ruby3.1", "vagrant"].map(|name| process(folder.path(), name, &place));
        let others = ["bash", "VBoxSVC", "VBoxHeadless"].map(|name| process(folder.path(), name, &place));
        let others = others.into_iter().chain([process(folder.path(), "ruby", &other)]);
        // Those that have ended are this process's until it looks.
        let reaped = std::thread::spawn(move || strays.map(|mut stray| stray.wait().unwrap().success()));
        end_strays(&place).await;
        assert_eq!(reaped.join().unwrap(), [false, false]);
        for mut one in others {
            assert!(one.try_wait().unwrap().is_none());
            one.kill().unwrap();
            one.wait().unwrap();
        }
    }
}
