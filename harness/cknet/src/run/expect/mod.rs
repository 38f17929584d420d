//! Expectations: each kind's way of looking at the world, and the watch that turns looks into a verdict.

mod flows;
mod losses;
mod machine;
mod objects;
mod path_mtu;
mod story;
mod witness;

use std::time::{Duration, Instant};

use super::cases::case;
use super::millis;
use super::stage::Stage;
use crate::event::{Detail, ExpectationJudged, InfraKind, Outcome};
use crate::judge::{Judgement, Look, Verdict, Watch};
use crate::scenario::model::{Check, Expectation, Phase};

/// Between two looks at something that does not hold yet. A look itself takes as long as silence does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Longest time for one look; past it the look is inconclusive.
const LOOK: Duration = Duration::from_secs(15);

/// An expectation's surroundings.
pub struct Subject<'a> {
    pub stage: &'a Stage<'a>,
    pub phase: &'a Phase,
}

/// Watches all expectations of a phase at the same time, so that they share their waits and their silence, and tells
/// each verdict.
///
/// Where silence is expected, a flow that arrived is told only once it arrives after that silence was seen, too: until
/// then nobody knows whether what was done has taken effect, and a policy that closes too much would pass.
pub async fn watch_all(subject: &Subject<'_>) {
    let started = Instant::now();
    let silence = subject.phase.expect.iter().any(expects_silence);
    let watches = subject.phase.expect.iter().map(async |expectation| {
        let within = expectation.within.map(|wait| wait.duration());
        let seen = watch(subject, expectation, within, expectation.hold.map(|wait| wait.duration())).await;
        let arrived = seen.as_ref().is_some_and(|judgement| matches!(judgement.verdict, Verdict::Holds { .. }));
        if silence && arrived && expects_arrival(expectation) {
            return seen.map(|first| (expectation, first));
        }
        tell(subject, expectation, seen, started.elapsed()).await;
        None
    });
    let arrived = futures::future::join_all(watches).await.into_iter().flatten();
    let confirmed = arrived.map(async |(expectation, first)| {
        let left = expectation.within.map(|wait| wait.duration().saturating_sub(started.elapsed()));
        let seen = watch(subject, expectation, left, None).await;
        tell(subject, expectation, seen.map(|last| last.after(first)), started.elapsed()).await;
    });
    futures::future::join_all(confirmed).await;
}

/// Whether some flow is expected to meet silence or a refusal.
fn expects_silence(expectation: &Expectation) -> bool {
    match &expectation.check {
        Check::Connectivity(flow) => flow.is.is_negative(),
        Check::Matrix(matrix) => matrix.flows().any(|cell| cell.is.is_negative()),
        _ => false,
    }
}

/// Whether all its flows are expected to arrive.
fn expects_arrival(expectation: &Expectation) -> bool {
    match &expectation.check {
        Check::Connectivity(_) | Check::Matrix(_) => !expects_silence(expectation),
        Check::Service(_) => true,
        _ => false,
    }
}

/// Watches an expectation until there is a judgement; `None` if the run was interrupted.
async fn watch(
    subject: &Subject<'_>,
    expectation: &Expectation,
    within: Option<Duration>,
    hold: Option<Duration>,
) -> Option<Judgement> {
    let started = Instant::now();
    let mut watch = Watch::new(within, hold);
    loop {
        // A look counts as of the moment it was begun: what it saw was so then.
        let begun = started.elapsed();
        let look = tokio::select! {
            look = tokio::time::timeout(LOOK, look(subject, &expectation.check)) => look,
            () = subject.stage.run.stop.cancelled() => return None,
        };
        let look = look.unwrap_or_else(|_| Look::Inconclusive(format!("a look was not done within {LOOK:?}")));
        if let Some(judgement) = watch.see(look, begun) {
            return Some(judgement);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = subject.stage.run.stop.cancelled() => return None,
        }
    }
}

/// One look.
async fn look(subject: &Subject<'_>, check: &Check) -> Look {
    let stage = subject.stage;
    let looked = match check {
        Check::Connectivity(flow) => flows::connectivity(stage, flow).await,
        Check::Matrix(matrix) => flows::matrix(stage, matrix).await,
        Check::Service(service) => flows::service(stage, service).await,
        Check::Dns(query) => flows::dns(stage, query).await,
        Check::PathMtu(path) => path_mtu::look(stage, path).await,
        Check::Nodes(states) => objects::nodes(stage, states).await,
        Check::Resource(resource) => objects::resource(stage, resource).await,
        Check::Routes(route) => machine::route(stage, route).await,
        Check::Links(link) => machine::link(stage, link).await,
        Check::Addresses(addresses) => machine::addresses(stage, addresses).await,
        Check::Listening(listening) => machine::listening(stage, listening).await,
    };
    looked.unwrap_or_else(Look::Inconclusive)
}

/// What a look comes to, or why nothing can be said.
type Looked = Result<Look, String>;

fn tell_aborted(subject: &Subject<'_>, expectation: &Expectation) {
    let case = case(subject.stage.scenario, subject.phase, expectation);
    subject.stage.run.sink.judged(case, Outcome::Aborted { reason: "the run was interrupted".into() });
}

async fn tell(subject: &Subject<'_>, expectation: &Expectation, judgement: Option<Judgement>, took: Duration) {
    let Some(judgement) = judgement else { return tell_aborted(subject, expectation) };
    let case = case(subject.stage.scenario, subject.phase, expectation);
    let (time_to_true_ms, samples) = (judgement.time_to_true.map(millis), judgement.samples);
    let mut detail = Detail::default();
    let outcome = match &judgement.verdict {
        Verdict::Holds { note } => {
            detail.note = Some(note.clone());
            Outcome::Pass
        }
        Verdict::Refuted { .. } => {
            let failure = story::failure(subject, expectation, &judgement).await;
            Outcome::Fail { failure: Box::new(failure), earlier: Vec::new() }
        }
        Verdict::Inconclusive { why } => Outcome::Error { kind: InfraKind::Probe, message: why.clone() },
    };
    let outcome = known_deviation(subject, expectation, outcome);
    let took_ms = millis(took);
    subject.stage.run.sink.tell(ExpectationJudged { case, outcome, took_ms, time_to_true_ms, samples, detail });
}

/// What the scenario file says is known to fail here: a failure is expected, and holding is a surprise.
fn known_deviation(subject: &Subject<'_>, expectation: &Expectation, outcome: Outcome) -> Outcome {
    let distribution = subject.stage.run.distribution.name();
    let applies = subject.stage.scenario.expect_failure.iter().find(|deviation| {
        deviation.expectation.phase == subject.phase.id
            && deviation.expectation.expectation == expectation.id
            && deviation.distribution.as_deref().is_none_or(|named| named == distribution)
    });
    let Some(deviation) = applies else { return outcome };
    let (reason, reference) = (deviation.reason.clone(), Some(deviation.reference.clone()));
    match outcome {
        Outcome::Fail { .. } => Outcome::XFail { reason, reference },
        Outcome::Pass => Outcome::XPass { reason, reference },
        other => other,
    }
}
