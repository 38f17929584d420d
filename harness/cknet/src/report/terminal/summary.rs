//! Owns the end of the report to a person: what the document gets wrong, what did not run and how it would, what
//! took long, what the result may be quoted for, and how to do it again.

use std::collections::BTreeMap;

use super::results::numbers;
use super::style::Style;
use super::{TerminalOptions, Verbosity, clean, failure, units};
use crate::event::{
    Claim, Cleanup, CleanupState, ClusterFailed, ExpectationJudged, Leak, Outcome, RunStarted, ScenarioFinished,
    Standing, Summary, Waits,
};
use crate::exit::ExitCode;

/// How many slow scenarios are named.
const SLOWEST: usize = 5;

/// What is kept for the end.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// By claim: what refutes it.
    refuted: BTreeMap<(String, String), (Claim, Vec<String>)>,
    /// Titles of cases that need a look, by standing.
    troubled: BTreeMap<Standing, Vec<String>>,
    /// How many cases were skipped, by reason and by what would make them run.
    skipped: BTreeMap<(String, Option<String>), u32>,
    /// Clusters that could not be made, and why.
    clusters: Vec<String>,
    times: Vec<(u64, String, Option<Waits>)>,
    leaks: Vec<String>,
}

impl Notes {
    pub(super) fn judged(&mut self, judged: &ExpectationJudged) {
        let title = failure::headline(&judged.case);
        match (&judged.outcome, &judged.case.claim) {
            (Outcome::Fail { .. }, Some(claim)) if !claim.refutes => {
                self.refute(claim, format!("refuted by {title}"));
            }
            (Outcome::XFail { reason, reference }, Some(claim)) if !claim.refutes => {
                let known = reference.as_ref().map_or(reason.clone(), |reference| format!("{reason} ({reference})"));
                self.refute(claim, format!("refuted as expected by {title}: {known}"));
            }
            (Outcome::Pass | Outcome::Flaky { .. }, Some(claim)) if claim.refutes => {
                self.refute(claim, format!("refuted by {title}, which holds"));
            }
            (Outcome::Skipped { reason, enable, .. }, _) => {
                *self.skipped.entry((reason.clone(), enable.clone())).or_default() += 1;
            }
            _ => {}
        }
        let standing = judged.outcome.standing();
        if standing >= Standing::Flaky {
            self.troubled.entry(standing).or_default().push(title);
        }
    }

    fn refute(&mut self, claim: &Claim, how: String) {
        let key = (claim.docs.clone(), claim.id.clone());
        self.refuted.entry(key).or_insert_with(|| (claim.clone(), Vec::new())).1.push(how);
    }

    pub(super) fn scenario_took(&mut self, finished: &ScenarioFinished) {
        // What was skipped took no time.
        if finished.took_ms > 0 {
            self.times.push((finished.took_ms, finished.scenario.clone(), finished.waits));
        }
    }

    pub(super) fn cluster_failed(&mut self, failed: &ClusterFailed) {
        self.clusters.push(format!("{}: {}: {}", failed.cluster, failed.kind, failed.message));
    }

    pub(super) fn cleaned_up(&mut self, cleanup: &Cleanup) {
        let line = |leak: &Leak| format!("{} {}: {}", leak.kind, leak.name, leak.message);
        self.leaks.extend(cleanup.leaks.iter().map(line));
    }
}

/// The whole summary.
pub(super) fn text(run: Option<&RunStarted>, summary: &Summary, notes: &Notes, options: TerminalOptions) -> String {
    let mut page = Page::default();
    if options.verbosity > Verbosity::Quiet {
        troubled(&mut page, notes);
        clusters(&mut page, notes);
    }
    documentation(&mut page, notes);
    if options.verbosity > Verbosity::Quiet {
        skipped(&mut page, notes);
        slowest(&mut page, notes);
    }
    left_behind(&mut page, summary, notes);
    page.lines.push(String::new());
    last_word(&mut page, summary, options);
    closing(&mut page, run, summary);
    page.lines.join("\n")
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    fn heading(&mut self, text: &str) {
        self.lines.push(String::new());
        self.lines.push(Style::Heading.paint(text));
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.lines.push(format!("{:indent$}{}", "", clean::line(text)));
    }

    fn labelled(&mut self, label: &str, text: &str) {
        let label = Style::Label.paint(&format!("{label:10}"));
        self.lines.push(format!("{label}{}", clean::line(text)));
    }
}

fn troubled(page: &mut Page, notes: &Notes) {
    for (standing, titles) in notes.troubled.iter().rev() {
        page.heading(match standing {
            Standing::Fail => "refuted",
            Standing::XPass => "passed, though expected to fail",
            Standing::Error => "errors: nothing proved or disproved",
            Standing::Aborted => "aborted",
            _ => "flaky: passed, but not at the first try",
        });
        for title in titles {
            page.line(2, title);
        }
    }
}

fn clusters(page: &mut Page, notes: &Notes) {
    if notes.clusters.is_empty() {
        return;
    }
    page.heading("clusters not made");
    for cluster in &notes.clusters {
        page.line(2, cluster);
    }
}

fn documentation(page: &mut Page, notes: &Notes) {
    if notes.refuted.is_empty() {
        return;
    }
    page.heading("documentation to correct");
    for (claim, cases) in notes.refuted.values() {
        page.line(2, &claim.docs);
        page.line(4, &format!("{}: {}", claim.id, claim.text));
        for case in cases {
            page.line(6, case);
        }
        if let Some(instead) = &claim.instead {
            let reference = claim.reference.as_ref().map_or(String::new(), |reference| format!(" ({reference})"));
            page.line(6, &format!("instead: {instead}{reference}"));
        }
    }
}

fn skipped(page: &mut Page, notes: &Notes) {
    if notes.skipped.is_empty() {
        return;
    }
    page.heading("skipped");
    for ((reason, enable), number) in &notes.skipped {
        page.line(2, &format!("{}: {reason}", units::counted(*number, "case")));
        if let Some(enable) = enable {
            page.line(4, &format!("to run: {enable}"));
        }
    }
}

fn slowest(page: &mut Page, notes: &Notes) {
    // With fewer scenarios than places every one would be named, which says nothing.
    if notes.times.len() < 2 {
        return;
    }
    let mut times: Vec<_> = notes.times.iter().collect();
    times.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    page.heading("slowest");
    for (took_ms, scenario, waits) in times.into_iter().take(SLOWEST) {
        let silence = waits.map_or(String::new(), |waits| {
            format!("  {} % of it waiting for silence", waits.silence_ms.saturating_mul(100) / took_ms)
        });
        page.line(2, &format!("{scenario}  {}{silence}", units::measured(*took_ms)));
    }
}

fn left_behind(page: &mut Page, summary: &Summary, notes: &Notes) {
    match &summary.cleanup {
        CleanupState::Leaked { .. } => {
            page.heading("left behind");
            for leak in &notes.leaks {
                page.line(2, leak);
            }
            page.line(2, "to take it down: cknet gc");
        }
        CleanupState::Kept { later } => {
            page.heading("kept");
            page.line(2, &format!("to take it down: {later}"));
        }
        CleanupState::NotReached | CleanupState::Clean => {}
    }
}

fn last_word(page: &mut Page, summary: &Summary, options: TerminalOptions) {
    let (style, word) = match ExitCode::from_summary(summary, options.policy) {
        ExitCode::Passed => (Style::Good, "PASSED"),
        ExitCode::Refuted => (Style::Bad, "FAILED"),
        ExitCode::Infrastructure => (Style::Doubtful, "BROKEN"),
        ExitCode::NothingChecked => (Style::Doubtful, "NOTHING CHECKED"),
        ExitCode::Leaked => (Style::Doubtful, "LEAKED"),
        ExitCode::Interrupted | ExitCode::Terminated => (Style::Doubtful, "INTERRUPTED"),
        ExitCode::Usage => (Style::Bad, "INVALID"),
    };
    page.lines.push(format!(
        "{}  {} in {}: {}  {}",
        style.paint(word),
        units::counted(summary.counts.total(), "case"),
        units::counted(summary.scenarios, "scenario"),
        numbers(summary.counts),
        units::measured(summary.took_ms),
    ));
}

fn closing(page: &mut Page, run: Option<&RunStarted>, summary: &Summary) {
    if let Some(merit) = summary.merit() {
        let unavoidable = units::measured(summary.unavoidable_ms);
        page.labelled("merit", &format!("{merit:.2}: the time of the run over {unavoidable} of unavoidable waits"));
    }
    if let Some(run) = run {
        let fidelity = run.fidelity;
        page.labelled("fidelity", &format!("{}: {}", fidelity.as_str(), fidelity.statement(&run.distribution)));
        page.labelled("seed", &format!("{}      again: {}", run.seed, run.again.join(" ")));
    }
    for artifact in &summary.artifacts {
        page.labelled("report", &format!("{} {}", artifact.kind, artifact.path));
    }
}
