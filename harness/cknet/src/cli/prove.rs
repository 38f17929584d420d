//! `cknet prove`: a check that cannot fail is a defect, so every sabotage has to turn its expectation red, and the
//! opposite of every expectation has to be refuted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::interrupt::Interrupts;
use super::place::Machines;
use super::product::Product;
use super::workshop::{Job, Workshop, processors, telling};
use super::{Selection, complain, print, suite};
use crate::claims::{Verdicts, gaps};
use crate::distribution::Distribution;
use crate::event::{Case, Event, FlipsJudged, Outcome, Standing, What};
use crate::exit::ExitCode;
use crate::plan::proof;
use crate::report::{Fanout, ReportError, Reporter, in_short};
use crate::run::{Sink, planned};
use crate::scenario::Scenario;
use crate::scenario::model::Sabotage;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    product: Product,
    #[command(flatten)]
    machines: Machines,
    /// Give sabotaged expectations the whole `within` of the file; otherwise five times what they take without the
    /// sabotage, at least 1 s.
    #[arg(long)]
    whole_within: bool,
    /// How many clusters may exist at once; the number of processors unless given, for clusters of namespaces twice
    /// that, since most of the time is waiting.
    #[arg(long, value_name = "N")]
    clusters: Option<usize>,
    /// Name every opposite that was refuted.
    #[arg(short, long)]
    verbose: bool,
}

/// What became of an attempt to make an expectation fail.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The named expectation failed.
    Killed,
    /// It held although it had to fail.
    Survived,
    /// It held, and another one failed instead.
    WrongOne(String),
    /// It could not be judged, and why.
    NotJudged(String),
    /// The scenario cannot run here, and why.
    Skipped(String),
}

impl Fate {
    fn text(&self) -> String {
        match self {
            Self::Killed => "killed".into(),
            Self::Survived => "SURVIVED".into(),
            Self::WrongOne(other) => format!("WRONG EXPECTATION FAILED: {other}"),
            Self::NotJudged(why) => format!("NOT JUDGED: {why}"),
            Self::Skipped(why) => format!("skipped: {why}"),
        }
    }
}

/// A line of the table.
struct Row {
    attempt: String,
    must_fail: String,
    fate: Fate,
    /// How many opposites it stands for.
    weight: usize,
}

pub async fn prove(options: Options) -> ExitCode {
    let distribution = match options.product.distribution(telling()) {
        Ok(distribution) => distribution,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let (scenarios, documents) = match suite::read_with_documents(&options.selection, distribution.profile(), None) {
        Ok(read) => read,
        Err(code) => return code,
    };
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return complain(ExitCode::Infrastructure, &format!("cannot listen for signals: {error}")),
    };
    let seen = match carry_out(distribution, &scenarios, &options, &interrupts).await {
        Ok(seen) => seen,
        Err(code) => return code,
    };
    if let Some(interrupt) = interrupts.which() {
        return interrupt.into();
    }
    let rows: Vec<Row> = scenarios.iter().flat_map(|scenario| rows(scenario, &seen, options.verbose)).collect();
    let count = |wanted: fn(&Fate) -> bool| -> usize {
        rows.iter().filter(|row| wanted(&row.fate)).map(|row| row.weight).sum()
    };
    let (killed, skipped) = (count(|fate| *fate == Fate::Killed), count(|fate| matches!(fate, Fate::Skipped(_))));
    let total = count(|_| true) - skipped;
    let mut text = table(&rows);
    text.push_str(&format!("{killed} of {total} sabotages and opposites killed"));
    if skipped > 0 {
        text.push_str(&format!(", {skipped} skipped"));
    }
    text.push('\n');
    // A part of the suite need not cover the document.
    let gaps = if options.selection.filter.is_empty() {
        let cases: Vec<Case> = scenarios.iter().flat_map(|scenario| planned(scenario).cases).collect();
        gaps(&cases, &seen.verdicts, &documents)
    } else {
        Vec::new()
    };
    if !gaps.is_empty() {
        text.push_str("not covered:\n");
        text.extend(gaps.iter().map(|gap| format!("  {gap}\n")));
    }
    match print(&text) {
        ExitCode::Passed if total == 0 => complain(ExitCode::NothingChecked, "the selected scenarios have no sabotage"),
        ExitCode::Passed if killed < total || !gaps.is_empty() => ExitCode::Refuted,
        code => code,
    }
}

/// Carries out every scenario, as it is and with each sabotage; what was seen.
async fn carry_out(
    distribution: Arc<dyn Distribution>,
    scenarios: &[Scenario],
    options: &Options,
    interrupts: &Interrupts,
) -> Result<Seen, ExitCode> {
    let workshop = Workshop::open(distribution, &options.machines)?;
    let plan = proof(scenarios, &workshop.offer()).map_err(|error| {
        workshop.close();
        complain(ExitCode::Infrastructure, &error.to_string())
    })?;
    let most = if workshop.provider().gives_machines() { workshop.at_once() } else { 2 * processors() };
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let mut reporters = Fanout::default();
    reporters.add(Listener { seen: seen.clone() });
    let job = Job {
        sink: Arc::new(Sink::new(reporters)),
        stop: interrupts.stop.clone(),
        clusters: options.clusters.unwrap_or(most),
        keep: None,
        whole_within: options.whole_within,
        // Failing is what most of it is for.
        evidence: None,
    };
    workshop.carry_out(plan, job, interrupts).await;
    workshop.close();
    Ok(std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// What was told of all trials.
#[derive(Default)]
struct Seen {
    /// Verdicts by case; those with a sabotage under the sabotaged scenario's own name.
    verdicts: Verdicts,
    flips: BTreeMap<String, FlipsJudged>,
}

impl Seen {
    fn outcome(&self, case: &str) -> Option<&Outcome> {
        self.verdicts.of(&case.into()).map(|judged| &judged.outcome)
    }
}

/// All attempts on one scenario.
fn rows(scenario: &Scenario, seen: &Seen, verbose: bool) -> Vec<Row> {
    let sabotages = scenario.sabotage.iter().map(|sabotage| Row {
        attempt: format!("{}/{}", scenario.id(), sabotage.id),
        must_fail: sabotage.must_fail.to_string(),
        fate: fate(scenario, sabotage, seen),
        weight: 1,
    });
    let mut rows: Vec<Row> = sabotages.collect();
    for (phase, expectation) in scenario.expectations() {
        let case = scenario.case_id(phase, expectation);
        let must_fail = format!("{}/{}", phase.id, expectation.id);
        let row = |what: &str, fate, weight| Row {
            attempt: format!("{} {what}", scenario.id()),
            must_fail: must_fail.clone(),
            fate,
            weight,
        };
        // What does not hold as it stands is proof of nothing.
        if let Some(trouble) = seen.outcome(&case).and_then(trouble) {
            rows.push(row("without sabotage", Fate::NotJudged(trouble), 1));
        }
        let Some(flips) = seen.flips.get(&case) else { continue };
        if let Some(doubt) = &flips.doubt {
            rows.push(row("opposite", Fate::NotJudged(doubt.clone()), 1));
        }
        let (refuted, held): (Vec<_>, Vec<_>) = flips.flips.iter().partition(|flip| flip.refuted);
        for flip in held {
            rows.push(row(&format!("opposite: {} {}", flip.subject, flip.expected), Fate::Survived, 1));
        }
        if verbose {
            let named = refuted.iter().map(|flip| format!("opposite: {} {}", flip.subject, flip.expected));
            rows.extend(named.map(|what| row(&what, Fate::Killed, 1)));
        } else if let [flip] = refuted.as_slice() {
            rows.push(row(&format!("opposite: {}", flip.expected), Fate::Killed, 1));
        } else if !refuted.is_empty() {
            rows.push(row(&format!("opposites of {} flows", refuted.len()), Fate::Killed, refuted.len()));
        }
    }
    rows
}

/// What is wrong with a verdict on a scenario as it stands.
fn trouble(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Fail { failure, .. } => Some(format!("it fails: {}", in_short(failure))),
        Outcome::XPass { .. } => Some("it is expected to fail and holds".into()),
        Outcome::Error { kind, message } => Some(format!("{kind}: {message}")),
        Outcome::Aborted { reason } => Some(reason.clone()),
        Outcome::Pass | Outcome::Skipped { .. } | Outcome::XFail { .. } | Outcome::Flaky { .. } => None,
    }
}

/// What became of one sabotage.
fn fate(scenario: &Scenario, sabotage: &Sabotage, seen: &Seen) -> Fate {
    let case = format!("{}/{}", scenario.id(), sabotage.must_fail);
    let without = match seen.outcome(&case) {
        Some(Outcome::Skipped { reason, .. }) => return Fate::Skipped(reason.clone()),
        Some(outcome) => outcome.standing(),
        None => return Fate::NotJudged("the scenario was not carried out without it".into()),
    };
    if without != Standing::Pass {
        return Fate::NotJudged(format!("without it, the expectation is `{}`", without.as_str()));
    }
    let variant = format!("{}/", scenario.id().variant(&sabotage.id));
    let other = || {
        let names = scenario.expectations().map(|(phase, expectation)| format!("{}/{}", phase.id, expectation.id));
        let failed = |name: &String| {
            seen.outcome(&format!("{variant}{name}")).is_some_and(|outcome| outcome.standing() == Standing::Fail)
        };
        names.into_iter().find(failed)
    };
    match seen.outcome(&format!("{variant}{}", sabotage.must_fail)) {
        Some(Outcome::Fail { .. }) => Fate::Killed,
        Some(Outcome::Pass) => other().map_or(Fate::Survived, Fate::WrongOne),
        Some(Outcome::Error { message, .. }) => Fate::NotJudged(message.clone()),
        Some(other) => Fate::NotJudged(other.standing().as_str().to_string()),
        None => Fate::NotJudged("never reached".into()),
    }
}

/// Keeps what is told, and says which scenarios are done.
struct Listener {
    seen: Arc<Mutex<Seen>>,
}

impl Reporter for Listener {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.verdicts.record(event);
        match &event.what {
            What::FlipsJudged(judged) => {
                seen.flips.insert(judged.case.id.0.clone(), FlipsJudged::clone(judged));
            }
            What::ScenarioFinished(finished) => {
                super::note(&format!(
                    "{}  {}.{} s",
                    finished.scenario,
                    finished.took_ms / 1000,
                    finished.took_ms % 1000 / 100
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        Ok(())
    }
}

/// The rows in columns, two spaces apart; the last one is as long as it is.
fn table(rows: &[Row]) -> String {
    let header = ["SABOTAGE".to_string(), "MUST FAIL".into(), "RESULT".into()];
    let rows = rows.iter().map(|row| [row.attempt.clone(), row.must_fail.clone(), row.fate.text()]);
    let rows: Vec<[String; 3]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    rows.iter()
        .map(|[attempt, must_fail, result]| format!("{attempt:first$}  {must_fail:second$}  {result}\n"))
        .collect()
}
