//! One scenario on one cluster: its workloads, a positive control, its phases, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cknet_probe::wire::{Expect, Sight, Target};
use futures::stream::{FuturesUnordered, StreamExt};

use super::cases::{case, planned};
use super::evidence::OfPhase;
use super::expect::{Subject, deviation, flip, watch};
use super::stage::{Reuse, Stage, vantage_of};
use super::waits::Waiting;
use super::{Run, evidence, millis, reset, steps};
use crate::cluster::Cluster;
use crate::cluster::facts::RunFacts;
use crate::cluster::workloads::{self, PlacedPod};
use crate::event::{
    InfraKind, Outcome, PhaseStarted, ScenarioFinished, ScenarioStarted, SkipCause, Standing, StepDone, StepFailed,
};
use crate::plan::{Purpose, Trial};
use crate::scenario::model::{Expectation, ExpectationId, NodeName, Phase, Protocol};
use crate::vantage::Question;

/// Longest wait for everything to answer before the first phase.
const CONTROL: Duration = Duration::from_secs(10);

/// Between two looks of the positive control.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Carries a scenario out and tells every verdict.
pub async fn carry_out(run: &Run, cluster: &Cluster, cluster_name: &str, trial: &Trial) -> Reuse {
    let scenario = &trial.scenario;
    let started = Instant::now();
    run.sink.tell(ScenarioStarted {
        scenario: scenario.id().to_string(),
        title: scenario.metadata.title.clone(),
        cluster: cluster_name.to_string(),
    });
    let prepared = tokio::select! {
        prepared = prepare(run, cluster, trial) => Some(prepared),
        () = run.stop.cancelled() => None,
    };
    let mut waits = None;
    let reuse = match prepared {
        // Interrupted before anything was judged.
        None => Reuse::No,
        Some(Ok(mut stage)) => {
            stage.phases().await;
            waits = Some(stage.waiting.sum());
            tokio::select! {
                reuse = reset::after(&stage) => reuse,
                () = run.stop.cancelled() => Reuse::No,
            }
        }
        Some(Err((kind, message))) => {
            let evidence = evidence::before(run, cluster, trial).await;
            for case in planned(scenario).cases {
                run.sink.judged_by(case, Outcome::Error { kind, message: message.clone() }, evidence.clone());
            }
            Reuse::No
        }
    };
    let took_ms = millis(started.elapsed());
    run.sink.tell(ScenarioFinished { scenario: scenario.id().to_string(), took_ms, waits });
    reuse
}

/// Creates what the scenario has from its start, and sees that everything answers before anything is broken.
async fn prepare<'a>(run: &'a Run, cluster: &'a Cluster, trial: &'a Trial) -> Result<Stage<'a>, (InfraKind, String)> {
    let Trial { scenario, purpose } = trial;
    let provision = |error: &dyn std::fmt::Display| (InfraKind::Bootstrap, error.to_string());
    let (placed, made) = workloads::create(cluster, scenario).await.map_err(|error| provision(&error))?;
    let facts = RunFacts::gather(cluster, scenario, &placed).await.map_err(|error| provision(&error))?;
    let stage = Stage {
        run,
        cluster,
        scenario,
        purpose,
        placed,
        facts,
        made,
        behind: BTreeMap::new(),
        proxies: BTreeMap::new(),
        environment: BTreeMap::new(),
        services: BTreeSet::new(),
        replaced: Vec::new(),
        tainted: false,
        waiting: Waiting::default(),
        held: BTreeMap::new(),
    };
    stage.positive_control().await.map_err(|message| (InfraKind::Control, message))?;
    Ok(stage)
}

impl Stage<'_> {
    async fn phases(&mut self) {
        let phases = &self.scenario.phases;
        for (index, phase) in phases.iter().enumerate() {
            if self.run.stop.is_cancelled() {
                return;
            }
            let name = self.scenario.id().to_string();
            self.run.sink.tell(PhaseStarted { scenario: name, phase: phase.id.to_string() });
            let stop = self.run.stop.clone();
            let done = tokio::select! {
                done = self.steps(phase) => done,
                // The step is not told as failed: it did not get the time to be done.
                () = stop.cancelled() => return,
            };
            if let Err((step, message)) = done {
                self.give_up(phase, &phases[index + 1..], step, &message).await;
                return;
            }
            self.expectations(phase).await;
            let quiet = self.cluster.prober.quiet();
            self.waiting.phase(phase, quiet);
            if self.must_fail(phase).is_some() {
                // What comes later is not what the sabotage is about.
                return;
            }
        }
    }

    /// The expectation of a phase that a sabotage has to turn red.
    fn must_fail(&self, phase: &Phase) -> Option<&ExpectationId> {
        match self.purpose {
            Purpose::Sabotage(sabotaged) if sabotaged.must_fail.phase == phase.id => {
                Some(&sabotaged.must_fail.expectation)
            }
            _ => None,
        }
    }

    /// Does the steps of a phase; the number of the one that failed and why.
    async fn steps(&mut self, phase: &Phase) -> Result<(), (usize, String)> {
        for (index, step) in phase.steps.iter().enumerate() {
            let started = Instant::now();
            let text = steps::describe(&step.action);
            let done = steps::carry_out(self, &step.action).await;
            self.waiting.step(&step.action, started.elapsed());
            let (scenario, phase) = (self.scenario.id().to_string(), phase.id.to_string());
            let (step, took_ms) = (u32::try_from(index).unwrap_or(u32::MAX), millis(started.elapsed()));
            match done {
                Ok(()) => self.run.sink.tell(StepDone { scenario, phase, step, text, took_ms }),
                Err(message) => {
                    let told = message.clone();
                    self.run.sink.tell(StepFailed { scenario, phase, step, text, message: told, took_ms });
                    return Err((index, message));
                }
            }
        }
        Ok(())
    }

    /// A step that could not be done proves nothing; what comes after it would be judged in a world nobody described.
    async fn give_up(&self, phase: &Phase, later: &[Phase], step: usize, message: &str) {
        let message = format!("step {step} of phase `{}` failed: {message}", phase.id);
        let outcome = Outcome::Error { kind: InfraKind::Step, message };
        let evidence = OfPhase::default().of(self, phase, &outcome).await;
        for expectation in &phase.expect {
            self.run.sink.judged_by(case(self.scenario, phase, expectation), outcome.clone(), evidence.clone());
        }
        for later in later {
            for expectation in &later.expect {
                let reason = format!("a step of phase `{}` failed before", phase.id);
                let outcome = Outcome::Skipped { cause: SkipCause::Dependent, reason, enable: None };
                self.run.sink.judged(case(self.scenario, later, expectation), outcome);
            }
        }
    }

    /// Judges all expectations of a phase at the same time, so that they share their waits and their silence.
    async fn expectations(&self, phase: &Phase) {
        let lacking = |one: &Expectation| self.scenario.lacks.of(phase, one);
        for (expectation, lacking) in phase.expect.iter().filter_map(|one| Some((one, lacking(one)?))) {
            let outcome = Outcome::Skipped { cause: SkipCause::Unsupported, reason: lacking.into(), enable: None };
            self.run.sink.judged(case(self.scenario, phase, expectation), outcome);
        }
        // Under a sabotage, what fails anyway would only be waited for.
        let sabotaged = matches!(self.purpose, Purpose::Sabotage(_));
        let is_idle = |one: &Expectation| sabotaged && deviation(self, phase, one).is_some();
        let wanted: Vec<_> = phase.expect.iter().filter(|one| lacking(one).is_none() && !is_idle(one)).collect();
        let subject = &Subject::new(self, phase, &wanted);
        let watches =
            wanted.into_iter().map(|expectation| async move { (expectation, watch(subject, expectation).await) });
        let mut watches: FuturesUnordered<_> = watches.collect();
        let mut held = Vec::new();
        while let Some((expectation, standing)) = watches.next().await {
            match standing {
                Standing::Pass => held.push(expectation),
                // The others may take their time; what had to be seen has been seen.
                Standing::Fail if self.must_fail(phase) == Some(&expectation.id) => return,
                _ => {}
            }
        }
        if matches!(self.purpose, Purpose::Flip) {
            futures::future::join_all(held.into_iter().map(|expectation| flip::judge(subject, expectation))).await;
        }
    }

    /// Before the first phase every workload answers on every port it listens on, to itself and to every other one that
    /// has a way to it.
    ///
    /// What never worked cannot be broken by a step. The times of the answers set the deadline for silence.
    async fn positive_control(&self) -> Result<(), String> {
        let questions = self.control_questions();
        let started = Instant::now();
        loop {
            let seen = self.cluster.prober.ask(&questions).await;
            let problem = match &seen {
                Ok(seen) => {
                    let silent = seen.iter().zip(&questions).find(|(seen, _)| seen.sight != Sight::Answered);
                    match silent {
                        None => {
                            let calibrated = self.cluster.prober.calibrate(&questions).await;
                            return calibrated.map_err(|error| error.to_string());
                        }
                        Some((seen, question)) => {
                            format!("{} -> {:?}: {:?}", question.from.node, question.target, seen.sight)
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            if self.may_be_broken() && started.elapsed() >= Duration::from_secs(1) {
                return Ok(());
            }
            if started.elapsed() >= CONTROL {
                return Err(format!(
                    "before anything was changed, not everything answered within {CONTROL:?}: {problem}"
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether one workload has to reach another one for the cluster to be in order. Whether pods can be reached from
    /// outside of the cluster is up to its CNI.
    fn has_way(&self, from: &PlacedPod, to: &PlacedPod) -> bool {
        if from.uid.is_some() && to.uid.is_some() {
            return true;
        }
        if self.scenario.cluster.overlapping && !from.host_network {
            // A machine whose address is in the block of pods is taken for one.
            return false;
        }
        let node = |pod: &PlacedPod| pod.node.parse::<NodeName>();
        let (Ok(source), Ok(target)) = (node(from), node(to)) else { return true };
        to.host_network && self.scenario.topology.joined(&source, &target)
    }

    /// Whether a sabotage has changed how the network was made, so that not everything need answer.
    fn may_be_broken(&self) -> bool {
        matches!(self.purpose, Purpose::Sabotage(sabotaged) if sabotaged.broken_from_start)
    }

    fn control_questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        for pod in self.placed.pods.values() {
            for from in self.placed.pods.values().filter(|from| self.has_way(from, pod)) {
                for port in &pod.listen {
                    let address = (pod.address, port.port.get()).into();
                    let target = match port.protocol {
                        Protocol::Tcp => Target::Tcp { address, expect: Expect::Echo },
                        Protocol::Udp => Target::Udp { address, payload: 0 },
                        Protocol::Sctp => Target::Sctp { address, expect: Expect::Echo },
                    };
                    questions.push(Question { from: vantage_of(from), target });
                }
            }
        }
        questions
    }
}
