//! Where a run's nodes come from: from words on the command line to a provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use crate::provider::Provider;
use crate::provider::lxd::{self, Lxd};
use crate::provider::netns::Netns;
use crate::provider::vagrant::{self, Vagrant};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// What nodes are made of; `netns`, namespaces of this machine, unless given.
    #[arg(long, value_enum)]
    provider: Option<Name>,
    /// The image of machines: for lxd and incus one that `image list` or a remote knows, for vagrant a box.
    #[arg(long, value_name = "IMAGE", requires = "provider")]
    machine_image: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Netns,
    Lxd,
    Incus,
    Vagrant,
}

/// What a provider is made for.
pub struct Purpose<'a> {
    /// The run's id.
    pub run: &'a str,
    /// The run's folder.
    pub folder: &'a Path,
    /// Whether machines need a way to package servers and registries.
    pub way_out: bool,
}

impl Place {
    /// The place of a former run, where the command line says nothing of it.
    pub fn or_that_of(mut self, provider: &str) -> Result<Self, String> {
        if self.provider.is_none() {
            let name = Name::from_str(provider, false);
            self.provider = Some(name.map_err(|_| format!("no provider is called `{provider}`"))?);
        }
        Ok(self)
    }

    /// The words that say the same again.
    pub fn words(&self) -> Vec<String> {
        let provider = self.provider.filter(|name| *name != Name::Netns).and_then(|name| name.to_possible_value());
        let provider = provider.map(|value| value.get_name().to_string());
        let all = [("--provider", provider), ("--machine-image", self.machine_image.clone())];
        all.into_iter().filter_map(|(flag, value)| Some([flag.to_string(), value?])).flatten().collect()
    }

    pub fn provider(&self, purpose: &Purpose<'_>) -> Arc<dyn Provider> {
        provider(self.provider.unwrap_or(Name::Netns), self.machine_image.as_deref(), purpose)
    }
}

/// The executable as the path by which this process can be started again, whatever happened to its file.
pub fn executable() -> PathBuf {
    "/proc/self/exe".into()
}

fn provider(name: Name, image: Option<&str>, purpose: &Purpose<'_>) -> Arc<dyn Provider> {
    let lxd = |product| Arc::new(Lxd::new(product, purpose.run, executable(), image, purpose.way_out));
    match name {
        Name::Netns => Arc::new(Netns { executable: executable(), folder: purpose.folder.to_path_buf() }),
        Name::Lxd => lxd(lxd::Product::Lxd),
        Name::Incus => lxd(lxd::Product::Incus),
        Name::Vagrant => {
            let settings = vagrant::Settings { hypervisor: None, image: image.map(String::from) };
            Arc::new(Vagrant::new(purpose.run, purpose.folder, executable(), settings))
        }
    }
}

/// Providers whose machines outlive the process that made them.
pub fn lasting(purpose: &Purpose<'_>) -> Vec<Arc<dyn Provider>> {
    let all = Name::value_variants().iter().filter(|name| **name != Name::Netns);
    all.map(|name| provider(*name, None, purpose)).collect()
}
