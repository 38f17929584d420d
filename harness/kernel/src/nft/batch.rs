//! One atomic transaction: everything in it happens, or nothing.
//!
//! Knows message types and the attributes of tables, chains, rules, sets and elements. Which changes are wanted is
//! somebody else's business; so is the socket.

use super::expression::{DATA_VALUE, Encoder, inline_name, write_verdict};
use super::field::{KeyType, Value};
use super::rule::{Lookup, Rule, Statement, Verdict};
use super::set::{Elements, Key, Set, SetKind};
use super::table::{Chain, Family, Table};
use super::wire::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, Writer};

pub(super) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Names of the subsystem in the header of a batch.
const SUBSYSTEM_RESOURCE: u16 = 10;

pub(super) const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const DEL_TABLE: u16 = SUBSYSTEM | 2;
pub(super) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub(super) const DEL_CHAIN: u16 = SUBSYSTEM | 5;
pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
pub(super) const DEL_RULE: u16 = SUBSYSTEM | 8;
pub(super) const NEW_SET: u16 = SUBSYSTEM | 9;
pub(super) const DEL_SET: u16 = SUBSYSTEM | 11;
pub(super) const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
pub(super) const DEL_ELEMENTS: u16 = SUBSYSTEM | 14;

const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const SET_CONCAT: u32 = 0x80;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
pub(super) const ELEMENT_INTERVAL_END: u32 = 1;

/// A nested attribute's length has 16 bits, so elements go in messages of at most this many bytes or so.
const ELEMENT_BYTES: usize = 48 * 1024;
/// nft shows comments up to this length; the kernel would take 253 bytes.
const COMMENT_BYTES: usize = 127;

/// A transaction under construction.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    /// Where each message starts; its index is its sequence number.
    starts: Vec<usize>,
    set_ids: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    pub fn new() -> Self {
        let mut batch = Self { writer: Writer::default(), starts: Vec::new(), set_ids: 0 };
        batch.starts.push(0);
        batch.writer.start(BATCH_BEGIN, 0, 0, 0, SUBSYSTEM_RESOURCE);
        batch.writer.finish();
        batch
    }

    /// Changes in the transaction.
    pub fn messages(&self) -> usize {
        self.starts.len() - 1
    }

    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    /// Size on the wire so far. One transaction is one datagram: in a user namespace the kernel bounds it by
    /// `net.core.wmem_max` (twice 212,992 bytes by default).
    pub fn bytes(&self) -> usize {
        self.writer.len()
    }

    /// Makes `table` hold exactly this, whatever it held before. Packets see the old table or the new one, never
    /// none; counters start from zero.
    pub fn replace(&mut self, table: &Table) {
        // Deleting what does not exist fails, so it is made to exist first.
        self.add_table(table.family, &table.name);
        self.delete_table(table.family, &table.name);
        self.create(table);
    }

    /// Adds a table with all it holds. Chains come before everything that may refer to them.
    pub fn create(&mut self, table: &Table) {
        let (family, name) = (table.family, table.name.as_str());
        self.add_table(family, name);
        table.chains.values().for_each(|chain| self.add_chain(family, name, chain));
        table.sets.values().for_each(|set| self.add_set(family, name, set));
        for set in table.sets.values() {
            self.add_elements(family, name, &set.name, &set.kind, &set.elements);
        }
        for chain in table.chains.values() {
            chain.rules.iter().for_each(|rule| self.add_rule(family, name, &chain.name, rule));
        }
    }

    /// Adds a table; one that exists stays as it is.
    pub fn add_table(&mut self, family: Family, table: &str) {
        self.message(NEW_TABLE, NLM_F_CREATE, family, |writer| {
            writer.text(1, table);
            writer.be32(2, 0);
        });
    }

    /// Deletes a table and all in it.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        self.message(DEL_TABLE, 0, family, |writer| writer.text(1, table));
    }

    /// Adds a chain without its rules; one that exists stays as it is.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) {
        self.message(NEW_CHAIN, NLM_F_CREATE, family, |writer| {
            writer.text(1, table);
            writer.text(3, &chain.name);
            if let Some(base) = chain.base {
                writer.nested(4, |hook| {
                    hook.be32(1, base.hook as u32);
                    hook.be32(2, base.priority as u32);
                });
                writer.be32(5, base.policy as u32);
                writer.text(7, base.kind.name());
            }
        });
    }

    /// Deletes a chain that nothing refers to.
    pub fn delete_chain(&mut self, family: Family, table: &str, chain: &str) {
        self.message(DEL_CHAIN, 0, family, |writer| {
            writer.text(1, table);
            writer.text(3, chain);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) {
        self.message(DEL_RULE, 0, family, |writer| {
            writer.text(1, table);
            writer.text(2, chain);
        });
    }

    /// Adds a rule at the end of a chain, together with its inline sets.
    pub fn add_rule(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) {
        self.new_rule(NLM_F_APPEND, family, table, chain, rule);
    }

    /// Adds a rule before all others of a chain, together with its inline sets.
    pub fn insert_rule(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) {
        self.new_rule(0, family, table, chain, rule);
    }

    fn new_rule(&mut self, place: u16, family: Family, table: &str, chain: &str, rule: &Rule) {
        let inline: Vec<u32> = rule
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::InSet { fields, set: Lookup::Inline(elements), .. } => Some((fields, elements, false)),
                Statement::VerdictMap { fields, map: Lookup::Inline(elements) } => Some((fields, elements, true)),
                _ => None,
            })
            .map(|(fields, elements, verdicts)| {
                let key = fields.iter().map(|field| field.key_type()).collect();
                self.add_inline_set(family, table, key, elements, verdicts)
            })
            .collect();
        self.message(NEW_RULE, NLM_F_CREATE | place, family, |writer| {
            writer.text(1, table);
            writer.text(2, chain);
            writer.nested(4, |writer| {
                let mut encoder = Encoder { writer, family, inline: inline.into_iter(), version: None };
                rule.statements.iter().for_each(|statement| encoder.statement(statement));
            });
            if let Some(comment) = &rule.comment {
                writer.attribute(7, &user_text(USER_RULE_COMMENT, comment));
            }
        });
    }

    /// Deletes one rule by the handle that [`super::Nft::rules`] gave.
    pub fn delete_rule(&mut self, family: Family, table: &str, chain: &str, handle: u64) {
        self.message(DEL_RULE, 0, family, |writer| {
            writer.text(1, table);
            writer.text(2, chain);
            writer.be64(3, handle);
        });
    }

    /// Adds a set or map without its elements.
    pub fn add_set(&mut self, family: Family, table: &str, set: &Set) {
        let mut user = byte_order(&set.kind);
        if let Some(comment) = &set.comment {
            user.extend(user_text(USER_SET_COMMENT, comment));
        }
        let id = self.next_set_id();
        self.set_message(family, table, (&set.name, id), &set.kind, 0, None, &user);
    }

    /// Deletes a set that no rule refers to.
    pub fn delete_set(&mut self, family: Family, table: &str, set: &str) {
        self.message(DEL_SET, 0, family, |writer| {
            writer.text(1, table);
            writer.text(2, set);
        });
    }

    pub fn add_elements(&mut self, family: Family, table: &str, set: &str, kind: &SetKind, elements: &Elements) {
        self.elements(NEW_ELEMENTS, family, table, (set, None), kind, elements);
    }

    pub fn delete_elements(&mut self, family: Family, table: &str, set: &str, kind: &SetKind, elements: &Elements) {
        self.elements(DEL_ELEMENTS, family, table, (set, None), kind, elements);
    }

    /// Closes the transaction: the bytes to send, and where each message starts.
    pub(super) fn finish(mut self) -> (Writer, Vec<usize>) {
        // Old kernels do not acknowledge the end marker, so the last change asks for the answer.
        if let Some(last) = self.starts.last().copied() {
            self.writer.set_flags(last, NLM_F_ACK);
        }
        let sequence = self.starts.len() as u32;
        self.writer.start(BATCH_END, 0, sequence, 0, SUBSYSTEM_RESOURCE);
        self.writer.finish();
        (self.writer, self.starts)
    }

    fn message(&mut self, kind: u16, flags: u16, family: Family, body: impl FnOnce(&mut Writer)) {
        let sequence = self.starts.len() as u32;
        self.starts.push(self.writer.len());
        self.writer.start(kind, flags, sequence, family.number(), 0);
        body(&mut self.writer);
        self.writer.finish();
    }

    fn next_set_id(&mut self) -> u32 {
        self.set_ids += 1;
        self.set_ids
    }

    fn add_inline_set(
        &mut self,
        family: Family,
        table: &str,
        key: Vec<KeyType>,
        elements: &Elements,
        verdicts: bool,
    ) -> u32 {
        let interval = elements.keys().any(|key| key.to.is_some());
        let kind = SetKind { key, interval, verdicts, timeout: None };
        let id = self.next_set_id();
        let name = inline_name(verdicts);
        let user = byte_order(&kind);
        let flags = SET_ANONYMOUS | SET_CONSTANT;
        self.set_message(family, table, (name, id), &kind, flags, Some(elements.len()), &user);
        self.elements(NEW_ELEMENTS, family, table, (name, Some(id)), &kind, elements);
        id
    }

    #[allow(clippy::too_many_arguments)]
    fn set_message(
        &mut self,
        family: Family,
        table: &str,
        (name, id): (&str, u32),
        kind: &SetKind,
        flags: u32,
        size: Option<usize>,
        user: &[u8],
    ) {
        let ranges_of_tuples = kind.interval && kind.key.len() > 1;
        self.message(NEW_SET, NLM_F_CREATE, family, |writer| {
            writer.text(1, table);
            writer.text(2, name);
            writer.be32(3, flags | kind_flags(kind));
            writer.be32(4, key_type_number(&kind.key));
            writer.be32(5, key_width(&kind.key) as u32);
            if kind.verdicts {
                writer.be32(6, DATA_TYPE_VERDICT);
            }
            writer.nested(9, |description| {
                if let Some(size) = size.filter(|_| !kind.interval) {
                    description.be32(1, size as u32);
                }
                if ranges_of_tuples {
                    description.nested(2, |fields| {
                        for component in &kind.key {
                            fields.nested(1, |field| field.be32(1, component.width() as u32));
                        }
                    });
                }
            });
            writer.be32(10, id);
            if let Some(timeout) = kind.timeout {
                writer.be64(11, timeout.as_millis() as u64);
            }
            if !user.is_empty() {
                writer.attribute(13, user);
            }
        });
    }

    fn elements(
        &mut self,
        message: u16,
        family: Family,
        table: &str,
        (set, id): (&str, Option<u32>),
        kind: &SetKind,
        elements: &Elements,
    ) {
        let flags = if message == NEW_ELEMENTS { NLM_F_CREATE } else { 0 };
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            self.message(message, flags, family, |writer| {
                writer.text(1, table);
                writer.text(2, set);
                if let Some(id) = id {
                    writer.be32(4, id);
                }
                writer.nested(3, |list| {
                    let start = list.len();
                    while list.len() - start < ELEMENT_BYTES
                        && let Some((key, verdict)) = rest.next()
                    {
                        write_element(list, kind, key, verdict.as_ref());
                    }
                });
            });
        }
    }
}

/// Ranges of one component are two elements, a first one and an end; ranges of tuples are one with two keys.
fn write_element(list: &mut Writer, kind: &SetKind, key: &Key, verdict: Option<&Verdict>) {
    let tuple = kind.key.len() > 1;
    let end = key.to.as_ref().unwrap_or(&key.from);
    list.nested(1, |element| {
        element.nested(1, |data| data.attribute(DATA_VALUE, &key.from.0));
        if let Some(verdict) = verdict {
            element.nested(2, |data| write_verdict(data, verdict));
        }
        if kind.interval && tuple {
            element.nested(10, |data| data.attribute(DATA_VALUE, &end.0));
        }
    });
    if kind.interval
        && !tuple
        && let Some(after) = successor(end)
    {
        list.nested(1, |element| {
            element.be32(3, ELEMENT_INTERVAL_END);
            element.nested(1, |data| data.attribute(DATA_VALUE, &after.0));
        });
    }
}

/// The next value in network order; nothing comes after all ones.
fn successor(value: &Value) -> Option<Value> {
    let mut bytes = value.0.clone();
    for byte in bytes.iter_mut().rev() {
        let (next, overflow) = byte.overflowing_add(1);
        *byte = next;
        if !overflow {
            return Some(Value(bytes));
        }
    }
    None
}

fn kind_flags(kind: &SetKind) -> u32 {
    [
        (kind.interval, SET_INTERVAL),
        (kind.interval && kind.key.len() > 1, SET_CONCAT),
        (kind.verdicts, SET_MAP),
        (kind.timeout.is_some(), SET_TIMEOUT | SET_EVAL),
    ]
    .into_iter()
    .filter_map(|(applies, flag)| applies.then_some(flag))
    .sum()
}

fn key_width(key: &[KeyType]) -> usize {
    match key {
        [single] => single.width(),
        many => many.iter().map(|component| component.slot()).sum(),
    }
}

/// nft packs the types of a concatenation six bits each.
fn key_type_number(key: &[KeyType]) -> u32 {
    key.iter().fold(0, |packed, component| packed << 6 | component.number())
}

const USER_RULE_COMMENT: u8 = 0;
const USER_SET_KEY_BYTE_ORDER: u8 = 0;
const USER_SET_COMMENT: u8 = 7;

/// A note for `nft`, which shows sets of its own types without it but guesses numbers of no type wrongly.
fn byte_order(kind: &SetKind) -> Vec<u8> {
    let order: u32 = match kind.key.as_slice() {
        [single] if single.host_order() => 1,
        [_] => 2,
        _ => return Vec::new(),
    };
    let mut user = vec![USER_SET_KEY_BYTE_ORDER, 4];
    user.extend(order.to_ne_bytes());
    user
}

/// A text of the user's, as nft writes it: kind, length, text, NUL.
fn user_text(kind: u8, text: &str) -> Vec<u8> {
    let mut end = text.len().min(COMMENT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text.as_bytes()[..end];
    let mut user = vec![kind, text.len() as u8 + 1];
    user.extend_from_slice(text);
    user.push(0);
    user
}

/// The comment in a rule's user data.
pub(super) fn comment_of(user: &[u8]) -> Option<String> {
    let mut rest = user;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == USER_RULE_COMMENT {
            return Some(super::wire::text(value));
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn comments_are_cut_between_characters_and_read_back() {
        let long = "ü".repeat(100);
        let user = user_text(USER_RULE_COMMENT, &long);
        assert_eq!(comment_of(&user).unwrap(), "ü".repeat(63));
        assert_eq!(comment_of(&[9, 1, 0, 0, 2, b'a', 0]).unwrap(), "a");
        assert_eq!(comment_of(&[0, 200, 1]), None);
    }

    #[test]
    fn the_successor_of_all_ones_does_not_exist() {
        assert_eq!(successor(&Value::from(0x00ffu16)), Some(Value::from(0x0100u16)));
        assert_eq!(successor(&Value::from(0xffffu16)), None);
    }

    #[test]
    fn many_elements_are_several_messages() {
        let mut set = Set::new("many", [KeyType::Ip4]);
        for number in 0..5000u32 {
            set.insert_address(std::net::Ipv4Addr::from_bits(number).into());
        }
        let mut batch = Batch::new();
        batch.add_elements(Family::Ip, "t", &set.name, &set.kind, &set.elements);
        assert!(batch.messages() > 1, "{} messages", batch.messages());
        let (writer, starts) = batch.finish();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] < 64 * 1024));
        assert_eq!(super::super::wire::messages(writer.bytes()).count(), starts.len() + 1);
    }
}
