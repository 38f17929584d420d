//! Reading back what the kernel holds: chains, rules with their counters, elements.
//!
//! Counters are evidence: this is how a dropped packet is proven without an outside program.

use super::batch::{ELEMENT_INTERVAL_END, SUBSYSTEM, comment_of};
use super::error::NftError;
use super::rule::Verdict;
use super::socket::Nft;
use super::table::{Base, ChainKind, Family, Hook, Policy};
use super::wire::{Attributes, Message};

const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;

/// What a rule has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// A rule as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRule {
    pub chain: String,
    /// Names the rule within its table as long as it lives.
    pub handle: u64,
    pub comment: Option<String>,
    /// The first counter of the rule.
    pub counter: Option<Counter>,
    /// The kernel's names of the rule's expressions, in order.
    pub expressions: Vec<String>,
    /// A packet that matches ends here: it is dropped or rejected.
    pub ends: bool,
    /// The chain to which a packet that matches goes, for good or to come back.
    pub leads_to: Option<String>,
}

/// A chain as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveChain {
    pub name: String,
    pub base: Option<Base>,
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveElement {
    pub key: Vec<u8>,
    pub key_end: Option<Vec<u8>>,
    pub verdict: Option<Verdict>,
    /// The key is the first value after a range.
    pub interval_end: bool,
}

impl Nft {
    /// Names of the tables of a family.
    pub fn tables(&mut self, family: Family) -> Result<Vec<String>, NftError> {
        self.list(
            "tables",
            GET_TABLE,
            family.number(),
            |_| {},
            |message, found| {
                found.extend(message.attributes().text(1));
            },
        )
    }

    /// Chains of a table; none if there is no such table.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<LiveChain>, NftError> {
        let what = format!("chains of table `{} {table}`", family.name());
        self.list(
            &what,
            GET_CHAIN,
            family.number(),
            |_| {},
            |message, found| {
                if message.attributes().text(1).as_deref() == Some(table) {
                    found.push(live_chain(message.attributes()));
                }
            },
        )
    }

    /// Rules of a table, chain by chain, in order; none if there is no such table.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<LiveRule>, NftError> {
        let what = format!("rules of table `{} {table}`", family.name());
        self.list(
            &what,
            GET_RULE,
            family.number(),
            |filter| filter.text(1, table),
            |message, found| {
                if message.attributes().text(1).as_deref() == Some(table) {
                    found.push(live_rule(message.attributes()));
                }
            },
        )
    }

    /// Names of a table's sets and maps; `__set0` and the like belong to rules.
    pub fn sets(&mut self, family: Family, table: &str) -> Result<Vec<String>, NftError> {
        let what = format!("sets of table `{} {table}`", family.name());
        self.list(
            &what,
            GET_SET,
            family.number(),
            |filter| filter.text(1, table),
            |message, found| {
                found.extend(message.attributes().text(2));
            },
        )
    }

    /// Elements of a set; an error if there is no such set.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<LiveElement>, NftError> {
        let what = format!("elements of set `{set}` of table `{} {table}`", family.name());
        let filter = |filter: &mut super::wire::Writer| {
            filter.text(1, table);
            filter.text(2, set);
        };
        self.list(&what, GET_ELEMENTS, family.number(), filter, |message: Message<'_>, found| {
            let list = message.attributes().nested(3);
            found.extend(list.into_iter().flatten().map(|(_, element)| live_element(Attributes::of(element))));
        })
    }
}

fn live_chain(attributes: Attributes<'_>) -> LiveChain {
    let base = attributes.nested(4).and_then(|hook| {
        Some(Base {
            kind: match attributes.text(7).as_deref() {
                Some("nat") => ChainKind::Nat,
                Some("route") => ChainKind::Route,
                _ => ChainKind::Filter,
            },
            hook: match hook.be32(1)? {
                0 => Hook::Prerouting,
                1 => Hook::Input,
                2 => Hook::Forward,
                3 => Hook::Output,
                _ => Hook::Postrouting,
            },
            priority: hook.be32(2)? as i32,
            policy: if attributes.be32(5) == Some(0) { Policy::Drop } else { Policy::Accept },
        })
    });
    LiveChain { name: attributes.text(3).unwrap_or_default(), base }
}

fn live_rule(attributes: Attributes<'_>) -> LiveRule {
    let expressions = || attributes.nested(4).into_iter().flatten().map(|(_, element)| Attributes::of(element));
    LiveRule {
        chain: attributes.text(2).unwrap_or_default(),
        handle: attributes.be64(3).unwrap_or_default(),
        comment: attributes.find(7).and_then(comment_of),
        counter: expressions().find_map(counter_of),
        expressions: expressions().filter_map(|expression| expression.text(1)).collect(),
        ends: expressions().any(ends),
        leads_to: expressions().find_map(leads_to),
    }
}

fn ends(expression: Attributes<'_>) -> bool {
    match expression.text(1).as_deref() {
        Some("reject") => true,
        Some("immediate") => immediate(expression) == Some(Verdict::Drop),
        _ => false,
    }
}

fn leads_to(expression: Attributes<'_>) -> Option<String> {
    match immediate(expression)? {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

fn immediate(expression: Attributes<'_>) -> Option<Verdict> {
    let verdict = expression.nested(2).and_then(|data| data.nested(2)).and_then(|data| data.nested(2));
    verdict.filter(|_| expression.text(1).as_deref() == Some("immediate")).and_then(live_verdict)
}

fn counter_of(expression: Attributes<'_>) -> Option<Counter> {
    if expression.text(1).as_deref() != Some("counter") {
        return None;
    }
    let data = expression.nested(2)?;
    Some(Counter { bytes: data.be64(1)?, packets: data.be64(2)? })
}

fn live_element(attributes: Attributes<'_>) -> LiveElement {
    let value = |kind| attributes.nested(kind).and_then(|data| data.find(1)).map(<[u8]>::to_vec);
    LiveElement {
        key: value(1).unwrap_or_default(),
        key_end: value(10),
        verdict: attributes.nested(2).and_then(|data| data.nested(2)).and_then(live_verdict),
        interval_end: attributes.be32(3).is_some_and(|flags| flags & ELEMENT_INTERVAL_END != 0),
    }
}

fn live_verdict(attributes: Attributes<'_>) -> Option<Verdict> {
    let chain = || attributes.text(2).unwrap_or_default();
    match attributes.be32(1)? as i32 {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -1 => Some(Verdict::Continue),
        -3 => Some(Verdict::Jump(chain())),
        -4 => Some(Verdict::Goto(chain())),
        -5 => Some(Verdict::Return),
        _ => None,
    }
}
