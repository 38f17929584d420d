//! A table, its chains and where they hook into the kernel, as values.
//!
//! Holds what is wanted; [`super::Batch`] writes it, [`super::Program`] keeps the kernel in line with it.

use std::collections::BTreeMap;

use super::{Rule, Set};

/// Priorities of base chains, as the kernel names them (`enum nf_ip_hook_priorities`). Smaller runs earlier.
pub mod priority {
    pub const RAW: i32 = -300;
    pub const MANGLE: i32 = -150;
    pub const DNAT: i32 = -100;
    pub const FILTER: i32 = 0;
    pub const SNAT: i32 = 100;
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    Ip,
    Ip6,
}

impl Family {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// The word `nft` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// Where in a packet's way a base chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    Filter,
    /// Sees only the first packet of a connection and may translate it.
    Nat,
    /// Routes again when the packet changed.
    Route,
}

impl ChainKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// What happens to a packet that reaches the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    Drop = 0,
    Accept = 1,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
    pub policy: Policy,
}

impl Base {
    /// A filter chain with policy accept.
    pub const fn filter(hook: Hook, priority: i32) -> Self {
        Self { kind: ChainKind::Filter, hook, priority, policy: Policy::Accept }
    }

    /// A nat chain with policy accept.
    pub const fn nat(hook: Hook, priority: i32) -> Self {
        Self { kind: ChainKind::Nat, hook, priority, policy: Policy::Accept }
    }

    /// A filter chain on what is for this host, policy accept.
    pub const fn input(priority: i32) -> Self {
        Self::filter(Hook::Input, priority)
    }

    /// A filter chain on what passes through this host, policy accept.
    pub const fn forward(priority: i32) -> Self {
        Self::filter(Hook::Forward, priority)
    }

    /// A filter chain on what this host sends, policy accept.
    pub const fn output(priority: i32) -> Self {
        Self::filter(Hook::Output, priority)
    }
}

/// A chain: rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that other chains jump to.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), base: None, rules: Vec::new() }
    }

    /// A chain that the kernel calls.
    pub fn base(name: impl Into<String>, base: Base) -> Self {
        Self { name: name.into(), base: Some(base), rules: Vec::new() }
    }

    pub fn with_rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub fn with_rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    pub fn push(&mut self, rule: Rule) {
        self.rules.push(rule);
    }
}

/// Everything a table holds. Names of chains and of sets are unique in it: a second one replaces the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
}

impl Table {
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into(), sets: BTreeMap::new(), chains: BTreeMap::new() }
    }

    pub fn with_chain(mut self, chain: Chain) -> Self {
        self.add_chain(chain);
        self
    }

    pub fn with_set(mut self, set: Set) -> Self {
        self.add_set(set);
        self
    }

    pub fn add_chain(&mut self, chain: Chain) {
        self.chains.insert(chain.name.clone(), chain);
    }

    pub fn add_set(&mut self, set: Set) {
        self.sets.insert(set.name.clone(), set);
    }

    /// Rules in all chains.
    pub fn rule_count(&self) -> usize {
        self.chains.values().map(|chain| chain.rules.len()).sum()
    }
}
