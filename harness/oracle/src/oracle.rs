//! The oracle: flows in, predictions out.
//!
//! Owns the trial of every permitted answer to the open questions that a flow raises. Must not know
//! how a path is found or weighed.

use crate::cluster::Cluster;
use crate::flow::{Endpoint, Flow, PodRef, Target};
use crate::isolation::Isolation;
use crate::path::{Client, Path};
use crate::prediction::{Hinge, Leg, NoAnswer, Outcome, Prediction, Reading, Through, Undefined, Unknown, Verdict};
use crate::profile::{Profile, Question, Questions};
use crate::route;
use crate::snapshot::Snapshot;
use crate::transport::Protocol;
use crate::view::View;
use crate::weigh::{Scales, Weighed};

/// Predicts flows in one cluster at one moment, seen through one profile.
///
/// Making an oracle evaluates every selector once; after that a flow costs about a microsecond.
pub struct Oracle {
    cluster: Cluster,
    isolation: Isolation,
    profile: Profile,
}

/// What one profile makes of a path.
struct Trial {
    profile: Profile,
    asked: Questions,
    verdict: Verdict,
}

impl Oracle {
    /// An oracle about a snapshot.
    pub fn new(snapshot: &Snapshot, profile: Profile) -> Self {
        let cluster = Cluster::new(snapshot);
        let isolation = Isolation::new(&cluster, &snapshot.policies);
        Self { cluster, isolation, profile }
    }

    /// What will become of a flow.
    ///
    /// # Errors
    /// The flow names something that the snapshot does not have.
    pub fn predict(&self, flow: &Flow) -> Result<Prediction, Unknown> {
        let client = Client::find(&self.cluster, &flow.from)?;
        self.predict_from(&client, flow)
    }

    fn predict_from(&self, client: &Client, flow: &Flow) -> Result<Prediction, Unknown> {
        Ok(match route::paths(&self.cluster, client, flow)? {
            Ok(paths) => self.along(client, &paths),
            Err(why) => self.unanswered(client, why),
        })
    }

    /// What will become of a flow from each of `from` to each of `to`: all of the first source's
    /// predictions, then all of the second's, and so on.
    ///
    /// # Errors
    /// An end is not in the snapshot.
    pub fn matrix(&self, from: &[Endpoint], to: &[(PodRef, u16, Protocol)]) -> Result<Vec<Prediction>, Unknown> {
        let mut predictions = Vec::with_capacity(from.len() * to.len());
        for endpoint in from {
            let client = Client::find(&self.cluster, endpoint)?;
            for (pod, port, protocol) in to {
                let to = Target::Pod(pod.clone());
                let flow = Flow::over(*protocol, endpoint.clone(), to, *port);
                predictions.push(self.predict_from(&client, &flow)?);
            }
        }
        Ok(predictions)
    }

    fn unanswered(&self, client: &Client, why: NoAnswer) -> Prediction {
        Prediction {
            from: self.cluster.party(client.who, client.address),
            outcome: Outcome::NoAnswer(why.clone()),
            expected: Verdict::NoAnswer(why),
            legs: Vec::new(),
        }
    }

    fn along(&self, client: &Client, paths: &[Path]) -> Prediction {
        let legs: Vec<_> = paths.iter().map(|path| self.leg(client, path)).collect();
        let verdicts = legs.iter().map(|leg| &leg.expected);
        let expected = Verdict::of_all(verdicts).unwrap_or(Verdict::NoAnswer(NoAnswer::NoCommonFamily));
        let outcome = self.outcome(&legs, &expected);
        let towards = paths.first().map(|path| path.address);
        let address = towards.and_then(|towards| client.address_towards(&self.cluster, towards));
        Prediction { from: self.cluster.party(client.who, address), outcome, expected, legs }
    }

    fn outcome(&self, legs: &[Leg], expected: &Verdict) -> Outcome {
        let mut hinges: Vec<Hinge> = Vec::new();
        for leg in legs {
            let Outcome::Undefined(undefined) = &leg.outcome else {
                continue;
            };
            for hinge in &undefined.hinges {
                if !hinges.iter().any(|known| known.question == hinge.question) {
                    hinges.push(hinge.clone());
                }
            }
        }
        if hinges.is_empty() {
            return expected.clone().into();
        }
        Outcome::Undefined(Undefined { hinges, profile: self.profile.name })
    }

    fn leg(&self, client: &Client, path: &Path) -> Leg {
        let view = self.view(client, path, &self.profile);
        let (seen_as, seen_address) = view.seen_as();
        let (weighed, asked) = self.weigh(client, path, &self.profile);
        let Weighed { source, destination, verdict } = weighed;
        let outcome =
            if asked.is_empty() { verdict.clone().into() } else { self.try_all(client, path, &verdict, asked) };
        Leg {
            to: self.cluster.party(path.server, Some(path.address)),
            port: path.port,
            through: path.translation.as_ref().map(|translation| Through {
                by: translation.by.clone(),
                address: translation.address,
                port: translation.port,
            }),
            outcome,
            expected: verdict,
            source,
            destination,
            seen_as: self.cluster.party(seen_as, seen_address),
        }
    }

    fn weigh(&self, client: &Client, path: &Path, profile: &Profile) -> (Weighed, Questions) {
        let mut scales =
            Scales { view: self.view(client, path, profile), isolation: &self.isolation, asked: Questions::default() };
        let weighed = scales.weigh();
        (weighed, scales.asked)
    }

    fn view<'a>(&'a self, client: &'a Client, path: &'a Path, profile: &'a Profile) -> View<'a> {
        View { cluster: &self.cluster, client, path, profile }
    }

    /// Weighs a path under every combination of answers to the questions that it raises, also those
    /// that come up only once another is answered differently.
    fn try_all(&self, client: &Client, path: &Path, expected: &Verdict, asked: Questions) -> Outcome {
        let mut trials = vec![Trial { profile: self.profile, asked, verdict: expected.clone() }];
        let mut next = 0;
        while next < trials.len() {
            let Trial { profile, asked, .. } = trials[next];
            for reading in asked.iter().flat_map(|question| question.readings(profile)) {
                if trials.iter().any(|trial| trial.profile == reading) {
                    continue;
                }
                let (weighed, asked) = self.weigh(client, path, &reading);
                trials.push(Trial { profile: reading, asked, verdict: weighed.verdict });
            }
            next += 1;
        }
        if trials.iter().all(|trial| trial.verdict == *expected) {
            return expected.clone().into();
        }
        Outcome::Undefined(Undefined { hinges: hinges(&trials), profile: self.profile.name })
    }
}

/// The questions whose answer alone changes the verdict, given some answers to the others; the
/// oracle's own profile comes first, so that its readings are shown where it can show them.
fn hinges(trials: &[Trial]) -> Vec<Hinge> {
    let mut asked = Questions::default();
    for trial in trials {
        asked.add(trial.asked);
    }
    let readings_of = |question: Question, trial: &Trial| -> Vec<Reading> {
        let profiles = question.readings(trial.profile).into_iter();
        let tried = profiles.filter_map(|profile| {
            let trial = trials.iter().find(|trial| trial.profile == profile)?;
            Some(Reading { answer: question.answer(&profile), verdict: trial.verdict.clone() })
        });
        tried.collect()
    };
    let differ = |readings: &Vec<Reading>| readings.windows(2).any(|pair| pair[0].verdict != pair[1].verdict);
    asked
        .iter()
        .filter_map(|question| {
            let mut readings = trials.iter().map(|trial| readings_of(question, trial));
            let readings = readings.find(differ)?;
            Some(Hinge { question, readings })
        })
        .collect()
}
