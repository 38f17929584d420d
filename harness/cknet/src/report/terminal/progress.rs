//! Owns the progress line and the lines on things that go wrong between cases. It must not know verdicts.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::style::Style;
use super::{Fact, Terminal, clean, failure, units};
use crate::event::{ClusterFailed, StepFailed};

/// Cases done, cases in all, time, and what is going on.
const TEMPLATE: &str = "[{elapsed_precise}] {bar:24} {pos}/{len} {wide_msg}";

/// Gives the bar its looks.
pub(super) fn dress(bar: &ProgressBar) {
    // A template that does not parse would only cost the looks; a test keeps that from happening.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("=> "));
    }
}

impl<O: Write, E: Write> Terminal<O, E> {
    pub(super) fn cluster_failed(&mut self, failed: &ClusterFailed) -> io::Result<()> {
        self.notes.cluster_failed(failed);
        self.told.insert(format!("{} {}", failed.kind, failed.message));
        let headline =
            format!("cluster {} not made, after {}", clean::line(&failed.cluster), units::measured(failed.took_ms));
        let mut facts = vec![Fact::new("error", format!("{}: {}", failed.kind, failed.message))];
        facts.extend(failed.evidence.iter().map(failure::evidence));
        self.show_block(Style::Doubtful, "ERROR", &headline, &facts)
    }

    pub(super) fn step_failed(&mut self, step: &StepFailed) -> io::Result<()> {
        let headline = clean::line(&format!("{} › {} › step {}", step.scenario, step.phase, step.step));
        let facts = [Fact::new("step", &step.text), Fact::new("error", &step.message)];
        self.show_block(Style::Doubtful, "ERROR", &headline, &facts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    #[test]
    fn the_template_is_valid() {
        indicatif::ProgressStyle::with_template(super::TEMPLATE).unwrap();
    }
}
