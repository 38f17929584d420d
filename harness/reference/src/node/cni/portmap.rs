//! The plugin `portmap`: ports of the node that lead to a port of a pod (`hostPort`), as nat rules in a table of their
//! own. Each rule says by its comment whose it is; nothing is kept anywhere else.
//!
//! A packet keeps its sender's address on the way, so policies see who really asks; only a pod that asks itself through
//! its node is answered by way of the node.

use std::net::Ipv4Addr;

use cknet_kernel::nft::{
    AddressType, Base, Batch, Chain, Family, FibAddress, Hook, Nft, NftError, Protocol, Rule, priority,
};
use serde::{Deserialize, Serialize};

/// The name that the plugin's own table has (containernetworking/plugins, portmap with nftables).
const TABLE: &str = "cni_hostport";
const PORTS: &str = "hostports";
const HAIRPIN: &str = "masquerading";

/// A port of a node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    pub host_port: u16,
    pub container_port: u16,
    /// The one address of the node at which it answers; at each without.
    pub host_ip: Option<Ipv4Addr>,
}

impl HostPort {
    fn protocol(&self) -> Protocol {
        match self.protocol.as_str() {
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => Protocol::TCP,
        }
    }
}

/// Leads ports of this node to a container at `address`.
pub fn open(container: &str, address: Ipv4Addr, ports: &[HostPort]) -> Result<(), NftError> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.add_table(Family::Ip, TABLE);
    for chain in [Chain::new(PORTS), Chain::base(HAIRPIN, Base::nat(Hook::Postrouting, priority::SNAT))] {
        batch.add_chain(Family::Ip, TABLE, &chain);
    }
    // What comes from elsewhere, and what the node itself sends.
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let chain = Chain::base(name, Base::nat(hook, priority::DNAT));
        batch.add_chain(Family::Ip, TABLE, &chain);
        batch.flush_chain(Family::Ip, TABLE, name);
        let to_this_node = Rule::new().address_type(FibAddress::Destination, AddressType::Local);
        batch.add_rule(Family::Ip, TABLE, name, &to_this_node.jump(PORTS));
    }
    for port in ports {
        let mut rule = Rule::new().protocol(port.protocol()).dport(port.host_port);
        if let Some(address) = port.host_ip {
            rule = rule.daddr(address.into());
        }
        let rule = rule.dnat(address.into(), Some(port.container_port)).comment(container);
        batch.add_rule(Family::Ip, TABLE, PORTS, &rule);
    }
    let itself = Rule::new().saddr(address.into()).daddr(address.into()).masquerade().comment(container);
    batch.add_rule(Family::Ip, TABLE, HAIRPIN, &itself);
    Nft::open()?.send(batch)
}

/// Takes the ports of a container back; one that has none is no failure.
pub fn close(container: &str) -> Result<(), NftError> {
    let mut nft = Nft::open()?;
    if !nft.tables(Family::Ip)?.iter().any(|name| name == TABLE) {
        return Ok(());
    }
    let mut batch = Batch::new();
    for rule in nft.rules(Family::Ip, TABLE)?.iter().filter(|rule| rule.comment.as_deref() == Some(container)) {
        batch.delete_rule(Family::Ip, TABLE, &rule.chain, rule.handle);
    }
    nft.send(batch)
}
