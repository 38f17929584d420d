//! Where a run's nodes come from: from words on the command line to a provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use crate::existing::{self, Existing, Present, SurveyError};
use crate::exit::ExitCode;
use crate::provider::hosts::{self, Hosts, Inventory};
use crate::provider::lxd::{self, Lxd};
use crate::provider::machine::Image;
use crate::provider::multipass::Multipass;
use crate::provider::netns::Netns;
use crate::provider::vagrant::Vagrant;
use crate::provider::{Provider, Say};
use crate::scenario::model::Capability;

/// Nodes that are made for the purpose.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Machines {
    /// What nodes are made of; `netns`, namespaces of this machine, unless given.
    #[arg(long, value_enum)]
    provider: Option<Name>,
    /// The image of machines: for lxd, incus and multipass one that they know, for vagrant a box.
    #[arg(long, value_name = "IMAGE", requires = "provider")]
    machine_image: Option<String>,
    /// What that image has installed, with commas between; scenarios that need it are run and not skipped.
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', requires = "provider")]
    machine_has: Vec<Has>,
    /// Virtual machines instead of system containers, for lxd and incus.
    #[arg(long, requires = "provider")]
    machine_vm: bool,
    /// A bridge of this machine for the next segment of each topology, for multipass; repeatable.
    #[arg(long, value_name = "BRIDGE", requires = "provider")]
    machine_network: Vec<String>,
}

/// Nodes that are made, or those that are there already.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    #[command(flatten)]
    machines: Machines,
    /// A cluster that is there already, by its kubeconfig. It is taken as it is: scenarios that would change it, or
    /// that need more than its API, are skipped; fewer with an inventory of its nodes.
    #[arg(long, value_name = "FILE", conflicts_with = "provider")]
    kubeconfig: Option<PathBuf>,
    /// A context of that kubeconfig; its current one unless given.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// Machines that are there already, reached by ssh, as this file names them (docs/providers.md). They are given
    /// back as they were. With a kubeconfig they are the nodes of that cluster.
    #[arg(long, value_name = "FILE", conflicts_with = "provider")]
    inventory: Option<PathBuf>,
}

/// What the command line names that was there before the run.
#[derive(Clone)]
pub enum There {
    Nothing,
    /// A whole cluster, perhaps with the way to its nodes.
    Cluster(Arc<Present>, Option<Inventory>),
    /// Machines.
    Hosts(Inventory),
}

impl There {
    /// The cluster, if it is one.
    pub fn cluster(&self) -> Option<&Arc<Present>> {
        match self {
            Self::Cluster(present, _) => Some(present),
            _ => None,
        }
    }
}

/// What it names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ThereError {
    #[error(transparent)]
    Cluster(#[from] SurveyError),
    #[error("{0}")]
    Inventory(String),
}

impl ThereError {
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Cluster(SurveyError::Kubeconfig(..) | SurveyError::Context { .. }) | Self::Inventory(_) => {
                ExitCode::Usage
            }
            Self::Cluster(_) => ExitCode::Infrastructure,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Netns,
    Lxd,
    Incus,
    Multipass,
    Vagrant,
}

/// Programs by which an image makes a scenario possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Has {
    Bird,
    Firewalld,
    Squid,
    Tinyproxy,
}

impl Has {
    fn capability(self) -> Capability {
        match self {
            Self::Bird => Capability::Bgp,
            Self::Firewalld => Capability::Firewalld,
            Self::Squid => Capability::Squid,
            Self::Tinyproxy => Capability::Tinyproxy,
        }
    }
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
    /// The place of a former run, where the command line says nothing of it; `said` is its own command line, and
    /// `there` whether a file of it is still to be had.
    pub fn or_that_of(mut self, provider: &str, said: Self, there: impl Fn(&Path) -> bool) -> Result<Self, String> {
        if self.kubeconfig.is_some() || self.inventory.is_some() {
            return Ok(self);
        }
        let there = |file: &PathBuf| there(file);
        match (self.machines.provider, provider) {
            (Some(_), _) => {}
            (None, existing::NAME) => {
                let missing = "that run was on a cluster that was there already; name it with --kubeconfig";
                let kubeconfig = Some(said.kubeconfig.filter(there).ok_or(missing)?);
                return Ok(Self { kubeconfig, context: said.context, ..self });
            }
            (None, hosts::NAME) => {
                let missing = "that run was on machines that were there already; name them with --inventory";
                return Ok(Self { inventory: Some(said.inventory.filter(there).ok_or(missing)?), ..self });
            }
            (None, name) => {
                let name = Name::from_str(name, false);
                self.machines.provider = Some(name.map_err(|_| format!("no provider is called `{provider}`"))?);
            }
        }
        if self.machines.provider == said.machines.provider {
            self.machines = self.machines.or(said.machines);
        }
        Ok(self)
    }

    /// The words that say the same again.
    pub fn words(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let there = [
            ("--kubeconfig", path(&self.kubeconfig)),
            ("--context", self.context.clone()),
            ("--inventory", path(&self.inventory)),
        ];
        let there = there.into_iter().filter_map(|(flag, value)| Some([flag.to_string(), value?])).flatten();
        self.machines.words().into_iter().chain(there).collect()
    }

    /// Whether the command line names a cluster that is there already.
    pub fn is_present(&self) -> bool {
        self.kubeconfig.is_some()
    }

    /// What it names that is there already.
    ///
    /// `probe_image` is what nodes of a cluster are to pull for pods that probe.
    pub async fn there(&self, probe_image: Option<&str>) -> Result<There, ThereError> {
        let inventory = self.inventory.as_deref().map(Inventory::open).transpose().map_err(ThereError::Inventory)?;
        let Some(path) = &self.kubeconfig else {
            let hosts = inventory.map(Inventory::wired).transpose().map_err(ThereError::Inventory)?;
            return Ok(hosts.map_or(There::Nothing, There::Hosts));
        };
        let present = Present::open(path, self.context.as_deref()).await?;
        Ok(There::Cluster(Arc::new(present.pulling(probe_image)), inventory))
    }

    pub fn provider(&self, there: &There, purpose: &Purpose<'_>) -> Arc<dyn Provider> {
        match there {
            There::Cluster(present, inventory) => {
                let nodes = hosts(inventory.clone(), purpose);
                let existing = Existing::new(Some(present.clone()), nodes, purpose.run, purpose.folder);
                return Arc::new(if inventory.is_some() { existing.by_ssh() } else { existing });
            }
            There::Hosts(inventory) => return Arc::new(hosts(Some(inventory.clone()), purpose)),
            There::Nothing => {}
        }
        let Machines { provider: name, machine_image, machine_has, machine_vm, machine_network } = &self.machines;
        let has = machine_has.iter().map(|has| has.capability()).collect();
        let image = Image { name: machine_image.clone(), has, virtual_machine: *machine_vm };
        provider(name.unwrap_or(Name::Netns), &image, machine_network, purpose)
    }
}

impl Machines {
    /// What others say, where these say nothing.
    fn or(self, others: Self) -> Self {
        Self {
            provider: self.provider.or(others.provider),
            machine_image: self.machine_image.or(others.machine_image),
            machine_has: if self.machine_has.is_empty() { others.machine_has } else { self.machine_has },
            machine_vm: self.machine_vm || others.machine_vm,
            machine_network: if self.machine_network.is_empty() {
                others.machine_network
            } else {
                self.machine_network
            },
        }
    }

    /// The words that say the same again.
    pub fn words(&self) -> Vec<String> {
        let word = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_string());
        let provider =
            self.provider.filter(|name| *name != Name::Netns).and_then(|name| word(name.to_possible_value()));
        let has: Vec<String> = self.machine_has.iter().filter_map(|has| word(has.to_possible_value())).collect();
        let mut all = vec![
            ("--provider", provider),
            ("--machine-image", self.machine_image.clone()),
            ("--machine-has", (!has.is_empty()).then(|| has.join(","))),
        ];
        all.extend(self.machine_network.iter().map(|bridge| ("--machine-network", Some(bridge.clone()))));
        let mut words: Vec<String> =
            all.into_iter().filter_map(|(flag, value)| Some([flag.to_string(), value?])).flatten().collect();
        words.extend(self.machine_vm.then(|| "--machine-vm".to_string()));
        words
    }
}

impl From<Machines> for Place {
    fn from(machines: Machines) -> Self {
        Self { machines, ..Self::default() }
    }
}

/// The executable as the path by which this process can be started again, whatever happened to its file.
fn executable() -> PathBuf {
    "/proc/self/exe".into()
}

/// What a provider says goes where all remarks go.
fn saying() -> Say {
    Arc::new(super::note)
}

fn provider(name: Name, image: &Image, bridges: &[String], purpose: &Purpose<'_>) -> Arc<dyn Provider> {
    let lxd = |product| Arc::new(Lxd::new(product, purpose.run, purpose.folder, executable(), image, purpose.way_out));
    // Beside the folders of runs, so that two runs find the same locks.
    let shared = purpose.folder.parent().unwrap_or(purpose.folder);
    match name {
        Name::Netns => Arc::new(Netns { executable: executable(), folder: purpose.folder.to_path_buf() }),
        Name::Lxd => lxd(lxd::Product::Lxd),
        Name::Incus => lxd(lxd::Product::Incus),
        Name::Multipass => Arc::new(Multipass::new(purpose.run, shared, executable(), image, bridges, saying())),
        Name::Vagrant => {
            let (run, folder, product) = (purpose.run, purpose.folder, purpose.way_out);
            Arc::new(Vagrant::new(run, folder, shared, executable(), image, product, saying()))
        }
    }
}

/// The words by which a provider is chosen.
pub fn chosen_by(name: &str) -> String {
    match name {
        existing::NAME => "--kubeconfig FILE".into(),
        hosts::NAME => "--inventory FILE".into(),
        name => format!("--provider {name}"),
    }
}

/// Providers whose machines outlive the process that made them.
pub fn lasting(purpose: &Purpose<'_>) -> Vec<Arc<dyn Provider>> {
    let all = Name::value_variants().iter().filter(|name| **name != Name::Netns);
    let machines = all.map(|name| provider(*name, &Image::default(), &[], purpose));
    let nodes = hosts(None, purpose);
    let existing: Arc<dyn Provider> = Arc::new(Existing::new(None, nodes.clone(), purpose.run, purpose.folder));
    machines.chain([existing, Arc::new(nodes)]).collect()
}

fn hosts(inventory: Option<Inventory>, purpose: &Purpose<'_>) -> Hosts {
    Hosts::new(inventory, purpose.run, purpose.folder, executable())
}
