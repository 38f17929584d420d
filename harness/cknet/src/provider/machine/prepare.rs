//! From a machine that was made to a node: it answers, it has our executable, its NICs are as the topology wants.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::interfaces::{Wanted, WantedNic};
use super::{Console, FOLDER, Machine, MachineNode};
use crate::provider::{Invocation, Nic, Node, NodeError, NodeSpec, Nodes, Topology};

/// Longest single try to have a shell on a machine that starts.
const TRY: Duration = Duration::from_secs(15);

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// Longest time for a provider to tell what a machine has said, and how many lines of it are shown.
const CONSOLE: Duration = Duration::from_secs(15);
const CONSOLE_LINES: usize = 15;

/// Longest time for a setting.
const QUICK: Duration = Duration::from_secs(60);

/// What a machine gets, and how long it may take to start.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The executable that is copied onto each machine.
    pub executable: PathBuf,
    /// Longest time from its start to its first shell.
    pub within: Duration,
    /// Whether interfaces of the machine that the topology does not name carry the way to other networks.
    pub has_way_out: bool,
    /// Whether the machines were there before the run and are there after it.
    pub outlives: bool,
}

/// A machine could not become a node.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("cannot read our own executable `{path}`: {cause}")]
    Executable { path: PathBuf, cause: std::io::Error },
    #[error("`{called}` gave no shell within {within:?} of its start: {last}{console}")]
    NoShell { called: String, within: Duration, last: String, console: String },
    #[error(
        "our executable does not run on `{called}`: {said}; build one that needs no libraries of the machine (just static) and run that one"
    )]
    CannotRun { called: String, said: String },
    #[error("the interfaces of `{called}` cannot be set up: {said}")]
    Interfaces { called: String, said: String },
    #[error("no machine was made for node `{0}`")]
    Missing(String),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Makes all machines nodes, beside each other.
pub async fn prepare(machines: Vec<Machine>, topology: &Topology, boot: &Boot) -> Result<Nodes, PrepareError> {
    let read = tokio::fs::read(&boot.executable).await;
    let executable = read.map_err(|cause| PrepareError::Executable { path: boot.executable.clone(), cause })?;
    all(machines, topology, boot, Some(&executable)).await
}

/// Makes all machines nodes again that were nodes before: their files are there, and what their kernels knew may be
/// gone.
pub async fn prepare_again(machines: Vec<Machine>, topology: &Topology, boot: &Boot) -> Result<Nodes, PrepareError> {
    all(machines, topology, boot, None).await
}

async fn all(
    machines: Vec<Machine>,
    topology: &Topology,
    boot: &Boot,
    executable: Option<&[u8]>,
) -> Result<Nodes, PrepareError> {
    let each = machines.into_iter().map(|machine| async move {
        let spec = topology.nodes.iter().find(|node| node.name == machine.node);
        let spec = spec.ok_or_else(|| PrepareError::Missing(machine.node.clone()))?;
        let node = become_node(&machine, spec, topology, boot, executable).await?;
        Ok::<_, PrepareError>((machine.node.clone(), Arc::new(node) as Arc<dyn Node>))
    });
    let by_name: BTreeMap<String, Arc<dyn Node>> = try_join_all(each).await?.into_iter().collect();
    match topology.nodes.iter().find(|node| !by_name.contains_key(&node.name)) {
        Some(node) => Err(PrepareError::Missing(node.name.clone())),
        None => Ok(Nodes { by_name }),
    }
}

async fn become_node(
    machine: &Machine,
    spec: &NodeSpec,
    topology: &Topology,
    boot: &Boot,
    executable: Option<&[u8]>,
) -> Result<MachineNode, PrepareError> {
    let addresses = spec.nics.iter().map(|nic| (nic.name.clone(), nic.address)).collect();
    let node = MachineNode::new(spec.name.clone(), addresses, machine.transport.clone(), boot.outlives);
    await_shell(&node, machine, boot.within).await?;
    machine.transport.answered();
    let program = format!("{FOLDER}/bin/cknet");
    if let Some(executable) = executable {
        node.put(&program, 0o755, executable.to_vec()).await?;
    }
    let called = || machine.called.clone();
    let tried = node.run(Invocation::new([program.as_str(), "--version"]), QUICK).await?;
    // An empty file would end well too.
    let said = String::from_utf8_lossy(&tried.stdout);
    if !tried.succeeded() || !said.starts_with("cknet ") {
        return Err(PrepareError::CannotRun {
            called: called(),
            said: [tried.complaint().as_str(), said.trim()].join(" "),
        });
    }
    // Programs of public test images go by this name.
    let link = Invocation::new(["ln", "-sfn", "cknet", &format!("{FOLDER}/bin/agnhost")]);
    node.run(link, QUICK).await?;
    node.undo("cknet node-interfaces restore").await?;
    // Scenarios close ports.
    node.undo("cknet node-firewall clear").await?;
    let wanted = wanted(machine, spec, topology, boot);
    let text = serde_json::to_vec(&wanted).map_err(|error| interfaces(machine, error.to_string()))?;
    let done = node.run(Invocation::new([program.as_str(), "node-interfaces"]).stdin(text), QUICK).await?;
    if !done.succeeded() {
        return Err(interfaces(machine, done.complaint()));
    }
    know_names(&node, &spec.name, topology).await?;
    Ok(node)
}

/// A machine that does not know its own name asks for it over the network, and `sudo` does so each time. Products ask
/// for the names of other nodes: MicroK8s takes nobody in whose name is not that of the address by which it comes.
async fn know_names(node: &MachineNode, own: &str, topology: &Topology) -> Result<(), NodeError> {
    const HOSTS: &str = "/etc/hosts";
    let address = |spec: &NodeSpec| {
        let first = spec.nics.first().map(|nic| nic.address.addr());
        // The address that Debian gives it (hosts(5)): that of no interface.
        first.or_else(|| (spec.name == own).then_some(Ipv4Addr::new(127, 0, 1, 1)))
    };
    let names = topology.nodes.iter().filter_map(|spec| Some((spec.name.as_str(), address(spec)?)));
    let hosts = node.take(HOSTS).await.unwrap_or_default();
    match with_names(&String::from_utf8_lossy(&hosts), &names.collect()) {
        Some(text) => node.put(HOSTS, 0o644, text.into_bytes()).await,
        None => Ok(()),
    }
}

/// The text of hosts(5) in which each of the names is known by its address and no other; nothing where it is that
/// already.
fn with_names(hosts: &str, names: &BTreeMap<&str, Ipv4Addr>) -> Option<String> {
    let mut missing = names.clone();
    let kept = |line: &str| {
        let entry = line.split('#').next().unwrap_or_default();
        let mut words = entry.split_whitespace();
        let address = words.next().unwrap_or_default();
        let stays = |name: &&str| names.get(name).is_none_or(|known| known.to_string() == address);
        let (stay, go): (Vec<&str>, Vec<&str>) = words.partition(stays);
        missing.retain(|name, _| !stay.contains(name));
        match (stay.is_empty(), go.is_empty()) {
            (_, true) => Some(line.to_string()),
            (true, false) => None,
            (false, false) => Some(format!("{address}\t{}", stay.join(" "))),
        }
    };
    let mut lines: Vec<String> = hosts.lines().filter_map(kept).collect();
    lines.extend(missing.iter().map(|(name, address)| format!("{address}\t{name}")));
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    (!text.lines().eq(hosts.lines())).then_some(text)
}

fn interfaces(machine: &Machine, said: String) -> PrepareError {
    PrepareError::Interfaces { called: machine.called.clone(), said }
}

/// What the machine's network has to be like.
fn wanted(machine: &Machine, spec: &NodeSpec, topology: &Topology, boot: &Boot) -> Wanted {
    let mtu = |segment: &str| topology.segments.iter().find(|known| known.name == segment).map(|known| known.mtu);
    let nic = |nic: &Nic| WantedNic {
        mac: machine.macs.get(&nic.name).copied(),
        name: nic.name.clone(),
        address: nic.address,
        mtu: mtu(&nic.segment),
    };
    Wanted {
        host: spec.name.clone(),
        forwards: spec.forwards,
        nics: spec.nics.iter().map(nic).collect(),
        routes: spec.routes.clone(),
        keeps_way_out: boot.has_way_out,
        outlives: boot.outlives,
    }
}

/// The last lines of what is told of a machine; nothing where nothing is.
async fn told_by(console: &Console) -> String {
    let (by, said) = match console {
        Console::File(path) => (path.display().to_string(), std::fs::read(path).unwrap_or_default()),
        Console::Call { tool, words } => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let Ok(said) = tool.ask(&words, &[], CONSOLE).await else { return String::new() };
            (
                format!("{} {}", tool.program.display(), words.join(" ")),
                [said.stdout, said.stderr].concat().into_bytes(),
            )
        }
    };
    let last = last_lines(&said);
    if last.is_empty() { String::new() } else { format!("\n  {by}\n    {last}") }
}

/// The last lines of what a machine has said, below each other and set in.
pub fn last_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default().join("\n    ")
}

async fn await_shell(node: &MachineNode, machine: &Machine, within: Duration) -> Result<(), PrepareError> {
    let started = Instant::now();
    loop {
        let last = match node.run(Invocation::new(["true"]), TRY).await {
            Ok(output) if output.succeeded() => return Ok(()),
            Ok(output) => output.complaint(),
            Err(error) => error.to_string(),
        };
        if started.elapsed() + AGAIN >= within {
            let console = match &machine.console {
                Some(console) => told_by(console).await,
                None => String::new(),
            };
            return Err(PrepareError::NoShell { called: machine.called.clone(), within, last, console });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line each, and what is already there but for names that would have two addresses.
    #[test]
    fn each_node_is_known_by_its_address_and_no_other() {
        let names = BTreeMap::from([("cp1", [192, 168, 60, 11].into()), ("w1", [192, 168, 60, 12].into())]);
        let ours = "192.168.60.11\tcp1\n192.168.60.12\tw1\n";
        for (there, wanted) in [
            ("", ours.to_string()),
            ("127.0.0.1 localhost # cp1", format!("127.0.0.1 localhost # cp1\n{ours}")),
            ("127.0.0.1 localhost\n127.0.1.1 cp1\n", format!("127.0.0.1 localhost\n{ours}")),
            ("127.0.1.1 node.lab cp1 node # of this host\n", format!("127.0.1.1\tnode.lab node\n{ours}")),
            ("192.168.60.12 w1.lab w1\n", "192.168.60.12 w1.lab w1\n192.168.60.11\tcp1\n".into()),
        ] {
            assert_eq!(with_names(there, &names).as_ref(), Some(&wanted), "{there:?}");
            assert_eq!(with_names(&wanted, &names), None, "{wanted:?}");
        }
    }
}
