//! Machines that LXD or Incus makes: system containers with an init of their own, one managed bridge without addresses
//! for each segment, and hardware addresses by which NICs are found.
//!
//! Everything that is made carries `user.cknet.run` and `user.cknet.cluster`; nothing else is ever removed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cknet_kernel::route::mac_text;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};

use super::machine::{
    self, Boot, Console, Image, Machine, PrepareError, SNAPSHOT, Tool, ToolError, Within, hardware_address, prepare,
    prepare_again,
};
use super::{Finding, Lease, Nic, NodeSpec, Nodes, Provider, ProviderError, Release, Topology};
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

const RUN: &str = "user.cknet.run";
const CLUSTER: &str = "user.cknet.cluster";

/// The image unless one is named: what the snap of Canonical Kubernetes is tested on.
pub const IMAGE: &str = "ubuntu:24.04";

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

    fn program(self) -> &'static str {
        match self {
            Self::Lxd => "lxc",
            Self::Incus => "incus",
        }
    }

    fn install(self) -> &'static str {
        match self {
            Self::Lxd => "snap install lxd, or: apt-get install lxd; then: lxd init --minimal",
            Self::Incus => "apt-get install incus; then: incus admin init --minimal",
        }
    }
}

/// The provider.
#[derive(Clone)]
pub struct Lxd {
    product: Product,
    tool: Tool,
    /// The run whose machines these are.
    run: String,
    image: String,
    boot: Boot,
    /// What the image has beyond what every machine has.
    has: Vec<Capability>,
}

impl Lxd {
    /// With `way_out` each machine has one NIC more than the topology says, on the bridge of the default profile, by
    /// which packages and images come.
    pub fn new(product: Product, run: &str, executable: PathBuf, image: &Image, way_out: bool) -> Self {
        let tool = Tool::new(product.program());
        let boot = Boot { executable, within: machine::boot_time(SHELL), has_way_out: way_out, outlives: false };
        Self {
            product,
            tool,
            run: run.into(),
            image: image.name.clone().unwrap_or_else(|| IMAGE.into()),
            boot,
            has: image.has.clone(),
        }
    }

    fn failed(&self, doing: impl Into<String>) -> impl FnOnce(ToolError) -> ProviderError {
        let (provider, doing) = (self.product.name(), doing.into());
        move |cause| ProviderError::Failed { provider, doing, cause: cause.to_string() }
    }

    fn unprepared(&self, error: &PrepareError) -> ProviderError {
        let (provider, doing) = (self.product.name(), "make its machines nodes".to_string());
        ProviderError::Failed { provider, doing, cause: error.to_string() }
    }

    /// A name that tells run, cluster and node: at most 63 letters, digits and `-`, as a host name has to be.
    fn instance(&self, key: &str, node: &str) -> String {
        format!("cknet-{}-{key}-{node}", self.run)
    }

    /// A name of at most 15 characters, as a device of the host has to have.
    fn network(&self, key: &str, segment: &str) -> String {
        let [_, a, b, c, d, e] = hardware_address(&[&self.run, key, segment]);
        format!("ck{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}")
    }

    fn mark(&self, key: &str) -> [String; 2] {
        [format!("{RUN}={}", self.run), format!("{CLUSTER}={key}")]
    }

    async fn make(&self, key: &str, topology: &Topology) -> Result<Vec<Machine>, ProviderError> {
        for segment in &topology.segments {
            let (name, mtu) = (self.network(key, &segment.name), format!("bridge.mtu={}", segment.mtu));
            let [run, cluster] = self.mark(key);
            let settings = ["--type=bridge", "ipv4.address=none", "ipv6.address=none", &mtu, &run, &cluster];
            let call = ["network", "create", &name].into_iter().chain(settings).collect::<Vec<_>>();
            self.tool.call(&call, CHANGE).await.map_err(self.failed(format!("make segment `{}`", segment.name)))?;
        }
        let (pool, way_out) = self.defaults().await.map_err(self.failed("look at the default profile"))?;
        try_join_all(topology.nodes.iter().map(|node| self.launch(key, node, &pool, way_out.as_ref()))).await
    }

    /// The storage pool for root disks, and the NIC of the default profile.
    async fn defaults(&self) -> Result<(String, Option<Value>), ToolError> {
        let profile = self.tool.read(&["query", "/1.0/profiles/default"], QUICK).await?;
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
        let mut devices = serde_json::Map::new();
        devices.insert("root".into(), json!({"type": "disk", "path": "/", "pool": pool}));
        for nic in &node.nics {
            let parent = self.network(key, &nic.segment);
            let hardware = mac_text(self.hardware(key, node, nic));
            devices.insert(
                format!("cknet-{}", nic.name),
                json!({"type": "nic", "nictype": "bridged", "parent": parent, "name": nic.name, "hwaddr": hardware}),
            );
        }
        if self.boot.has_way_out
            && let Some(nic) = way_out
        {
            let mut nic = nic.clone();
            // Not called as any NIC of the topology is, and no candidate of Calico's autodetection.
            nic["name"] = json!("virbr-mgmt");
            devices.insert("cknet-way-out".into(), nic);
        }
        let description = json!({
            "config": {
                RUN: self.run,
                CLUSTER: key,
                // A node mounts, makes namespaces and loads rules: what a container of its own is asked for less.
                "security.nesting": "true",
                "security.privileged": "true",
            },
            "devices": devices,
        });
        let init = ["init", &self.image, &name, "--no-profiles"];
        let doing = || format!("make `{name}`");
        let text = description.to_string().into_bytes();
        self.tool.call_with(&init, &text, INIT).await.map_err(self.failed(doing()))?;
        self.tool.call(&["start", &name], CHANGE).await.map_err(self.failed(format!("start `{name}`")))?;
        Ok(self.machine(key, node))
    }

    fn hardware(&self, key: &str, node: &NodeSpec, nic: &Nic) -> [u8; 6] {
        hardware_address(&[&self.run, key, &node.name, &nic.name])
    }

    /// An instance that is there.
    fn machine(&self, key: &str, node: &NodeSpec) -> Machine {
        let name = self.instance(key, &node.name);
        let arguments = ["exec", "--mode=non-interactive", &name, "--"].map(String::from).to_vec();
        let transport = Arc::new(Within { program: self.tool.program.clone(), arguments });
        let console = Console::Call {
            tool: self.tool.clone(),
            words: ["console", name.as_str(), "--show-log"].map(String::from).to_vec(),
        };
        let macs = node.nics.iter().map(|nic| (nic.name.clone(), self.hardware(key, node, nic))).collect();
        Machine { node: node.name.clone(), called: name, transport, macs, console: Some(console) }
    }

    /// Calls `snapshot` or `restore` for all instances of a topology.
    async fn with_snapshot(&self, verb: &str, key: &str, topology: &Topology) -> Result<(), ProviderError> {
        let each = topology.nodes.iter().map(|node| async {
            let name = self.instance(key, &node.name);
            let done = self.tool.call(&[verb, &name, SNAPSHOT], CHANGE).await;
            done.map_err(self.failed(format!("{verb} `{name}`")))
        });
        try_join_all(each).await.map(|_| ())
    }

    /// The names of what was made under a key, of one kind: `instances` or `networks`.
    async fn made(&self, kind: &str, key: &str) -> Result<Vec<String>, ToolError> {
        let path = format!("/1.0/{kind}?recursion=1");
        let all = self.tool.read(&["query", &path], QUICK).await?;
        let ours = |thing: &&Value| {
            let setting = |name: &str| thing.get("config").and_then(|config| config.get(name)?.as_str());
            setting(RUN) == Some(&self.run) && setting(CLUSTER) == Some(key)
        };
        let named = |thing: &Value| thing.get("name").and_then(Value::as_str).map(String::from);
        Ok(all.as_array().into_iter().flatten().filter(ours).filter_map(named).collect())
    }

    /// Waits until the daemon has nothing under way for instances of a key: what it was asked for by somebody who has
    /// ended since goes on, and nothing can be deleted before.
    async fn settled(&self, key: &str) -> Result<(), ToolError> {
        let ours = format!("/{}", self.instance(key, ""));
        let started = Instant::now();
        loop {
            let all = self.tool.read(&["query", "/1.0/operations?recursion=1"], QUICK).await?;
            let lists = all.as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_array);
            let says = |operation: &Value, key: &str, word: &str| {
                operation.get(key).and_then(Value::as_str).is_some_and(|said| said == word)
            };
            // A shell on an instance is an operation too, of the class `websocket`, and ends with its instance.
            let running = |operation: &&Value| says(operation, "status", "Running") && says(operation, "class", "task");
            let resources = lists.flatten().filter(running).filter_map(|operation| operation.get("resources"));
            // Operations of other kinds have other resources.
            let busy = resources.into_iter().any(|resources| resources.to_string().contains(&ours));
            if !busy || started.elapsed() >= CHANGE {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn remove(&self, key: &str) -> Result<(), ProviderError> {
        self.settled(key).await.map_err(self.failed("list operations"))?;
        let instances = self.made("instances", key).await.map_err(self.failed("list instances"))?;
        let each = instances.iter().map(|name| async move {
            let deleted = self.tool.call(&["delete", "--force", name], CHANGE).await;
            deleted.map_err(self.failed(format!("delete `{name}`")))
        });
        try_join_all(each).await?;
        for name in self.made("networks", key).await.map_err(self.failed("list networks"))? {
            let deleted = self.tool.call(&["network", "delete", &name], CHANGE).await;
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
        machine::capabilities(&self.has)
    }

    fn preflight(&self) -> Vec<Finding> {
        let program = self.product.program();
        match crate::commands::run(&self.tool.program, &["query", "/1.0"], QUICK) {
            Ok(output) if output.status.success() => Vec::new(),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().last().unwrap_or("it said nothing").trim().to_string();
                let what = format!("`{program}` reaches no daemon: {said}");
                let fix = format!(
                    "start it and let this user reach its socket: usermod -aG {} $USER, then log in again",
                    self.product.name()
                );
                vec![Finding { what, fix }]
            }
            Err(_) => vec![Finding { what: format!("the program `{program}`"), fix: self.product.install().into() }],
        }
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let provider = self.name();
            let findings = self.preflight();
            if !findings.is_empty() {
                return Err(ProviderError::Unfit { provider, findings });
            }
            let machines = self.make(key, topology).await?;
            let nodes = prepare(machines, topology, &self.boot).await.map_err(|error| self.unprepared(&error))?;
            let (key, topology) = (key.to_string(), topology.clone());
            Ok(Lease { nodes, release: Box::new(Made { provider: self.clone(), key, topology, kept: false }) })
        }
        .boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        let mut command = Command::new(&self.tool.program);
        command.args(["exec", &self.instance(key, node), "--"]).args(argv);
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.remove(key).boxed()
    }
}

/// Instances and networks that are there.
struct Made {
    provider: Lxd,
    key: String,
    topology: Topology,
    /// Each instance has a snapshot; it goes with its instance.
    kept: bool,
}

impl Release for Made {
    fn snapshot<'a>(&'a mut self, nodes: Nodes) -> BoxFuture<'a, Result<Nodes, ProviderError>> {
        async move {
            self.provider.with_snapshot("snapshot", &self.key, &self.topology).await?;
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
            // An instance that runs is stopped for it and started again.
            self.provider.with_snapshot("restore", &self.key, &self.topology).await?;
            let machines = self.topology.nodes.iter().map(|node| self.provider.machine(&self.key, node)).collect();
            let nodes = prepare_again(machines, &self.topology, &self.provider.boot).await;
            nodes.map(Some).map_err(|error| self.provider.unprepared(&error))
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
