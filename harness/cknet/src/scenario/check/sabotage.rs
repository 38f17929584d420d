//! Owns whether a sabotage and a known deviation mean something.
//! Must not know whether a sabotage does its work: `cknet prove` finds that out.

use super::super::model::{Change, ExpectationRef, PhaseId, WorkloadName};
use super::Checking;

pub(super) fn check(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (index, sabotage) in scenario.sabotage.iter().enumerate() {
        match &sabotage.change {
            Change::IgnoreStep(step) => comes_first(c, &step.phase, &sabotage.must_fail, index),
            Change::ExtraStep(extra) => match (&extra.before, &extra.after) {
                (Some(phase), None) | (None, Some(phase)) => {
                    comes_first(c, phase, &sabotage.must_fail, index);
                    let alive = alive(c, phase, extra.before.is_some());
                    super::steps::one(c, &extra.step, &alive, path!["sabotage", index, "do", "extraStep", "step"]);
                }
                _ => {
                    c.problem(path!["sabotage", index, "do", "extraStep"], "an extra step has one of `before`, `after`")
                }
            },
            Change::Cluster(change) if change.0 == scenario.cluster => {
                c.problem(path!["sabotage", index, "do", "cluster"], "this changes nothing");
            }
            Change::Topology(change) if change.0 == scenario.topology => {
                c.problem(path!["sabotage", index, "do", "topology"], "this changes nothing");
            }
            Change::Cluster(_) | Change::Topology(_) => {}
        }
    }
}

/// The workloads that exist before the steps of a phase or after them.
fn alive(c: &Checking<'_>, phase: &PhaseId, before: bool) -> Vec<WorkloadName> {
    let place = c.scenario.phases.iter().position(|known| known.id == *phase).unwrap_or_default();
    let first = || c.scenario.workloads.names().cloned().collect();
    match (before, place) {
        (true, 0) => first(),
        (true, place) => super::steps::alive(c).swap_remove(place - 1),
        (false, place) => super::steps::alive(c).get(place).cloned().unwrap_or_else(first),
    }
}

/// What is done after an expectation cannot turn it red.
fn comes_first(c: &mut Checking<'_>, phase: &PhaseId, must_fail: &ExpectationRef, index: usize) {
    let place = |id: &PhaseId| c.scenario.phases.iter().position(|phase| phase.id == *id);
    if place(phase) > place(&must_fail.phase) {
        let message = format!("phase `{phase}` comes after this expectation and cannot turn it red");
        c.problem(path!["sabotage", index, "mustFail"], message);
    }
}
