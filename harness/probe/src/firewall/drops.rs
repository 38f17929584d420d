//! Where a node loses packets: every rule of its nf_tables that counts what it drops or rejects.
//!
//! Whose tables they are is of no account: the host firewall's, the cluster network's, anybody's. Two readings and the
//! difference between them say where a packet was lost. Base chains' policies and other losses (no route, a full
//! queue) count nowhere here.

use std::io::Write;

use cknet_kernel::nft::{Counter, Family, LiveRule, Nft, NftError};
use serde::{Deserialize, Serialize};

use super::closure::{Closure, Protocol, Way};
use super::rules::TABLE;

/// A rule that ends packets, and how many it has ended since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// Family, table and chain: `inet cknet_firewall input`.
    pub place: String,
    /// Names the rule in its table as long as it lives.
    pub handle: u64,
    /// What the rule matches, or its comment; empty where it has none.
    pub matching: String,
    pub packets: u64,
    /// Chains of the same table that were asked before, from which the packet came back: those of the policies that
    /// might have allowed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consulted: Vec<String>,
}

/// A node's rules could not be read or told.
#[derive(Debug, thiserror::Error)]
pub enum DropsError {
    #[error("cannot read the rules of this node: {0}")]
    Read(#[from] NftError),
    #[error("cannot tell the drops: {0}")]
    Tell(#[from] std::io::Error),
}

/// Every rule that ends packets and counts them, in the calling thread's network namespace.
pub fn read() -> Result<Vec<Drop>, DropsError> {
    let mut nft = Nft::open()?;
    let mut drops = Vec::new();
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        for table in nft.tables(family)? {
            let rules = nft.rules(family, &table)?;
            drops.extend((0..).zip(&rules).filter_map(|(at, rule)| drop_of(family, &table, rule, &rules[..at])));
        }
    }
    Ok(drops)
}

/// Prints them as JSON.
pub fn run(stdout: &mut dyn Write) -> Result<(), DropsError> {
    let drops = read()?;
    serde_json::to_writer(&mut *stdout, &drops).map_err(std::io::Error::from)?;
    Ok(writeln!(stdout)?)
}

fn drop_of(family: Family, table: &str, rule: &LiveRule, earlier: &[LiveRule]) -> Option<Drop> {
    let Counter { packets, .. } = rule.counter.filter(|_| rule.ends && counts_what_ends(&rule.expressions))?;
    let comment = rule.comment.clone().unwrap_or_default();
    let closure = || comment.parse::<Closure>().ok().filter(|_| table == TABLE);
    Some(Drop {
        place: format!("{} {table} {}", family.name(), rule.chain),
        handle: rule.handle,
        matching: closure().map_or_else(|| comment.clone(), |closure| matching(&closure)),
        packets,
        consulted: earlier
            .iter()
            .filter(|other| other.chain == rule.chain)
            .filter_map(|other| other.leads_to.clone())
            .collect(),
    })
}

/// A counter counts what has passed the matches before it: only if none stands after it, it counts what ends here.
fn counts_what_ends(expressions: &[String]) -> bool {
    let after = expressions.iter().rev().take_while(|name| *name != "counter");
    after.into_iter().all(|name| matches!(name.as_str(), "immediate" | "reject" | "log"))
}

/// A closure in the words of a ruleset.
fn matching(closure: &Closure) -> String {
    let ports = closure.ports;
    let range =
        if ports.first == ports.last { ports.first.to_string() } else { format!("{}-{}", ports.first, ports.last) };
    let mut text = String::new();
    let (device, address) = match closure.way {
        Way::In => ("iifname", "saddr"),
        Way::Out => ("oifname", "daddr"),
    };
    if let Some(nic) = &closure.scope.nic {
        text.push_str(&format!("{device} {nic} "));
    }
    if let Some(block) = closure.scope.far_end {
        let version = if block.addr().is_ipv4() { "ip" } else { "ip6" };
        text.push_str(&format!("{version} {address} {block} "));
    }
    let protocol = match ports.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    text + &format!("{protocol} dport {range}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("closed 4789/udp in", "udp dport 4789")]
    #[case(
        "rejected 30000-32767/tcp in from 10.0.0.0/8 through eth1",
        "iifname eth1 ip saddr 10.0.0.0/8 tcp dport 30000-32767"
    )]
    #[case("closed 179/tcp out to fd00::/64", "ip6 daddr fd00::/64 tcp dport 179")]
    fn closures_in_the_words_of_a_ruleset(#[case] closure: &str, #[case] words: &str) {
        assert_eq!(matching(&closure.parse().unwrap()), words);
    }
}
