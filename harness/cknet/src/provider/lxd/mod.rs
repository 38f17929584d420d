//! Machines that LXD or Incus makes: system containers with an init of their own or virtual machines, one managed bridge
//! without addresses for each segment, and hardware addresses by which NICs are found.
//!
//! Everything that is made carries `user.cknet.run` and `user.cknet.cluster`; nothing else is ever removed. It is all in
//! the project `default`, whichever project the user's client is switched to.

mod instance;
mod product;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use serde_json::Value;

pub use self::product::Product;
use super::machine::made::{self, Maker};
use super::machine::{self, Boot, Console, Image, Machine, Tool, ToolError, Within, hardware_address};
use super::turn::{Turn, Turns};
use super::{Finding, Invocation, Lease, NodeSpec, Nodes, Provider, ProviderError, Topology};
use crate::commands::CommandError;
use crate::scenario::model::Capability;

/// Longest time for a question.
const QUICK: Duration = Duration::from_secs(30);

/// Longest time to make an instance of an image that may have to be downloaded.
const INIT: Duration = Duration::from_secs(15 * 60);

/// Longest time to start or to delete an instance.
const CHANGE: Duration = Duration::from_secs(180);

/// Between two looks at what the daemon has under way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Longest time from the start of an instance to a shell on it.
const SHELL: Duration = Duration::from_secs(120);

/// The same for a virtual machine, whose shell comes with an agent that starts late.
const SHELL_OF_VM: Duration = Duration::from_secs(300);

/// Longest time to take an interrupted run's machines down: what is being made is awaited first.
const TAKE_DOWN: Duration = Duration::from_secs(3 * 60);

const RUN: &str = "user.cknet.run";
const CLUSTER: &str = "user.cknet.cluster";

/// The provider.
#[derive(Clone)]
pub struct Lxd {
    product: Product,
    tool: Tool,
    /// The run whose machines these are.
    run: String,
    /// The run's.
    folder: PathBuf,
    image: Image,
    boot: Boot,
}

impl Lxd {
    /// With `way_out` each machine has one NIC more than the topology says, on the bridge of the default profile, by
    /// which packages and images come.
    pub fn new(product: Product, run: &str, folder: &Path, executable: PathBuf, image: &Image, way_out: bool) -> Self {
        let tool = Tool::new(product.program());
        let within = machine::boot_time(if image.virtual_machine { SHELL_OF_VM } else { SHELL });
        let boot = Boot { executable, within, has_way_out: way_out, outlives: false };
        Self { product, tool, run: run.into(), folder: folder.into(), image: image.clone(), boot }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        let (provider, doing) = (self.product.name(), doing.into());
        move |cause| ProviderError::Failed { provider, doing, cause: cause.to_string() }
    }

    /// A name that tells run, cluster and node.
    fn instance(&self, key: &str, node: &str) -> String {
        machine::called(&self.run, key, node)
    }

    /// A name of at most 15 characters, as a device of the host has to have.
    fn network(&self, key: &str, segment: &str) -> String {
        let [_, a, b, c, d, e] = hardware_address(&[&self.run, key, segment]);
        format!("ck{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}")
    }

    fn mark(&self, key: &str) -> [String; 2] {
        [format!("{RUN}={}", self.run), format!("{CLUSTER}={key}")]
    }

    /// The storage pool for root disks, and the NIC of the default profile.
    async fn defaults(&self) -> Result<(String, Option<Value>), ToolError> {
        let profile = self.tool.read(&["query", "/1.0/profiles/default?project=default"], QUICK).await?;
        let devices = profile.get("devices").and_then(Value::as_object).cloned().unwrap_or_default();
        let kind = |device: &&Value, kind: &str| device.get("type").and_then(Value::as_str) == Some(kind);
        let pool = devices.values().filter(|device| kind(device, "disk")).find_map(|disk| disk.get("pool")?.as_str());
        let nic = devices.values().find(|device| kind(device, "nic")).cloned();
        if let Some(pool) = pool {
            return Ok((pool.to_string(), nic));
        }
        let pools = self.tool.read(&["query", "/1.0/storage-pools"], QUICK).await?;
        let first = pools.as_array().and_then(|all| all.first()?.as_str()?.rsplit('/').next().map(String::from));
        Ok((first.unwrap_or_else(|| "default".into()), nic))
    }

    async fn launch(
        &self,
        key: &str,
        node: &NodeSpec,
        pool: &str,
        way_out: Option<&Value>,
    ) -> Result<Machine, ProviderError> {
        let name = self.instance(key, &node.name);
        let description = self.describe(key, node, pool, way_out).to_string().into_bytes();
        let image = self.image.name.as_deref().unwrap_or_else(|| self.product.image());
        let mut init = vec!["--project", "default", "init", image, &name, "--no-profiles"];
        init.extend(self.image.virtual_machine.then_some("--vm"));
        let made = self.tool.call_with(&init, &description, INIT).await;
        made.map_err(self.failed(format!("make `{name}`")))?;
        self.change(&["start", &name]).await.map_err(self.failed(format!("start `{name}`")))?;
        Ok(self.machine(key, node))
    }

    /// A call that changes something, in the one project.
    async fn change(&self, words: &[&str]) -> Result<String, ToolError> {
        self.tool.call(&[&["--project", "default"], words].concat(), CHANGE).await
    }

    /// Whoever makes instances of a cluster or removes them has the turn, and so have the clients that it calls: they
    /// go on when nobody waits for them any more, and look for an image before the daemon knows of anything.
    async fn turn(&self, key: &str) -> Result<Turn, ProviderError> {
        let turn = Turns::new(&self.folder, &format!("{}-{key}", self.name())).take(INIT).await;
        turn.map_err(|cause| {
            let (provider, doing) = (self.name(), "wait until nobody makes instances any more".into());
            ProviderError::Failed { provider, doing, cause: cause.to_string() }
        })
    }

    /// An instance that is there.
    fn machine(&self, key: &str, node: &NodeSpec) -> Machine {
        let name = self.instance(key, &node.name);
        let arguments = ["--project", "default", "exec", "--mode=non-interactive", &name, "--"];
        let arguments = arguments.map(String::from).to_vec();
        let transport = Arc::new(Within { program: self.tool.program.clone(), arguments });
        let console = Console::Call {
            tool: self.tool.clone(),
            words: ["--project", "default", "console", name.as_str(), "--show-log"].map(String::from).to_vec(),
        };
        let macs = node.nics.iter().map(|nic| (nic.name.clone(), self.hardware(key, node, &nic.name))).collect();
        Machine { node: node.name.clone(), called: name, transport, macs, console: Some(console) }
    }

    /// Keeps the state of all instances of a topology.
    async fn keep(&self, key: &str, topology: &Topology) -> Result<(), ProviderError> {
        self.each(key, topology, "keep the state of", |name| self.product.snapshot(name)).await
    }

    /// Puts them back to it; an instance that runs is stopped for it and started again.
    async fn put_back(&self, key: &str, topology: &Topology) -> Result<(), ProviderError> {
        self.each(key, topology, "put back", |name| self.product.restore(name)).await
    }

    async fn each(
        &self,
        key: &str,
        topology: &Topology,
        doing: &str,
        call: impl Fn(&str) -> Vec<String>,
    ) -> Result<(), ProviderError> {
        let each = topology.nodes.iter().map(|node| {
            let name = self.instance(key, &node.name);
            let words = call(&name);
            async move {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.change(&words).await.map_err(self.failed(format!("{doing} `{name}`")))
            }
        });
        try_join_all(each).await.map(|_| ())
    }

    /// The names of what was made under a key, of one kind: `instances` or `networks`.
    async fn made(&self, kind: &str, key: &str) -> Result<Vec<String>, ToolError> {
        let path = format!("/1.0/{kind}?recursion=1&project=default");
        let all = self.tool.read(&["query", &path], QUICK).await?;
        let ours = |thing: &&Value| {
            let setting = |name: &str| thing.get("config").and_then(|config| config.get(name)?.as_str());
            setting(RUN) == Some(&self.run) && setting(CLUSTER) == Some(key)
        };
        let named = |thing: &Value| thing.get("name").and_then(Value::as_str).map(String::from);
        Ok(all.as_array().into_iter().flatten().filter(ours).filter_map(named).collect())
    }

    /// Waits until the daemon has nothing under way for instances of a key: what it was asked for by somebody who has
    /// ended since goes on, and nothing can be deleted before. An image may have to be downloaded for it.
    async fn settled(&self, key: &str) -> Result<(), ProviderError> {
        let ours = format!("/{}", self.instance(key, ""));
        let started = Instant::now();
        loop {
            let all = self.tool.read(&["query", "/1.0/operations?recursion=1&project=default"], QUICK).await;
            let all = all.map_err(self.failed("list operations"))?;
            let lists = all.as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_array);
            let says = |operation: &Value, key: &str, word: &str| {
                operation.get(key).and_then(Value::as_str).is_some_and(|said| said == word)
            };
            // A shell on an instance is an operation too, of the class `websocket`, and ends with its instance.
            let running = |operation: &&Value| says(operation, "status", "Running") && says(operation, "class", "task");
            let resources = lists.flatten().filter(running).filter_map(|operation| operation.get("resources"));
            // Operations of other kinds have other resources.
            let busy = resources.into_iter().any(|resources| resources.to_string().contains(&ours));
            if !busy {
                return Ok(());
            }
            if started.elapsed() >= INIT {
                let cause =
                    format!("an operation for `{}...` is still under way after {INIT:?}", self.instance(key, ""));
                let (provider, doing) = (self.name(), "wait for the daemon".into());
                return Err(ProviderError::Failed { provider, doing, cause });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        let _turn = self.turn(key).await?;
        self.settled(key).await?;
        let instances = self.made("instances", key).await.map_err(self.failed("list instances"))?;
        let each = instances.iter().map(|name| async move {
            let deleted = self.change(&["delete", "--force", name]).await;
            deleted.map_err(self.failed(format!("delete `{name}`")))
        });
        try_join_all(each).await?;
        for name in self.made("networks", key).await.map_err(self.failed("list networks"))? {
            let deleted = self.change(&["network", "delete", &name]).await;
            deleted.map_err(self.failed(format!("delete network `{name}`")))?;
        }
        Ok(())
    }
}

impl Provider for Lxd {
    fn name(&self) -> &'static str {
        self.product.name()
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&self.image.has)
    }

    fn at_once(&self) -> Option<usize> {
        self.image.virtual_machine.then_some(1)
    }

    fn take_down(&self) -> Duration {
        TAKE_DOWN
    }

    fn preflight(&self) -> Vec<Finding> {
        let (program, product) = (self.product.program(), self.product);
        let finding = |what: String, fix: String| vec![Finding { what, fix }];
        let said = match self.tool.ask_now(&["query", "/1.0/storage-pools?project=default"], QUICK) {
            Ok(said) => said,
            Err(CommandError::Start { .. }) => {
                return finding(format!("the program `{program}`"), product.install().into());
            }
            Err(late @ CommandError::Deadline { .. }) => return finding(late.to_string(), product.restart().into()),
        };
        if !said.status.success() {
            let last = said.last_complaint().unwrap_or("it said nothing");
            let fix = match last.contains("permission denied") {
                true => format!("usermod -aG {} $USER, then log in again", product.group()),
                false => product.start().into(),
            };
            return finding(format!("`{program}` reaches no daemon: {last}"), fix);
        }
        match serde_json::from_str::<Value>(&said.stdout).ok().and_then(|pools| pools.as_array().map(Vec::len)) {
            Some(1..) => Vec::new(),
            Some(0) => finding("a storage pool".into(), product.init().into()),
            None => {
                let what = format!("`{program} query` answered what cannot be read: {}", said.stdout.trim());
                finding(what, product.restart().into())
            }
        }
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        made::acquire(self, key, topology).boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        let mut command = Command::new(&self.tool.program);
        command.args(["--project", "default", "exec", &self.instance(key, node), "--"]).args(argv);
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

impl Maker for Lxd {
    fn boot(&self) -> &Boot {
        &self.boot
    }

    /// Instances, and networks that are theirs.
    async fn make(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        machine::can_be_called(self.name(), &self.run, key, topology)?;
        for segment in &topology.segments {
            let (name, mtu) = (self.network(key, &segment.name), format!("bridge.mtu={}", segment.mtu));
            let [run, cluster] = self.mark(key);
            let settings = ["--type=bridge", "ipv4.address=none", "ipv6.address=none", &mtu, &run, &cluster];
            let call = ["--project", "default", "network", "create", &name].into_iter().chain(settings);
            self.tool
                .call(&call.collect::<Vec<_>>(), CHANGE)
                .await
                .map_err(self.failed(format!("make segment `{}`", segment.name)))?;
        }
        let makes = Self { tool: self.tool.holding(self.turn(key).await?), ..self.clone() };
        let (pool, way_out) = self.defaults().await.map_err(self.failed("look at the default profile"))?;
        try_join_all(topology.nodes.iter().map(|node| makes.launch(key, node, &pool, way_out.as_ref()))).await
    }

    async fn snapshot(&self, key: &str, topology: &Topology, nodes: Nodes) -> Result<Nodes, ProviderError> {
        // A virtual machine has in its memory what was written last.
        for node in nodes.by_name.values() {
            let synced = node.run(Invocation::new(["sync"]), CHANGE).await;
            let cause = match synced {
                Ok(output) if output.succeeded() => continue,
                Ok(output) => output.complaint(),
                Err(error) => error.to_string(),
            };
            let (provider, doing) = (self.name(), format!("write out what `{}` has in memory", node.name()));
            return Err(ProviderError::Failed { provider, doing, cause });
        }
        self.keep(key, topology).await?;
        Ok(nodes)
    }

    async fn restore(&self, key: &str, topology: &Topology) -> Result<Nodes, ProviderError> {
        self.put_back(key, topology).await?;
        let machines = topology.nodes.iter().map(|node| self.machine(key, node)).collect();
        made::nodes_again(self, machines, topology).await
    }
}
