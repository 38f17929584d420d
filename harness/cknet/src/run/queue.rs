//! What is still to be done on which cluster: batches of trials, taken by tasks that each hold one cluster.
//!
//! Each kind of cluster is begun by one task, which goes on with a kind that the same machines can be; when there is
//! nothing left to begin, a task joins where most is waiting and makes a second cluster of that kind. It must not know
//! how clusters are made.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::plan::{PlannedCluster, Trial};
use crate::provider::Topology;

/// Making another cluster takes about as long as so many batches.
const WORTH_A_CLUSTER: usize = 3;

/// All kinds of clusters of a run.
pub struct Queue {
    kinds: Vec<Kind>,
}

/// Clusters of one kind and what waits for them.
pub struct Kind {
    pub planned: PlannedCluster,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: bool,
    waiting: VecDeque<Vec<Trial>>,
    clusters: usize,
}

impl Queue {
    pub fn new(clusters: Vec<PlannedCluster>) -> Self {
        let kind = |mut planned: PlannedCluster| {
            let waiting = std::mem::take(&mut planned.batches).into();
            Kind { planned, state: Mutex::new(State { waiting, ..State::default() }) }
        };
        Self { kinds: clusters.into_iter().map(kind).collect() }
    }

    /// Where a task that is free goes on: the number of a kind that nobody has begun, one of that topology if there is
    /// one, or of the kind where the most is waiting, if `join` allows that and it is worth a cluster.
    pub fn next(&self, join: bool, topology: Option<&Topology>) -> Option<(usize, &Kind)> {
        let begin = |kind: &Kind| !std::mem::replace(&mut kind.locked().begun, true);
        let alike = |kind: &Kind| topology == Some(&kind.planned.topology);
        let begun = self.kinds.iter().position(|kind| alike(kind) && begin(kind));
        let begun = begun.or_else(|| self.kinds.iter().position(begin));
        let number = begun.or_else(|| {
            let waiting = self.kinds.iter().map(|kind| kind.locked().waiting.len()).enumerate();
            let (number, most) = waiting.max_by_key(|(_, waiting)| *waiting)?;
            (join && most >= WORTH_A_CLUSTER).then_some(number)
        })?;
        Some((number, self.kinds.get(number)?))
    }

    /// Whether machines that are about to be made for a kind are likely to be wanted in the state that they are made in
    /// once more: for another cluster of the kind, or for one of another kind that nobody has begun.
    pub fn wants_again(&self, kind: &Kind, first: &VecDeque<Trial>) -> bool {
        let alike = |other: &Kind| other.planned.topology == kind.planned.topology && !other.locked().begun;
        kind.needs_another(first) || self.kinds.iter().any(alike)
    }
}

impl Kind {
    /// The next batch, if there is one.
    pub fn take(&self) -> Option<Vec<Trial>> {
        self.locked().waiting.pop_front()
    }

    /// Whether a cluster that is about to be made for these trials, and then for what is still waiting, is likely to be
    /// spoiled before there is nothing left to do.
    fn needs_another(&self, first: &VecDeque<Trial>) -> bool {
        let state = self.locked();
        let mut to_do = first.iter().chain(state.waiting.iter().flatten());
        to_do.any(Trial::spoils) && to_do.next().is_some()
    }

    /// The number of a cluster that is about to be made, from 0.
    pub fn another(&self) -> usize {
        let mut state = self.locked();
        state.clusters += 1;
        state.clusters - 1
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
