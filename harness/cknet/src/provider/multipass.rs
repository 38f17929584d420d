//! Virtual machines that Multipass makes, on bridges of this machine that somebody else has made: Multipass joins
//! machines to bridges and makes none.
//!
//! Where a rule looks odd, it is because of what Multipass does up to 1.16: `exec` runs a command that ended with 4
//! again for ever, `launch` may time out and leave its machine behind, and its daemon does one launch, stop or delete
//! after the other well and several at once badly.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cknet_kernel::route::mac_text;
use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use serde_json::Value;
use tokio::sync::Mutex;

use super::machine::{
    self, Boot, Console, Image, Machine, PrepareError, SNAPSHOT, Tool, ToolError, Within, hardware_address, prepare,
    prepare_again,
};
use super::{Finding, Lease, Nic, NodeSpec, Nodes, Provider, ProviderError, Release, Topology};
use crate::scenario::model::Capability;

/// Longest time for a question.
const QUICK: Duration = Duration::from_secs(30);

/// Longest time that a machine may take to start, as Multipass is told.
const LAUNCH_SECONDS: &str = "900";

/// Longest time for a launch, with an image that may have to be downloaded.
const LAUNCH: Duration = Duration::from_secs(20 * 60);

/// Longest time to stop, to start, to put back or to delete a machine.
const CHANGE: Duration = Duration::from_secs(180);

/// Longest time from the end of a launch to a shell.
const SHELL: Duration = Duration::from_secs(120);

/// Longest wait for bridges that another cluster is using.
const BRIDGES: Duration = Duration::from_secs(60 * 60);

/// Between two looks at such bridges.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The image unless one is named.
pub const IMAGE: &str = "24.04";

/// The exit code by which Multipass tells of a time-out.
const TIMED_OUT: i32 = 5;

/// What a machine does at its first start: nothing that takes long, for `launch` waits for it.
const CLOUD_INIT: &[u8] = b"#cloud-config\npackage_update: false\npackage_upgrade: false\n";

/// The provider.
#[derive(Clone)]
pub struct Multipass {
    tool: Tool,
    run: String,
    /// Where the locks of bridges lie: shared by all runs of this user.
    folder: PathBuf,
    image: Image,
    /// The bridge of the first segment, of the second, and so on.
    bridges: Vec<String>,
    boot: Boot,
    /// One launch or delete at a time.
    turn: Arc<Mutex<()>>,
}

impl Multipass {
    pub fn new(run: &str, folder: &Path, executable: PathBuf, image: &Image, bridges: &[String]) -> Self {
        Self {
            tool: Tool { program: "multipass".into(), given: Arc::default() },
            run: run.into(),
            folder: folder.into(),
            image: image.clone(),
            bridges: bridges.to_vec(),
            boot: Boot { executable, within: machine::boot_time(SHELL), has_way_out: true, outlives: false },
            turn: Arc::default(),
        }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        let doing = doing.into();
        move |cause| ProviderError::Failed { provider: "multipass", doing, cause: cause.to_string() }
    }

    fn unprepared(&self, error: &PrepareError) -> ProviderError {
        let doing = "make its machines nodes".to_string();
        ProviderError::Failed { provider: "multipass", doing, cause: error.to_string() }
    }

    /// What each name of a cluster's machine begins with: nothing else is ever deleted.
    fn prefix(&self, key: &str) -> String {
        format!("cknet-{}-{key}-", self.run)
    }

    /// Which bridge is which segment; or which are missing.
    async fn bridges_of(&self, topology: &Topology) -> Result<BTreeMap<String, String>, ProviderError> {
        let listed = self.tool.read(&["networks", "--format", "json"], QUICK).await;
        let listed = listed.map_err(self.failed("list networks"))?;
        let known: Vec<&str> = listed
            .get("list")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|network| network.get("name")?.as_str())
            .collect();
        let mut findings = Vec::new();
        let mut bridges = BTreeMap::new();
        for (number, segment) in topology.segments.iter().enumerate() {
            let name = self.bridges.get(number).cloned().unwrap_or_else(|| format!("cknet{number}"));
            if !known.contains(&name.as_str()) {
                findings.push(Finding {
                    what: format!("a bridge for segment `{}`: Multipass knows none called `{name}`", segment.name),
                    fix: format!(
                        "ip link add {name} type bridge && ip link set {name} up, or name one that is there: \
                         --machine-network NAME, once for each segment"
                    ),
                });
            }
            bridges.insert(segment.name.clone(), name);
        }
        if findings.is_empty() { Ok(bridges) } else { Err(ProviderError::Unfit { provider: "multipass", findings }) }
    }

    /// Waits until no other cluster uses the bridges: their machines have the same addresses.
    async fn reserve(&self, bridges: &BTreeMap<String, String>) -> Result<Vec<File>, ProviderError> {
        let failed = |doing: String, cause: String| ProviderError::Failed { provider: "multipass", doing, cause };
        let started = Instant::now();
        let mut locks = Vec::new();
        // In one order for all: no two clusters wait for each other.
        let mut names: Vec<&String> = bridges.values().collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = self.folder.join(format!("multipass-{name}.lock"));
            let doing = || format!("reserve the bridge `{name}`");
            let file = File::create(&path).map_err(|error| failed(doing(), error.to_string()))?;
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::Error(error)) => return Err(failed(doing(), error.to_string())),
                    Err(TryLockError::WouldBlock) if started.elapsed() > BRIDGES => {
                        return Err(failed(doing(), format!("another cluster has it since {BRIDGES:?}")));
                    }
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
            locks.push(file);
        }
        Ok(locks)
    }

    async fn launch(
        &self,
        key: &str,
        node: &NodeSpec,
        bridges: &BTreeMap<String, String>,
        topology: &Topology,
    ) -> Result<Machine, ProviderError> {
        let name = format!("{}{}", self.prefix(key), node.name);
        let image = self.image.name.as_deref().unwrap_or(IMAGE);
        let cpus = std::env::var("CKNET_MULTIPASS_CPUS").unwrap_or_else(|_| "2".into());
        let memory = std::env::var("CKNET_MULTIPASS_MEMORY").unwrap_or_else(|_| "4G".into());
        let disk = std::env::var("CKNET_MULTIPASS_DISK").unwrap_or_else(|_| "20G".into());
        let mut call = vec!["launch", image, "--name", &name, "--cpus", &cpus, "--memory", &memory, "--disk", &disk];
        call.extend(["--cloud-init", "-", "--timeout", LAUNCH_SECONDS]);
        let mut networks = Vec::new();
        for nic in &node.nics {
            let mac = self.hardware(key, node, nic);
            let bridge = bridges.get(&nic.segment).map_or("", String::as_str);
            networks.push(format!("name={bridge},mode=manual,mac={}", mac_text(mac)));
        }
        call.extend(networks.iter().flat_map(|network| ["--network", network]));
        let said = {
            let _turn = self.turn.lock().await;
            self.tool.ask(&call, CLOUD_INIT, LAUNCH).await.map_err(self.failed(format!("launch `{name}`")))?
        };
        if !said.status.success() {
            let evidence = self.evidence(&name).await;
            let late = said.status.code() == Some(TIMED_OUT);
            let cause = self.tool.refused(&["launch", image, "--name", &name], &said);
            let late =
                if late { "; it timed out, and its machine may be there: it is deleted with the others" } else { "" };
            let (provider, doing) = ("multipass", format!("launch `{name}`"));
            return Err(ProviderError::Failed { provider, doing, cause: format!("{cause}{late}{evidence}") });
        }
        self.no_overlap(&name, topology).await?;
        Ok(self.machine(key, node))
    }

    /// With the prefix that QEMU's addresses have, as everybody expects of a virtual machine.
    fn hardware(&self, key: &str, node: &NodeSpec, nic: &Nic) -> [u8; 6] {
        let [_, _, _, a, b, c] = hardware_address(&[&self.run, key, &node.name, &nic.name]);
        [0x52, 0x54, 0x00, a, b, c]
    }

    /// A machine that is there.
    fn machine(&self, key: &str, node: &NodeSpec) -> Machine {
        let name = format!("{}{}", self.prefix(key), node.name);
        let arguments = ["exec", "-n", &name, "--", "sudo", "-n"].map(String::from).to_vec();
        let transport = Arc::new(Within { program: self.tool.program.clone(), arguments });
        let console = Console { tool: self.tool.clone(), words: ["info", name.as_str()].map(String::from).to_vec() };
        let macs = node.nics.iter().map(|nic| (nic.name.clone(), self.hardware(key, node, nic))).collect();
        Machine { node: node.name.clone(), called: name, transport, macs, console: Some(console) }
    }

    /// Stops all machines of a topology, does something with each while it is stopped, and has them again.
    async fn while_stopped(
        &self,
        key: &str,
        topology: &Topology,
        call: impl Fn(&str) -> Vec<String>,
    ) -> Result<Nodes, ProviderError> {
        for node in &topology.nodes {
            let name = format!("{}{}", self.prefix(key), node.name);
            let words = call(&name);
            let calls = [vec!["stop", &name], words.iter().map(String::as_str).collect(), vec!["start", &name]];
            let _turn = self.turn.lock().await;
            for call in calls {
                let done = self.tool.call(&call, CHANGE).await;
                done.map_err(self.failed(format!("{} `{name}`", call.first().copied().unwrap_or_default())))?;
            }
        }
        let machines = topology.nodes.iter().map(|node| self.machine(key, node)).collect();
        prepare_again(machines, topology, &self.boot).await.map_err(|error| self.unprepared(&error))
    }

    /// The bridge by which Multipass manages machines has a network by chance; it must be none of the topology's.
    async fn no_overlap(&self, name: &str, topology: &Topology) -> Result<(), ProviderError> {
        let info =
            self.tool.read(&["info", name, "--format", "json"], QUICK).await.map_err(self.failed("look at it"))?;
        let addresses = info.pointer(&format!("/info/{name}/ipv4")).and_then(Value::as_array).cloned();
        for address in addresses
            .unwrap_or_default()
            .iter()
            .filter_map(|address| address.as_str()?.parse::<std::net::Ipv4Addr>().ok())
        {
            let own = Ipv4Net::from(address);
            if let Some(segment) = topology.segments.iter().find(|segment| segment.cidr.contains(&own)) {
                return Err(ProviderError::Failed {
                    provider: "multipass",
                    doing: format!("use `{name}`"),
                    cause: format!(
                        "Multipass' own network gave it {address}, which is in segment `{}` ({}); change one of them",
                        segment.name, segment.cidr
                    ),
                });
            }
        }
        Ok(())
    }

    /// What Multipass and the machine itself say of a launch that went wrong.
    async fn evidence(&self, name: &str) -> String {
        let mut text = String::new();
        for call in [vec!["info", name], vec!["exec", "-n", name, "--", "cloud-init", "status", "--long"]] {
            let Ok(said) = self.tool.ask(&call, &[], QUICK).await else { continue };
            let said = [said.stdout, said.stderr].concat();
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
            if !lines.is_empty() {
                text.push_str(&format!("\n  multipass {}\n    {}", call.join(" "), lines.join("\n    ")));
            }
        }
        text
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        let listed = self.tool.read(&["list", "--format", "json"], QUICK).await;
        let listed = listed.map_err(self.failed("list machines"))?;
        let prefix = self.prefix(key);
        let all = listed.get("list").and_then(Value::as_array).cloned().unwrap_or_default();
        let ours =
            all.iter().filter_map(|machine| machine.get("name")?.as_str()).filter(|name| name.starts_with(&prefix));
        for name in ours {
            let _turn = self.turn.lock().await;
            // Never `purge`, which takes everybody's deleted machines.
            let deleted = self.tool.call(&["delete", "--purge", name], CHANGE).await;
            deleted.map_err(self.failed(format!("delete `{name}`")))?;
        }
        Ok(())
    }
}

impl Provider for Multipass {
    fn name(&self) -> &'static str {
        "multipass"
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&self.image.has)
    }

    fn preflight(&self) -> Vec<Finding> {
        let finding = |what: String, fix: &str| vec![Finding { what, fix: fix.into() }];
        let Ok(output) = crate::commands::run(&self.tool.program, &["version", "--format", "json"], QUICK) else {
            return finding("the program `multipass`".into(), "snap install multipass");
        };
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() && said.get("multipassd").is_some() {
            return Vec::new();
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or("it names no `multipassd`").trim().to_string();
        finding(
            format!("`multipass` reaches no daemon: {last}"),
            "snap restart multipass.multipassd; `multipass version` names the daemon when it answers",
        )
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let findings = self.preflight();
            if !findings.is_empty() {
                return Err(ProviderError::Unfit { provider: "multipass", findings });
            }
            let bridges = self.bridges_of(topology).await?;
            let locks = self.reserve(&bridges).await?;
            let mut machines = Vec::new();
            for node in &topology.nodes {
                machines.push(self.launch(key, node, &bridges, topology).await?);
            }
            let nodes = prepare(machines, topology, &self.boot).await.map_err(|error| self.unprepared(&error))?;
            let (provider, key, topology) = (self.clone(), key.to_string(), topology.clone());
            Ok(Lease { nodes, release: Box::new(Made { provider, key, topology, kept: false, _locks: locks }) })
        }
        .boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        let mut command = Command::new(&self.tool.program);
        command.args(["exec", "-n", &format!("{}{node}", self.prefix(key)), "--", "sudo", "-n"]).args(argv);
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

/// Machines that are there, on bridges that are theirs alone.
struct Made {
    provider: Multipass,
    key: String,
    topology: Topology,
    /// Each machine has a snapshot; it goes with its machine.
    kept: bool,
    _locks: Vec<File>,
}

impl Release for Made {
    fn snapshot<'a>(&'a mut self, nodes: Nodes) -> BoxFuture<'a, Result<Nodes, ProviderError>> {
        async move {
            // Their machines are about to be stopped.
            drop(nodes);
            let call = |name: &str| ["snapshot", name, "--name", SNAPSHOT].map(String::from).to_vec();
            let nodes = self.provider.while_stopped(&self.key, &self.topology, call).await?;
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
            let call = |name: &str| vec!["restore".into(), "--destructive".into(), format!("{name}.{SNAPSHOT}")];
            self.provider.while_stopped(&self.key, &self.topology, call).await.map(Some)
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
