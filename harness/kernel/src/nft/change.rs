//! From one table to another: the smallest transaction that keeps the counters of what did not change.
//!
//! Pure: compares two values and fills a batch.

use super::batch::Batch;
use super::set::Elements;
use super::table::{Chain, Table};

/// What a transaction does to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The table was put in place as a whole; the other numbers are then of the whole table.
    pub replaced: bool,
    pub chains_added: usize,
    /// Chains whose rules were written anew.
    pub chains_changed: usize,
    pub chains_deleted: usize,
    pub sets_added: usize,
    pub sets_deleted: usize,
    pub elements_added: usize,
    pub elements_deleted: usize,
}

impl Change {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Batch {
    /// Brings the kernel's table from `old`, which it must hold exactly, to `new`.
    ///
    /// Falls back to [`Batch::replace`] where the kernel cannot change in place: a base chain's hook or a set's type.
    pub fn change(&mut self, old: &Table, new: &Table) -> Change {
        if !changeable(old, new) {
            self.replace(new);
            return Change { replaced: true, ..whole(new) };
        }
        let mut change = Change::default();
        self.add_missing(old, new, &mut change);
        self.drop_elements(old, new, &mut change);
        self.rewrite_chains(old, new, &mut change);
        self.fill_sets(old, new, &mut change);
        self.delete_surplus(old, new, &mut change);
        change
    }

    /// New chains and sets, still empty: everything that refers to them comes later.
    fn add_missing(&mut self, old: &Table, new: &Table, change: &mut Change) {
        for chain in new.chains.values().filter(|chain| !old.chains.contains_key(&chain.name)) {
            self.add_chain(new.family, &new.name, chain);
            change.chains_added += 1;
        }
        for set in new.sets.values().filter(|set| !old.sets.contains_key(&set.name)) {
            self.add_set(new.family, &new.name, set);
            change.sets_added += 1;
        }
    }

    /// Elements that go, or whose verdict changes. Before chains: an element holds the chain that it leads to.
    fn drop_elements(&mut self, old: &Table, new: &Table, change: &mut Change) {
        for (before, after) in old.sets.values().filter_map(|set| Some((set, new.sets.get(&set.name)?))) {
            let gone = difference(&before.elements, &after.elements);
            change.elements_deleted += gone.len();
            self.delete_elements(new.family, &new.name, &before.name, &before.kind, &gone);
        }
        for set in old.sets.values().filter(|set| set.kind.verdicts && !new.sets.contains_key(&set.name)) {
            self.delete_elements(new.family, &new.name, &set.name, &set.kind, &set.elements);
        }
    }

    fn rewrite_chains(&mut self, old: &Table, new: &Table, change: &mut Change) {
        let goes = |chain: &&Chain| !new.chains.contains_key(&chain.name);
        for chain in old.chains.values().filter(goes).filter(|chain| !chain.rules.is_empty()) {
            self.flush_chain(new.family, &new.name, &chain.name);
        }
        for chain in new.chains.values() {
            let before = old.chains.get(&chain.name);
            if before.is_some_and(|before| before.rules == chain.rules) {
                continue;
            }
            if let Some(before) = before {
                change.chains_changed += 1;
                if !before.rules.is_empty() {
                    self.flush_chain(new.family, &new.name, &chain.name);
                }
            }
            chain.rules.iter().for_each(|rule| self.add_rule(new.family, &new.name, &chain.name, rule));
        }
    }

    fn fill_sets(&mut self, old: &Table, new: &Table, change: &mut Change) {
        let nothing = Elements::new();
        for set in new.sets.values() {
            let before = old.sets.get(&set.name).map_or(&nothing, |set| &set.elements);
            let come = difference(&set.elements, before);
            change.elements_added += come.len();
            self.add_elements(new.family, &new.name, &set.name, &set.kind, &come);
        }
    }

    fn delete_surplus(&mut self, old: &Table, new: &Table, change: &mut Change) {
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.delete_set(new.family, &new.name, name);
            change.sets_deleted += 1;
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            self.delete_chain(new.family, &new.name, name);
            change.chains_deleted += 1;
        }
    }
}

/// Elements of `left` that `right` lacks or has with another verdict.
fn difference(left: &Elements, right: &Elements) -> Elements {
    let lacks = |(key, verdict): &(&_, &_)| right.get(*key) != Some(*verdict);
    left.iter().filter(lacks).map(|(key, verdict)| (key.clone(), verdict.clone())).collect()
}

fn changeable(old: &Table, new: &Table) -> bool {
    let same_chain = |chain: &Chain| new.chains.get(&chain.name).is_none_or(|other| other.base == chain.base);
    let same_set = |set: &super::Set| new.sets.get(&set.name).is_none_or(|other| other.kind == set.kind);
    (old.family, &old.name) == (new.family, &new.name)
        && old.chains.values().all(same_chain)
        && old.sets.values().all(same_set)
}

pub(super) fn whole(table: &Table) -> Change {
    Change {
        chains_added: table.chains.len(),
        sets_added: table.sets.len(),
        elements_added: table.sets.values().map(|set| set.elements.len()).sum(),
        ..Change::default()
    }
}
