//! Owns the contents of each kind of event. It must not know the types that made them: everything here is text,
//! numbers and the outcome types, so that a stream can be read back without the program that wrote it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Attachment, InfraKind, Outcome, Summary};
use crate::ledger::RunId;

/// The one name of a case: filter, terminal, JUnit and evidence folder all use it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseId(pub String);

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: Into<String>> From<T> for CaseId {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

/// What a result says something about, the least faithful first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fidelity {
    /// The reference distribution on namespaces of one kernel.
    Model,
    /// The reference distribution on machines of their own.
    Dataplane,
    /// A real distribution.
    Cluster,
}

impl Fidelity {
    /// The word used in scenario files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataplane => "dataplane",
            Self::Cluster => "cluster",
        }
    }

    /// What a result of this fidelity may be quoted for.
    pub fn statement(self, distribution: &str) -> String {
        match self {
            Self::Model => "this is a statement about the reference model, not about Canonical Kubernetes".into(),
            Self::Dataplane => "this is a statement about the reference model on machines of their own, \
                                not about Canonical Kubernetes"
                .into(),
            Self::Cluster => {
                format!("this is a statement about a real cluster of `{distribution}`")
            }
        }
    }
}

/// How much a reader of the document is hurt when the claim is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl Severity {
    /// The word used in scenario files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A sentence of the document that is under test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    pub id: String,
    pub text: String,
    /// File and anchor of the document.
    pub docs: String,
    /// The case states the opposite: where it holds, the claim is refuted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refutes: bool,
    /// What is true instead, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// Where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// One expectation of one scenario, wherever it is spoken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    pub id: CaseId,
    /// `<area>.<name>`.
    pub scenario: String,
    pub phase: String,
    pub expectation: String,
    /// The scenario file, relative to the repository.
    pub file: String,
    /// The line of the expectation, from 1.
    pub line: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    #[serde(default)]
    pub severity: Severity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Case {
    /// `phase › expectation`: unique within the scenario.
    pub fn short_title(&self) -> String {
        format!("{} › {}", self.phase, self.expectation)
    }

    /// `scenario › phase › expectation`: unique within the run.
    pub fn title(&self) -> String {
        format!("{} › {}", self.scenario, self.short_title())
    }
}

/// A scenario that the run means to carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedScenario {
    pub id: String,
    pub title: String,
    pub file: String,
    pub cases: Vec<Case>,
}

/// The run begins; everything that is known before the first change to a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    pub run: RunId,
    pub seed: u64,
    pub provider: String,
    pub distribution: String,
    pub fidelity: Fidelity,
    pub host: String,
    pub kernel: String,
    pub arch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
    /// Versions and other facts for the record: `cknet`, `channel`, `snap-revision`, `git-sha`, `ci`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// What tells this run's results apart from those of another run of the same scenarios, such as
    /// `cni=cilium, channel=1.36`. Part of every JUnit name, so it must be the same from run to run.
    #[serde(default)]
    pub variant: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The command that runs the same selection with the same seed.
    pub again: Vec<String>,
    pub planned: Vec<PlannedScenario>,
}

impl RunStarted {
    /// How many cases the run means to judge.
    pub fn planned_cases(&self) -> usize {
        self.planned.iter().map(|scenario| scenario.cases.len()).sum()
    }
}

/// A cluster is being made. `cluster` is the name of its topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAcquiring {
    pub cluster: String,
    pub nodes: Vec<String>,
}

/// The cluster passed its ready gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReady {
    pub cluster: String,
    pub nodes: Vec<String>,
    /// Milliseconds until every node could run a command.
    pub provision_ms: u64,
    /// Milliseconds from there until the cluster was ready.
    pub bootstrap_ms: u64,
    /// Its machines were not made but put back to the state in which an earlier cluster had got them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
}

/// Machines could not be used for one cluster after the other; the next one gets new machines. Nobody's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinesBroken {
    pub cluster: String,
    pub message: String,
    pub took_ms: u64,
}

/// The cluster could not be made, or broke beyond repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFailed {
    pub cluster: String,
    pub kind: InfraKind,
    pub message: String,
    pub took_ms: u64,
    /// Files with what its machines said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioStarted {
    pub scenario: String,
    pub title: String,
    pub cluster: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStarted {
    pub scenario: String,
    pub phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepDone {
    pub scenario: String,
    pub phase: String,
    /// Place of the step in its phase, from 0.
    pub step: u32,
    /// What the step does, in words.
    pub text: String,
    pub took_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepFailed {
    pub scenario: String,
    pub phase: String,
    /// Place of the step in its phase, from 0.
    pub step: u32,
    pub text: String,
    pub message: String,
    pub took_ms: u64,
}

/// What was seen beside the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Detail {
    /// One line on what was observed, also when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What commands and probes printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Files written for this case, the bundle first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Attachment>,
}

/// A case has its verdict. Every selected case gets exactly one, also when it was skipped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectationJudged {
    pub case: Case,
    pub outcome: Outcome,
    pub took_ms: u64,
    /// Milliseconds until the expectation first held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_true_ms: Option<u64>,
    /// How often it was looked at.
    pub samples: u32,
    #[serde(default)]
    pub detail: Detail,
}

/// The opposite of an expectation that held was looked at, flow by flow: proof that the expectation could have failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlipsJudged {
    pub case: Case,
    pub flips: Vec<Flip>,
    /// Why nothing can be said, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// One thing turned into its opposite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// What was turned: a flow, or the subject of the expectation.
    pub subject: String,
    /// What was expected instead.
    pub expected: String,
    /// Whether that was refuted, as it has to be.
    pub refuted: bool,
}

/// What a scenario waited for, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waits {
    /// How long answers were waited for of which at least one never came.
    pub silence_ms: u64,
    /// Unavoidable: the longest `for` of each phase.
    pub hold_ms: u64,
    /// Unavoidable: one deadline for silence in each phase that expects silence.
    pub quiet_ms: u64,
    /// Unavoidable: steps that wait for components, workloads and deletions.
    pub component_ms: u64,
}

impl Waits {
    /// What no harness could have saved.
    pub fn unavoidable_ms(&self) -> u64 {
        self.hold_ms.saturating_add(self.quiet_ms).saturating_add(self.component_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioFinished {
    pub scenario: String,
    pub took_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// Something that the run made and that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    pub kind: String,
    pub name: String,
    /// Why it could not be destroyed, or where it was seen.
    pub message: String,
}

/// The run has taken down what it made, or was told to keep it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    #[serde(default)]
    pub leaks: Vec<Leak>,
    /// The command that takes it down later, when it was kept on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    pub took_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    pub summary: Summary,
}
