//! Whether this kernel lets this user make nodes, and what to do where it does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::commands;
use crate::provider::Finding;

/// What the kernel refuses to make, found out by making it in namespaces of a trial.
pub fn trial(executable: &Path) -> Vec<Finding> {
    let output = match commands::run(executable, &["fabric", "trial"], TRIAL) {
        Ok(output) => output,
        Err(error) => return vec![Finding { what: error.to_string(), fix: RIGHTS.into() }],
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return vec![Finding { what: format!("namespaces cannot be made: {said}"), fix: RIGHTS.into() }];
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let finding = |line: &str| {
        let mut parts = line.split('\t');
        let (what, answer, fix) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Finding { what: format!("the kernel makes no {what}: {answer}"), fix: fix.into() })
    };
    lines.lines().filter_map(finding).collect()
}

/// Longest time for a trial.
const TRIAL: Duration = Duration::from_secs(10);

const RIGHTS: &str = "run as root, or on a kernel and in a container that allow user namespaces";

/// What stands in the way; empty when nothing does.
pub fn findings() -> Vec<Finding> {
    let mut findings = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        findings.extend(user_namespaces());
    }
    findings
}

/// Folders in which nodes find the programs of the host.
const PROGRAMS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether nodes find firewalld, the program that talks to it, and the bus over which they do.
pub fn has_firewalld() -> bool {
    ["firewalld", "firewall-cmd", "dbus-daemon"].into_iter().all(found_by_nodes)
}

/// Whether nodes find BIRD, which speaks BGP.
pub fn has_bird() -> bool {
    found_by_nodes("bird")
}

/// Whether nodes find tinyproxy, a small HTTP proxy.
pub fn has_tinyproxy() -> bool {
    found_by_nodes("tinyproxy")
}

/// Whether nodes find squid, which works as its own user and can become that only where root may become anybody.
pub fn has_squid() -> bool {
    nix::unistd::geteuid().is_root() && found_by_nodes("squid")
}

fn found_by_nodes(program: &str) -> bool {
    PROGRAMS.iter().any(|folder| Path::new(folder).join(program).is_file())
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
