//! Virtual machines that Multipass makes, on bridges of this machine that somebody else has made: Multipass joins
//! machines to bridges and makes none.
//!
//! Where a rule looks odd, it is because of what Multipass does up to 1.16: `exec` runs a command that ended with 4
//! again for ever, `launch` may time out and leave its machine behind, and its daemon does one launch, stop or delete
//! after the other well and several at once badly, whoever asks for them.

mod bridges;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cknet_kernel::route::mac_text;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use self::bridges::Bridges;
use super::machine::made::{self, Maker};
use super::machine::{self, Boot, Console, Image, Machine, SNAPSHOT, Tool, ToolError, Within};
use super::turn::{Turn, Turns};
use super::{Finding, Lease, Nic, NodeSpec, Nodes, Provider, ProviderError, Say, Topology};
use crate::commands::CommandError;
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

/// Longest time to take a run's machines down that has been interrupted: what is being launched is awaited first.
const TAKE_DOWN: Duration = Duration::from_secs(10 * 60);

/// Between two looks at machines that are about to start.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    image: Image,
    bridges: Bridges,
    boot: Boot,
    /// One launch, stop or delete at a time.
    turns: Turns,
}

impl Multipass {
    /// `folder` is shared by all runs of this user, and `bridges` are those of the first segment, the second, and so on.
    pub fn new(run: &str, folder: &Path, executable: PathBuf, image: &Image, bridges: &[String], say: Say) -> Self {
        let boot = Boot { executable, within: machine::boot_time(SHELL), has_way_out: true, outlives: false };
        let bridges = Bridges::new(folder, bridges, say);
        let turns = Turns::new(folder, "multipass");
        Self { tool: Tool::new("multipass"), run: run.into(), image: image.clone(), bridges, boot, turns }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        move |cause| failed(doing, &cause)
    }

    /// What each name of a cluster's machine begins with: nothing else is ever deleted.
    fn prefix(&self, key: &str) -> String {
        machine::called(&self.run, key, "")
    }

    /// The turn to have the daemon do something; whoever else has it may be waiting for a launch.
    async fn turn(&self) -> Result<Turn, ProviderError> {
        self.turns.take(LAUNCH).await.map_err(|error| failed("wait until Multipass is free", &error))
    }

    async fn launch(
        &self,
        key: &str,
        node: &NodeSpec,
        bridges: &BTreeMap<String, String>,
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
        // Held by the client too: it goes on when this process is killed, and the machine is there when it has ended.
        let launched = self.tool.holding(self.turn().await?).ask(&call, CLOUD_INIT, LAUNCH).await;
        let (cause, late) = match launched {
            Ok(said) if said.status.success() => {
                return Ok(self.machine(key, node));
            }
            Ok(said) => {
                // Its own time is over, or the daemon's, which it only repeats.
                let late = said.status.code() == Some(TIMED_OUT) || said.stderr.contains("timed out");
                (self.tool.refused(&["launch", image, "--name", &name], &said), late)
            }
            Err(error) => {
                let late = matches!(error, ToolError::Late { .. });
                (error, late)
            }
        };
        let late = if late { "; its machine may be there all the same: it is deleted with the others" } else { "" };
        let evidence = self.evidence(&name).await;
        Err(failed(format!("launch `{name}`"), &format_args!("{cause}{late}{evidence}")))
    }

    fn hardware(&self, key: &str, node: &NodeSpec, nic: &Nic) -> [u8; 6] {
        machine::hardware_address_of_qemu(&[&self.run, key, &node.name, &nic.name])
    }

    /// A machine that is there.
    fn machine(&self, key: &str, node: &NodeSpec) -> Machine {
        let name = format!("{}{}", self.prefix(key), node.name);
        let arguments = ["exec", "-n", &name, "--", "sudo", "-n"].map(String::from).to_vec();
        let transport = Arc::new(Within { program: self.tool.program.clone(), arguments });
        let console =
            Console::Call { tool: self.tool.clone(), words: ["info", name.as_str()].map(String::from).to_vec() };
        let macs = node.nics.iter().map(|nic| (nic.name.clone(), self.hardware(key, node, nic))).collect();
        Machine { node: node.name.clone(), called: name, transport, macs, console: Some(console) }
    }

    async fn keep(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        let call = |name: &str| ["snapshot", name, "--name", SNAPSHOT].map(String::from).to_vec();
        self.while_stopped(key, topology, call).await
    }

    async fn put_back(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        let call = |name: &str| vec!["restore".into(), "--destructive".into(), format!("{name}.{SNAPSHOT}")];
        self.while_stopped(key, topology, call).await
    }

    /// Stops all machines of a topology, does something with each while it is stopped, and starts them again.
    async fn while_stopped(
        &self,
        key: &str,
        topology: &Topology,
        call: impl Fn(&str) -> Vec<String>,
    ) -> Result<Vec<Machine>, ProviderError> {
        for node in &topology.nodes {
            let name = format!("{}{}", self.prefix(key), node.name);
            let words = call(&name);
            let calls = [vec!["stop", &name], words.iter().map(String::as_str).collect(), vec!["start", &name]];
            let tool = self.tool.holding(self.turn().await?);
            for call in calls {
                let done = tool.call(&call, CHANGE).await;
                done.map_err(self.failed(format!("{} `{name}`", call.first().copied().unwrap_or_default())))?;
            }
        }
        Ok(topology.nodes.iter().map(|node| self.machine(key, node)).collect())
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

    /// The machines of a cluster that Multipass knows, and whether one of them is about to start.
    async fn ours(&self, tool: &Tool, key: &str) -> Result<(Vec<String>, bool), ToolError> {
        let listed = tool.read(&["list", "--format", "json"], QUICK).await?;
        let prefix = self.prefix(key);
        let text = |machine: &Value, field: &str| machine.get(field).and_then(Value::as_str).map(String::from);
        let all = listed.get("list").and_then(Value::as_array).into_iter().flatten();
        let named =
            all.filter_map(|machine| Some((text(machine, "name")?, text(machine, "state").unwrap_or_default())));
        let ours: Vec<(String, String)> = named.filter(|(name, _)| name.starts_with(&prefix)).collect();
        let starting = ours.iter().any(|(_, state)| state == "Starting" || state == "Restarting");
        Ok((ours.into_iter().map(|(name, _)| name).collect(), starting))
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        if self.bridges.is_waiting(key) {
            return Ok(());
        }
        let removed = self.delete_all(key).await;
        self.bridges.free(key, removed.is_ok());
        removed
    }

    async fn delete_all(&self, key: &str) -> Result<(), ProviderError> {
        // Nobody is launching any more, and whatever was launched is known.
        let tool = self.tool.holding(self.turn().await?);
        let list = || async { self.ours(&tool, key).await.map_err(self.failed("list machines")) };
        let started = Instant::now();
        let (mut ours, mut starting) = list().await?;
        // The daemon does not bear a machine to be deleted that starts.
        while starting && started.elapsed() < CHANGE {
            tokio::time::sleep(LOOK_AGAIN).await;
            (ours, starting) = list().await?;
        }
        for name in &ours {
            // Never `purge`, which takes everybody's deleted machines.
            let deleted = tool.call(&["delete", "--purge", name], CHANGE).await;
            let Err(error) = deleted else { continue };
            // Somebody else may have been faster.
            if list().await?.0.contains(name) {
                return Err(failed(format!("delete `{name}`"), &error));
            }
        }
        Ok(())
    }
}

fn failed(doing: impl Into<String>, cause: &dyn std::fmt::Display) -> ProviderError {
    ProviderError::Failed { provider: "multipass", doing: doing.into(), cause: cause.to_string() }
}

impl Provider for Multipass {
    fn name(&self) -> &'static str {
        "multipass"
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&self.image.has)
    }

    fn at_once(&self) -> Option<usize> {
        // Machines of several gigabytes, on bridges of which each is one cluster's.
        Some(1)
    }

    fn take_down(&self) -> Duration {
        TAKE_DOWN
    }

    fn preflight(&self) -> Vec<Finding> {
        const RESTART: &str = "snap restart multipass.multipassd; `multipass version` names the daemon when it answers";
        let finding = |what: String, fix: &str| vec![Finding { what, fix: fix.into() }];
        let said = match self.tool.ask_now(&["version", "--format", "json"], QUICK) {
            Ok(said) => said,
            Err(CommandError::Start { .. }) => {
                return finding("the program `multipass`".into(), "snap install multipass");
            }
            Err(late @ CommandError::Deadline { .. }) => return finding(late.to_string(), RESTART),
        };
        let versions: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        if said.status.success() && versions.get("multipassd").is_some() {
            return Vec::new();
        }
        let last = said.last_complaint().unwrap_or("it names no `multipassd`");
        finding(format!("`multipass` reaches no daemon: {last}"), RESTART)
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        made::acquire(self, key, topology).boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        // Up to 1.16 Multipass would run a command that ends with 4 again, for ever.
        const ONCE: &str = "\"$@\"; code=$?; [ $code -ne 4 ] || { echo 'it ended with 4, told as 1' >&2; code=1; }; \
                            exit $code";
        let mut command = Command::new(&self.tool.program);
        command.args([
            "exec",
            "-n",
            &format!("{}{node}", self.prefix(key)),
            "--",
            "sudo",
            "-n",
            "sh",
            "-c",
            ONCE,
            "sh",
        ]);
        command.args(argv);
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

impl Maker for Multipass {
    fn boot(&self) -> &Boot {
        &self.boot
    }

    /// Bridges for the segments, and a machine on them for each node.
    async fn make(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        machine::can_be_called("multipass", &self.run, key, topology)?;
        let bridges = self.bridges.of(&self.tool, topology).await?;
        self.bridges.reserve(&self.tool, key, &self.prefix(key), &bridges).await?;
        let mut machines = Vec::new();
        for node in &topology.nodes {
            machines.push(self.launch(key, node, &bridges).await?);
        }
        Ok(machines)
    }

    async fn snapshot(&self, key: &str, topology: &Topology, nodes: Nodes) -> Result<Nodes, ProviderError> {
        // Their machines are about to be stopped.
        drop(nodes);
        let machines = self.keep(key, topology).await?;
        made::nodes_again(self, machines, topology).await
    }

    async fn restore(&self, key: &str, topology: &Topology) -> Result<Nodes, ProviderError> {
        let machines = self.put_back(key, topology).await?;
        made::nodes_again(self, machines, topology).await
    }
}
