//! What runs the machines behind Vagrant, and whether it is there.

use std::path::Path;

use super::QUICK;
use crate::commands::{CommandError, Given};
use crate::provider::Finding;
use crate::provider::machine::Tool;

/// Vagrant's own variable for what runs its machines.
const CHOICE: &str = "VAGRANT_DEFAULT_PROVIDER";

/// What runs machines of libvirt, where somebody knows better.
const DRIVER: &str = "CKNET_VAGRANT_DRIVER";

/// The hypervisors that the Vagrantfile has settings for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    Libvirt,
    VirtualBox,
}

impl Hypervisor {
    /// What Vagrant's own variable says, else libvirt; that it says another one is found by [`missing`].
    pub fn chosen() -> Self {
        Self::of(&variable(CHOICE)).unwrap_or(Self::Libvirt)
    }

    pub fn of(name: &str) -> Option<Self> {
        [Self::Libvirt, Self::VirtualBox].into_iter().find(|known| known.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::VirtualBox => "virtualbox",
        }
    }
}

/// Where libvirt answers: the system's daemon unless libvirt's own variable names another.
pub fn uri() -> String {
    std::env::var("LIBVIRT_DEFAULT_URI").ok().filter(|uri| !uri.is_empty()).unwrap_or_else(|| "qemu:///system".into())
}

/// Whether machines of libvirt are emulated: as somebody says, else where there is nothing better.
pub fn emulates() -> bool {
    match variable(DRIVER).as_str() {
        "" => !processor_runs_guests(),
        driver => driver == "qemu",
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Words in variables that mean nothing here.
fn unknown(choice: &str, driver: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !choice.is_empty() && Hypervisor::of(choice).is_none() {
        let what = format!("settings for `{choice}`, which {CHOICE} names");
        findings.push(finding(&what, &format!("export {CHOICE}=libvirt, or virtualbox")));
    }
    if !["", "kvm", "qemu"].contains(&driver) {
        let what = format!("a driver of libvirt called `{driver}`, which {DRIVER} names");
        findings.push(finding(&what, &format!("export {DRIVER}=kvm, or qemu")));
    }
    findings
}

/// Whether KVM can run a stock kernel here. That `/dev/kvm` is there is no proof: where this machine is itself a guest
/// without nested virtualization, guests die at boot; the processor has to have VMX or SVM. Who may open it does not
/// matter: it is the daemon's machines that do.
fn processor_runs_guests() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return false };
    let arm = std::env::consts::ARCH == "aarch64";
    let flags = text.lines().filter(|line| line.starts_with("flags"));
    let has = flags.flat_map(str::split_whitespace).any(|flag| flag == "vmx" || flag == "svm");
    (has || arm) && Path::new("/dev/kvm").exists()
}

/// What is missing on this machine.
pub fn missing(hypervisor: Hypervisor) -> Vec<Finding> {
    const INSTALL: &str = "apt-get install vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients qemu-system-x86, \
                           or see https://developer.hashicorp.com/vagrant/install";
    let mut findings = unknown(&variable(CHOICE), &variable(DRIVER));
    if !findings.is_empty() {
        // What else is missing depends on it.
        return findings;
    }
    // Not where a Vagrantfile lies: it would be read.
    let vagrant = Tool::new("vagrant").given(Given { folder: Some("/".into()), ..Given::default() });
    let plugins = match vagrant.ask_now(&["plugin", "list", "--machine-readable"], QUICK) {
        Ok(said) => Some(said.stdout),
        Err(CommandError::Start { .. }) => {
            findings.push(finding("the program `vagrant`", INSTALL));
            None
        }
        Err(late @ CommandError::Deadline { .. }) => {
            findings.push(finding(&late.to_string(), "vagrant plugin list, and see what it waits for"));
            None
        }
    };
    if Tool::new("ssh").ask_now(&["-V"], QUICK).is_err() {
        findings.push(finding("the program `ssh`", "apt-get install openssh-client"));
    }
    match hypervisor {
        Hypervisor::Libvirt => {
            if plugins.is_some_and(|said| !said.contains("vagrant-libvirt")) && !packaged_plugin() {
                findings.push(finding("Vagrant's plugin for libvirt", "vagrant plugin install vagrant-libvirt"));
            }
            findings.extend(libvirt());
        }
        Hypervisor::VirtualBox if Tool::new("VBoxManage").ask_now(&["--version"], QUICK).is_err() => {
            findings
                .push(finding("the program `VBoxManage`", "apt-get install virtualbox (of virtualbox.org's packages)"));
        }
        Hypervisor::VirtualBox => {}
    }
    findings
}

/// Whether libvirt answers, and this user.
fn libvirt() -> Option<Finding> {
    let uri = uri();
    match Tool::new("virsh").ask_now(&["-c", &uri, "version"], QUICK) {
        Ok(said) if said.status.success() => None,
        Ok(said) => {
            let last = said.last_complaint().unwrap_or("it said nothing");
            let fix = "systemctl start libvirtd, and: usermod -aG libvirt $USER, then log in again";
            Some(finding(&format!("libvirt's daemon ({uri}): {last}"), fix))
        }
        Err(CommandError::Start { .. }) => {
            Some(finding("the program `virsh`", "apt-get install libvirt-clients libvirt-daemon-system"))
        }
        Err(late @ CommandError::Deadline { .. }) => Some(finding(&late.to_string(), "systemctl restart libvirtd")),
    }
}

/// Distributions package the plugin beside Vagrant, where `plugin list` may not name it.
fn packaged_plugin() -> bool {
    let Ok(entries) = std::fs::read_dir("/usr/share/rubygems-integration/all/gems") else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("vagrant-libvirt-"))
}

fn finding(what: &str, fix: &str) -> Finding {
    Finding { what: what.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_hypervisor_is_named_and_not_taken_for_libvirt() {
        assert_eq!(Hypervisor::of("virtualbox"), Some(Hypervisor::VirtualBox));
        assert_eq!(Hypervisor::of("vmware_desktop"), None);
        let told = |choice: &str, driver: &str| {
            unknown(choice, driver).into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        for (choice, driver) in [("", ""), ("libvirt", "qemu"), ("virtualbox", "kvm")] {
            assert!(told(choice, driver).is_empty(), "{choice} {driver}");
        }
        assert_eq!(
            told("vmware_desktop", "xen"),
            [
                "settings for `vmware_desktop`, which VAGRANT_DEFAULT_PROVIDER names",
                "a driver of libvirt called `xen`, which CKNET_VAGRANT_DRIVER names"
            ]
        );
    }
}
