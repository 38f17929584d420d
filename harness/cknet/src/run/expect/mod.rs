//! Expectations: each kind's way of looking at the world, and the watch that turns looks into a verdict.

pub mod connection;
mod diagnosis;
pub mod flip;
mod flows;
mod machine;
mod objects;
pub mod output;
mod path_mtu;
mod story;
mod undefined;
mod wire;
mod witness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cases::case;
use super::evidence::OfPhase;
use super::stage::Stage;
use super::{millis, proxy};
use crate::event::{Detail, ExpectationJudged, InfraKind, Outcome, Standing};
use crate::judge::{Judgement, Look, Verdict, Watch};
use crate::plan::Purpose;
use crate::scenario::model::{Check, Expectation, KnownDeviation, Phase};

/// Between two looks at something that does not hold yet. A look itself takes as long as silence does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Longest time for one look; past it the look is inconclusive.
const LOOK: Duration = Duration::from_secs(15);

/// An expectation's surroundings.
pub struct Subject<'a> {
    pub stage: &'a Stage<'a>,
    pub phase: &'a Phase,
    /// Silence is expected of some flow.
    silence: bool,
    evidence: OfPhase,
    /// How many expectations of silence are being watched and have no judgement yet.
    silences: tokio::sync::watch::Sender<usize>,
    /// The same of all expectations: nothing is gathered beside a look, which it could make late.
    watched: tokio::sync::watch::Sender<usize>,
}

impl<'a> Subject<'a> {
    /// The surroundings of those expectations of a phase that are watched together.
    pub fn new(stage: &'a Stage<'a>, phase: &'a Phase, watched: &[&Expectation]) -> Self {
        let silences = watched.iter().filter(|expectation| expects_silence(expectation)).count();
        let evidence = OfPhase::default();
        let (silence, silences) = (silences > 0, tokio::sync::watch::Sender::new(silences));
        Self { stage, phase, silence, evidence, silences, watched: tokio::sync::watch::Sender::new(watched.len()) }
    }

    async fn all_are_judged(&self) {
        let _ = self.watched.subscribe().wait_for(|watched| *watched == 0).await;
    }

    async fn silence_is_judged(&self) {
        // The sender is this subject, so that the wait ends only by what is waited for.
        let _ = self.silences.subscribe().wait_for(|waiting| *waiting == 0).await;
    }
}

/// Watches an expectation until there is a verdict, and tells it.
///
/// Where silence is expected beside it, a flow that arrived is told only once it arrives after that silence was
/// judged, too: until then nobody knows whether what was done has taken effect, and a policy that closes too much
/// would pass.
pub async fn watch(subject: &Subject<'_>, expectation: &Expectation) -> Standing {
    let started = Instant::now();
    let within = within(subject, expectation);
    let mut judgement = observe(subject, expectation, within, expectation.hold.map(|wait| wait.duration())).await;
    if expects_silence(expectation) {
        subject.silences.send_modify(|waiting| *waiting -= 1);
    }
    if subject.silence && expects_arrival(expectation) {
        judgement = match judgement {
            Some(first) if matches!(first.verdict, Verdict::Holds { .. }) => {
                subject.silence_is_judged().await;
                let left = within.map(|whole| whole.saturating_sub(started.elapsed()));
                observe(subject, expectation, left, None).await.map(|last| last.after(first))
            }
            other => other,
        };
    }
    subject.watched.send_modify(|watched| *watched -= 1);
    match judgement {
        Some(judgement) => tell(subject, expectation, judgement, started.elapsed()).await,
        None => tell_aborted(subject, expectation),
    }
}

/// Whether some flow is expected to meet silence or a refusal.
fn expects_silence(expectation: &Expectation) -> bool {
    match &expectation.check {
        Check::Connectivity(flow) => flow.is.is_negative(),
        Check::Matrix(matrix) => matrix.flows().any(|cell| cell.is.is_negative()),
        Check::Connection(connection) => connection.state.is_negative(),
        Check::Ping(ping) => ping.is.is_negative(),
        _ => false,
    }
}

/// Whether it is about flows, all of which are expected to arrive.
fn expects_arrival(expectation: &Expectation) -> bool {
    match &expectation.check {
        Check::Connectivity(_) | Check::Matrix(_) | Check::Connection(_) | Check::Ping(_) => {
            !expects_silence(expectation)
        }
        Check::Service(_) => true,
        _ => false,
    }
}

/// Watches an expectation until there is a judgement; `None` if the run was interrupted.
async fn observe(
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

/// The time that an expectation has to become true. Of one that a sabotage is to turn red nobody waits for the whole.
fn within(subject: &Subject<'_>, expectation: &Expectation) -> Option<Duration> {
    let whole = expectation.within?.duration();
    match subject.stage.purpose {
        Purpose::Sabotage(sabotaged) => {
            let case = format!("{}/{}/{}", sabotaged.original, subject.phase.id, expectation.id);
            Some(subject.stage.run.pace.within(&case, whole))
        }
        Purpose::Judge | Purpose::Flip => Some(whole),
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
        Check::Refused(refused) => objects::refused(stage, refused).await,
        Check::Routes(route) => machine::route(stage, route).await,
        Check::Links(link) => machine::link(stage, link).await,
        Check::Addresses(addresses) => machine::addresses(stage, addresses).await,
        Check::Listening(listening) => machine::listening(stage, listening).await,
        Check::Command(command) => output::look_at_command(stage, command).await,
        Check::Log(log) => output::look_at_log(stage, log).await,
        Check::Wire(flow) => wire::wire(stage, flow).await,
        Check::Connection(expected) => connection::connection(stage, expected).await,
        Check::Ping(expected) => connection::ping(stage, expected).await,
    };
    looked.unwrap_or_else(Look::Inconclusive)
}

/// What a look comes to, or why nothing can be said.
type Looked = Result<Look, String>;

fn tell_aborted(subject: &Subject<'_>, expectation: &Expectation) -> Standing {
    let case = case(subject.stage.scenario, subject.phase, expectation);
    subject.stage.run.sink.judged(case, Outcome::Aborted { reason: "the run was interrupted".into() });
    Standing::Aborted
}

async fn tell(subject: &Subject<'_>, expectation: &Expectation, judgement: Judgement, took: Duration) -> Standing {
    let case = case(subject.stage.scenario, subject.phase, expectation);
    let (time_to_true_ms, samples) = (judgement.time_to_true.map(millis), judgement.samples);
    let mut detail = Detail::default();
    let outcome = match &judgement.verdict {
        Verdict::Holds { note } => {
            let by = [stage_firewall(subject), proxy::engines(subject.stage)];
            let parts: Vec<String> = std::iter::once(note.clone()).chain(by.into_iter().flatten()).collect();
            detail.note = Some(parts.join("; "));
            Outcome::Pass
        }
        Verdict::Refuted { .. } => {
            let failure = story::failure(subject, expectation, &judgement).await;
            Outcome::Fail { failure: Box::new(failure), earlier: Vec::new() }
        }
        Verdict::Inconclusive { why } => Outcome::Error { kind: InfraKind::Probe, message: why.clone() },
    };
    let ways_of = subject.stage.cluster.profile.ways_of.as_deref();
    let outcome = if expectation.undefined { undefined::judged(ways_of, outcome, &mut detail) } else { outcome };
    let mut outcome = known_deviation(subject, expectation, outcome);
    let evidence = match subject.evidence.is_wanted(subject.stage, &outcome) {
        true => {
            subject.all_are_judged().await;
            subject.evidence.of(subject.stage, subject.phase, &outcome).await
        }
        false => Vec::new(),
    };
    match &mut outcome {
        Outcome::Fail { failure, .. } => failure.evidence = evidence,
        _ => detail.evidence = evidence,
    }
    let (standing, took_ms) = (outcome.standing(), millis(took));
    if let (Purpose::Flip, Standing::Pass, Some(took)) = (subject.stage.purpose, standing, judgement.time_to_true) {
        subject.stage.run.pace.note(case.id.0.clone(), took);
    }
    subject.stage.run.sink.tell(ExpectationJudged { case, outcome, took_ms, time_to_true_ms, samples, detail });
    standing
}

/// Which firewall it was of which a result is evidence.
fn stage_firewall(subject: &Subject<'_>) -> Option<String> {
    let engines: BTreeSet<&str> = subject.stage.behind.values().map(|behind| behind.engine()).collect();
    (!engines.is_empty()).then(|| format!("behind {}", engines.into_iter().collect::<Vec<_>>().join(" and ")))
}

/// What the scenario file says is known to fail here: a failure is expected, and holding is a surprise.
fn known_deviation(subject: &Subject<'_>, expectation: &Expectation, outcome: Outcome) -> Outcome {
    let Some(deviation) = deviation(subject.stage, subject.phase, expectation) else { return outcome };
    let (reason, reference) = (deviation.reason.clone(), Some(deviation.reference.clone()));
    match outcome {
        Outcome::Fail { .. } => Outcome::XFail { reason, reference },
        Outcome::Pass => Outcome::XPass { reason, reference },
        other => other,
    }
}

/// The known deviation that is about this expectation on this distribution.
pub fn deviation<'s>(stage: &Stage<'s>, phase: &Phase, expectation: &Expectation) -> Option<&'s KnownDeviation> {
    let distribution = stage.run.distribution.name();
    stage.scenario.expect_failure.iter().find(|deviation| {
        deviation.expectation.phase == phase.id
            && deviation.expectation.expectation == expectation.id
            && deviation.distribution.as_deref().is_none_or(|named| named == distribution)
            && deviation.channel.as_deref().is_none_or(|named| is_on(named, stage.run.distribution.channel()))
            && deviation.until.is_none_or(|until| jiff::Zoned::now().date() <= until.0)
    })
}

/// Whether what is said of the channel or version `named` is said of this one: `1.36` is any channel of that version.
/// A distribution without channels is on none.
fn is_on(named: &str, channel: Option<&str>) -> bool {
    let Some(rest) = channel.and_then(|channel| channel.strip_prefix(named)) else { return false };
    rest.is_empty() || rest.starts_with(['-', '/'])
}

#[cfg(test)]
mod tests {
    use super::is_on;

    #[test]
    fn a_deviation_of_a_version_is_one_of_its_channels() {
        let channel = Some("1.36-classic/stable");
        assert!(is_on("1.36", channel) && is_on("1.36-classic", channel) && is_on("1.36-classic/stable", channel));
        assert!(!is_on("1.3", channel) && !is_on("1.35", channel) && !is_on("1.36-classic/edge", channel));
        assert!(!is_on("1.36", None), "the reference distribution is on no channel");
    }
}
