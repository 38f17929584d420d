//! The firewall's table in the kernel: closures as rules, rules as closures and counts.
//!
//! Acts on the calling thread's network namespace.

use cknet_kernel::nft::{
    self, Base, Batch, Chain, Counter, CtStatus, Family, Field, Hook, LiveRule, Nft, NftError, Reject, Rule, Table,
    priority,
};
use serde::{Deserialize, Serialize};

use super::closure::{Action, Closure, Firewall, Nic, Place, Ports, Protocol, Scope, Way};

const FAMILY: Family = Family::Inet;
pub(super) const TABLE: &str = "cknet_firewall";
/// Where firewalld sits: after those who accept at priority filter.
const PRIORITY: i32 = priority::FILTER + 10;
/// Where raw tables sit: before connection tracking, so that no rule of anybody's filter can let a packet through.
const EARLY: &str = "early";
const INPUT: &str = "input";
/// A node's port may be translated to another address before it gets here; then the packet passes through.
const FORWARD: &str = "forward";
const OUTPUT: &str = "output";

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot change the node's firewall: {0}")]
    Change(#[source] NftError),
    #[error("cannot read the node's firewall: {0}")]
    Read(#[source] NftError),
}

/// What one closure has caught at one place since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// `4789/udp`
    pub ports: String,
    pub way: Way,
    /// Where in the packet's way the rule stands: `early`, `input`, `forward`, `output`.
    pub chain: String,
    /// What became of the packets.
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far_end: Option<ipnet::IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<Nic>,
    pub packets: u64,
    pub bytes: u64,
}

/// Makes the node's firewall hold exactly this. Rules that stay keep their counters; an empty firewall has no table.
pub fn apply(firewall: &Firewall) -> Result<(), FirewallError> {
    let mut nft = Nft::open().map_err(FirewallError::Change)?;
    let live = nft.rules(FAMILY, TABLE).map_err(FirewallError::Read)?;
    let mut batch = Batch::new();
    batch.add_table(FAMILY, TABLE);
    if firewall.closed().is_empty() {
        batch.delete_table(FAMILY, TABLE);
    } else {
        for chain in base_chains().chains.values() {
            batch.add_chain(FAMILY, TABLE, chain);
        }
        change(&mut batch, firewall, &live);
    }
    nft.send(batch).map_err(FirewallError::Change)
}

fn change(batch: &mut Batch, firewall: &Firewall, live: &[LiveRule]) {
    let wanted: Vec<_> = firewall.closed().iter().flat_map(rules_of).collect();
    let same = |rule: &LiveRule, (chain, wanted): &(&str, Rule)| rule.chain == *chain && rule.comment == wanted.comment;
    for rule in live.iter().filter(|rule| !wanted.iter().any(|wanted| same(rule, wanted))) {
        batch.delete_rule(FAMILY, TABLE, &rule.chain, rule.handle);
    }
    for wanted in wanted.iter().filter(|wanted| !live.iter().any(|rule| same(rule, wanted))) {
        batch.add_rule(FAMILY, TABLE, wanted.0, &wanted.1);
    }
}

/// What is closed, with what was dropped. Nothing if the firewall was never applied.
pub fn read() -> Result<Vec<RuleCount>, FirewallError> {
    let rules = Nft::open().and_then(|mut nft| nft.rules(FAMILY, TABLE)).map_err(FirewallError::Read)?;
    let mut counts: Vec<RuleCount> = Vec::new();
    for one in rules.iter().filter_map(count) {
        let same = |other: &&mut RuleCount| other.place() == one.place();
        match counts.iter_mut().find(same) {
            Some(known) => {
                known.packets += one.packets;
                known.bytes += one.bytes;
            }
            None => counts.push(one),
        }
    }
    Ok(counts)
}

impl RuleCount {
    /// What is counted together.
    fn place(&self) -> impl PartialEq + use<> {
        (self.ports.clone(), self.way, self.chain.clone(), self.action, self.far_end, self.nic.clone())
    }
}

/// What is closed, from the comments of the rules.
pub(super) fn current() -> Result<Firewall, FirewallError> {
    let rules = Nft::open().and_then(|mut nft| nft.rules(FAMILY, TABLE)).map_err(FirewallError::Read)?;
    Ok(Firewall::new(rules.iter().filter_map(closure)))
}

fn closure(rule: &LiveRule) -> Option<Closure> {
    rule.comment.as_ref()?.parse().ok()
}

fn count(rule: &LiveRule) -> Option<RuleCount> {
    let closure = closure(rule)?;
    let Counter { packets, bytes } = rule.counter.unwrap_or_default();
    let Closure { ports, way, scope: Scope { far_end, nic }, action, .. } = closure;
    Some(RuleCount { ports: ports.to_string(), way, chain: rule.chain.clone(), action, far_end, nic, packets, bytes })
}

fn base_chains() -> Table {
    Table::new(FAMILY, TABLE)
        .with_chain(Chain::base(EARLY, Base::filter(Hook::Prerouting, priority::RAW)))
        .with_chain(Chain::base(INPUT, Base::input(PRIORITY)))
        .with_chain(Chain::base(FORWARD, Base::forward(PRIORITY)))
        .with_chain(Chain::base(OUTPUT, Base::output(PRIORITY)))
}

/// Inbound, a port is closed for the node itself, and for whatever it is translated to: then the port that counts is
/// the one that the client asked for.
fn rules_of(closure: &Closure) -> Vec<(&'static str, Rule)> {
    let Ports { first, last, protocol } = closure.ports;
    let begin = || {
        let rule = match (&closure.scope.nic, closure.way) {
            (None, _) => Rule::new(),
            (Some(nic), Way::In) => Rule::new().iifname(nic.as_str()),
            (Some(nic), Way::Out) => Rule::new().oifname(nic.as_str()),
        };
        rule.protocol(number(protocol))
    };
    let far_end = |rule: Rule| match (closure.scope.far_end, closure.way) {
        (None, _) => rule,
        (Some(block), Way::In) => rule.saddr_in(block),
        (Some(block), Way::Out) => rule.daddr_in(block),
    };
    let finish = |rule: Rule| end(far_end(rule).counter(), closure).comment(closure.to_string());
    let plain = || finish(begin().dports(first, last));
    let translated = || {
        let rule = begin().ct_status(CtStatus::DNAT).ct_direction(nft::Direction::Original);
        finish(rule.within(Field::CtOriginalPort, first, last))
    };
    match (closure.way, closure.place) {
        (Way::Out, _) => vec![(OUTPUT, plain())],
        (Way::In, Place::Early) => vec![(EARLY, plain())],
        (Way::In, Place::Forward) => vec![(FORWARD, plain())],
        (Way::In, Place::Filter) => vec![(INPUT, plain()), (INPUT, translated()), (FORWARD, translated())],
    }
}

/// A reset means something to TCP only.
fn end(rule: Rule, closure: &Closure) -> Rule {
    match (closure.action, closure.ports.protocol) {
        (Action::Drop, _) => rule.drop(),
        (Action::Reject, Protocol::Tcp) => rule.reject(Reject::TcpReset),
        (Action::Reject, Protocol::Udp | Protocol::Sctp) => rule.reject(Reject::AdminProhibited),
    }
}

pub(super) fn number(protocol: Protocol) -> nft::Protocol {
    match protocol {
        Protocol::Tcp => nft::Protocol::TCP,
        Protocol::Udp => nft::Protocol::UDP,
        Protocol::Sctp => nft::Protocol::SCTP,
    }
}
