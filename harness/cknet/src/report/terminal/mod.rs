//! Owns what a person sees while a run goes on: results and the summary on one stream, progress on the other. It
//! must not know JUnit, nor whether its streams show colour: it always writes styles, the stream drops them.

mod progress;
mod results;
mod style;
mod summary;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::PathBuf;

use indicatif::ProgressBar;

use super::failure::{self, Fact};
use super::{ReportError, Reporter, clean, units};
use crate::event::{Counts, Event, ExpectationJudged, RunStarted, What};
use crate::exit::ExitPolicy;
pub(super) use style::Style;
use summary::Notes;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// What went wrong, and the sum.
    Quiet,
    #[default]
    Normal,
    /// Also every step and every case.
    Verbose,
}

/// How it is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct TerminalOptions {
    pub verbosity: Verbosity,
    /// By which the last word is chosen; the exit code follows the same rule.
    pub policy: ExitPolicy,
}

/// Writes for a person.
pub struct Terminal<O, E> {
    results: O,
    progress: E,
    /// Hidden where there is no terminal; then each change is a plain line instead.
    bar: ProgressBar,
    options: TerminalOptions,
    run: Option<Box<RunStarted>>,
    /// Scenarios that are under way; several may be, on different clusters.
    under_way: BTreeMap<String, Counts>,
    notes: Notes,
    /// Errors already shown in full: one broken cluster is the error of all its cases.
    told: HashSet<String>,
    name_width: usize,
}

impl Terminal<anstream::Stdout, anstream::Stderr> {
    /// On standard output and error; colours and the progress line only where a terminal shows them, and as
    /// `NO_COLOR`, `CLICOLOR` and `TERM` say.
    pub fn stdio(options: TerminalOptions) -> Self {
        Self::new(anstream::stdout(), anstream::stderr(), ProgressBar::new(0), options)
    }
}

impl<O: Write, E: Write> Terminal<O, E> {
    /// Results to `results`, the rest to `progress`. With a bar that is not hidden the rest goes to the bar.
    pub fn new(results: O, progress: E, bar: ProgressBar, options: TerminalOptions) -> Self {
        progress::dress(&bar);
        Self {
            results,
            progress,
            bar,
            options,
            run: None,
            under_way: BTreeMap::new(),
            notes: Notes::default(),
            told: HashSet::new(),
            name_width: 0,
        }
    }

    /// Whether nothing but trouble is to be told.
    fn is_quiet(&self) -> bool {
        self.options.verbosity == Verbosity::Quiet
    }

    fn is_verbose(&self) -> bool {
        self.options.verbosity == Verbosity::Verbose
    }

    /// Writes results; the bar steps aside meanwhile.
    fn show(&mut self, text: &str) -> io::Result<()> {
        let results = &mut self.results;
        self.bar.suspend(|| writeln!(results, "{text}").and_then(|()| results.flush()))
    }

    /// Says that something changed, unless the bar says so.
    fn mention(&mut self, text: &str) -> io::Result<()> {
        if self.is_quiet() {
            return Ok(());
        }
        if !self.bar.is_hidden() {
            self.bar.set_message(clean::line(text));
            if !self.is_verbose() {
                return Ok(());
            }
        }
        let progress = &mut self.progress;
        self.bar.suspend(|| writeln!(progress, "{}", clean::text(text)).and_then(|()| progress.flush()))
    }

    /// A headline with labelled lines under it.
    fn show_block(&mut self, style: Style, word: &str, headline: &str, facts: &[Fact]) -> io::Result<()> {
        let mut block = format!("{} {headline}", style.paint(word));
        for fact in facts {
            block.push('\n');
            block.push_str(&Style::Label.paint(&fact.margin()));
            block.push_str(&fact.body());
        }
        self.show(&block)
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        match &event.what {
            What::RunStarted(run) => self.start(run),
            What::ClusterAcquiring(cluster) => {
                let nodes = u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX);
                self.mention(&format!("cluster {}: making {}", cluster.cluster, units::counted(nodes, "node")))
            }
            What::ClusterReady(ready) => {
                let took = units::measured(ready.provision_ms.saturating_add(ready.bootstrap_ms));
                let how = if ready.restored { ", on the machines of the one before" } else { "" };
                self.mention(&format!("cluster {}: ready after {took}{how}", ready.cluster))
            }
            What::MachinesBroken(broken) => self.mention(&format!(
                "cluster {}: its machines cannot be put back, new ones are made: {}",
                broken.cluster, broken.message
            )),
            What::ClusterFailed(failed) => self.cluster_failed(failed),
            What::ScenarioStarted(started) => {
                self.under_way.insert(started.scenario.clone(), Counts::default());
                self.mention(&format!("scenario {}: {}", started.scenario, started.title))
            }
            What::PhaseStarted(phase) => self.mention_detail(&format!("{} › {}", phase.scenario, phase.phase)),
            What::StepDone(step) => {
                let took = units::measured(step.took_ms);
                self.mention_detail(&format!("  step {}  {}  {took}", step.step, step.text))
            }
            What::StepFailed(step) => self.step_failed(step),
            What::ExpectationJudged(judged) => self.judge(judged),
            // Told by the command that asks for flips.
            What::FlipsJudged(_) => Ok(()),
            What::ScenarioFinished(finished) => self.scenario_finished(finished),
            What::Cleanup(cleanup) => {
                self.notes.cleaned_up(cleanup);
                self.mention(&format!("clean-up: {}", units::measured(cleanup.took_ms)))
            }
            What::RunFinished(finished) => {
                self.bar.finish_and_clear();
                let run = self.run.as_deref();
                let text = summary::text(run, &finished.summary, &self.notes, self.options);
                self.show(&text)
            }
        }
    }

    fn start(&mut self, run: &RunStarted) -> io::Result<()> {
        let cases = u32::try_from(run.planned_cases()).unwrap_or(u32::MAX);
        let scenarios = u32::try_from(run.planned.len()).unwrap_or(u32::MAX);
        self.name_width = run.planned.iter().map(|scenario| scenario.id.chars().count()).max().unwrap_or(0).min(60);
        self.bar.set_length(u64::from(cases));
        self.run = Some(Box::new(run.clone()));
        self.mention(&format!(
            "run {}: {} in {}, {} on {}, fidelity {}, seed {}",
            run.run,
            units::counted(cases, "case"),
            units::counted(scenarios, "scenario"),
            run.distribution,
            run.provider,
            run.fidelity.as_str(),
            run.seed,
        ))
    }

    fn mention_detail(&mut self, text: &str) -> io::Result<()> {
        if self.is_verbose() { self.mention(text) } else { Ok(()) }
    }

    fn judge(&mut self, judged: &ExpectationJudged) -> io::Result<()> {
        self.bar.inc(1);
        self.notes.judged(judged);
        let standing = judged.outcome.standing();
        self.under_way.entry(judged.case.scenario.clone()).or_default().add(standing);
        let headline = failure::headline(&judged.case);
        let style = Style::of(standing);
        match results::facts(judged, &mut self.told) {
            Some(facts) if !self.is_quiet() || results::is_trouble(standing) => {
                self.show_block(style, results::word(standing), &headline, &facts)
            }
            None if self.is_verbose() => {
                let line = format!("  {} {}", style.paint(results::word(standing)), results::line(judged));
                self.show(&line)
            }
            _ => Ok(()),
        }
    }
}

impl<O: Write, E: Write> Reporter for Terminal<O, E> {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        if let What::ExpectationJudged(judged) = &event.what
            && !judged.outcome.is_selected()
        {
            return Ok(());
        }
        self.tell(event).map_err(stream_error)
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        self.bar.finish_and_clear();
        self.results.flush().and_then(|()| self.progress.flush()).map_err(stream_error)
    }
}

fn stream_error(source: io::Error) -> ReportError {
    ReportError { report: "terminal", action: "write", path: PathBuf::from("standard output"), source }
}
