//! Owns what the reports written as whole files have heard so far, in the order of the plan. It must not know their
//! formats.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::event::{
    Case, CaseId, Cleanup, ClusterFailed, ClusterReady, Event, ExpectationJudged, RunStarted, Summary, Waits, What,
};

/// All that was heard.
#[derive(Debug, Default)]
pub struct Gathered {
    started: Option<(Timestamp, Box<RunStarted>)>,
    latest: Option<Timestamp>,
    pub scenarios: Vec<Scenario>,
    /// By name of the topology.
    pub clusters: BTreeMap<String, Cluster>,
    pub cleanup: Option<Cleanup>,
    pub summary: Option<Summary>,
}

/// What was done in a scenario.
#[derive(Debug)]
pub enum Course {
    Phase(String),
    Step { text: String, took_ms: u64, failed: Option<String> },
}

/// One scenario, run or not.
#[derive(Debug)]
pub struct Scenario {
    pub id: String,
    pub file: String,
    pub started: Option<Timestamp>,
    pub took_ms: Option<u64>,
    pub waits: Option<Waits>,
    pub title: String,
    /// Phases that began and steps that were done, in words.
    pub course: Vec<Course>,
    pub cases: Vec<Heard>,
}

/// A case and its verdict, if it has one by now.
#[derive(Debug)]
pub struct Heard {
    pub case: Case,
    pub judged: Option<Box<ExpectationJudged>>,
}

/// How far a cluster got.
#[derive(Debug)]
pub enum Cluster {
    Acquiring,
    Ready(ClusterReady),
    Failed(ClusterFailed),
}

impl Gathered {
    /// Takes one event into account.
    pub fn record(&mut self, event: &Event) {
        self.latest = self.latest.max(Some(event.at));
        match &event.what {
            What::RunStarted(run) => self.plan(event.at, run),
            What::ClusterAcquiring(cluster) => {
                self.clusters.insert(cluster.cluster.clone(), Cluster::Acquiring);
            }
            What::ClusterReady(ready) => {
                self.clusters.insert(ready.cluster.clone(), Cluster::Ready(ready.clone()));
            }
            What::ClusterFailed(failed) => {
                self.clusters.insert(failed.cluster.clone(), Cluster::Failed(failed.clone()));
            }
            What::ScenarioStarted(started) => {
                if let Some(scenario) = self.find(&started.scenario) {
                    scenario.started = Some(event.at);
                }
            }
            What::ExpectationJudged(judged) => self.judge(judged),
            What::ScenarioFinished(finished) => {
                if let Some(scenario) = self.find(&finished.scenario) {
                    scenario.took_ms = Some(finished.took_ms);
                    scenario.waits = finished.waits;
                }
            }
            What::Cleanup(cleanup) => self.cleanup = Some(cleanup.clone()),
            What::PhaseStarted(phase) => self.went(&phase.scenario, Course::Phase(phase.phase.clone())),
            What::StepDone(step) => {
                self.went(
                    &step.scenario,
                    Course::Step { text: step.text.clone(), took_ms: step.took_ms, failed: None },
                );
            }
            What::StepFailed(step) => {
                let failed = Some(step.message.clone());
                self.went(&step.scenario, Course::Step { text: step.text.clone(), took_ms: step.took_ms, failed });
            }
            What::RunFinished(finished) => self.summary = Some(finished.summary.clone()),
            What::FlipsJudged(_) | What::MachinesBroken(_) => {}
        }
    }

    fn went(&mut self, scenario: &str, course: Course) {
        if let Some(scenario) = self.find(scenario) {
            scenario.course.push(course);
        }
    }

    /// The run, once it has started.
    pub fn run(&self) -> Option<&RunStarted> {
        self.started.as_ref().map(|(_, run)| &**run)
    }

    /// When the run started.
    pub fn started_at(&self) -> Timestamp {
        self.started.as_ref().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at)
    }

    /// Milliseconds from the start to the latest event.
    pub fn took_ms(&self) -> u64 {
        let took = self.latest.map_or(0, |latest| latest.duration_since(self.started_at()).as_millis());
        u64::try_from(took).unwrap_or(0)
    }

    fn plan(&mut self, at: Timestamp, run: &RunStarted) {
        for planned in &run.planned {
            self.scenarios.push(Scenario {
                id: planned.id.clone(),
                file: planned.file.clone(),
                started: None,
                took_ms: None,
                waits: None,
                title: planned.title.clone(),
                course: Vec::new(),
                cases: planned.cases.iter().map(|case| Heard { case: case.clone(), judged: None }).collect(),
            });
        }
        self.started = Some((at, Box::new(run.clone())));
    }

    fn find(&mut self, id: &str) -> Option<&mut Scenario> {
        self.scenarios.iter_mut().find(|scenario| scenario.id == id)
    }

    /// A case that was not in the plan, such as a deselected one, is put behind those that were.
    fn judge(&mut self, judged: &ExpectationJudged) {
        let case = &judged.case;
        let place = self.scenarios.iter().position(|scenario| scenario.id == case.scenario);
        let place = place.unwrap_or_else(|| {
            self.scenarios.push(Scenario {
                id: case.scenario.clone(),
                file: case.file.clone(),
                started: None,
                took_ms: None,
                waits: None,
                title: String::new(),
                course: Vec::new(),
                cases: Vec::new(),
            });
            self.scenarios.len() - 1
        });
        let cases = &mut self.scenarios[place].cases;
        let verdict = Some(Box::new(judged.clone()));
        match find_case(cases, &case.id) {
            Some(heard) => heard.judged = verdict,
            None => cases.push(Heard { case: case.clone(), judged: verdict }),
        }
    }
}

fn find_case<'a>(cases: &'a mut [Heard], id: &CaseId) -> Option<&'a mut Heard> {
    cases.iter_mut().find(|heard| heard.case.id == *id)
}
