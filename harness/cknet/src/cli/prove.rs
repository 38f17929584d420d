//! `cknet prove`: a check that cannot fail is a defect, so every sabotage has to turn its expectation red.

use std::sync::{Arc, Mutex, PoisonError};

use super::interrupt::Interrupts;
use super::run::{Job, Workshop, processors};
use super::{Selection, complain, print, suite};
use crate::event::{Event, Standing, What};
use crate::exit::ExitCode;
use crate::plan::plan;
use crate::plan::sabotage::{changes_the_network, sabotaged};
use crate::report::{Fanout, ReportError, Reporter};
use crate::run::Sink;
use crate::scenario::Scenario;
use crate::scenario::model::Sabotage;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
}

/// What became of a sabotage.
enum Fate {
    /// The named expectation failed.
    Killed,
    /// It held although it had to fail.
    Survived,
    /// It could not be judged.
    NotJudged(&'static str),
}

pub async fn prove(options: Options) -> ExitCode {
    let scenarios = match suite::read(&options.selection, "reference") {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return complain(ExitCode::Infrastructure, &format!("cannot listen for signals: {error}")),
    };
    let mut rows = vec![["SABOTAGE".to_string(), "MUST FAIL".into(), "RESULT".into()]];
    let (mut killed, mut total) = (0, 0);
    for scenario in &scenarios {
        for sabotage in &scenario.sabotage {
            let fate = match one(scenario, sabotage, &interrupts).await {
                Ok(fate) => fate,
                Err(problem) => return complain(ExitCode::Infrastructure, &problem),
            };
            if let Some(interrupt) = interrupts.which() {
                return interrupt.into();
            }
            total += 1;
            killed += usize::from(matches!(fate, Fate::Killed));
            let result = match fate {
                Fate::Killed => "killed".to_string(),
                Fate::Survived => "SURVIVED".to_string(),
                Fate::NotJudged(standing) => format!("NOT JUDGED ({standing})"),
            };
            super::note(&format!("{}/{}: {result}", scenario.id(), sabotage.id));
            rows.push([format!("{}/{}", scenario.id(), sabotage.id), sabotage.must_fail.to_string(), result]);
        }
    }
    let code = print(&format!("{}{killed} of {total} sabotages killed\n", table(&rows)));
    match code {
        ExitCode::Passed if total == 0 => complain(ExitCode::NothingChecked, "the selected scenarios have no sabotage"),
        ExitCode::Passed if killed < total => ExitCode::Refuted,
        code => code,
    }
}

/// Runs a scenario with one sabotage and finds the verdict on the expectation that has to fail.
async fn one(scenario: &Scenario, sabotage: &Sabotage, interrupts: &Interrupts) -> Result<Fate, String> {
    let workshop = Workshop::open()?;
    let plan = plan(vec![sabotaged(scenario, sabotage)], 0, &workshop.offer()).map_err(|error| error.to_string())?;
    let verdict = Arc::new(Mutex::new(None));
    let mut reporters = Fanout::default();
    let case = format!("{}/{}", scenario.id(), sabotage.must_fail);
    reporters.add(Listener { case, verdict: verdict.clone() });
    let sink = Arc::new(Sink::new(reporters));
    let job = Job { sink, clusters: processors(), keep: false, expect_broken: changes_the_network(sabotage) };
    workshop.carry_out(plan, job, interrupts).await;
    workshop.close();
    let standing = *verdict.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match standing {
        Some(Standing::Fail) => Fate::Killed,
        Some(Standing::Pass) => Fate::Survived,
        Some(other) => Fate::NotJudged(other.as_str()),
        None => Fate::NotJudged("never reached"),
    })
}

/// Listens for the verdict on one case.
struct Listener {
    case: String,
    verdict: Arc<Mutex<Option<Standing>>>,
}

impl Reporter for Listener {
    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        if let What::ExpectationJudged(judged) = &event.what
            && judged.case.id.0 == self.case
        {
            *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(judged.outcome.standing());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReportError> {
        Ok(())
    }
}

/// Rows in columns, two spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
