//! Owns what happened in a run, as values: the only thing a reporter is told.
//!
//! Pure: no clock, no files. Whoever emits an event gives its time. It must not know how an event is shown.

mod failure;
mod happening;
mod outcome;
mod summary;

pub use failure::{
    Advice, Attachment, Control, Endpoint, Expected, Failure, LastSeen, LostAt, Matrix, MatrixCell, MatrixRow,
    Observed, Seen, Window,
};
pub use happening::{
    Case, CaseId, Claim, Cleanup, ClusterAcquiring, ClusterFailed, ClusterReady, Detail, ExpectationJudged, Fidelity,
    Flip, FlipsJudged, Leak, MachinesBroken, PhaseStarted, PlannedScenario, RunFinished, RunStarted, ScenarioFinished,
    ScenarioStarted, Severity, StepDone, StepFailed, Waits,
};
pub use outcome::{Attempt, InfraKind, Outcome, SkipCause, Standing};
pub use summary::{Artifact, CleanupState, Counts, Interrupt, Summary, Tally};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, by the clock of the emitter.
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. A run is `RunStarted`, anything, then `Cleanup` and `RunFinished`, unless it was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    RunStarted(Box<RunStarted>),
    ClusterAcquiring(ClusterAcquiring),
    ClusterReady(ClusterReady),
    ClusterFailed(ClusterFailed),
    MachinesBroken(MachinesBroken),
    ScenarioStarted(ScenarioStarted),
    PhaseStarted(PhaseStarted),
    StepDone(StepDone),
    StepFailed(StepFailed),
    ExpectationJudged(Box<ExpectationJudged>),
    FlipsJudged(Box<FlipsJudged>),
    ScenarioFinished(ScenarioFinished),
    Cleanup(Cleanup),
    RunFinished(Box<RunFinished>),
}

impl Event {
    /// An event of `what` at the time `at`.
    pub fn new(at: Timestamp, what: impl Into<What>) -> Self {
        Self { at, what: what.into() }
    }
}

macro_rules! what_from {
    ($($kind:ident)*; boxed $($boxed:ident)*) => {
        $(impl From<$kind> for What {
            fn from(value: $kind) -> Self { Self::$kind(value) }
        })*
        $(impl From<$boxed> for What {
            fn from(value: $boxed) -> Self { Self::$boxed(Box::new(value)) }
        })*
    };
}

what_from! {
    ClusterAcquiring ClusterReady ClusterFailed MachinesBroken ScenarioStarted PhaseStarted StepDone
    StepFailed
    ScenarioFinished Cleanup;
    boxed RunStarted ExpectationJudged FlipsJudged RunFinished
}
