//! A scenario's expectations as cases: the one name by which filters, events and reports know each of them.

use crate::event::{Case, Claim, PlannedScenario, Severity};
use crate::scenario::Scenario;
use crate::scenario::model::{self, Expectation, Phase};

/// The scenario with all its cases, as it is announced before the run.
pub fn planned(scenario: &Scenario) -> PlannedScenario {
    PlannedScenario {
        id: scenario.id().to_string(),
        title: scenario.metadata.title.clone(),
        file: scenario.file.clone(),
        cases: scenario.expectations().map(|(phase, expectation)| case(scenario, phase, expectation)).collect(),
    }
}

/// One expectation as a case.
pub fn case(scenario: &Scenario, phase: &Phase, expectation: &Expectation) -> Case {
    Case {
        id: scenario.case_id(phase, expectation).into(),
        scenario: scenario.id().to_string(),
        phase: phase.id.to_string(),
        expectation: expectation.id.to_string(),
        file: scenario.file.clone(),
        line: u32::try_from(expectation.line).unwrap_or(u32::MAX),
        claim: claim(scenario, expectation),
        severity: match scenario.metadata.severity {
            model::Severity::Minor => Severity::Low,
            model::Severity::Major => Severity::High,
            model::Severity::Critical => Severity::Critical,
        },
        owner: None,
    }
}

/// The claim on which an expectation decides, one way or the other.
fn claim(scenario: &Scenario, expectation: &Expectation) -> Option<Claim> {
    let id = expectation.claim.as_ref().or(expectation.refutes.as_ref())?;
    let claim = scenario.claim(id)?;
    Some(Claim {
        id: claim.id.to_string(),
        text: claim.text.clone(),
        docs: scenario.citation(claim).to_string(),
        refutes: expectation.refutes.is_some(),
        instead: claim.instead.clone(),
        reference: claim.reference.clone(),
    })
}
