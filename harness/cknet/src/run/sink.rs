//! Where events of all tasks come together: stamped, counted, and passed on to the reporters one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::event::{
    Artifact, Attachment, Case, Detail, Event, ExpectationJudged, Interrupt, Outcome, RunFinished, Summary, Tally, What,
};
use crate::report::{Fanout, ReportError};

/// The one place that events are told to.
pub struct Sink {
    inner: Mutex<Inner>,
}

struct Inner {
    tally: Tally,
    /// Gone once the run has finished: what a task still tells after that is about nothing any more.
    reporters: Option<Fanout>,
}

impl Sink {
    pub fn new(reporters: Fanout) -> Self {
        Self { inner: Mutex::new(Inner { tally: Tally::default(), reporters: Some(reporters) }) }
    }

    /// Tells what has just happened.
    pub fn tell(&self, what: impl Into<What>) {
        let event = Event::new(Timestamp::now(), what);
        let mut inner = self.locked();
        inner.tell(&event);
    }

    /// Tells a verdict that was reached without looking at anything.
    pub fn judged(&self, case: Case, outcome: Outcome) {
        self.judged_by(case, outcome, Vec::new());
    }

    /// The same, with evidence of what was in the way.
    pub fn judged_by(&self, case: Case, outcome: Outcome, evidence: Vec<Attachment>) {
        self.tell(ExpectationJudged {
            case,
            outcome,
            took_ms: 0,
            time_to_true_ms: None,
            samples: 0,
            detail: Detail { evidence, ..Detail::default() },
        });
    }

    /// Tells the end of the run and lets the reporters finish. Tasks that have not ended may go on telling: nobody
    /// listens any more.
    pub fn finish(&self, interrupted: Option<Interrupt>, artifacts: Vec<Artifact>) -> (Summary, Vec<ReportError>) {
        let mut inner = self.locked();
        let now = Timestamp::now();
        let summary = inner.tally.summary(now, interrupted, artifacts);
        inner.tell(&Event::new(now, RunFinished { summary: summary.clone() }));
        let problems = inner.reporters.take().map(Fanout::finish).unwrap_or_default();
        (summary, problems)
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tell(&mut self, event: &Event) {
        if let Some(reporters) = &mut self.reporters {
            self.tally.record(event);
            reporters.event(event);
        }
    }
}
