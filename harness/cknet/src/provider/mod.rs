//! Where nodes come from: the seams [`Provider`] and [`Node`], and the topology they are asked for.
//!
//! A provider knows nothing of Kubernetes, and whoever uses a [`Node`] knows nothing of how it was made: it can run
//! a command there, put and take a file, start a service, reach a port.

pub mod file;
pub mod hosts;
pub mod link;
pub mod lxd;
pub mod machine;
pub mod multipass;
pub mod netns;
pub mod pipes;
pub mod route;
pub mod turn;
pub mod vagrant;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;

use crate::scenario::model::Capability;

/// What is asked of a provider: segments (one layer-2 network each) and nodes with a NIC in some of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topology {
    pub segments: Vec<Segment>,
    pub nodes: Vec<NodeSpec>,
}

/// One layer-2 network. Its first address is a gateway that answers and leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment {
    pub name: String,
    pub cidr: Ipv4Net,
    pub mtu: u32,
}

impl Segment {
    /// The first host address.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }
}

/// One node, its NICs in order, and what it knows of other networks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeSpec {
    pub name: String,
    pub nics: Vec<Nic>,
    /// Passes on packets that are not for itself.
    pub forwards: bool,
    pub routes: Vec<StaticRoute>,
}

/// A route that is there from the start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StaticRoute {
    pub destination: Ipv4Net,
    /// An address in the network of one of the node's NICs.
    pub via: Ipv4Addr,
}

/// A network interface of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub segment: String,
    pub address: Ipv4Net,
}

/// A program to run on a node.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub stdin: Vec<u8>,
}

impl Invocation {
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What a program on a node printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0)
    }

    /// Standard error as one trimmed text, for messages.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_string()
    }
}

/// Something could not be done on a node.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    #[error("node `{node}`: `{command}` did not end within {deadline:?}; killed")]
    Deadline { node: String, command: String, deadline: Duration },
    #[error("node `{node}`: cannot {doing}: {cause}")]
    Failed { node: String, doing: String, cause: String },
    #[error("node `{node}` is gone: its machine ended")]
    Gone { node: String },
}

/// A long-lived program on a node with its standard streams in our hands; it is killed when this is dropped.
pub struct Conversation {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    /// Kills the program when dropped.
    pub leash: Box<dyn Send + Sync>,
}

/// One machine, however it was made.
pub trait Node: Send + Sync {
    fn name(&self) -> &str;

    /// What its cluster calls it.
    fn registered(&self) -> &str {
        self.name()
    }

    /// Addresses by NIC name.
    fn addresses(&self) -> &BTreeMap<String, Ipv4Net>;

    /// Runs a program to its end; past the deadline it and its children are killed and that is an error.
    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>>;

    /// Starts a program that runs on by itself, its output in `/run/cknet/log/<service>.log` on the node.
    fn start(&self, service: &str, invocation: Invocation) -> BoxFuture<'_, Result<(), NodeError>>;

    /// Ends a started program (SIGKILL to its group) and waits for its end.
    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>>;

    /// How the started program ended, or `None` while it runs.
    fn ended(&self, service: &str) -> BoxFuture<'_, Option<Exit>>;

    /// Starts a program and talks with it over its standard streams.
    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>>;

    /// Writes a file whole or not at all; missing folders are made.
    fn put(&self, path: &str, mode: u32, content: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>>;

    /// The same for what takes its time, and no longer than that, where nodes are apart from this machine: a snap, an
    /// archive of images.
    fn put_within(
        &self,
        path: &str,
        mode: u32,
        content: Vec<u8>,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<(), NodeError>> {
        self.put(path, mode, content)
    }

    /// Reads a file.
    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>>;

    /// Notes a line for `sh` that undoes what will be done now, on a machine that outlives the run; when the machine is
    /// given back, the newest line is run first.
    fn undo<'a>(&'a self, _line: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// An address on this machine at which the TCP port of the node's loopback answers, for as long as the node lives.
    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>>;
}

/// The nodes of one acquired topology, by name.
#[derive(Clone)]
pub struct Nodes {
    pub by_name: BTreeMap<String, Arc<dyn Node>>,
}

impl Nodes {
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Node>> {
        self.by_name.get(name)
    }

    /// What the cluster calls a node.
    pub fn registered<'a>(&'a self, name: &'a str) -> &'a str {
        self.get(name).map_or(name, |node| node.registered())
    }
}

/// A thing that is missing before any node can be made, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: String,
    pub fix: String,
}

/// Tells a person what a provider waits for, or makes do with.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes and unmakes nodes.
pub trait Provider: Send + Sync {
    fn name(&self) -> &'static str;

    /// What its nodes can do.
    fn capabilities(&self) -> Vec<Capability>;

    /// Whether its nodes are machines with an init of their own, on which any distribution can be installed.
    fn gives_machines(&self) -> bool {
        true
    }

    /// A label for everything that is applied on its clusters, where those go on without the run.
    fn mark(&self) -> Option<(String, String)> {
        None
    }

    /// How many topologies there should be at the same time unless somebody knows better; as many as there are
    /// processors where it does not say.
    fn at_once(&self) -> Option<usize> {
        None
    }

    /// How long it may take to remove everything after an interruption.
    fn take_down(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// What is missing on this machine; empty when nodes can be made.
    fn preflight(&self) -> Vec<Finding>;

    /// Makes the machines of a topology; `key` names them within the run. They end when the returned lease is
    /// released or dropped.
    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>>;

    /// The program of this machine by which a person's command runs on a node with the terminal that they have, where
    /// there is one: `lxc exec`, `ssh -t`.
    fn enter(&self, _key: &str, _node: &str, _argv: &[String]) -> Option<std::process::Command> {
        None
    }

    /// Removes whatever is still there of the topology of that name, also where acquiring it did not come to its end.
    /// Nothing has to be there.
    fn reclaim<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        // What ends with the process that holds it leaves nothing.
        futures::future::ready(Ok(())).boxed()
    }
}

/// Acquired nodes, and the way to give them back.
pub struct Lease {
    pub nodes: Nodes,
    pub release: Box<dyn Release>,
}

/// Gives acquired nodes back, for good or for another cluster.
pub trait Release: Send + Sync {
    /// Keeps the state that the machines are in, so that [`Release::restore`] can put them back to it. It takes time,
    /// and machines may be started anew for it: the nodes that are returned stand for those that were given. After an
    /// error the machines are of no use.
    fn snapshot<'a>(&'a mut self, nodes: Nodes) -> BoxFuture<'a, Result<Nodes, ProviderError>> {
        futures::future::ready(Ok(nodes)).boxed()
    }

    /// Puts the machines back to the state that was kept; nobody may hold their nodes any more. `None` where no state
    /// was kept. After an error the machines are of no use.
    fn restore<'a>(&'a mut self) -> BoxFuture<'a, Result<Option<Nodes>, ProviderError>> {
        futures::future::ready(Ok(None)).boxed()
    }

    /// Ends the machines and waits until they are gone.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>>;

    /// The process with which the machines end, if there is one, for the ledger.
    fn holder(&self) -> Option<u32>;
}

/// Nodes could not be made or unmade.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("provider `{provider}`: cannot {doing}: {cause}")]
    Failed { provider: &'static str, doing: String, cause: String },
    #[error("provider `{provider}` cannot work here: {}", findings.iter().map(|f| format!("{}; {}", f.what, f.fix)).collect::<Vec<_>>().join("; "))]
    Unfit { provider: &'static str, findings: Vec<Finding> },
}
