//! Owns how a verdict reads: a block when something is to be looked into, else a line. It must not know the
//! streams.

use std::collections::HashSet;
use std::io::{self, Write};

use super::style::Style;
use super::{Fact, Terminal, clean, failure, units};
use crate::event::{Attempt, Counts, ExpectationJudged, Outcome, ScenarioFinished, Standing};

/// The word at the beginning of a block or line.
pub(super) fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Pass => "pass",
        Standing::Fail => "FAIL",
        Standing::Error => "ERROR",
        Standing::Skipped => "skip",
        Standing::XFail => "xfail",
        Standing::XPass => "XPASS",
        Standing::Flaky => "FLAKY",
        Standing::Aborted => "ABORTED",
    }
}

/// Whether it is told even when little is.
pub(super) fn is_trouble(standing: Standing) -> bool {
    standing >= Standing::Aborted
}

/// The lines under the headline; `None` for what takes one line. An error that was told before is only named.
pub(super) fn facts(judged: &ExpectationJudged, told: &mut HashSet<String>) -> Option<Vec<Fact>> {
    match &judged.outcome {
        Outcome::Fail { failure, earlier } => {
            let mut facts = failure::facts(&judged.case, failure);
            let evidence = &judged.detail.evidence;
            let unnamed = evidence.iter().filter(|attachment| !failure.evidence.contains(attachment));
            facts.extend(unnamed.map(failure::evidence));
            facts.extend(earlier_tries(earlier));
            Some(facts)
        }
        Outcome::Flaky { earlier } => Some(earlier_tries(earlier)),
        Outcome::Error { kind, message } => {
            let text = format!("{kind}: {message}");
            let new = told.insert(format!("{kind} {message}"));
            let text = if new { text } else { format!("{kind}, as above") };
            let evidence = judged.detail.evidence.iter().map(failure::evidence);
            Some(std::iter::once(Fact::new("error", text)).chain(evidence).collect())
        }
        Outcome::XPass { reason, reference } => Some(vec![
            Fact::new("expected", format!("to fail: {}", with_reference(reason, reference.as_deref()))),
            Fact::new("observed", "it passed; take it out of `expectFailure`"),
        ]),
        Outcome::Aborted { reason } => Some(vec![Fact::new("reason", reason)]),
        Outcome::Pass | Outcome::Skipped { .. } | Outcome::XFail { .. } => None,
    }
}

fn earlier_tries(earlier: &[Attempt]) -> Vec<Fact> {
    let fact = |attempt: &Attempt| match attempt {
        Attempt::Failed { failure, took_ms } => {
            Fact::new("earlier", format!("{}  {}", failure::in_short(failure), units::measured(*took_ms)))
        }
        Attempt::Errored { kind, message, took_ms } => {
            Fact::new("earlier", format!("{kind}: {message}  {}", units::measured(*took_ms)))
        }
    };
    earlier.iter().map(fact).collect()
}

fn with_reference(reason: &str, reference: Option<&str>) -> String {
    reference.map_or_else(|| reason.to_owned(), |reference| format!("{reason} ({reference})"))
}

/// The verdict on one line, for those who want to see them all.
pub(super) fn line(judged: &ExpectationJudged) -> String {
    let mut line = judged.case.short_title();
    match &judged.outcome {
        Outcome::Skipped { reason, .. } => line.push_str(&format!("  {reason}")),
        Outcome::XFail { reason, reference } => {
            line.push_str(&format!("  {}", with_reference(reason, reference.as_deref())));
        }
        _ => {
            line.push_str(&format!("  {}", units::measured(judged.took_ms)));
            if let Some(ms) = judged.time_to_true_ms {
                let samples = units::counted(judged.samples, "sample");
                line.push_str(&format!("  true after {}, {samples}", units::exact(ms)));
            }
        }
    }
    if let Some(note) = &judged.detail.note {
        line.push_str(&format!("  {note}"));
    }
    clean::line(&line)
}

/// `8 passed, 1 failed`: the numbers that are not zero.
pub(super) fn numbers(counts: Counts) -> String {
    const NAMED: [(Standing, &str); 8] = [
        (Standing::Pass, "passed"),
        (Standing::Fail, "failed"),
        (Standing::XPass, "passed unexpectedly"),
        (Standing::Error, "in error"),
        (Standing::Flaky, "flaky"),
        (Standing::XFail, "failed as expected"),
        (Standing::Skipped, "skipped"),
        (Standing::Aborted, "aborted or not run"),
    ];
    let named = NAMED.iter().map(|(standing, name)| (counts.of(*standing), name));
    let named: Vec<String> =
        named.filter(|(number, _)| *number > 0).map(|(number, name)| format!("{number} {name}")).collect();
    if named.is_empty() { "none".into() } else { named.join(", ") }
}

/// The gravest standing that occurs.
fn gravest(counts: Counts) -> Standing {
    const FROM_GRAVEST: [Standing; 7] = [
        Standing::Fail,
        Standing::XPass,
        Standing::Error,
        Standing::Aborted,
        Standing::Flaky,
        Standing::Pass,
        Standing::XFail,
    ];
    FROM_GRAVEST.into_iter().find(|standing| counts.of(*standing) > 0).unwrap_or(Standing::Skipped)
}

impl<O: Write, E: Write> Terminal<O, E> {
    pub(super) fn scenario_finished(&mut self, finished: &ScenarioFinished) -> io::Result<()> {
        let counts = self.under_way.remove(&finished.scenario).unwrap_or_default();
        self.notes.scenario_took(finished);
        if self.is_quiet() {
            return Ok(());
        }
        let standing = gravest(counts);
        let word = format!("{:7}", word(standing));
        let name = clean::line(&finished.scenario);
        let line = format!(
            "{} {name:width$}  {}  {}",
            Style::of(standing).paint(&word),
            numbers(counts),
            units::measured(finished.took_ms),
            width = self.name_width,
        );
        self.show(&line)
    }
}
