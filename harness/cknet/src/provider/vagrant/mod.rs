//! Virtual machines that Vagrant makes with libvirt or VirtualBox, from the `Vagrantfile` at the top of the project.
//!
//! Each cluster is a folder below the run's, with the topology and whatever Vagrant knows of its machines; that folder
//! is all it takes to remove them. After `vagrant up` nodes are reached by plain ssh: a call of `vagrant ssh` takes
//! seconds.

mod hypervisor;
mod remove;
mod topology;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use self::hypervisor::Hypervisor;
use super::machine::made::{self, Maker};
use super::machine::ssh::{Ssh, Target};
use super::machine::{self, Boot, Console, Image, Machine, SNAPSHOT, Tool, ToolError};
use super::turn::{Turn, Turns};
use super::{Finding, Invocation, Lease, NodeSpec, Nodes, Provider, ProviderError, Say, Topology};
use crate::commands::Given;
use crate::scenario::model::Capability;

/// What the machines are made from; the same file is at the top of the project, for use by hand.
const VAGRANTFILE: &str = include_str!("../../../../../Vagrantfile");

const VAGRANTFILE_NAME: &str = "Vagrantfile";

/// Longest time for a question; Vagrant takes seconds to start.
const QUICK: Duration = Duration::from_secs(60);

/// Longest time to make and boot all machines of a cluster, with a box that may have to be downloaded.
const UP: Duration = Duration::from_secs(20 * 60);

/// Longest time to keep the state of all machines of a cluster, memory included, or to put them back to it.
const SNAPSHOTS: Duration = Duration::from_secs(5 * 60);

/// Longest time to remove them.
const DESTROY: Duration = Duration::from_secs(5 * 60);

/// Longest time from the end of `vagrant up` to a shell.
const SHELL: Duration = Duration::from_secs(60);

/// The provider.
#[derive(Clone)]
pub struct Vagrant {
    run: String,
    folder: PathBuf,
    hypervisor: Hypervisor,
    image: Image,
    /// Machines are for a product and not for a model of one.
    product: bool,
    boot: Boot,
    /// One `up` or `destroy` at a time with libvirt: they make and remove networks that clusters share, above all the
    /// one by which machines are managed (vagrant-libvirt, issues 1229 and 1738).
    turns: Turns,
    say: Say,
}

impl Vagrant {
    /// `folder` is the run's, `shared` that of all runs.
    pub fn new(
        run: &str,
        folder: &Path,
        shared: &Path,
        executable: PathBuf,
        image: &Image,
        product: bool,
        say: Say,
    ) -> Self {
        let boot = Boot { executable, within: machine::boot_time(SHELL), has_way_out: true, outlives: false };
        let turns = Turns::new(shared, "vagrant");
        let (run, folder) = (run.into(), folder.into());
        Self { run, folder, hypervisor: Hypervisor::chosen(), image: image.clone(), product, boot, turns, say }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        move |cause| failed(doing, &cause)
    }

    /// The folder of a cluster.
    fn place(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.vagrant"))
    }

    /// Vagrant in the folder of a cluster.
    fn tool(&self, place: &Path, hypervisor: Hypervisor) -> Tool {
        let settings = [
            ("CKNET_TOPOLOGY".to_string(), place.join(topology::FILE).display().to_string()),
            ("VAGRANT_CHECKPOINT_DISABLE".into(), "1".into()),
            ("VAGRANT_BOX_UPDATE_CHECK_DISABLE".into(), "1".into()),
            ("VAGRANT_DEFAULT_PROVIDER".into(), hypervisor.name().into()),
        ];
        let folder = Some(place.to_path_buf());
        Tool::new("vagrant").given(Given { environment: settings.to_vec(), folder, ..Given::default() })
    }

    /// The turn to make or remove machines, where that is for one at a time.
    async fn turn(&self, hypervisor: Hypervisor) -> Result<Option<Turn>, ProviderError> {
        if hypervisor != Hypervisor::Libvirt {
            return Ok(None);
        }
        let turn = self.turns.take(UP).await;
        turn.map(Some).map_err(|error| failed("wait until Vagrant is free", &error))
    }

    /// The last lines of what each machine has said on its serial console.
    fn consoles(&self, place: &Path, topology: &Topology) -> String {
        let each = topology.nodes.iter().map(|node| {
            let console = topology::console(place, &node.name);
            let last = machine::last_lines(&std::fs::read(&console).unwrap_or_default());
            if last.is_empty() { String::new() } else { format!("\n  {}\n    {last}", console.display()) }
        });
        each.collect()
    }

    /// Machines that are there.
    fn machines(&self, key: &str, topology: &Topology) -> Vec<Machine> {
        let place = self.place(key);
        topology.nodes.iter().enumerate().map(|(number, node)| self.machine(key, &place, number, node)).collect()
    }

    fn machine(&self, key: &str, place: &Path, number: usize, node: &NodeSpec) -> Machine {
        let target = Target { host: node.name.clone(), settings: Some(place.join("ssh_config")) };
        let macs = node.nics.iter().map(|nic| (nic.name.clone(), topology::hardware(&self.run, key, node, nic)));
        let console = match self.hypervisor {
            Hypervisor::Libvirt => Console::File(topology::console(place, &node.name)),
            Hypervisor::VirtualBox => {
                let words = vec!["status".into(), node.name.clone()];
                Console::Call { tool: self.tool(place, self.hypervisor), words }
            }
        };
        Machine {
            node: node.name.clone(),
            called: format!("{}{}", topology::prefix(&self.run, key), node.name),
            transport: Arc::new(Ssh::new(target, place, number)),
            macs: macs.collect(),
            console: Some(console),
        }
    }
}

fn failed(doing: impl Into<String>, cause: &dyn std::fmt::Display) -> ProviderError {
    ProviderError::Failed { provider: "vagrant", doing: doing.into(), cause: cause.to_string() }
}

/// The folder of a cluster with its topology and its Vagrantfile, this one last: who finds it finds the other.
fn write_all(place: &Path, topology: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(place)?;
    std::fs::write(place.join(topology::FILE), topology)?;
    std::fs::write(place.join(VAGRANTFILE_NAME), VAGRANTFILE)
}

impl Provider for Vagrant {
    fn name(&self) -> &'static str {
        "vagrant"
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&self.image.has)
    }

    fn at_once(&self) -> Option<usize> {
        // Machines of several gigabytes.
        Some(1)
    }

    fn take_down(&self) -> Duration {
        // What Vagrant cannot remove at once is removed in two attempts.
        QUICK + 2 * DESTROY
    }

    fn preflight(&self) -> Vec<Finding> {
        hypervisor::missing(self.hypervisor)
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        made::acquire(self, key, topology).boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        let words: Vec<String> = argv.iter().map(|word| machine::quoted(word)).collect();
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.place(key).join("ssh_config"));
        // A terminal there, if there is one here.
        command.args(["-o", "LogLevel=ERROR", "-t", "--", node]).arg(format!("sudo -n {}", words.join(" ")));
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

impl Maker for Vagrant {
    fn boot(&self) -> &Boot {
        &self.boot
    }

    async fn make(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        machine::can_be_called("vagrant", &self.run, key, topology)?;
        let (place, hypervisor) = (self.place(key), self.hypervisor);
        let emulated = hypervisor == Hypervisor::Libvirt && hypervisor::emulates();
        if emulated {
            (self.say)(
                "machines are emulated, slowly: the processor runs no guests here (no VMX or SVM, or no /dev/kvm), or \
                 CKNET_VAGRANT_DRIVER says so",
            );
        }
        let text = topology::of(self, key, topology, emulated);
        let written = write_all(&place, &text);
        written.map_err(|error| failed(format!("write `{}`", place.display()), &error))?;
        let tool = self.tool(&place, hypervisor);
        {
            // Held by Vagrant too: it goes on when this process is killed.
            let turn = self.turn(hypervisor).await?;
            let up = ["up", "--provider", hypervisor.name(), "--no-destroy-on-error", "--no-provision"];
            let holding = turn.map_or_else(|| tool.clone(), |turn| tool.holding(turn));
            if let Err(error) = holding.call(&up, UP).await {
                let told = self.consoles(&place, topology);
                return Err(failed("make its machines", &format_args!("{error}{told}")));
            }
        }
        let settings = tool.call(&["ssh-config"], QUICK).await.map_err(self.failed("learn how to reach them"))?;
        let file = place.join("ssh_config");
        let written = crate::private_file::write(&file, &settings);
        written.map_err(|error| failed(format!("write `{}`", file.display()), &error))?;
        Ok(self.machines(key, topology))
    }

    async fn snapshot(&self, key: &str, _topology: &Topology, nodes: Nodes) -> Result<Nodes, ProviderError> {
        let tool = self.tool(&self.place(key), self.hypervisor);
        let done = tool.call(&["snapshot", "save", "--force", SNAPSHOT], SNAPSHOTS).await;
        done.map_err(self.failed("keep the state of its machines"))?;
        Ok(nodes)
    }

    async fn restore(&self, key: &str, topology: &Topology) -> Result<Nodes, ProviderError> {
        let tool = self.tool(&self.place(key), self.hypervisor);
        let done = tool.call(&["snapshot", "restore", "--no-provision", SNAPSHOT], SNAPSHOTS).await;
        done.map_err(self.failed("put its machines back"))?;
        let nodes = made::nodes_again(self, self.machines(key, topology), topology).await?;
        set_clocks(&nodes).await?;
        Ok(nodes)
    }
}

/// Machines run on from the moment of their snapshot, and so do their clocks: a certificate that is made now would
/// be of their future.
async fn set_clocks(nodes: &Nodes) -> Result<(), ProviderError> {
    for node in nodes.by_name.values() {
        let now = format!("@{}", jiff::Timestamp::now().as_second());
        let set = node.run(Invocation::new(["date", "-u", "-s", &now]), QUICK).await;
        let problem = match set {
            Ok(output) if output.succeeded() => continue,
            Ok(output) => output.complaint(),
            Err(error) => error.to_string(),
        };
        return Err(failed(format!("set the clock of `{}`", node.name()), &problem));
    }
    Ok(())
}
