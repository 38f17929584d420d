//! Calico's place in the node's own iptables: what other nodes send over the overlay is let in by the first rule.
//!
//! Policy lives in the table `calico`. That alone would not do: a packet passes every table, and what one accepts the
//! next may drop. Felix therefore stands first in `INPUT` of iptables, so that a rule which somebody appends there
//! never sees the overlay's packets, and one which somebody inserts before it does (recorded on a cluster with Calico
//! v3.31 and the iptables-nft data plane). These are rules that `iptables -S` can print.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cknet_kernel::nft::{Base, Batch, Chain, Family, Nft, NftError, Protocol, Rule, priority};

/// Where iptables-nft keeps the table `filter` of IPv4, and its chain for what is for the node itself.
const TABLE: &str = "filter";
const INPUT: &str = "INPUT";
/// Felix's chain, to which its first rule leads.
const OURS: &str = "cali-INPUT";

/// Who may send overlay packets to this node, and to which port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub nodes: BTreeSet<Ipv4Addr>,
    pub port: u16,
}

/// The owner of Calico's chain in the table `filter`.
#[derive(Debug)]
pub struct Entrance {
    nft: Nft,
    written: Option<Admitted>,
}

impl Entrance {
    /// Acts on the network namespace in which `nft` was opened.
    pub fn new(nft: Nft) -> Self {
        Self { nft, written: None }
    }

    /// Lets exactly these in before anybody else is asked; rules that are not Calico's stay as they are.
    pub fn admit(&mut self, admitted: Admitted) -> Result<(), NftError> {
        if self.written.as_ref() == Some(&admitted) {
            return Ok(());
        }
        self.written = None;
        let leads_to_us = |rule: &cknet_kernel::nft::LiveRule| rule.leads_to.as_deref() == Some(OURS);
        let stands = self.nft.rules(Family::Ip, TABLE)?.iter().any(|rule| rule.chain == INPUT && leads_to_us(rule));
        let mut batch = Batch::new();
        batch.add_table(Family::Ip, TABLE);
        batch.add_chain(Family::Ip, TABLE, &Chain::base(INPUT, Base::input(priority::FILTER)));
        batch.add_chain(Family::Ip, TABLE, &Chain::new(OURS));
        batch.flush_chain(Family::Ip, TABLE, OURS);
        for node in &admitted.nodes {
            let rule = Rule::new().saddr((*node).into()).protocol(Protocol::UDP).dport(admitted.port);
            batch.add_rule(Family::Ip, TABLE, OURS, &rule.accept());
        }
        if !stands {
            batch.insert_rule(Family::Ip, TABLE, INPUT, &Rule::new().jump(OURS));
        }
        self.nft.send(batch)?;
        self.written = Some(admitted);
        Ok(())
    }
}

/// Takes our chain out of iptables, where it is; rules of others stay.
pub fn withdraw(mut nft: Nft) -> Result<(), NftError> {
    if !nft.tables(Family::Ip)?.iter().any(|name| name == TABLE) {
        return Ok(());
    }
    let mut batch = Batch::new();
    for rule in nft.rules(Family::Ip, TABLE)?.iter().filter(|rule| rule.leads_to.as_deref() == Some(OURS)) {
        batch.delete_rule(Family::Ip, TABLE, &rule.chain, rule.handle);
    }
    let chains = nft.chains(Family::Ip, TABLE)?;
    if chains.iter().any(|chain| chain.name == OURS) {
        batch.flush_chain(Family::Ip, TABLE, OURS);
        batch.delete_chain(Family::Ip, TABLE, OURS);
    }
    nft.send(batch)?;
    // An empty one is of no use to anybody; iptables makes it again.
    let is_bare = chains.iter().all(|chain| chain.name == OURS || chain.name == INPUT);
    let mut batch = Batch::new();
    if is_bare && nft.rules(Family::Ip, TABLE)?.is_empty() {
        batch.delete_table(Family::Ip, TABLE);
    }
    nft.send(batch)
}
