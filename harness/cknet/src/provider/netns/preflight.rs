//! Whether this kernel lets this user make nodes, and what to do where it does not.

use std::fs;

use crate::provider::Finding;

/// What stands in the way; empty when nothing does.
pub fn findings() -> Vec<Finding> {
    let mut findings = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        findings.extend(user_namespaces());
    }
    if !overlays() {
        findings.push(Finding {
            what: "the kernel has no overlay file system".into(),
            fix: "load it: sudo modprobe overlay".into(),
        });
    }
    findings
}

fn overlays() -> bool {
    // Absent from the list when it is a module that is not loaded; root's mount would load it.
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.trim_end().ends_with("overlay")) || nix::unistd::geteuid().is_root()
}

/// The switches by which kernels and distributions forbid user namespaces to ordinary users.
fn user_namespaces() -> Option<Finding> {
    let value = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_string());
    let forbidden = |what: &str, fix: &str| Some(Finding { what: what.into(), fix: fix.into() });
    if value("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return forbidden(
            "user namespaces are switched off (user.max_user_namespaces = 0)",
            "run as root, or: sudo sysctl -w user.max_user_namespaces=15000",
        );
    }
    if value("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return forbidden(
            "ordinary users may not make user namespaces (kernel.unprivileged_userns_clone = 0)",
            "run as root, or: sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return forbidden(
            "AppArmor takes the rights inside user namespaces away (kernel.apparmor_restrict_unprivileged_userns = 1)",
            "run as root, or: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    None
}
