//! Owns the numbers at the end of a run and the rule by which events add up to them.

use serde::{Deserialize, Serialize};

use super::{Cleanup, Event, Standing, What};

/// How many cases ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub errors: u32,
    pub skipped: u32,
    pub xfailed: u32,
    pub xpassed: u32,
    pub flaky: u32,
    /// Under way when the run ended, or never begun.
    pub aborted: u32,
}

impl Counts {
    /// Adds one case.
    pub fn add(&mut self, standing: Standing) {
        *self.of_mut(standing) += 1;
    }

    /// How many cases ended with `standing`.
    pub fn of(mut self, standing: Standing) -> u32 {
        *self.of_mut(standing)
    }

    fn of_mut(&mut self, standing: Standing) -> &mut u32 {
        match standing {
            Standing::Pass => &mut self.passed,
            Standing::Fail => &mut self.failed,
            Standing::Error => &mut self.errors,
            Standing::Skipped => &mut self.skipped,
            Standing::XFail => &mut self.xfailed,
            Standing::XPass => &mut self.xpassed,
            Standing::Flaky => &mut self.flaky,
            Standing::Aborted => &mut self.aborted,
        }
    }

    /// All selected cases.
    pub fn total(self) -> u32 {
        self.judged() + self.errors + self.skipped + self.aborted
    }

    /// The cases that say something about a claim.
    pub fn judged(self) -> u32 {
        self.passed + self.failed + self.xfailed + self.xpassed + self.flaky
    }
}

/// The signal that ended the run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Interrupt {
    Int,
    Term,
    Hup,
}

/// What became of the things that the run made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum CleanupState {
    /// No clean-up took place.
    #[default]
    NotReached,
    Clean,
    Kept {
        /// The command that takes it down.
        later: String,
    },
    Leaked {
        resources: u32,
    },
}

/// A file that the run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `junit`, `ndjson`, `html`, `bundle`.
    pub kind: String,
    pub path: String,
}

/// The run in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub counts: Counts,
    pub scenarios: u32,
    pub took_ms: u64,
    /// What all scenarios together could not help waiting for.
    #[serde(default)]
    pub unavoidable_ms: u64,
    /// Clusters that could not be made.
    #[serde(default)]
    pub clusters_failed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interrupt>,
    #[serde(default)]
    pub cleanup: CleanupState,
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
}

impl Summary {
    /// The figure of merit: the time of the run over the sum of its unavoidable waits. The waits of clusters that
    /// exist at the same time are added up, so that it can be below 1.
    pub fn merit(&self) -> Option<f64> {
        // Times of runs are far below 2^52 ms.
        #[allow(clippy::cast_precision_loss)]
        (self.unavoidable_ms > 0).then(|| self.took_ms as f64 / self.unavoidable_ms as f64)
    }
}

/// Adds up events; what the emitter fills `RunFinished` from.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    started: Option<jiff::Timestamp>,
    planned: u32,
    counts: Counts,
    scenarios: u32,
    unavoidable_ms: u64,
    clusters_failed: u32,
    cleanup: CleanupState,
}

impl Tally {
    /// Takes one event into account.
    pub fn record(&mut self, event: &Event) {
        match &event.what {
            What::RunStarted(run) => {
                self.started = Some(event.at);
                self.planned = u32::try_from(run.planned_cases()).unwrap_or(u32::MAX);
            }
            What::ExpectationJudged(judged) if judged.outcome.is_selected() => {
                self.counts.add(judged.outcome.standing());
            }
            What::ScenarioFinished(finished) => {
                self.scenarios += 1;
                self.unavoidable_ms += finished.waits.map_or(0, |waits| waits.unavoidable_ms());
            }
            What::ClusterFailed(_) => self.clusters_failed += 1,
            What::Cleanup(cleanup) => self.cleanup = cleanup_state(cleanup),
            _ => {}
        }
    }

    /// The sum at the time `at`. Planned cases without a verdict count as aborted.
    pub fn summary(&self, at: jiff::Timestamp, interrupted: Option<Interrupt>, artifacts: Vec<Artifact>) -> Summary {
        let mut counts = self.counts;
        counts.aborted += self.planned.saturating_sub(counts.total());
        let took = self.started.map_or(0, |started| at.duration_since(started).as_millis());
        Summary {
            counts,
            scenarios: self.scenarios,
            took_ms: u64::try_from(took).unwrap_or(0),
            unavoidable_ms: self.unavoidable_ms,
            clusters_failed: self.clusters_failed,
            interrupted,
            cleanup: self.cleanup.clone(),
            artifacts,
        }
    }
}

fn cleanup_state(cleanup: &Cleanup) -> CleanupState {
    match (&cleanup.kept, cleanup.leaks.len()) {
        (_, leaks @ 1..) => CleanupState::Leaked { resources: u32::try_from(leaks).unwrap_or(u32::MAX) },
        (Some(later), 0) => CleanupState::Kept { later: later.clone() },
        (None, 0) => CleanupState::Clean,
    }
}
