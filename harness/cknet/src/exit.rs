//! Owns the exit codes of `cknet run` and which of them wins. It must not know how to leave the process.

use std::process;

use crate::event::{CleanupState, Counts, Interrupt, Summary};

/// What the process says when it ends. The numbers are published and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All that was selected held, expected failures included.
    Passed = 0,
    /// At least one expectation was refuted.
    Refuted = 1,
    /// Wrong use, or an invalid scenario.
    Usage = 2,
    /// The infrastructure failed, or a report could not be written, and nothing was disproved.
    Infrastructure = 3,
    /// Nothing was checked: nothing was selected, or all of it was skipped.
    NothingChecked = 4,
    /// All held, but the clean-up failed or something was left behind.
    Leaked = 5,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM, or SIGHUP: a terminal that went away also asks for an end.
    Terminated = 143,
}

/// What the caller adds to the numbers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitPolicy {
    /// `--flaky=fail`.
    pub flaky_fails: bool,
    /// A report could not be written in full.
    pub reports_failed: bool,
}

impl ExitCode {
    /// The code for a finished run. An interruption wins over all, since the verdicts are not complete;
    /// then a refutation, broken infrastructure, nothing checked, a leak.
    pub fn from_summary(summary: &Summary, policy: ExitPolicy) -> Self {
        if let Some(interrupt) = summary.interrupted {
            return interrupt.into();
        }
        let counts = summary.counts;
        if refuted(counts, policy) {
            Self::Refuted
        } else if policy.reports_failed || broken(summary) {
            Self::Infrastructure
        } else if counts.judged() == 0 {
            Self::NothingChecked
        } else if matches!(summary.cleanup, CleanupState::Leaked { .. }) {
            Self::Leaked
        } else {
            Self::Passed
        }
    }

    /// The code with this number, if it is one of ours.
    pub fn of(number: u8) -> Option<Self> {
        const ALL: [ExitCode; 8] = [
            ExitCode::Passed,
            ExitCode::Refuted,
            ExitCode::Usage,
            ExitCode::Infrastructure,
            ExitCode::NothingChecked,
            ExitCode::Leaked,
            ExitCode::Interrupted,
            ExitCode::Terminated,
        ];
        ALL.into_iter().find(|code| code.code() == number)
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

fn refuted(counts: Counts, policy: ExitPolicy) -> bool {
    counts.failed > 0 || counts.xpassed > 0 || (policy.flaky_fails && counts.flaky > 0)
}

fn broken(summary: &Summary) -> bool {
    summary.counts.errors > 0 || summary.counts.aborted > 0 || summary.clusters_failed > 0
}

impl From<Interrupt> for ExitCode {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Int => Self::Interrupted,
            Interrupt::Term | Interrupt::Hup => Self::Terminated,
        }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    const LENIENT: ExitPolicy = ExitPolicy { flaky_fails: false, reports_failed: false };

    fn counts(edit: impl FnOnce(&mut Counts)) -> Counts {
        let mut counts = Counts { passed: 3, ..Counts::default() };
        edit(&mut counts);
        counts
    }

    #[rstest]
    #[case::all_passed(counts(|_| {}), 0)]
    #[case::an_expected_failure_is_fine(counts(|c| c.xfailed = 2), 0)]
    #[case::only_expected_failures(counts(|c| { c.passed = 0; c.xfailed = 2 }), 0)]
    #[case::some_skipped(counts(|c| c.skipped = 2), 0)]
    #[case::flaky_is_let_pass(counts(|c| c.flaky = 1), 0)]
    #[case::failed(counts(|c| c.failed = 1), 1)]
    #[case::passed_unexpectedly(counts(|c| c.xpassed = 1), 1)]
    #[case::refuted_wins_over_infrastructure(counts(|c| { c.failed = 1; c.errors = 9; c.aborted = 1 }), 1)]
    #[case::errors(counts(|c| c.errors = 1), 3)]
    #[case::aborted(counts(|c| c.aborted = 1), 3)]
    #[case::errors_win_over_nothing(counts(|c| { c.passed = 0; c.errors = 1 }), 3)]
    #[case::nothing(counts(|c| c.passed = 0), 4)]
    #[case::all_skipped(counts(|c| { c.passed = 0; c.skipped = 4 }), 4)]
    fn by_counts(#[case] counts: Counts, #[case] code: u8) {
        let mut summary = Summary { counts, cleanup: CleanupState::Clean, ..Summary::default() };
        assert_eq!(ExitCode::from_summary(&summary, LENIENT).code(), code);

        summary.cleanup = CleanupState::Leaked { resources: 1 };
        let with_leak = if code == 0 { 5 } else { code };
        assert_eq!(ExitCode::from_summary(&summary, LENIENT).code(), with_leak, "a leak only replaces 0");

        for (interrupt, code) in [(Interrupt::Int, 130), (Interrupt::Term, 143), (Interrupt::Hup, 143)] {
            summary.interrupted = Some(interrupt);
            assert_eq!(ExitCode::from_summary(&summary, LENIENT).code(), code);
        }
    }

    #[test]
    fn flaky_fails_when_told_so() {
        let summary = Summary { counts: counts(|c| c.flaky = 1), ..Summary::default() };
        let strict = ExitPolicy { flaky_fails: true, ..LENIENT };
        assert_eq!(ExitCode::from_summary(&summary, strict), ExitCode::Refuted);
    }

    #[test]
    fn a_lost_report_is_never_a_success_and_never_hides_a_refutation() {
        let lost = ExitPolicy { reports_failed: true, ..LENIENT };
        let mut summary = Summary { counts: counts(|_| {}), ..Summary::default() };
        assert_eq!(ExitCode::from_summary(&summary, lost), ExitCode::Infrastructure);
        summary.counts.failed = 1;
        assert_eq!(ExitCode::from_summary(&summary, lost), ExitCode::Refuted);
    }

    #[test]
    fn a_cluster_that_never_came_up_is_infrastructure() {
        let summary = Summary { clusters_failed: 1, counts: counts(|_| {}), ..Summary::default() };
        assert_eq!(ExitCode::from_summary(&summary, LENIENT), ExitCode::Infrastructure);
    }

    #[test]
    fn a_kept_cluster_is_no_leak() {
        let cleanup = CleanupState::Kept { later: "cknet gc".into() };
        let summary = Summary { counts: counts(|_| {}), cleanup, ..Summary::default() };
        assert_eq!(ExitCode::from_summary(&summary, LENIENT), ExitCode::Passed);
    }
}
