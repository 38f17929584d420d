//! The shape of the CNI seam; its plugins are written elsewhere.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cknet_kernel::ns::NetNs;

/// The sandbox that a plugin attaches to the network.
pub struct PodSandbox<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub container_id: &'a str,
    pub netns: &'a NetNs,
}

/// What a plugin gave a sandbox.
pub struct Attachment {
    pub address: Ipv4Addr,
    pub host_interface: String,
}

/// Why a plugin refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CniError(String);

/// The plugins that a configuration folder names.
#[derive(Clone)]
pub struct Plugins {
    config_dir: PathBuf,
}

impl Plugins {
    pub fn new(_client: kube::Client, _node: String, config_dir: PathBuf) -> Self {
        Self { config_dir }
    }

    pub fn readiness(&self) -> Result<PathBuf, String> {
        Err(format!("no plugins are built in; `{}` was not read", self.config_dir.display()))
    }

    pub async fn add(&self, _sandbox: &PodSandbox<'_>) -> Result<Attachment, CniError> {
        Err(CniError("no plugins are built in".into()))
    }

    pub async fn delete(&self, _sandbox: &PodSandbox<'_>) -> Result<(), CniError> {
        Ok(())
    }
}
