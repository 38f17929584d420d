//! Sets and verdict maps, as values.
//!
//! Elements are kept in order, so that the difference of two sets is cheap. Knows nothing of the wire.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::field::{KeyType, Value};
use super::{AddressRanges, Verdict};

/// The key of an element: one value, or a range with both ends included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub from: Value,
    pub to: Option<Value>,
}

impl From<Value> for Key {
    fn from(from: Value) -> Self {
        Self { from, to: None }
    }
}

impl Key {
    pub fn range(from: impl Into<Value>, to: impl Into<Value>) -> Self {
        Self { from: from.into(), to: Some(to.into()) }
    }

    /// Whether this element holds `value`, given the components of the key.
    pub fn holds(&self, components: &[KeyType], value: &[u8]) -> bool {
        let Some(to) = &self.to else {
            return self.from.0 == value;
        };
        let (mut at, (from, to)) = (0, (&self.from.0, &to.0));
        components.iter().all(|component| {
            let width = if components.len() == 1 { component.width() } else { component.slot() };
            let part = at..at + width;
            at += width;
            match (from.get(part.clone()), value.get(part.clone()), to.get(part)) {
                (Some(from), Some(value), Some(to)) => from <= value && value <= to,
                _ => false,
            }
        })
    }
}

/// Elements in order; maps have a verdict for each.
pub type Elements = BTreeMap<Key, Option<Verdict>>;

/// What a set is besides its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetKind {
    /// Components of the key; more than one is a concatenation.
    pub key: Vec<KeyType>,
    /// Elements are ranges. They must not overlap, and must not touch either.
    pub interval: bool,
    /// A verdict map.
    pub verdicts: bool,
    /// Rules add elements, which live this long; such elements are the kernel's, never ours.
    pub timeout: Option<Duration>,
}

/// A named set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub kind: SetKind,
    pub elements: Elements,
    pub comment: Option<String>,
}

impl Set {
    /// A set of single values.
    pub fn new(name: impl Into<String>, key: impl IntoIterator<Item = KeyType>) -> Self {
        let kind = SetKind { key: key.into_iter().collect(), interval: false, verdicts: false, timeout: None };
        Self { name: name.into(), kind, elements: Elements::new(), comment: None }
    }

    /// A map from values to verdicts.
    pub fn verdict_map(name: impl Into<String>, key: impl IntoIterator<Item = KeyType>) -> Self {
        let mut set = Self::new(name, key);
        set.kind.verdicts = true;
        set
    }

    /// A set that rules fill ([`super::Rule::remember`]) and from which elements go after `timeout`.
    pub fn dynamic(name: impl Into<String>, key: impl IntoIterator<Item = KeyType>, timeout: Duration) -> Self {
        let mut set = Self::new(name, key);
        set.kind.timeout = Some(timeout);
        set
    }

    /// A set of address ranges.
    pub fn addresses(name: impl Into<String>, ranges: &AddressRanges) -> Self {
        let v6 = ranges.iter().next().is_some_and(|(from, _)| from.is_ipv6());
        let mut set = Self::new(name, [if v6 { KeyType::Ip6 } else { KeyType::Ip4 }]);
        set.kind.interval = true;
        set.elements = range_elements(ranges);
        set
    }

    /// Elements are ranges from now on.
    pub fn intervals(mut self) -> Self {
        self.kind.interval = true;
        self
    }

    /// Shown by `nft list ruleset`; at most 127 bytes, the rest is cut.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    pub fn with(mut self, key: impl Into<Key>) -> Self {
        self.insert(key);
        self
    }

    pub fn insert(&mut self, key: impl Into<Key>) {
        self.elements.insert(key.into(), None);
    }

    pub fn insert_verdict(&mut self, key: impl Into<Key>, verdict: Verdict) {
        self.elements.insert(key.into(), Some(verdict));
    }

    pub fn insert_address(&mut self, address: IpAddr) {
        self.insert(Value::from(address));
    }
}

pub(super) fn range_elements(ranges: &AddressRanges) -> Elements {
    ranges.iter().map(|(from, to)| (Key::range(from, to), None)).collect()
}
