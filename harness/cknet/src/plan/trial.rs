//! A scenario as it is carried out once, and what for: to be judged, to be turned into its opposite, or broken on
//! purpose. It must not know how a trial is carried out.

use crate::scenario::Scenario;
use crate::scenario::model::{Action, Change, ExpectationRef, Sabotage, ScenarioId};

/// One carrying out of a scenario.
#[derive(Clone, Debug)]
pub struct Trial {
    pub scenario: Scenario,
    pub purpose: Purpose,
}

/// What a trial is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To see whether what the scenario expects holds.
    Judge,
    /// To see also that the opposite of what it expects does not hold.
    Flip,
    /// To see an expectation fail.
    Sabotage(Sabotaged),
}

/// What a sabotage is to bring about.
#[derive(Clone, Debug)]
pub struct Sabotaged {
    /// The scenario as it is without the sabotage.
    pub original: ScenarioId,
    /// The expectation that has to fail.
    pub must_fail: ExpectationRef,
    /// The network or the cluster is made otherwise, so that not everything may answer before the first phase.
    pub broken_from_start: bool,
}

impl Trial {
    /// The scenario as it stands in its file.
    pub fn judge(scenario: Scenario) -> Self {
        Self { scenario, purpose: Purpose::Judge }
    }

    /// The scenario as it stands in its file, and the opposite of each expectation.
    pub fn flip(scenario: Scenario) -> Self {
        Self { scenario, purpose: Purpose::Flip }
    }

    /// The scenario as the sabotage changes it, under a name of its own. What is expected stays as it is.
    pub fn sabotage(scenario: &Scenario, sabotage: &Sabotage) -> Self {
        let mut changed = sabotaged(scenario, sabotage);
        changed.metadata.id = scenario.id().variant(&sabotage.id);
        let purpose = Purpose::Sabotage(Sabotaged {
            original: scenario.id().clone(),
            must_fail: sabotage.must_fail.clone(),
            broken_from_start: changes_the_network(sabotage),
        });
        Self { scenario: changed, purpose }
    }

    /// Whether no other trial will be able to use its cluster, as far as its steps tell beforehand.
    pub fn spoils(&self) -> bool {
        // What a scenario makes in a namespace of its own goes with it.
        let of_cluster = |namespace: Option<&str>| namespace.is_none_or(|name| name == "kube-system");
        let mut steps = self.scenario.phases.iter().flat_map(|phase| &phase.steps);
        steps.any(|step| match &step.action {
            Action::Apply(manifest) | Action::Delete(manifest) => {
                manifest.objects.iter().any(|object| object.kind() != "Namespace" && of_cluster(object.namespace()))
            }
            Action::Patch(patch) => of_cluster(patch.namespace.as_ref().map(|name| name.as_str())),
            action => action.marks_nodes(),
        })
    }
}

/// The scenario as the sabotage changes it.
fn sabotaged(scenario: &Scenario, sabotage: &Sabotage) -> Scenario {
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
fn changes_the_network(sabotage: &Sabotage) -> bool {
    matches!(sabotage.change, Change::Cluster(_) | Change::Topology(_))
}
