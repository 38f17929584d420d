//! Hosts that are nodes already and stay what they are: their interfaces keep names and addresses, and what is done on
//! them is bounded by the way back. Must not know what makes them nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cknet_probe::firewall::{Ports, Protocol};
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use ipnet::Ipv4Net;

use super::network::{self, Network};
use super::{Host, Hosts, Inventory, QUICK, Seat, ask};
use crate::provider::machine::{FOLDER, MachineNode, PrepareError, Transport};
use crate::provider::{
    Conversation, Exit, Finding, Invocation, Node, NodeError, NodeSpec, Nodes, Output, Provider as _,
};

/// Says what a machine is called, which start of its kernel this is, and what its network is like.
const WHO: &str = "echo \"name $(uname -n)\"; echo \"boot $(cat /proc/sys/kernel/random/boot_id)\";";

/// Succeeds unless a cluster of cknet's own is on the machine, whose files are where ours would be.
const NOT_OURS: &str = "[ -e /var/lib/cknet/taken ] || ! { [ -e /var/lib/cknet ] || [ -e /run/cknet ]; }";

/// A node that one of the hosts is.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub spec: NodeSpec,
    /// What its cluster calls it.
    pub registered: String,
    /// What it says of the start of its kernel (`/proc/sys/kernel/random/boot_id`); empty where it says nothing.
    pub boot: String,
}

impl Wanted {
    fn address(&self) -> Option<IpAddr> {
        self.spec.nics.first().map(|nic| IpAddr::V4(nic.address.addr()))
    }
}

/// A host as it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Met {
    host: String,
    name: String,
    boot: String,
    network: Network,
}

impl Met {
    fn read(host: &str, said: &str) -> Self {
        let after = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default().to_string();
        Self { host: host.into(), name: after("name "), boot: after("boot "), network: Network::read(said) }
    }

    /// The interface with an address.
    fn interface(&self, address: IpAddr) -> Option<&str> {
        let mut all = self.network.addresses.iter();
        all.find(|(_, own)| own.addr() == address).map(|(name, _)| name.as_str())
    }
}

/// Which of the hosts is a node: that which has its address, and of several with it that which has its name.
fn find<'a>(met: &'a [Met], wanted: &Wanted) -> Result<&'a Met, String> {
    let node = &wanted.registered;
    let address = wanted.address().ok_or_else(|| format!("node `{node}` has no address"))?;
    let having: Vec<&Met> = met.iter().filter(|met| met.interface(address).is_some()).collect();
    let found = match having.as_slice() {
        [] => {
            let all: Vec<String> = met.iter().map(|met| format!("{} ({})", met.host, met.name)).collect();
            return Err(format!("no host of the inventory has {address}, as node `{node}` has: {}", all.join(", ")));
        }
        [one] => *one,
        several => *several.iter().find(|met| met.name == *node).ok_or_else(|| {
            let all: Vec<&str> = several.iter().map(|met| met.host.as_str()).collect();
            format!("several hosts have {address}, and none is called `{node}`, as the node is: {}", all.join(", "))
        })?,
    };
    if !wanted.boot.is_empty() && found.boot != wanted.boot {
        return Err(format!(
            "host `{}` has {address} and is not node `{node}`: its kernel was started as {}, that of the node as {}",
            found.host, found.boot, wanted.boot
        ));
    }
    Ok(found)
}

impl Inventory {
    /// Without wires it serves only for hosts that stay what they are.
    ///
    /// # Errors
    /// It has none.
    pub fn wired(self) -> Result<Self, String> {
        if self.wires.is_empty() {
            return Err("the inventory has no `wires`; without them it can only be used with `--kubeconfig`".into());
        }
        Ok(self)
    }
}

impl Hosts {
    /// Takes the hosts that are these nodes, as they are.
    pub async fn as_they_are(&self, key: &str, wanted: &[Wanted]) -> Result<Nodes, String> {
        let inventory = self.inventory.as_ref().ok_or("no inventory is given")?;
        if let Some(Finding { what, fix }) = self.preflight().into_iter().next() {
            return Err(format!("{what} is missing: {fix}"));
        }
        // Everybody is asked before anybody is taken.
        let met =
            try_join_all(inventory.hosts.iter().enumerate().map(|(number, host)| self.meet(number, host))).await?;
        let found = wanted.iter().map(|wanted| find(&met, wanted)).collect::<Result<Vec<&Met>, String>>()?;
        let seat = |(wanted, met): (&Wanted, &&Met)| {
            let interface = |nic: &crate::provider::Nic| {
                let name = met.interface(IpAddr::V4(nic.address.addr()))?;
                Some((nic.name.clone(), name.to_string()))
            };
            let interfaces = wanted.spec.nics.iter().filter_map(interface).collect();
            Seat { node: wanted.spec.name.clone(), host: met.host.clone(), interfaces }
        };
        let seats: Vec<Seat> = wanted.iter().zip(&found).map(seat).collect();
        self.write_down(key, &seats)?;
        let executable = tokio::fs::read(&self.boot.executable).await;
        let executable = executable.map_err(|error| format!("cannot read our own executable: {error}"))?;
        let executable = &executable;
        let each =
            wanted.iter().zip(&seats).zip(&found).enumerate().map(|(number, ((wanted, seat), met))| async move {
                let node = self.enter_as_it_is(key, number, seat, wanted, executable).await?;
                let ssh = met.network.ssh.map(|(_, port)| port);
                let (registered, interfaces) = (wanted.registered.clone(), seat.interfaces.clone());
                let node: Arc<dyn Node> = Arc::new(AsItIs { node, registered, interfaces, ssh });
                Ok::<_, String>((seat.node.clone(), node))
            });
        Ok(Nodes { by_name: try_join_all(each).await?.into_iter().collect() })
    }

    async fn meet(&self, number: usize, host: &Host) -> Result<Met, String> {
        let seat = Seat { node: String::new(), host: host.host.clone(), interfaces: BTreeMap::new() };
        let (_, node) = self.node(number, &seat);
        let said = ask(&node, "ask who it is", &format!("{WHO}{}", network::LOOK)).await?;
        if !said.succeeded() {
            return Err(format!("host `{}`: {}", host.host, said.complaint()));
        }
        Ok(Met::read(&host.host, &String::from_utf8_lossy(&said.stdout)))
    }

    /// Takes a host and puts our executable on it.
    async fn enter_as_it_is(
        &self,
        key: &str,
        number: usize,
        seat: &Seat,
        wanted: &Wanted,
        executable: &[u8],
    ) -> Result<MachineNode, String> {
        let (transport, asked) = self.node(number, seat);
        if !ask(&asked, "look for another cluster of cknet's", NOT_OURS).await?.succeeded() {
            return Err(format!(
                "host `{}` belongs to a cluster that cknet has made: for that there is `cknet run` without `--inventory`",
                seat.host
            ));
        }
        self.take_it(key, seat, &asked).await?;
        let addresses = wanted.spec.nics.iter().map(|nic| (nic.name.clone(), nic.address)).collect();
        let node = MachineNode::new(wanted.spec.name.clone(), addresses, transport.clone(), true);
        transport.answered();
        let text = |error: NodeError| error.to_string();
        let program = format!("{FOLDER}/bin/cknet");
        node.put(&program, 0o755, executable.to_vec()).await.map_err(text)?;
        let tried = node.run(Invocation::new([program.as_str(), "--version"]), QUICK).await.map_err(text)?;
        if !tried.succeeded() {
            let (called, said) = (seat.host.clone(), tried.complaint());
            return Err(PrepareError::CannotRun { called, said }.to_string());
        }
        let link = Invocation::new(["ln", "-sfn", "cknet", &format!("{FOLDER}/bin/agnhost")]);
        node.run(link, QUICK).await.map_err(text)?;
        // Scenarios close ports, and that is all that they change here.
        node.undo("cknet node-firewall clear").await.map_err(text)?;
        Ok(node)
    }
}

/// A node on a host that stays what it is.
struct AsItIs {
    node: MachineNode,
    registered: String,
    /// What its NICs are called there, by the names of the topology.
    interfaces: BTreeMap<String, String>,
    /// The port at which ssh comes: the way back.
    ssh: Option<u16>,
}

impl AsItIs {
    /// The command with the names that interfaces have here. What is closed by it leaves ssh open; nothing could be
    /// undone otherwise.
    fn fitted(&self, mut invocation: Invocation) -> Result<Invocation, NodeError> {
        let argv = &mut invocation.argv;
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let ["cknet", "node-firewall", verb, rest @ ..] = words.as_slice() else { return Ok(invocation) };
        let mut extra = None;
        match (*verb, self.ssh) {
            ("only" | "zone", Some(port)) => extra = Some(format!("{port}/tcp")),
            ("close" | "reject", Some(port)) => {
                let ports = rest.first().and_then(|word| word.parse::<Ports>().ok());
                let closes =
                    |ports: Ports| ports.protocol == Protocol::Tcp && (ports.first..=ports.last).contains(&port);
                if ports.is_some_and(closes) {
                    let cause = format!("ssh comes by port {port}, and what is closed could not be opened again");
                    return Err(NodeError::Failed {
                        node: self.node.name().into(),
                        doing: format!("run `{invocation}`"),
                        cause,
                    });
                }
            }
            ("only" | "zone" | "close" | "reject", None) => {
                let cause = "it is not known by which port ssh comes, and what is closed may never be opened again";
                return Err(NodeError::Failed {
                    node: self.node.name().into(),
                    doing: format!("run `{invocation}`"),
                    cause: cause.into(),
                });
            }
            _ => {}
        }
        for at in 1..argv.len() {
            let is_nic = matches!(argv.get(at - 1).map(String::as_str), Some("--at" | "--nic"));
            if let Some(name) = argv.get_mut(at).filter(|_| is_nic)
                && let Some(here) = self.interfaces.get(name)
            {
                name.clone_from(here);
            }
        }
        if let Some(extra) = extra {
            argv.insert(3, extra);
        }
        Ok(invocation)
    }
}

impl Node for AsItIs {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn registered(&self) -> &str {
        &self.registered
    }

    fn addresses(&self) -> &BTreeMap<String, Ipv4Net> {
        self.node.addresses()
    }

    fn run(&self, invocation: Invocation, deadline: Duration) -> BoxFuture<'_, Result<Output, NodeError>> {
        async move { self.node.run(self.fitted(invocation)?, deadline).await }.boxed()
    }

    fn start(&self, service: &str, invocation: Invocation) -> BoxFuture<'_, Result<(), NodeError>> {
        self.node.start(service, invocation)
    }

    fn stop(&self, service: &str) -> BoxFuture<'_, Result<(), NodeError>> {
        self.node.stop(service)
    }

    fn ended(&self, service: &str) -> BoxFuture<'_, Option<Exit>> {
        self.node.ended(service)
    }

    fn converse(&self, invocation: Invocation) -> BoxFuture<'_, Result<Conversation, NodeError>> {
        self.node.converse(invocation)
    }

    fn put(&self, path: &str, mode: u32, content: Vec<u8>) -> BoxFuture<'_, Result<(), NodeError>> {
        self.node.put(path, mode, content)
    }

    fn take(&self, path: &str) -> BoxFuture<'_, Result<Vec<u8>, NodeError>> {
        self.node.take(path)
    }

    fn undo<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        self.node.undo(line)
    }

    fn forward(&self, port: u16) -> BoxFuture<'_, Result<SocketAddr, NodeError>> {
        self.node.forward(port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::provider::Nic;
    use crate::provider::machine::Within;

    fn wanted(registered: &str, address: &str, boot: &str) -> Wanted {
        let nic = Nic { name: "eth0".into(), segment: "lan".into(), address: address.parse().unwrap() };
        let spec = NodeSpec { name: "w1".into(), nics: vec![nic], forwards: true, routes: Vec::new() };
        Wanted { spec, registered: registered.into(), boot: boot.into() }
    }

    fn met() -> Vec<Met> {
        let said = |name: &str, address: &str| {
            format!(
                "name {name}\nboot b-{name}\nssh 10.0.0.1 5 {address} 22\naddress lo 127.0.0.1/8\naddress ens3 {address}/24\n"
            )
        };
        vec![Met::read("one.lab", &said("north", "10.0.0.5")), Met::read("two.lab", &said("south", "10.0.0.6"))]
    }

    #[test]
    fn a_host_is_the_node_whose_address_it_has() {
        let met = met();
        assert_eq!(find(&met, &wanted("x", "10.0.0.6/24", "")).unwrap().host, "two.lab");
        let none = find(&met, &wanted("west", "10.0.0.7/24", "")).unwrap_err();
        let said = "no host of the inventory has 10.0.0.7, as node `west` has: one.lab (north), two.lab (south)";
        assert_eq!(none, said);
        let other = find(&met, &wanted("south", "10.0.0.6/24", "b-elsewhere")).unwrap_err();
        assert!(other.starts_with("host `two.lab` has 10.0.0.6 and is not node `south`"), "{other}");
        let both = [met[0].clone(), Met { host: "again".into(), name: "east".into(), ..met[0].clone() }];
        assert_eq!(find(&both, &wanted("east", "10.0.0.5/24", "b-north")).unwrap().host, "again");
        let neither = find(&both, &wanted("west", "10.0.0.5/24", "")).unwrap_err();
        assert!(neither.ends_with("as the node is: one.lab, again"), "{neither}");
    }

    #[test]
    fn what_closes_ports_knows_the_interfaces_and_leaves_ssh_open() {
        let transport = Arc::new(Within { program: "true".into(), arguments: Vec::new() });
        let node = MachineNode::new("w1".into(), BTreeMap::new(), transport, true);
        let interfaces = BTreeMap::from([("eth0".to_string(), "ens3".to_string())]);
        let node = AsItIs { node, registered: "south".into(), interfaces, ssh: Some(2222) };
        let fitted = |line: &str| {
            node.fitted(Invocation::new(line.split(' '))).map(|fitted| fitted.to_string()).map_err(|e| e.to_string())
        };
        for (line, wanted) in [
            ("cknet node-firewall close 4789/udp --nic eth0", "cknet node-firewall close 4789/udp --nic ens3"),
            ("cknet node-firewall only 6443/tcp --at eth0", "cknet node-firewall only 2222/tcp 6443/tcp --at ens3"),
            ("cknet node-firewall zone", "cknet node-firewall zone 2222/tcp"),
            ("cknet node-firewall reject 2222/udp", "cknet node-firewall reject 2222/udp"),
            ("cknet node-firewall clear", "cknet node-firewall clear"),
            ("echo --at eth0", "echo --at eth0"),
        ] {
            assert_eq!(fitted(line).as_deref(), Ok(wanted));
        }
        let refused = fitted("cknet node-firewall close 1-65535/tcp").unwrap_err();
        assert!(refused.ends_with("ssh comes by port 2222, and what is closed could not be opened again"), "{refused}");
    }
}
