//! A scenario with one of its sabotages carried out: what `cknet prove` runs to see the named expectation fail.

use crate::scenario::Scenario;
use crate::scenario::model::{Change, Sabotage};

/// The scenario as the sabotage changes it. What is expected stays as it is.
pub fn sabotaged(scenario: &Scenario, sabotage: &Sabotage) -> Scenario {
    let mut changed = scenario.clone();
    match &sabotage.change {
        Change::IgnoreStep(at) => {
            if let Some(phase) = changed.phases.iter_mut().find(|phase| phase.id == at.phase)
                && at.index < phase.steps.len()
            {
                phase.steps.remove(at.index);
            }
        }
        Change::ExtraStep(extra) => {
            let step = extra.step.clone();
            for phase in &mut changed.phases {
                if extra.before.as_ref() == Some(&phase.id) {
                    phase.steps.insert(0, step.clone());
                } else if extra.after.as_ref() == Some(&phase.id) {
                    phase.steps.push(step.clone());
                }
            }
        }
        Change::Cluster(other) => changed.cluster = other.0.clone(),
        Change::Topology(other) => changed.topology = other.0.clone(),
    }
    changed
}

/// Whether the sabotage changes how the network is made, so that it may be broken from the start.
pub fn changes_the_network(sabotage: &Sabotage) -> bool {
    matches!(sabotage.change, Change::Cluster(_) | Change::Topology(_))
}
