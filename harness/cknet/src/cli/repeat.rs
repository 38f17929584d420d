//! `cknet run --repeat`: the same scenarios again and again, each time in another order, and which cases did not come
//! to the same each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::event::{Event, Standing, What};
use crate::exit::ExitCode;
use crate::report::{ReportError, Reporter};

/// What all repetitions came to.
#[derive(Clone, Default)]
pub struct Repetitions {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Seed and exit code of each.
    done: Vec<(u64, ExitCode)>,
    /// By case: what it came to under which seeds.
    cases: BTreeMap<String, BTreeMap<Standing, Vec<u64>>>,
}

impl Repetitions {
    /// A reporter that notes the verdicts of the repetition with this seed.
    pub fn listener(&self, seed: u64) -> impl Reporter + Send + 'static {
        Listener { repetitions: self.clone(), seed }
    }

    /// The repetition with this seed is over.
    pub fn done(&self, seed: u64, code: ExitCode) {
        self.locked().done.push((seed, code));
    }

    /// The gravest code of all.
    pub fn code(&self) -> ExitCode {
        const FROM_GRAVEST: [ExitCode; 7] = [
            ExitCode::Interrupted,
            ExitCode::Terminated,
            ExitCode::Usage,
            ExitCode::Refuted,
            ExitCode::Infrastructure,
            ExitCode::NothingChecked,
            ExitCode::Leaked,
        ];
        let inner = self.locked();
        let occurs = |code: &ExitCode| inner.done.iter().any(|(_, one)| one == code);
        FROM_GRAVEST.into_iter().find(occurs).unwrap_or(ExitCode::Passed)
    }

    /// The sum, and each case that came to more than one thing.
    pub fn text(&self) -> String {
        let inner = self.locked();
        let passed = inner.done.iter().filter(|(_, code)| *code == ExitCode::Passed).count();
        let mut text = format!("\n{passed} of {} repetitions passed\n", inner.done.len());
        for (seed, code) in inner.done.iter().filter(|(_, code)| *code != ExitCode::Passed) {
            text.push_str(&format!("  seed {seed}: exit code {}\n", code.code()));
        }
        let flaky: Vec<_> = inner.cases.iter().filter(|(_, standings)| standings.len() > 1).collect();
        if !flaky.is_empty() {
            text.push_str("not the same each time\n");
        }
        for (case, standings) in flaky {
            text.push_str(&format!("  {case}\n"));
            for (standing, seeds) in standings {
                let named: Vec<String> = seeds.iter().map(ToString::to_string).collect();
                let named =
                    if *standing == Standing::Pass { String::new() } else { format!(", seeds {}", named.join(" ")) };
                text.push_str(&format!("    {} {} times{named}\n", standing.as_str(), seeds.len()));
            }
        }
        text
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listener {
    repetitions: Repetitions,
    seed: u64,
}

impl Reporter for Listener {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        if let What::ExpectationJudged(judged) = &event.what {
            let mut inner = self.repetitions.locked();
            let standings = inner.cases.entry(judged.case.id.0.clone()).or_default();
            standings.entry(judged.outcome.standing()).or_default().push(self.seed);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        Ok(())
    }
}

/// Stops a run as soon as an expectation is refuted.
pub struct FailFast(pub CancellationToken);

impl Reporter for FailFast {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        if let What::ExpectationJudged(judged) = &event.what
            && matches!(judged.outcome.standing(), Standing::Fail | Standing::XPass)
        {
            self.0.cancel();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::{Case, Detail, ExpectationJudged, Outcome, Severity};
    use jiff::Timestamp;

    fn judged(name: &str, outcome: Outcome) -> Event {
        let case = Case {
            id: name.into(),
            scenario: "a.b".into(),
            phase: "p".into(),
            expectation: name.into(),
            file: "a/b.yaml".into(),
            line: 1,
            claim: None,
            severity: Severity::Medium,
            owner: None,
        };
        let detail = Detail::default();
        Event::new(
            Timestamp::UNIX_EPOCH,
            ExpectationJudged { case, outcome, took_ms: 0, time_to_true_ms: None, samples: 1, detail },
        )
    }

    #[test]
    fn only_what_differs_is_told_with_the_seeds_that_show_it() {
        let all = Repetitions::default();
        let aborted = || Outcome::Aborted { reason: "x".into() };
        for (seed, outcome, code) in [
            (7, Outcome::Pass, ExitCode::Passed),
            (8, aborted(), ExitCode::Infrastructure),
            (9, Outcome::Pass, ExitCode::Passed),
        ] {
            let mut listener = all.listener(seed);
            listener.event(&judged("steady", Outcome::Pass)).unwrap();
            listener.event(&judged("shaky", outcome)).unwrap();
            all.done(seed, code);
        }
        assert_eq!(all.code(), ExitCode::Infrastructure);
        assert_eq!(
            all.text(),
            "\n2 of 3 repetitions passed\n  seed 8: exit code 3\nnot the same each time\n  shaky\n    \
             pass 2 times\n    aborted 1 times, seeds 8\n"
        );
    }
}
