//! What differs between LXD and Incus, which was LXD until 2023: names, and some words of the command line.

use crate::provider::machine::SNAPSHOT;

/// The two products with this API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Lxd,
    Incus,
}

impl Product {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lxd => "lxd",
            Self::Incus => "incus",
        }
    }

    pub fn program(self) -> &'static str {
        match self {
            Self::Lxd => "lxc",
            Self::Incus => "incus",
        }
    }

    /// The image unless one is named: what the snap of Canonical Kubernetes is tested on, with cloud-init. Incus has no
    /// remote of Canonical's.
    pub fn image(self) -> &'static str {
        match self {
            Self::Lxd => "ubuntu:24.04",
            Self::Incus => "images:ubuntu/24.04/cloud",
        }
    }

    pub fn install(self) -> &'static str {
        match self {
            Self::Lxd => "snap install lxd, or: apt-get install lxd dnsmasq-base; then: lxd init --minimal",
            Self::Incus => {
                "apt-get install incus (Debian 12: incus-base of its backports); then: incus admin init --minimal"
            }
        }
    }

    /// Who is in it may do everything; the group `incus` has a project of its own.
    pub fn group(self) -> &'static str {
        match self {
            Self::Lxd => "lxd",
            Self::Incus => "incus-admin",
        }
    }

    pub fn init(self) -> &'static str {
        match self {
            Self::Lxd => "lxd init --minimal",
            Self::Incus => "incus admin init --minimal",
        }
    }

    pub fn start(self) -> &'static str {
        match self {
            Self::Lxd => "snap start lxd, or: systemctl start lxd",
            Self::Incus => "systemctl start incus",
        }
    }

    pub fn restart(self) -> &'static str {
        match self {
            Self::Lxd => "snap restart lxd, or: systemctl restart lxd",
            Self::Incus => "systemctl restart incus",
        }
    }

    /// The words that keep the state of an instance.
    pub fn snapshot(self, instance: &str) -> Vec<String> {
        match self {
            Self::Lxd => words(&["snapshot", instance, SNAPSHOT]),
            Self::Incus => words(&["snapshot", "create", instance, SNAPSHOT]),
        }
    }

    /// The words that put an instance back to it.
    pub fn restore(self, instance: &str) -> Vec<String> {
        match self {
            Self::Lxd => words(&["restore", instance, SNAPSHOT]),
            Self::Incus => words(&["snapshot", "restore", instance, SNAPSHOT]),
        }
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}
