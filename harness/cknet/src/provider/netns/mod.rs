//! Nodes made of Linux namespaces: no image, no daemon, no other program, and as an ordinary user where the kernel
//! allows user namespaces. Nothing outside the namespaces is changed.

mod client;
pub mod door;
pub mod fabric;
mod node;
mod preflight;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cknet_kernel::channel::{Channel, Listener};
use futures::FutureExt;
use futures::future::BoxFuture;

use self::client::Client;
use self::node::NetnsNode;
use self::wire::Request;
use super::{Finding, Lease, Node, NodeSpec, Nodes, Provider, ProviderError, Release, Topology};
use crate::scenario::model::Capability;

/// Longest time that building a topology may take.
const BUILD: Duration = Duration::from_secs(30);

/// Longest time that the kernel may take to free a topology.
const RELEASE: Duration = Duration::from_secs(20);

/// Longest time for the same where nobody waits for the outcome: a cluster that could not be made.
const DROP: Duration = Duration::from_secs(3);

const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The namespaces provider.
pub struct Netns {
    /// The `cknet` executable, which fabrics and nodes are made of.
    pub executable: PathBuf,
    /// The folder in which each fabric listens, as `<key>.sock`, for `cknet shell` and its like.
    pub folder: PathBuf,
}

impl Provider for Netns {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut all =
            vec![Capability::NodeFirewall, Capability::NodeInterfaces, Capability::NodeLinks, Capability::NodeCommands];
        all.extend(preflight::has_bird().then_some(Capability::Bgp));
        all.extend(preflight::has_tinyproxy().then_some(Capability::Tinyproxy));
        all.extend(preflight::has_squid().then_some(Capability::Squid));
        all.extend(preflight::has_firewalld().then_some(Capability::Firewalld));
        if cknet_probe::engine::knows_sctp() {
            all.push(Capability::Sctp);
        }
        all
    }

    fn gives_machines(&self) -> bool {
        false
    }

    fn preflight(&self) -> Vec<Finding> {
        preflight::findings()
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let findings = self.preflight();
            if !findings.is_empty() {
                return Err(ProviderError::Unfit { provider: "netns", findings });
            }
            let fabric = self.launch(key).map_err(failed("start the fabric"))?;
            let client = Client::adopt(fabric.channel).map_err(failed("talk to the fabric"))?;
            let release = Box::new(Fabric { process: fabric.process, leash: Some(fabric.leash), door: self.door(key) });
            let build = tokio::time::timeout(BUILD, client.ask(Request::Build(topology.clone()), &[]));
            match build.await {
                Ok(Ok(_)) => Ok(Lease { nodes: nodes(topology, &client), release }),
                Ok(Err(cause)) => {
                    let cause = release.last_words().unwrap_or(cause);
                    Err(failed("build the topology")(cause))
                }
                Err(_) => Err(failed("build the topology")(io::Error::other(format!("not done within {BUILD:?}")))),
            }
        }
        .boxed()
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |cause| ProviderError::Failed { provider: "netns", doing: doing.into(), cause: cause.to_string() }
}

fn nodes(topology: &Topology, client: &Client) -> Nodes {
    let node = |spec: &NodeSpec| -> Arc<dyn Node> {
        let addresses = spec.nics.iter().map(|nic| (nic.name.clone(), nic.address)).collect::<BTreeMap<_, _>>();
        Arc::new(NetnsNode::new(spec.name.clone(), addresses, client.clone()))
    };
    Nodes { by_name: topology.nodes.iter().map(|spec| (spec.name.clone(), node(spec))).collect() }
}

struct Launched {
    process: Child,
    channel: OwnedFd,
    leash: OwnedFd,
}

impl Netns {
    /// Makes one of everything in namespaces of its own and says what the kernel refused: slower than
    /// [`Provider::preflight`] by some hundredths of a second, and sure.
    pub fn trial(&self) -> Vec<Finding> {
        preflight::trial(&self.executable)
    }

    /// Where the fabric of that name listens.
    fn door(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.sock"))
    }

    /// Starts `cknet fabric` with its three descriptors.
    fn launch(&self, key: &str) -> io::Result<Launched> {
        let (channel, theirs) = Channel::pair()?;
        let listener = Listener::bind(&self.door(key))?;
        let (leash_end, leash) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut command = std::process::Command::new(&self.executable);
        // A group of its own: Ctrl-C in a terminal is for the runner, which takes the machines down in its own time.
        command.arg("fabric").process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        cknet_kernel::inherit::pass(
            &mut command,
            vec![(theirs, fabric::CHANNEL), (listener, fabric::LISTENER), (leash_end, fabric::LEASH)],
        );
        Ok(Launched { process: command.spawn()?, channel, leash })
    }
}

/// A running fabric. Dropping it closes the leash, and the kernel frees everything.
struct Fabric {
    process: Child,
    leash: Option<OwnedFd>,
    /// The socket in the run's folder.
    door: PathBuf,
}

impl Fabric {
    /// Why the fabric ended, if it wrote that down.
    fn last_words(mut self) -> Option<io::Error> {
        drop(self.leash.take());
        let mut text = String::new();
        io::Read::read_to_string(&mut self.process.stderr.take()?, &mut text).ok()?;
        let _ = self.process.wait();
        let text = text.trim();
        (!text.is_empty()).then(|| io::Error::other(text.to_string()))
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        drop(self.leash.take());
        // Nobody answers there any more.
        let _ = std::fs::remove_file(&self.door);
        // Collected so that no zombie is left, and so that nothing is left when whoever drops this says so; the
        // process ends as soon as its namespaces are freed. Release has collected it already.
        let started = Instant::now();
        while let Ok(None) = self.process.try_wait() {
            if started.elapsed() >= DROP {
                let _ = self.process.kill();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Release for Fabric {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move {
            drop(self.leash.take());
            let ended = tokio::task::spawn_blocking(move || self.process.wait().map(|_| ()));
            match tokio::time::timeout(RELEASE, ended).await {
                Ok(Ok(result)) => result.map_err(failed("wait for the fabric")),
                Ok(Err(panic)) => Err(failed("wait for the fabric")(io::Error::other(panic))),
                Err(_) => Err(failed("free the namespaces")(io::Error::other(format!("not done within {RELEASE:?}")))),
            }
        }
        .boxed()
    }

    fn holder(&self) -> Option<u32> {
        Some(self.process.id())
    }
}
