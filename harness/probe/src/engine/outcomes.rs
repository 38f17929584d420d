//! What has been seen so far, cell by cell, and what one cell's outcome says about the silence of another.

use std::collections::HashMap;
use std::ops::Range;

use crate::wire::{Batch, Cell, Doubt, Observation, Sight, Target, VantageId};

/// ICMP errors in all that a kernel sends in a burst before it holds them back to 1000/s (`icmp_msgs_burst`).
const ICMP_BURST: usize = 50;

/// Cells that leave from one vantage.
pub(super) struct Group {
    pub(super) vantage: VantageId,
    /// Which part of [`Outcomes::order`].
    cells: Range<usize>,
    icmp_errors: usize,
}

pub(super) struct Outcomes {
    /// Places of cells in the batch, those of one group next to each other.
    order: Vec<usize>,
    groups: Vec<Group>,
    /// For each cell of the batch, its group.
    group_of: Vec<usize>,
    /// For each cell of the batch, whether a refusal of it comes by ICMP.
    datagram: Vec<bool>,
    seen: Vec<Option<Observation>>,
}

impl Outcomes {
    pub(super) fn of(batch: &Batch) -> Self {
        let (order, groups, group_of) = grouped(&batch.cells);
        let is_datagram = |cell: &Cell| matches!(cell.target, Target::Udp { .. } | Target::Dns { .. });
        Self {
            order,
            groups,
            group_of,
            datagram: batch.cells.iter().map(is_datagram).collect(),
            seen: vec![None; batch.cells.len()],
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn vantage(&self, group: usize) -> &VantageId {
        &self.groups[group].vantage
    }

    /// The places of a group's cells, in the order of the batch.
    pub(super) fn places(&self, group: usize) -> Vec<usize> {
        self.order[self.groups[group].cells.clone()].to_vec()
    }

    pub(super) fn settle(&mut self, place: usize, observation: Observation) {
        let by_icmp = match observation.sight {
            Sight::IcmpError { .. } => true,
            Sight::Refused => self.datagram[place],
            _ => false,
        };
        self.groups[self.group_of[place]].icmp_errors += usize::from(by_icmp);
        self.seen[place] = Some(observation);
    }

    /// Settles a cell whose time has run out, after all that were heard.
    pub(super) fn settle_late(&mut self, place: usize, mut observation: Observation) {
        let nearby = self.groups[self.group_of[place]].icmp_errors;
        let errors: usize = self.groups.iter().map(|group| group.icmp_errors).sum();
        observation.maybe_rate_limited = observation.sight == Sight::Silent && (nearby > 0 || errors >= ICMP_BURST);
        self.settle(place, observation);
    }

    /// Takes back what a vantage that is gone seemed to say: its silence says nothing about the network.
    pub(super) fn doubt(&mut self, place: usize, id: u32, detail: &str) {
        let seen = self.seen[place].as_ref().map(|seen| &seen.sight);
        if matches!(seen, Some(Sight::Silent | Sight::Unreachable { .. })) {
            let reason = Doubt::NoVantage;
            let detail = detail.to_owned();
            self.seen[place] = Some(Observation::of(id, Sight::Inconclusive { reason, detail }));
        }
    }

    /// Whether any cell of a group was met by nothing that came from the network.
    pub(super) fn has_unheard(&self, group: usize) -> bool {
        self.order[self.groups[group].cells.clone()].iter().any(|place| {
            let seen = self.seen[*place].as_ref().map(|seen| &seen.sight);
            matches!(seen, Some(Sight::Silent | Sight::Unreachable { .. }))
        })
    }

    /// One observation for each cell of the batch, in its order.
    pub(super) fn into_observations(self, batch: &Batch) -> Vec<Observation> {
        let left_out = |cell: &Cell| {
            let detail = "the pass left it out".to_owned();
            Observation::of(cell.id, Sight::Inconclusive { reason: Doubt::NeverLeft, detail })
        };
        let cells = batch.cells.iter().zip(self.seen);
        cells.map(|(cell, seen)| seen.unwrap_or_else(|| left_out(cell))).collect()
    }
}

/// Sorts the cells by vantage, in the order in which the vantages first appear.
fn grouped(cells: &[Cell]) -> (Vec<usize>, Vec<Group>, Vec<usize>) {
    let mut number = HashMap::new();
    let group_of: Vec<usize> = cells
        .iter()
        .map(|cell| {
            let next = number.len();
            *number.entry(&cell.from).or_insert(next)
        })
        .collect();
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|place| group_of[*place]);
    let mut groups: Vec<Group> = Vec::with_capacity(number.len());
    for (at, place) in order.iter().enumerate() {
        if groups.len() == group_of[*place] {
            groups.push(Group { vantage: cells[*place].from.clone(), cells: at..at, icmp_errors: 0 });
        }
        if let Some(group) = groups.last_mut() {
            group.cells.end = at + 1;
        }
    }
    (order, groups, group_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn batch(cells: &[(u32, &str)]) -> Batch {
        let target = Target::Udp { address: ([127, 0, 0, 1], 9).into(), payload: 0 };
        let cell = |(id, from): &(u32, &str)| Cell { id: *id, from: (*from).into(), target: target.clone() };
        let cells = cells.iter().map(cell).collect();
        Batch { pass: 0, cells, quiet: Duration::ZERO, cap: Duration::ZERO }
    }

    #[test]
    fn cells_are_grouped_by_vantage_and_keep_their_order() {
        let outcomes = Outcomes::of(&batch(&[(1, "b"), (2, "a"), (3, "b"), (4, "c"), (5, "a")]));
        let groups: Vec<_> =
            (0..outcomes.groups()).map(|n| (outcomes.vantage(n).as_str(), outcomes.places(n))).collect();
        assert_eq!(groups, [("b", vec![0, 2]), ("a", vec![1, 4]), ("c", vec![3])]);
    }

    #[test]
    fn silence_is_doubted_beside_a_reject_of_the_same_vantage_and_after_a_burst_of_any() {
        let mut cells = vec![(0, "a"), (1, "a"), (2, "b")];
        cells.extend((3..52).map(|id| (id, "c")));
        let asked = batch(&cells);
        let mut outcomes = Outcomes::of(&asked);
        let silent = |id| Observation::of(id, Sight::Silent);
        outcomes.settle(0, Observation::of(0, Sight::Refused));
        outcomes.settle_late(1, silent(1));
        outcomes.settle_late(2, silent(2));
        for id in 3..52 {
            outcomes.settle(id as usize, Observation::of(id, Sight::IcmpError { kind: 3, code: 3, from: None }));
        }
        let marked =
            |outcomes: &Outcomes, place: usize| outcomes.seen[place].as_ref().is_some_and(|o| o.maybe_rate_limited);
        assert!(marked(&outcomes, 1) && !marked(&outcomes, 2));
        outcomes.settle_late(2, silent(2));
        assert!(marked(&outcomes, 2), "50 errors came");
    }

    #[test]
    fn a_cell_without_an_outcome_is_inconclusive() {
        let asked = batch(&[(7, "a")]);
        let seen = Outcomes::of(&asked).into_observations(&asked);
        assert!(matches!(&seen[..], [Observation { id: 7, sight: Sight::Inconclusive { .. }, .. }]));
    }
}
