//! Virtual machines that Vagrant makes with libvirt or VirtualBox, from the `Vagrantfile` at the top of the project.
//!
//! Each cluster is a folder below the run's, with the topology and whatever Vagrant knows of its machines; that folder
//! is all it takes to remove them. After `vagrant up` nodes are reached by plain ssh: a call of `vagrant ssh` takes
//! seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cknet_kernel::route::mac_text;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::machine::ssh::{Ssh, Target};
use super::machine::{
    self, Boot, Console, Image, Machine, PrepareError, SNAPSHOT, Tool, ToolError, hardware_address, prepare,
    prepare_again,
};
use super::{Finding, Invocation, Lease, NodeSpec, Nodes, Provider, ProviderError, Release, Topology};
use crate::commands::Given;
use crate::scenario::model::Capability;

/// What the machines are made from; the same file is at the top of the project, for use by hand.
const VAGRANTFILE: &str = include_str!("../../../../Vagrantfile");

/// Longest time for a question; Vagrant takes seconds to start.
const QUICK: Duration = Duration::from_secs(60);

/// Longest time to make and boot all machines of a cluster, with a box that may have to be downloaded.
const UP: Duration = Duration::from_secs(20 * 60);

/// Longest time to keep the state of all machines of a cluster, memory included, or to put them back to it.
const SNAPSHOTS: Duration = Duration::from_secs(5 * 60);

/// Longest time to remove them.
const DESTROY: Duration = Duration::from_secs(5 * 60);

/// Between two looks whether what was killed is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Longest time from the end of `vagrant up` to a shell.
const SHELL: Duration = Duration::from_secs(60);

/// The provider.
#[derive(Clone)]
pub struct Vagrant {
    run: String,
    folder: PathBuf,
    hypervisor: String,
    image: Image,
    boot: Boot,
}

impl Vagrant {
    /// The hypervisor is what Vagrant's own variable says, else libvirt.
    pub fn new(run: &str, folder: &Path, executable: PathBuf, image: &Image) -> Self {
        let named = std::env::var("VAGRANT_DEFAULT_PROVIDER").ok().filter(|name| !name.is_empty());
        let hypervisor = named.unwrap_or_else(|| "libvirt".into());
        let boot = Boot { executable, within: machine::boot_time(SHELL), has_way_out: true, outlives: false };
        Self { run: run.into(), folder: folder.into(), hypervisor, image: image.clone(), boot }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        let doing = doing.into();
        move |cause| ProviderError::Failed { provider: "vagrant", doing, cause: cause.to_string() }
    }

    fn unprepared(&self, error: &PrepareError) -> ProviderError {
        let doing = "make its machines nodes".to_string();
        ProviderError::Failed { provider: "vagrant", doing, cause: error.to_string() }
    }

    /// The folder of a cluster.
    fn place(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.vagrant"))
    }

    /// Vagrant in the folder of a cluster.
    fn tool(&self, place: &Path) -> Tool {
        let settings = [
            ("CKNET_TOPOLOGY".to_string(), place.join("topology.json").display().to_string()),
            ("VAGRANT_CHECKPOINT_DISABLE".into(), "1".into()),
            ("VAGRANT_BOX_UPDATE_CHECK_DISABLE".into(), "1".into()),
            ("VAGRANT_DEFAULT_PROVIDER".into(), self.hypervisor.clone()),
        ];
        let given = Given { environment: settings.to_vec(), folder: Some(place.to_path_buf()) };
        Tool { program: "vagrant".into(), given: Arc::new(given) }
    }

    /// What the Vagrantfile reads.
    fn topology(&self, key: &str, topology: &Topology) -> Value {
        let network = |name: &str| {
            let [_, a, b, c, d, _] = hardware_address(&[&self.run, key, name]);
            format!("cknet-{a:02x}{b:02x}{c:02x}{d:02x}")
        };
        let networks: serde_json::Map<String, Value> = topology
            .segments
            .iter()
            .map(|segment| (segment.name.clone(), json!({"name": network(&segment.name), "mtu": segment.mtu})))
            .collect();
        let nic = |node: &NodeSpec, nic: &super::Nic| {
            json!({
                "name": nic.name,
                "segment": nic.segment,
                "address": nic.address.addr(),
                "netmask": nic.address.netmask(),
                "mac": self.hardware(key, &node.name, &nic.name),
            })
        };
        let node = |node: &NodeSpec| {
            let nics: Vec<Value> = node.nics.iter().map(|own| nic(node, own)).collect();
            json!({"name": node.name, "nics": nics})
        };
        let mut settings = serde_json::Map::new();
        if !processor_runs_guests() {
            settings.insert("driver".into(), json!("qemu"));
        }
        settings.extend(self.image.name.clone().map(|image| ("box".to_string(), json!(image))));
        // What is set by hand in the environment: `CKNET_VAGRANT_MEMORY=768`.
        for (name, numeric) in
            [("memory", true), ("cpus", true), ("storage_pool", false), ("boot_timeout", true), ("insert_key", true)]
        {
            let Ok(value) = std::env::var(format!("CKNET_VAGRANT_{}", name.to_uppercase())) else { continue };
            let parsed = numeric.then(|| serde_json::from_str(&value).ok()).flatten();
            settings.insert(name.into(), parsed.unwrap_or(Value::String(value)));
        }
        json!({
            "prefix": format!("cknet-{}-{key}-", self.run),
            "settings": settings,
            "networks": networks,
            "nodes": topology.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }

    fn hardware(&self, key: &str, node: &str, nic: &str) -> String {
        // The prefix that QEMU's own addresses have: libvirt keeps what else begins with an even octet for itself.
        let [_, _, _, a, b, c] = hardware_address(&[&self.run, key, node, nic]);
        mac_text([0x52, 0x54, 0x00, a, b, c])
    }

    async fn make(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        let place = self.place(key);
        let written = write_all(&place, &self.topology(key, topology));
        written.map_err(|error| ProviderError::Failed {
            provider: "vagrant",
            doing: format!("write `{}`", place.display()),
            cause: error.to_string(),
        })?;
        let tool = self.tool(&place);
        let up = ["up", "--provider", &self.hypervisor, "--no-destroy-on-error", "--no-provision"];
        let made = tool.call(&up, UP).await;
        made.map_err(self.failed("make its machines"))?;
        let settings = tool.call(&["ssh-config"], QUICK).await.map_err(self.failed("learn how to reach them"))?;
        let file = place.join("ssh_config");
        crate::private_file::write(&file, &settings).map_err(|error| ProviderError::Failed {
            provider: "vagrant",
            doing: format!("write `{}`", file.display()),
            cause: error.to_string(),
        })?;
        Ok(self.machines(key, topology))
    }

    /// Machines that are there.
    fn machines(&self, key: &str, topology: &Topology) -> Vec<Machine> {
        let place = self.place(key);
        topology.nodes.iter().enumerate().map(|(number, node)| self.machine(key, &place, number, node)).collect()
    }

    fn machine(&self, key: &str, place: &Path, number: usize, node: &NodeSpec) -> Machine {
        let target = Target { host: node.name.clone(), settings: Some(place.join("ssh_config")) };
        let macs = node.nics.iter().filter_map(|nic| {
            let mut octets = [0; 6];
            for (octet, text) in octets.iter_mut().zip(self.hardware(key, &node.name, &nic.name).split(':')) {
                *octet = u8::from_str_radix(text, 16).ok()?;
            }
            Some((nic.name.clone(), octets))
        });
        Machine {
            node: node.name.clone(),
            called: format!("cknet-{}-{key}-{}", self.run, node.name),
            transport: Arc::new(Ssh::new(target, place, number)),
            macs: macs.collect::<BTreeMap<_, _>>(),
            console: Some(Console { tool: self.tool(place), words: vec!["status".into(), node.name.clone()] }),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        let place = self.place(key);
        if !place.join("Vagrantfile").is_file() {
            return Ok(());
        }
        end_strays(&place).await;
        let tool = self.tool(&place);
        let destroy = || tool.call(&["destroy", "--force"], DESTROY);
        let mut destroyed = destroy().await;
        if self.hypervisor == "libvirt" {
            self.sweep(key, &place).await.map_err(self.failed("remove what Vagrant has forgotten"))?;
            if destroyed.is_err() {
                // It may have stumbled over what is swept away now. Where it still complains something is left.
                destroyed = destroy().await;
            }
        }
        destroyed.map_err(self.failed("remove its machines"))?;
        std::fs::remove_dir_all(&place).map_err(|error| ProviderError::Failed {
            provider: "vagrant",
            doing: format!("remove `{}`", place.display()),
            cause: error.to_string(),
        })
    }

    /// Vagrant writes down what it has made, and one that was killed has not written everything: it refuses to destroy
    /// a domain that it finds and does not remember. Domains and volumes are known by their names, networks by the
    /// topology.
    async fn sweep(&self, key: &str, place: &Path) -> Result<(), ToolError> {
        let given = Given { environment: Vec::new(), folder: Some(place.to_path_buf()) };
        let virsh = Tool { program: "virsh".into(), given: Arc::new(given) };
        let uri = std::env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| "qemu:///system".into());
        let uri = uri.as_str();
        let Ok(domains) = virsh.call(&["-c", uri, "list", "--all", "--name"], QUICK).await else {
            // Without it there is only what Vagrant knows.
            return Ok(());
        };
        let prefix = format!("cknet-{}-{key}-", self.run);
        for domain in domains.lines().map(str::trim).filter(|name| name.starts_with(&prefix)) {
            // One that does not run cannot be stopped, and is undefined all the same.
            let _ = virsh.ask(&["-c", uri, "destroy", domain], &[], QUICK).await?;
            virsh.call(&["-c", uri, "undefine", domain, "--nvram", "--snapshots-metadata"], QUICK).await?;
        }
        let pool = std::env::var("CKNET_VAGRANT_STORAGE_POOL").unwrap_or_else(|_| "default".into());
        let volumes = virsh.call(&["-c", uri, "vol-list", &pool], QUICK).await?;
        let names = volumes.lines().filter_map(|line| line.split_whitespace().next());
        for volume in names.filter(|name| name.starts_with(&prefix)) {
            virsh.call(&["-c", uri, "vol-delete", volume, "--pool", &pool], QUICK).await?;
        }
        let topology = std::fs::read_to_string(place.join("topology.json")).unwrap_or_default();
        let topology: Value = serde_json::from_str(&topology).unwrap_or_default();
        let networks = topology.get("networks").and_then(Value::as_object).cloned().unwrap_or_default();
        let known = virsh.call(&["-c", uri, "net-list", "--all", "--name"], QUICK).await?;
        let ours = networks.values().filter_map(|network| network.get("name")?.as_str());
        for network in ours.filter(|name| known.lines().any(|line| line.trim() == *name)) {
            let _ = virsh.ask(&["-c", uri, "net-destroy", network], &[], QUICK).await?;
            virsh.call(&["-c", uri, "net-undefine", network], QUICK).await?;
        }
        Ok(())
    }
}

/// Ends calls of Vagrant for a cluster whose caller has died: they hold its locks and would go on making machines. They
/// are known by the topology in their environment.
async fn end_strays(place: &Path) {
    let variable = format!("CKNET_TOPOLOGY={}", place.join("topology.json").display());
    let strays = || -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.filter(|id| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|own| own == variable.as_bytes())
        })
        .collect()
    };
    let started = std::time::Instant::now();
    loop {
        let found = strays();
        if found.is_empty() || started.elapsed() >= QUICK {
            return;
        }
        for id in found {
            // It may have ended in this very moment.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The folder of a cluster with its topology and its Vagrantfile, this one last: who finds it finds the other.
fn write_all(place: &Path, topology: &Value) -> std::io::Result<()> {
    std::fs::create_dir_all(place)?;
    std::fs::write(place.join("topology.json"), format!("{topology:#}\n"))?;
    std::fs::write(place.join("Vagrantfile"), VAGRANTFILE)
}

/// Whether KVM can run a stock kernel here. That `/dev/kvm` opens is no proof: where this machine is itself a guest
/// without nested virtualization, guests die at boot; the processor has to have VMX or SVM.
fn processor_runs_guests() -> bool {
    let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") else { return false };
    let arm = std::env::consts::ARCH == "aarch64";
    let flags = text.lines().filter(|line| line.starts_with("flags"));
    let has = flags.flat_map(str::split_whitespace).any(|flag| flag == "vmx" || flag == "svm");
    (has || arm) && nix::unistd::access("/dev/kvm", nix::unistd::AccessFlags::W_OK).is_ok()
}

impl Provider for Vagrant {
    fn name(&self) -> &'static str {
        "vagrant"
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&self.image.has)
    }

    fn preflight(&self) -> Vec<Finding> {
        let missing = |what: String, fix: &str| Finding { what, fix: fix.into() };
        let mut findings = Vec::new();
        // Not where a Vagrantfile lies: it would be read.
        let given = Given { environment: Vec::new(), folder: Some("/".into()) };
        let list = ["plugin", "list", "--machine-readable"];
        match crate::commands::run_given(Path::new("vagrant"), &list, &given, Vec::new(), QUICK) {
            Err(_) => {
                let fix = "apt-get install vagrant vagrant-libvirt libvirt-daemon-system qemu-system-x86, or see \
                           https://developer.hashicorp.com/vagrant/install";
                findings.push(missing("the program `vagrant`".into(), fix));
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                if self.hypervisor == "libvirt" && !said.contains("vagrant-libvirt") && !packaged_libvirt() {
                    findings
                        .push(missing("Vagrant's plugin for libvirt".into(), "vagrant plugin install vagrant-libvirt"));
                }
            }
        }
        if crate::commands::run(Path::new("ssh"), &["-V"], QUICK).is_err() {
            findings.push(missing("the program `ssh`".into(), "apt-get install openssh-client"));
        }
        if self.hypervisor == "libvirt" && !Path::new("/var/run/libvirt/libvirt-sock").exists() {
            let fix = "systemctl start libvirtd, and: usermod -aG libvirt $USER";
            findings.push(missing("libvirt's daemon: there is no /var/run/libvirt/libvirt-sock".into(), fix));
        }
        findings
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let findings = self.preflight();
            if !findings.is_empty() {
                return Err(ProviderError::Unfit { provider: "vagrant", findings });
            }
            let machines = self.make(key, topology).await?;
            let nodes = prepare(machines, topology, &self.boot).await.map_err(|error| self.unprepared(&error))?;
            let (key, topology) = (key.to_string(), topology.clone());
            Ok(Lease { nodes, release: Box::new(Made { provider: self.clone(), key, topology, kept: false }) })
        }
        .boxed()
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

/// Distributions package the plugin beside Vagrant, where `plugin list` may not name it.
fn packaged_libvirt() -> bool {
    let Ok(entries) = std::fs::read_dir("/usr/share/rubygems-integration/all/gems") else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("vagrant-libvirt-"))
}

/// Machines that are there.
struct Made {
    provider: Vagrant,
    key: String,
    topology: Topology,
    /// Each machine has a snapshot; it goes with its machine.
    kept: bool,
}

impl Made {
    /// Machines run on from the moment of their snapshot, and so do their clocks: a certificate that is made now would
    /// be of their future.
    async fn set_clocks(&self, nodes: &Nodes) -> Result<(), ProviderError> {
        for node in nodes.by_name.values() {
            let now = format!("@{}", jiff::Timestamp::now().as_second());
            let set = node.run(Invocation::new(["date", "-u", "-s", &now]), QUICK).await;
            let problem = match set {
                Ok(output) if output.succeeded() => continue,
                Ok(output) => output.complaint(),
                Err(error) => error.to_string(),
            };
            let doing = format!("set the clock of `{}`", node.name());
            return Err(ProviderError::Failed { provider: "vagrant", doing, cause: problem });
        }
        Ok(())
    }
}

impl Release for Made {
    fn snapshot<'a>(&'a mut self, nodes: Nodes) -> BoxFuture<'a, Result<Nodes, ProviderError>> {
        async move {
            let tool = self.provider.tool(&self.provider.place(&self.key));
            let done = tool.call(&["snapshot", "save", "--force", SNAPSHOT], SNAPSHOTS).await;
            done.map_err(self.provider.failed("keep the state of its machines"))?;
            self.kept = true;
            Ok(nodes)
        }
        .boxed()
    }

    fn restore<'a>(&'a mut self) -> BoxFuture<'a, Result<Option<Nodes>, ProviderError>> {
        async move {
            if !self.kept {
                return Ok(None);
            }
            let tool = self.provider.tool(&self.provider.place(&self.key));
            let done = tool.call(&["snapshot", "restore", "--no-provision", SNAPSHOT], SNAPSHOTS).await;
            done.map_err(self.provider.failed("put its machines back"))?;
            let machines = self.provider.machines(&self.key, &self.topology);
            let nodes = prepare_again(machines, &self.topology, &self.provider.boot).await;
            let nodes = nodes.map_err(|error| self.provider.unprepared(&error))?;
            self.set_clocks(&nodes).await?;
            Ok(Some(nodes))
        }
        .boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move { self.provider.remove(&self.key).await }.boxed()
    }

    fn holder(&self) -> Option<u32> {
        None
    }
}
