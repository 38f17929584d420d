//! A small model of how the kernel evaluates a table, for tests: one packet, one base chain, one outcome.
//!
//! It reads the same statements that the encoder writes, so it checks what was compiled, not how it was encoded; the
//! latter is checked with packets on the kernel.

use std::net::IpAddr;

use cknet_kernel::nft::{
    CtState, Elements, FibAddress, Field, Key, KeyType, Lookup, Protocol, Rule, Statement, Table, Value, Verdict,
};

/// A packet as a base chain sees it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) iif: String,
    pub(crate) oif: String,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) dport: u16,
    pub(crate) state: CtState,
    pub(crate) mark: u32,
    /// What a random number is drawn as.
    pub(crate) random: u32,
    /// Addresses that the routing table calls local.
    pub(crate) local: Vec<IpAddr>,
}

impl Packet {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: Protocol, dport: u16) -> Self {
        Self {
            iif: String::new(),
            oif: String::new(),
            source,
            destination,
            protocol,
            dport,
            state: CtState::NEW,
            mark: 0,
            random: 0,
            local: Vec::new(),
        }
    }

    pub(crate) fn between(mut self, iif: &str, oif: &str) -> Self {
        (self.iif, self.oif) = (iif.into(), oif.into());
        self
    }
}

/// How evaluation of a base chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// With the comment of the rule that did it.
    Dropped(String),
    Rejected,
    Translated(IpAddr, Option<u16>),
    Masqueraded,
}

/// What a base chain with policy accept makes of the packet, whose mark it may change.
pub(crate) fn evaluate(table: &Table, chain: &str, packet: &mut Packet) -> Outcome {
    run(table, chain, packet, 0).unwrap_or(Outcome::Accepted)
}

/// `None` when the end of the chain is reached, or a return.
fn run(table: &Table, chain: &str, packet: &mut Packet, depth: usize) -> Option<Outcome> {
    assert!(depth < 16, "the kernel's jump stack has 16 places");
    let chain = table.chains.get(chain).unwrap_or_else(|| panic!("no chain `{chain}`"));
    for rule in &chain.rules {
        match step(table, rule, packet) {
            Step::Next => {}
            Step::End(outcome) => return Some(outcome),
            Step::Verdict(Verdict::Accept) => return Some(Outcome::Accepted),
            Step::Verdict(Verdict::Drop) => return Some(Outcome::Dropped(rule.comment.clone().unwrap_or_default())),
            Step::Verdict(Verdict::Return) => return None,
            Step::Verdict(Verdict::Continue) => {}
            Step::Verdict(Verdict::Goto(target)) => return run(table, &target, packet, depth),
            Step::Verdict(Verdict::Jump(target)) => {
                if let Some(outcome) = run(table, &target, packet, depth + 1) {
                    return Some(outcome);
                }
            }
        }
    }
    None
}

enum Step {
    Next,
    Verdict(Verdict),
    End(Outcome),
}

fn step(table: &Table, rule: &Rule, packet: &mut Packet) -> Step {
    for statement in &rule.statements {
        let holds = match statement {
            Statement::Compare { field, negate, value } => {
                read(*field, packet).bytes().starts_with(value.bytes()) != *negate
            }
            Statement::Masked { field, negate, mask, value } => {
                let masked: Vec<u8> =
                    read(*field, packet).bytes().iter().zip(mask.bytes()).map(|(byte, mask)| byte & mask).collect();
                (masked == value.bytes()) != *negate
            }
            Statement::Range { field, negate, from, to } => {
                let value = read(*field, packet);
                (*from <= value && value <= *to) != *negate
            }
            Statement::InSet { fields, negate, set } => look_up(table, fields, set, packet).is_some() != *negate,
            Statement::VerdictMap { fields, map } => match look_up(table, fields, map, packet) {
                Some(verdict) => return Step::Verdict(verdict.unwrap_or_else(|| panic!("a map without verdicts"))),
                None => false,
            },
            Statement::SetMark { keep, flip } => {
                packet.mark = (packet.mark & keep) ^ flip;
                true
            }
            Statement::Counter | Statement::Remember { .. } | Statement::Log { .. } => true,
            Statement::Verdict(verdict) => return Step::Verdict(verdict.clone()),
            Statement::Reject(_) => return Step::End(Outcome::Rejected),
            Statement::Dnat { to, port } => return Step::End(Outcome::Translated(*to, *port)),
            Statement::Masquerade { .. } => return Step::End(Outcome::Masqueraded),
            other => panic!("{other:?} is not modelled"),
        };
        if !holds {
            return Step::Next;
        }
    }
    Step::Next
}

/// `None` if the key is not in the set.
fn look_up(table: &Table, fields: &[Field], set: &Lookup, packet: &Packet) -> Option<Option<Verdict>> {
    let key: Vec<KeyType> = fields.iter().map(|field| field.key_type()).collect();
    let elements: &Elements = match set {
        Lookup::Inline(elements) => elements,
        Lookup::Named(name) => {
            let set = table.sets.get(name).unwrap_or_else(|| panic!("no set `{name}`"));
            assert_eq!(set.kind.key, key, "key of set `{name}`");
            &set.elements
        }
    };
    let value = match fields {
        [field] => read(*field, packet),
        [first, second] => Value::concat([read(*first, packet), read(*second, packet)]),
        [first, second, third] => Value::concat([read(*first, packet), read(*second, packet), read(*third, packet)]),
        _ => panic!("{} fields in a key", fields.len()),
    };
    let holds = |key_of_element: &&Key| key_of_element.holds(&key, value.bytes());
    elements.keys().find(holds).map(|found| elements[found].clone())
}

fn read(field: Field, packet: &Packet) -> Value {
    match field {
        Field::IifName => Value::interface(&packet.iif),
        Field::OifName => Value::interface(&packet.oif),
        Field::L4Proto => packet.protocol.into(),
        Field::Mark => Value::host(packet.mark),
        Field::Ip4Source | Field::Ip6Source => packet.source.into(),
        Field::Ip4Destination | Field::Ip6Destination => packet.destination.into(),
        Field::DestinationPort => packet.dport.into(),
        Field::CtState => packet.state.into(),
        Field::Random { modulus } => Value::host(packet.random % modulus),
        Field::AddressType { address, .. } => {
            let address = if address == FibAddress::Source { packet.source } else { packet.destination };
            Value::host(if packet.local.contains(&address) { 2 } else { 1 })
        }
        other => panic!("{other:?} is not modelled"),
    }
}
