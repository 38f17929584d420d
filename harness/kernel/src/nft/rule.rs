//! A rule as a value, built by calls that read like a line of a ruleset.
//!
//! Holds what is meant; `expression` knows how the kernel is told.

use std::net::IpAddr;

use ipnet::IpNet;

use super::field::{AddressType, CtState, CtStatus, FibAddress, Field, Protocol, Value};
use super::set::{Elements, Key, range_elements};
use super::{AddressRanges, Direction};

/// What becomes of a packet, or where its evaluation goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Ends this base chain only; chains of later priority still see the packet.
    Accept,
    Drop,
    /// Back to the rule after the jump; at the end of a base chain its policy.
    Return,
    Continue,
    Jump(String),
    Goto(String),
}

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    TcpReset,
    PortUnreachable,
    HostUnreachable,
    NoRoute,
    AdminProhibited,
}

/// The set that a lookup asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Named(String),
    /// A set that belongs to its rule.
    Inline(Elements),
}

/// One step of a rule. A match that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The field begins with `value` (for whole values: is it).
    Compare {
        field: Field,
        negate: bool,
        value: Value,
    },
    /// The field and `mask` give `value`.
    Masked {
        field: Field,
        negate: bool,
        mask: Value,
        value: Value,
    },
    /// The field is between `from` and `to`, both included.
    Range {
        field: Field,
        negate: bool,
        from: Value,
        to: Value,
    },
    InSet {
        fields: Vec<Field>,
        negate: bool,
        set: Lookup,
    },
    /// The verdict that the map has for the fields; no entry ends the rule.
    VerdictMap {
        fields: Vec<Field>,
        map: Lookup,
    },
    /// Adds the fields to a dynamic set, or renews them there.
    Remember {
        fields: Vec<Field>,
        set: String,
    },
    Counter,
    /// The packet's mark becomes `(mark & keep) ^ flip`.
    SetMark {
        keep: u32,
        flip: u32,
    },
    /// The connection's mark becomes `(mark & keep) ^ flip`.
    SetCtMark {
        keep: u32,
        flip: u32,
    },
    Dnat {
        to: IpAddr,
        port: Option<u16>,
    },
    Snat {
        to: IpAddr,
        port: Option<u16>,
    },
    Masquerade {
        fully_random: bool,
    },
    Redirect {
        port: u16,
    },
    Reject(Reject),
    Notrack,
    Log {
        prefix: String,
    },
    Verdict(Verdict),
}

/// One rule: statements from left to right, and a comment that `nft list ruleset` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub statements: Vec<Statement>,
    pub comment: Option<String>,
}

/// Building blocks.
impl Rule {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn then(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    pub fn is(self, field: Field, value: impl Into<Value>) -> Self {
        self.then(Statement::Compare { field, negate: false, value: value.into() })
    }

    pub fn is_not(self, field: Field, value: impl Into<Value>) -> Self {
        self.then(Statement::Compare { field, negate: true, value: value.into() })
    }

    /// At least one bit of `mask` is set in the field.
    pub fn has_any(self, field: Field, mask: u32) -> Self {
        self.then(Statement::Masked { field, negate: true, mask: Value::host(mask), value: Value::host(0) })
    }

    /// No bit of `mask` is set in the field.
    pub fn has_none(self, field: Field, mask: u32) -> Self {
        self.then(Statement::Masked { field, negate: false, mask: Value::host(mask), value: Value::host(0) })
    }

    /// Both ends included.
    pub fn within(self, field: Field, from: impl Into<Value>, to: impl Into<Value>) -> Self {
        self.then(Statement::Range { field, negate: false, from: from.into(), to: to.into() })
    }

    /// The fields, as one key, are in the named set.
    pub fn in_set(self, fields: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        self.then(Statement::InSet { fields: fields.into(), negate: false, set: Lookup::Named(set.into()) })
    }

    /// The fields, as one key, are not in the named set.
    pub fn not_in_set(self, fields: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        self.then(Statement::InSet { fields: fields.into(), negate: true, set: Lookup::Named(set.into()) })
    }

    /// The field is one of `elements`, which belong to this rule.
    pub fn one_of(self, field: Field, elements: impl IntoIterator<Item = Key>) -> Self {
        let elements = elements.into_iter().map(|key| (key, None)).collect();
        self.then(Statement::InSet { fields: vec![field], negate: false, set: Lookup::Inline(elements) })
    }

    /// The verdict of the named map for the fields.
    pub fn verdict_of(self, fields: impl Into<Vec<Field>>, map: impl Into<String>) -> Self {
        self.then(Statement::VerdictMap { fields: fields.into(), map: Lookup::Named(map.into()) })
    }

    /// The verdict of a map that belongs to this rule.
    pub fn verdict_among(self, field: Field, verdicts: impl IntoIterator<Item = (Value, Verdict)>) -> Self {
        let elements = verdicts.into_iter().map(|(value, verdict)| (value.into(), Some(verdict))).collect();
        self.then(Statement::VerdictMap { fields: vec![field], map: Lookup::Inline(elements) })
    }

    /// Adds the fields to the named dynamic set.
    pub fn remember(self, fields: impl Into<Vec<Field>>, set: impl Into<String>) -> Self {
        self.then(Statement::Remember { fields: fields.into(), set: set.into() })
    }
}

/// Matches in the words of a ruleset.
impl Rule {
    /// The incoming interface; a name that ends in `*` matches what begins with the rest.
    pub fn iifname(self, name: &str) -> Self {
        self.is(Field::IifName, interface(name))
    }

    /// The outgoing interface; a name that ends in `*` matches what begins with the rest.
    pub fn oifname(self, name: &str) -> Self {
        self.is(Field::OifName, interface(name))
    }

    pub fn protocol(self, protocol: Protocol) -> Self {
        self.is(Field::L4Proto, protocol)
    }

    /// Ports mean something only after [`Rule::protocol`] said TCP, UDP or SCTP.
    pub fn dport(self, port: u16) -> Self {
        self.is(Field::DestinationPort, port)
    }

    pub fn sport(self, port: u16) -> Self {
        self.is(Field::SourcePort, port)
    }

    /// Both ends included.
    pub fn dports(self, from: u16, to: u16) -> Self {
        if from == to { self.dport(from) } else { self.within(Field::DestinationPort, from, to) }
    }

    pub fn saddr(self, address: IpAddr) -> Self {
        self.is(source(address.is_ipv4()), address)
    }

    pub fn daddr(self, address: IpAddr) -> Self {
        self.is(destination(address.is_ipv4()), address)
    }

    pub fn saddr_in(self, block: IpNet) -> Self {
        self.in_block(source(block.addr().is_ipv4()), block, false)
    }

    pub fn daddr_in(self, block: IpNet) -> Self {
        self.in_block(destination(block.addr().is_ipv4()), block, false)
    }

    pub fn saddr_not_in(self, block: IpNet) -> Self {
        self.in_block(source(block.addr().is_ipv4()), block, true)
    }

    pub fn daddr_not_in(self, block: IpNet) -> Self {
        self.in_block(destination(block.addr().is_ipv4()), block, true)
    }

    /// The address in `field` is in one of `ranges`, which must not be empty: an empty set matches nothing.
    pub fn in_ranges(self, field: Field, ranges: &AddressRanges) -> Self {
        let mut iter = ranges.iter();
        match (iter.next(), iter.next()) {
            (Some((from, to)), None) if from == to => self.is(field, from),
            (Some((from, to)), None) => self.within(field, from, to),
            _ => {
                let set = Lookup::Inline(range_elements(ranges));
                self.then(Statement::InSet { fields: vec![field], negate: false, set })
            }
        }
    }

    pub fn ct_state(self, states: CtState) -> Self {
        self.has_any(Field::CtState, states.0)
    }

    pub fn ct_status(self, status: CtStatus) -> Self {
        self.has_any(Field::CtStatus, status.0)
    }

    pub fn ct_direction(self, direction: Direction) -> Self {
        self.is(Field::CtDirection, direction)
    }

    /// What the routing table says the source or destination address is.
    pub fn address_type(self, address: FibAddress, kind: AddressType) -> Self {
        self.is(Field::AddressType { address, on_interface: false }, kind)
    }

    fn in_block(self, field: Field, block: IpNet, negate: bool) -> Self {
        match block.prefix_len() {
            0 if !negate => self,
            length if length == block.max_prefix_len() => {
                self.then(Statement::Compare { field, negate, value: block.network().into() })
            }
            _ => {
                let (mask, value) = (block.netmask().into(), block.network().into());
                self.then(Statement::Masked { field, negate, mask, value })
            }
        }
    }
}

/// Actions and verdicts.
impl Rule {
    pub fn counter(self) -> Self {
        self.then(Statement::Counter)
    }

    /// Sets the bits of `bits` in the packet's mark.
    pub fn mark_or(self, bits: u32) -> Self {
        self.then(Statement::SetMark { keep: !bits, flip: bits })
    }

    /// Clears the bits of `bits` in the packet's mark.
    pub fn mark_clear(self, bits: u32) -> Self {
        self.then(Statement::SetMark { keep: !bits, flip: 0 })
    }

    pub fn dnat(self, to: IpAddr, port: Option<u16>) -> Self {
        self.then(Statement::Dnat { to, port })
    }

    pub fn snat(self, to: IpAddr) -> Self {
        self.then(Statement::Snat { to, port: None })
    }

    /// The source becomes an address of the outgoing interface, with a port chosen wholly at random.
    pub fn masquerade(self) -> Self {
        self.then(Statement::Masquerade { fully_random: true })
    }

    pub fn redirect(self, port: u16) -> Self {
        self.then(Statement::Redirect { port })
    }

    pub fn reject(self, with: Reject) -> Self {
        self.then(Statement::Reject(with))
    }

    pub fn notrack(self) -> Self {
        self.then(Statement::Notrack)
    }

    pub fn log(self, prefix: impl Into<String>) -> Self {
        self.then(Statement::Log { prefix: prefix.into() })
    }

    pub fn accept(self) -> Self {
        self.then(Statement::Verdict(Verdict::Accept))
    }

    pub fn drop(self) -> Self {
        self.then(Statement::Verdict(Verdict::Drop))
    }

    pub fn return_to_caller(self) -> Self {
        self.then(Statement::Verdict(Verdict::Return))
    }

    pub fn jump(self, chain: impl Into<String>) -> Self {
        self.then(Statement::Verdict(Verdict::Jump(chain.into())))
    }

    pub fn goto(self, chain: impl Into<String>) -> Self {
        self.then(Statement::Verdict(Verdict::Goto(chain.into())))
    }

    /// Shown by `nft list ruleset` and returned by [`super::Nft::rules`]; cut at 127 bytes.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

fn interface(name: &str) -> Value {
    name.strip_suffix('*').map_or_else(|| Value::interface(name), Value::interface_prefix)
}

const fn source(v4: bool) -> Field {
    if v4 { Field::Ip4Source } else { Field::Ip6Source }
}

const fn destination(v4: bool) -> Field {
    if v4 { Field::Ip4Destination } else { Field::Ip6Destination }
}
