//! Machines that are there already and are reached by ssh, as an inventory names them.
//!
//! They are somebody's: a run takes them for itself, sets up only the interfaces that the inventory says are free, notes
//! on each machine how to undo a change before it is made, and gives them back as they were.

mod as_it_is;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, try_join_all};
use serde::{Deserialize, Serialize};

pub use self::as_it_is::Wanted;
use self::network::Network;
use super::machine::ssh::{Ssh, Target};
use super::machine::{self, Boot, Machine, MachineNode, give_back, prepare, take};
use super::{Finding, Lease, NodeSpec, Nodes, Output, Provider, ProviderError, Release, Topology};
use crate::scenario::model::Capability;

/// The name of the provider.
pub const NAME: &str = "hosts";

/// Longest time for a question.
const QUICK: Duration = Duration::from_secs(30);

/// Longest time to undo everything on a machine; removing a product takes minutes.
const UNDO: Duration = Duration::from_secs(10 * 60);

/// Longest time for a shell on a machine that runs.
const SHELL: Duration = Duration::from_secs(30);

/// Which machines there are, and how they are joined.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Networks on layer 2 that join the machines, in the order in which the segments of a topology take them.
    #[serde(default)]
    wires: Vec<String>,
    hosts: Vec<Host>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    /// A name or an address for ssh, or a `Host` of its settings.
    host: String,
    /// Its free interfaces, by the wire that each is on.
    #[serde(default)]
    interfaces: BTreeMap<String, String>,
}

impl Inventory {
    /// Reads an inventory.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn open(path: &Path) -> Result<Self, String> {
        let wrong = |problem: String| format!("the inventory `{}`: {problem}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let inventory: Self = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        inventory.check().map_err(wrong)?;
        Ok(inventory)
    }

    fn check(&self) -> Result<(), String> {
        let repeated = |names: Vec<&String>| {
            names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)).map(|(_, name)| (*name).clone())
        };
        if let Some(wire) = repeated(self.wires.iter().collect()) {
            return Err(format!("wire `{wire}` is named twice"));
        }
        if let Some(host) = repeated(self.hosts.iter().map(|host| &host.host).collect()) {
            return Err(format!("host `{host}` is named twice"));
        }
        for Host { host, interfaces } in &self.hosts {
            // What begins with `-` would be an option, and blanks end a word.
            if host.is_empty() || host.starts_with('-') || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(format!("`{}` is no name of a host", host.escape_debug()));
            }
            if let Some(wire) = interfaces.keys().find(|wire| !self.wires.contains(wire)) {
                return Err(format!("host `{host}` is on wire `{wire}`; `wires` has: {}", self.wires.join(", ")));
            }
            // IFNAMSIZ of `linux/if.h`, and dev_valid_name of net/core/dev.c.
            let valid = |name: &&String| {
                let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
                !name.is_empty() && name.len() <= 15 && *name != "." && *name != ".." && !name.contains(odd)
            };
            if let Some(name) = interfaces.values().find(|name| !valid(name)) {
                return Err(format!("host `{host}`: `{}` is no name of an interface", name.escape_debug()));
            }
            if let Some(name) = repeated(interfaces.values().collect()) {
                return Err(format!("host `{host}`: interface `{name}` is on two wires"));
            }
        }
        Ok(())
    }

    /// Which host each node is, and its interfaces by the names of its NICs.
    fn seats(&self, topology: &Topology) -> Result<Vec<Seat>, String> {
        let (wanted, there) = (topology.segments.len(), self.wires.len());
        if wanted > there {
            return Err(format!("the topology has {wanted} segments, and the inventory {there} wires"));
        }
        let wire = |segment: &str| topology.segments.iter().zip(&self.wires).find(|(known, _)| known.name == segment);
        let mut free: Vec<&Host> = self.hosts.iter().collect();
        let seat = |node: &NodeSpec| {
            let wires: Vec<(&String, &String)> = node
                .nics
                .iter()
                .map(|nic| Ok((&nic.name, wire(&nic.segment).ok_or("no segment is called so")?.1)))
                .collect::<Result<_, &str>>()?;
            let twice =
                wires.iter().enumerate().find(|(n, (_, wire))| wires[..*n].iter().any(|(_, other)| other == wire));
            if let Some((_, (nic, wire))) = twice {
                return Err(format!("node `{}` has a second NIC, `{nic}`, on wire `{wire}`", node.name));
            }
            let fits = |host: &&Host| wires.iter().all(|(_, wire)| host.interfaces.contains_key(*wire));
            let found = free.iter().position(fits).ok_or_else(|| {
                let wires: Vec<&str> = wires.iter().map(|(_, wire)| wire.as_str()).collect();
                let (nodes, hosts) = (topology.nodes.len(), self.hosts.len());
                let wires = wires.join(", ");
                format!(
                    "of {hosts} hosts none is left for `{}` of {nodes} nodes with an interface on {wires}",
                    node.name
                )
            })?;
            let host = free.remove(found);
            let interfaces =
                wires.iter().filter_map(|(nic, wire)| Some(((*nic).clone(), host.interfaces.get(*wire)?.clone())));
            Ok(Seat { node: node.name.clone(), host: host.host.clone(), interfaces: interfaces.collect() })
        };
        topology.nodes.iter().map(seat).collect()
    }
}

/// A host that is a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    node: String,
    host: String,
    /// By the names of the node's NICs.
    interfaces: BTreeMap<String, String>,
}

/// The provider.
#[derive(Clone)]
pub struct Hosts {
    /// Absent where hosts have only to be given back.
    inventory: Option<Inventory>,
    run: String,
    folder: PathBuf,
    boot: Boot,
}

impl Hosts {
    pub fn new(inventory: Option<Inventory>, run: &str, folder: &Path, executable: PathBuf) -> Self {
        let boot = Boot { executable, within: machine::boot_time(SHELL), has_way_out: true, outlives: true };
        Self { inventory, run: run.into(), folder: folder.into(), boot }
    }

    /// Where it is written which hosts were taken.
    fn record(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.hosts.json"))
    }

    /// Who has a host.
    fn holder(&self, key: &str) -> String {
        format!("{}/{key}", self.run)
    }

    fn node(&self, number: usize, seat: &Seat) -> (Arc<Ssh>, MachineNode) {
        let target = Target { host: seat.host.clone(), settings: None };
        let transport = Arc::new(Ssh::new(target, &self.folder, number));
        let node = MachineNode::new(seat.host.clone(), BTreeMap::new(), transport.clone(), true);
        (transport, node)
    }

    async fn make(&self, key: &str, topology: &Topology) -> Result<Nodes, String> {
        let inventory = self.inventory.as_ref().ok_or("no inventory is given")?;
        let seats = inventory.seats(topology)?;
        // One that does not answer is no reason to take the others.
        let answers = seats.iter().enumerate().map(|(number, seat)| async move {
            let (_, node) = self.node(number, seat);
            ask(&node, "reach it", "true").await
        });
        try_join_all(answers).await?;
        self.write_down(key, &seats)?;
        let each = seats.iter().enumerate().map(|(number, seat)| self.machine(key, number, seat, topology));
        let machines = try_join_all(each).await?;
        prepare(machines, topology, &self.boot).await.map_err(|error| error.to_string())
    }

    /// Writes down which hosts will be taken, for whoever gives them back.
    fn write_down(&self, key: &str, seats: &[Seat]) -> Result<(), String> {
        let path = self.record(key);
        let text = serde_json::to_vec(seats).map_err(|error| error.to_string())?;
        std::fs::write(&path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }

    /// Takes a host, if no other run has it.
    async fn take_it(&self, key: &str, seat: &Seat, node: &MachineNode) -> Result<(), String> {
        let taken = ask(node, "take it", &take(&self.holder(key))).await?;
        if taken.succeeded() {
            return Ok(());
        }
        let other = String::from_utf8_lossy(&taken.stdout).trim().to_string();
        let why = if other.is_empty() {
            taken.complaint()
        } else {
            format!("run {other} has it; where that is dead: cknet gc")
        };
        Err(format!("cannot have host `{}`: {why}", seat.host))
    }

    /// Takes a host and sees that it can be a node.
    async fn machine(&self, key: &str, number: usize, seat: &Seat, topology: &Topology) -> Result<Machine, String> {
        let (transport, node) = self.node(number, seat);
        self.take_it(key, seat, &node).await?;
        let looked = ask(&node, "look at its network", network::LOOK).await?;
        if !looked.succeeded() {
            return Err(format!("host `{}`: {}", seat.host, looked.complaint()));
        }
        let there = Network::read(&String::from_utf8_lossy(&looked.stdout));
        let free: BTreeSet<&str> = seat.interfaces.values().map(String::as_str).collect();
        if let Some(why) = there.forbids(&free, &topology.segments) {
            return Err(format!("host `{}`: {why}", seat.host));
        }
        let mut macs = BTreeMap::new();
        for (nic, interface) in &seat.interfaces {
            let looked = ask(&node, "look at its interfaces", &look(interface)).await?;
            if !looked.succeeded() {
                return Err(format!("host `{}`: {}", seat.host, looked.complaint()));
            }
            let said = String::from_utf8_lossy(&looked.stdout).trim().to_string();
            let mac = read_mac(&said)
                .ok_or_else(|| format!("host `{}`: `{said}` of `{interface}` is no hardware address", seat.host))?;
            macs.insert(nic.clone(), mac);
        }
        Ok(Machine { node: seat.node.clone(), called: seat.host.clone(), transport, macs, console: None })
    }

    /// Gives the hosts back that were taken for a cluster; there may be none.
    pub async fn give_back(&self, key: &str) -> Result<(), ProviderError> {
        let failed = |doing: &str, cause: String| ProviderError::Failed { provider: NAME, doing: doing.into(), cause };
        let path = self.record(key);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            // No host was taken before it was written.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("read which hosts were taken", error.to_string())),
        };
        let seats: Vec<Seat> =
            serde_json::from_slice(&text).map_err(|error| failed("read which hosts were taken", error.to_string()))?;
        let each = seats.iter().enumerate().map(|(number, seat)| async move {
            let (_, node) = self.node(number, seat);
            let done = node.script("undo what was changed", &give_back(&self.holder(key)), UNDO).await;
            let done = done.map_err(|error| error.to_string())?;
            if done.succeeded() { Ok(()) } else { Err(format!("host `{}`: {}", seat.host, done.complaint())) }
        });
        // Each is given back, whatever becomes of the others.
        let problems: Vec<String> = join_all(each).await.into_iter().filter_map(Result::err).collect();
        if !problems.is_empty() {
            return Err(failed("give hosts back", problems.join("; ")));
        }
        std::fs::remove_file(&path).map_err(|error| failed("forget which hosts were taken", error.to_string()))
    }
}

/// A line for the login shell of whoever logs in; root needs no sudo.
fn as_root(line: &str) -> String {
    format!("if [ \"$(id -u)\" = 0 ]; then exec {line}; else exec sudo -n {line}; fi")
}

async fn ask(node: &MachineNode, doing: &str, script: &str) -> Result<Output, String> {
    node.script(doing, script, QUICK).await.map_err(|error| error.to_string())
}

/// Says the hardware address of an interface, if a run may have it.
fn look(interface: &str) -> String {
    let quoted = machine::quoted(interface);
    format!(
        "i={quoted}; refuse() {{ echo \"$1\" >&2; exit 1; }}; \
         [ -e /sys/class/net/\"$i\" ] || refuse \"there is no interface $i; there are: $(ls /sys/class/net | tr '\\n' ' ')\"; \
         ! awk '$2 == \"00000000\" {{print $1}}' /proc/net/route | grep -qxF -- \"$i\" || refuse \"$i has the default route: it is not free\"; \
         ! [ -e /sys/class/net/\"$i\"/master ] || refuse \"$i belongs to a bridge or bond: it is not free\"; \
         for f in /etc/kubernetes /etc/cni/net.d; do [ -z \"$(ls -A $f 2>/dev/null)\" ] || \
         refuse \"there is something in $f: it is a node of a cluster already; for that there is --kubeconfig\"; done; \
         for p in k3s rke2 kubelet k8s microk8s; do ! command -v $p >/dev/null && [ ! -e /snap/$p ] || \
         refuse \"$p is installed: a run would take it off again\"; done; \
         cat /sys/class/net/\"$i\"/address"
    )
}

fn read_mac(text: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect::<Option<_>>()?;
    octets.try_into().ok()
}

impl Provider for Hosts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Vec<Capability> {
        machine::capabilities(&[])
    }

    fn take_down(&self) -> Duration {
        UNDO
    }

    fn preflight(&self) -> Vec<Finding> {
        match crate::commands::run(Path::new("ssh"), &["-V"], QUICK) {
            Ok(_) => Vec::new(),
            Err(_) => vec![Finding { what: "the program `ssh`".into(), fix: "apt-get install openssh-client".into() }],
        }
    }

    fn acquire<'a>(&'a self, key: &'a str, topology: &'a Topology) -> BoxFuture<'a, Result<Lease, ProviderError>> {
        async move {
            let findings = self.preflight();
            if !findings.is_empty() {
                return Err(ProviderError::Unfit { provider: NAME, findings });
            }
            let made = self.make(key, topology).await;
            let nodes = made.map_err(|cause| ProviderError::Failed {
                provider: NAME,
                doing: "make hosts nodes".into(),
                cause,
            })?;
            Ok(Lease { nodes, release: Box::new(Taken { provider: self.clone(), key: key.into() }) })
        }
        .boxed()
    }

    fn enter(&self, key: &str, node: &str, argv: &[String]) -> Option<Command> {
        let seats: Vec<Seat> = serde_json::from_slice(&std::fs::read(self.record(key)).ok()?).ok()?;
        let seat = seats.into_iter().find(|seat| seat.node == node)?;
        let words: Vec<String> = argv.iter().map(|word| machine::quoted(word)).collect();
        let mut command = Command::new("ssh");
        command.args(["-o", "LogLevel=ERROR", "-t", "--", &seat.host]).arg(as_root(&words.join(" ")));
        Some(command)
    }

    fn reclaim<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ProviderError>> {
        self.give_back(key).boxed()
    }
}

/// Hosts that a run has.
struct Taken {
    provider: Hosts,
    key: String,
}

impl Release for Taken {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), ProviderError>> {
        async move { self.provider.give_back(&self.key).await }.boxed()
    }

    fn holder(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::provider::{Nic, Segment};

    fn inventory(text: &str) -> Result<Inventory, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.yaml");
        std::fs::write(&path, text).unwrap();
        Inventory::open(&path).map_err(|error| error.replace(&path.display().to_string(), "hosts.yaml"))
    }

    fn topology(nodes: &[(&str, &[&str])]) -> Topology {
        let segment = |name: &str| Segment { name: name.into(), cidr: "10.0.0.0/24".parse().unwrap(), mtu: 1500 };
        let node = |(name, segments): &(&str, &[&str])| NodeSpec {
            name: (*name).into(),
            nics: segments
                .iter()
                .enumerate()
                .map(|(number, segment)| Nic {
                    name: format!("eth{number}"),
                    segment: (*segment).into(),
                    address: "10.0.0.11/24".parse().unwrap(),
                })
                .collect(),
            forwards: true,
            routes: Vec::new(),
        };
        Topology { segments: vec![segment("lan"), segment("side")], nodes: nodes.iter().map(node).collect() }
    }

    const TWO: &str = "wires: [a, b]\nhosts:\n- {host: one, interfaces: {a: ens3}}\n- {host: two.lab, interfaces: {a: ens3, b: ens4}}\n";

    #[test]
    fn nodes_get_hosts_that_are_on_their_wires() {
        let known = inventory(TWO).unwrap();
        let seats = known.seats(&topology(&[("cp1", &["lan", "side"]), ("w1", &["lan"])])).unwrap();
        let shown: Vec<String> =
            seats.iter().map(|seat| format!("{} {} {:?}", seat.node, seat.host, seat.interfaces)).collect();
        assert_eq!(shown, ["cp1 two.lab {\"eth0\": \"ens3\", \"eth1\": \"ens4\"}", "w1 one {\"eth0\": \"ens3\"}"]);
    }

    #[test]
    fn what_the_hosts_cannot_be_is_told() {
        let known = inventory(TWO).unwrap();
        let refused = |nodes: &[(&str, &[&str])]| known.seats(&topology(nodes)).unwrap_err();
        let few = refused(&[("cp1", &["lan"]), ("w1", &["lan"]), ("w2", &["lan"])]);
        assert_eq!(few, "of 2 hosts none is left for `w2` of 3 nodes with an interface on a");
        assert_eq!(refused(&[("cp1", &["lan", "lan"])]), "node `cp1` has a second NIC, `eth1`, on wire `a`");
        let single = inventory("wires: [a]\nhosts: [{host: one, interfaces: {a: ens3}}]").unwrap();
        let refused = single.seats(&topology(&[("cp1", &["lan"])])).unwrap_err();
        assert_eq!(refused, "the topology has 2 segments, and the inventory 1 wires");
    }

    #[test]
    fn an_inventory_with_something_wrong_says_what() {
        for (text, said) in [
            ("wires: [a]", "missing field `hosts`"),
            ("wires: [a, a]\nhosts: []", "wire `a` is named twice"),
            ("wires: [a]\nhosts: [{host: one, interfaces: {b: x}}]", "host `one` is on wire `b`; `wires` has: a"),
            (
                "wires: [a]\nhosts: [{host: -oProxyCommand=x, interfaces: {}}]",
                "`-oProxyCommand=x` is no name of a host",
            ),
            ("wires: [a]\nhosts: [{host: one, interfaces: {a: a/../b}}]", "`a/../b` is no name of an interface"),
            (
                "wires: [a]\nhosts: [{host: one, interfaces: {}}, {host: one, interfaces: {}}]",
                "host `one` is named twice",
            ),
            ("wires: [a]\nhosts: [{host: one, interfaces: {}, user: me}]", "unknown field `user`"),
        ] {
            let problem = inventory(text).unwrap_err();
            assert!(problem.starts_with("the inventory `hosts.yaml`: ") && problem.contains(said), "{problem}");
        }
    }
}
