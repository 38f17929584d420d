//! Where events of all tasks come together: stamped, counted, and passed on to the reporters one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::event::{
    Artifact, Case, Detail, Event, ExpectationJudged, Interrupt, Outcome, RunFinished, Summary, Tally, What,
};
use crate::report::{Fanout, ReportError};

/// The one place that events are told to.
pub struct Sink {
    inner: Mutex<(Tally, Fanout)>,
}

impl Sink {
    pub fn new(reporters: Fanout) -> Self {
        Self { inner: Mutex::new((Tally::default(), reporters)) }
    }

    /// Tells what has just happened.
    pub fn tell(&self, what: impl Into<What>) {
        let event = Event::new(Timestamp::now(), what);
        let mut inner = self.locked();
        inner.0.record(&event);
        inner.1.event(&event);
    }

    /// Tells a verdict that was reached without looking at anything.
    pub fn judged(&self, case: Case, outcome: Outcome) {
        self.tell(ExpectationJudged {
            case,
            outcome,
            took_ms: 0,
            time_to_true_ms: None,
            samples: 0,
            detail: Detail::default(),
        });
    }

    /// Tells the end of the run and lets the reporters finish.
    pub fn finish(self, interrupted: Option<Interrupt>, artifacts: Vec<Artifact>) -> (Summary, Vec<ReportError>) {
        let summary = self.locked().0.summary(Timestamp::now(), interrupted, artifacts);
        self.tell(RunFinished { summary: summary.clone() });
        let (_, reporters) = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        (summary, reporters.finish())
    }

    fn locked(&self) -> MutexGuard<'_, (Tally, Fanout)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
