//! `cknet run`: the main job. Reads and checks the scenarios, and runs them once or again and again.

mod options;
mod reports;
mod started;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::options::{Manner, Options};
use self::reports::artifact;
use self::started::started;
use super::interrupt::Interrupts;
use super::place::There;
use super::repeat::{FailFast, Repetitions};
use super::suite::Documents;
use super::workshop::{Job, Workshop, telling};
use super::{complain, keep, note, print, suite};
use crate::distribution::Distribution;
use crate::event::Summary;
use crate::exit::{ExitCode, ExitPolicy};
use crate::plan::plan;
use crate::report::ReportError;
use crate::run::{Archive, Kept, Sink};
use crate::scenario::Scenario;

pub async fn run(options: Options) -> ExitCode {
    // Of all that is said about a distribution, a cluster that is there has use for its image alone.
    let installed = options.product.installed();
    if let (true, Some(flag)) = (options.place.is_present(), installed.first()) {
        let problem = format!("`{flag}` says what is installed, and nothing is with `--kubeconfig`");
        return complain(ExitCode::Usage, &problem);
    }
    let there = match options.place.there(options.product.probe_image()).await {
        Ok(there) => there,
        Err(error) => return complain(error.code(), &error.to_string()),
    };
    let distribution = match there.cluster() {
        Some(present) => Ok(present.clone() as Arc<dyn Distribution>),
        None => options.product.distribution(telling()),
    };
    let distribution = match distribution {
        Ok(distribution) => distribution,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let premises = distribution.premises().cloned();
    let read = suite::read_with_documents(&options.selection, distribution.profile(), premises);
    let (mut scenarios, documents) = match read {
        Ok(read) => read,
        Err(code) => return code,
    };
    if scenarios.is_empty() {
        return complain(ExitCode::NothingChecked, "no scenario was selected");
    }
    if let Some(partition) = options.partition {
        scenarios.retain(|scenario| partition.takes(scenario));
        if scenarios.is_empty() {
            return complain(ExitCode::NothingChecked, &format!("no selected scenario is in the share `{partition}`"));
        }
    }
    let seed = options.manner.seed.unwrap_or_else(seed_of_clock);
    keep::remind();
    // Before anything is made: a signal from now on finds somebody who takes it down.
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return complain(ExitCode::Infrastructure, &format!("cannot listen for signals: {error}")),
    };
    let once = Once {
        options: &options,
        there,
        distribution,
        scenarios: &scenarios,
        documents: &documents,
        interrupts: &interrupts,
    };
    let Some(times) = options.manner.repeat else {
        return once.carry_out(seed, None, None).await;
    };
    let repetitions = Repetitions::default();
    for number in 0..times {
        let seed = seed.wrapping_add(u64::from(number));
        note(&format!("repetition {} of {times}, seed {seed}", number + 1));
        let code = once.carry_out(seed, Some(number + 1), Some(&repetitions)).await;
        repetitions.done(seed, code);
        if interrupts.which().is_some() || options.manner.fail_fast && code != ExitCode::Passed {
            break;
        }
    }
    match print(&repetitions.text()) {
        ExitCode::Passed => repetitions.code(),
        code => code,
    }
}

/// What each repetition has in common.
struct Once<'a> {
    options: &'a Options,
    /// What was there before the run.
    there: There,
    distribution: Arc<dyn Distribution>,
    scenarios: &'a [Scenario],
    documents: &'a Documents,
    interrupts: &'a Interrupts,
}

impl Once<'_> {
    /// One run from beginning to end.
    async fn carry_out(&self, seed: u64, number: Option<u32>, repetitions: Option<&Repetitions>) -> ExitCode {
        let options = &self.options.manner;
        let shard = self.options.partition.map(|partition| partition.to_string());
        let workshop = match Workshop::open_with(self.distribution.clone(), &self.options.place, &self.there) {
            Ok(workshop) => workshop,
            Err(code) => return code,
        };
        let plan = match plan(self.scenarios.to_vec(), seed, &workshop.offer()) {
            Ok(plan) => plan,
            Err(error) => {
                workshop.close();
                return complain(ExitCode::Usage, &error.to_string());
            }
        };
        let documents = self.documents.clone();
        let opened = options.reports.open(&workshop.ledger, number, documents, shard.as_deref());
        let (mut reporters, mut artifacts) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                workshop.close();
                return complain(ExitCode::Infrastructure, &error.to_string());
            }
        };
        let evidence = Arc::new(Archive::open(&options.reports.folder(&workshop.ledger, number)));
        let stop = self.interrupts.stop.child_token();
        if options.fail_fast {
            reporters.add(FailFast(stop.clone()));
        }
        if let Some(repetitions) = repetitions {
            reporters.add(repetitions.listener(seed));
        }
        let sink = Arc::new(Sink::new(reporters));
        sink.tell(started(&workshop, seed, self.scenarios, self.options));
        let job = Job {
            sink: sink.clone(),
            stop,
            // What is there already is there once.
            clusters: match self.there {
                There::Nothing => options.clusters.unwrap_or_else(|| workshop.at_once()),
                There::Cluster(..) | There::Hosts(_) => 1,
            },
            keep: options.keep.then(|| Kept { by: self.interrupts.stop.clone(), until: keep::until(options.keep_for) }),
            whole_within: true,
            evidence: Some(evidence.clone()),
        };
        workshop.carry_out(plan, job, self.interrupts).await;
        artifacts.extend(evidence.folder().map(|folder| artifact("evidence", &folder)));
        if let Some(problem) = evidence.problem() {
            note(&format!("error: evidence of failures could not be written: {problem}"));
        }
        let (summary, problems) = sink.finish(self.interrupts.which(), artifacts);
        workshop.close();
        conclude(&summary, &problems)
    }
}

/// The exit code of a run; reports that could not be written are told.
fn conclude(summary: &Summary, problems: &[ReportError]) -> ExitCode {
    for problem in problems {
        note(&format!("error: {problem}"));
    }
    let policy = ExitPolicy { reports_failed: !problems.is_empty(), ..ExitPolicy::default() };
    ExitCode::from_summary(summary, policy)
}

/// A seed for runs that name none.
fn seed_of_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos())
}
