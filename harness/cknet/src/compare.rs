//! What changed between two runs, case by case.
//!
//! Pure: made from the verdicts of both. It must not know where they came from, nor how the changes are shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::claims::Verdicts;
use crate::event::{CaseId, Outcome, Standing};
use crate::report::in_short;

/// How a case changed, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Refuted now and not before.
    NewlyFailing,
    /// Judged before; now the machinery broke, or the run ended first.
    NoLongerJudged,
    /// Refuted in both.
    StillFailing,
    /// Refuted before, and it holds now.
    NewlyPassing,
    /// Another outcome that is none of these.
    Changed,
    /// Not part of the second run.
    Gone,
    /// Not part of the first run, and not refuted.
    Added,
}

/// A case that is not in both runs what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub change: Change,
    pub case: String,
    pub scenario: String,
    /// What tells it from the same case on another cluster, where a run has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<&'static str>,
    /// What the second run says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// All that changed between two runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// How many cases have the same outcome in both, those that are refuted in both included.
    pub same: usize,
    /// By change, then by case.
    pub entries: Vec<Entry>,
    /// What each scenario of either run came to.
    pub scenarios: Vec<Course>,
}

/// What a scenario came to before and after, in all its cases on all clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    pub scenario: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Colour>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Colour>,
}

/// What a scenario came to; of its cases the last of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Colour {
    Skipped,
    Held,
    Broken,
    Refuted,
}

impl From<Standing> for Colour {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Skipped => Self::Skipped,
            Standing::Pass | Standing::XFail | Standing::Flaky => Self::Held,
            Standing::Error | Standing::Aborted => Self::Broken,
            Standing::Fail | Standing::XPass => Self::Refuted,
        }
    }
}

impl Comparison {
    pub fn of(&self, change: Change) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.change == change)
    }

    pub fn has(&self, change: Change) -> bool {
        self.of(change).next().is_some()
    }
}

/// What a case came to.
struct Seen {
    scenario: String,
    standing: Standing,
    because: Option<String>,
}

/// A case, and the cluster it was judged on where that matters.
type Key = (CaseId, Option<String>);

/// Compares two runs; each may consist of several streams.
///
/// The clusters count only where one of the runs has several: two runs on one channel each are compared case by case,
/// whichever channels they are.
pub fn compare(before: &[Verdicts], after: &[Verdicts]) -> Comparison {
    let several = [before, after].iter().any(|runs| variants(runs).len() > 1);
    let (mut before, after) = (cases(before, several), cases(after, several));
    let mut comparison = Comparison { scenarios: courses(&before, &after), ..Comparison::default() };
    for (key, now) in after {
        let earlier = before.remove(&key);
        let was = earlier.as_ref().map(|seen| seen.standing);
        if was == Some(now.standing) {
            comparison.same += 1;
        }
        if let Some(change) = change(was, now.standing) {
            comparison.entries.push(entry(key, change, was, Some(now)));
        }
    }
    for (key, gone) in before {
        let was = gone.standing;
        comparison.entries.push(entry(key, Change::Gone, Some(was), None).in_scenario(gone.scenario));
    }
    comparison.entries.sort_by(|a, b| (a.change, &a.case, &a.variant).cmp(&(b.change, &b.case, &b.variant)));
    comparison
}

fn courses(before: &BTreeMap<Key, Seen>, after: &BTreeMap<Key, Seen>) -> Vec<Course> {
    let (before, after) = (colours(before), colours(after));
    let all: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let course = |scenario: &str| Course {
        scenario: scenario.into(),
        before: before.get(scenario).copied(),
        after: after.get(scenario).copied(),
    };
    all.into_iter().map(course).collect()
}

fn colours(cases: &BTreeMap<Key, Seen>) -> BTreeMap<&str, Colour> {
    let mut colours = BTreeMap::new();
    for seen in cases.values() {
        let colour = Colour::from(seen.standing);
        let known = colours.entry(seen.scenario.as_str()).or_insert(colour);
        *known = colour.max(*known);
    }
    colours
}

impl Entry {
    fn in_scenario(self, scenario: String) -> Self {
        Self { scenario, ..self }
    }
}

fn entry((case, variant): Key, change: Change, before: Option<Standing>, now: Option<Seen>) -> Entry {
    let after = now.as_ref().map(|now| now.standing.as_str());
    let (scenario, because) = now.map(|now| (now.scenario, now.because)).unwrap_or_default();
    Entry { change, case: case.0, scenario, variant, before: before.map(Standing::as_str), after, because }
}

/// Nothing for a case that is as it was, unless it is refuted: that has to be seen each time.
fn change(before: Option<Standing>, after: Standing) -> Option<Change> {
    let refuted = |standing| matches!(standing, Standing::Fail | Standing::XPass);
    let broken = |standing| matches!(standing, Standing::Error | Standing::Aborted);
    let judged = |standing| !broken(standing) && standing != Standing::Skipped;
    Some(match before {
        Some(before) if refuted(before) && refuted(after) => Change::StillFailing,
        _ if refuted(after) => Change::NewlyFailing,
        None => Change::Added,
        Some(before) if before == after => return None,
        Some(before) if judged(before) && broken(after) => Change::NoLongerJudged,
        Some(before) if refuted(before) && judged(after) => Change::NewlyPassing,
        Some(_) => Change::Changed,
    })
}

fn variants(runs: &[Verdicts]) -> BTreeSet<String> {
    runs.iter().map(variant).collect()
}

/// `channel=1.36-classic/stable, provider=lxd`.
fn variant(run: &Verdicts) -> String {
    let facts = run.run.iter().flat_map(|run| &run.variant).map(|(name, value)| format!("{name}={value}"));
    facts.collect::<Vec<_>>().join(", ")
}

fn cases(runs: &[Verdicts], several: bool) -> BTreeMap<Key, Seen> {
    let mut found = BTreeMap::new();
    for run in runs {
        let variant = several.then(|| variant(run));
        for case in run.planned() {
            let outcome = run.of(&case.id).map(|judged| &judged.outcome);
            if outcome.is_some_and(|outcome| !outcome.is_selected()) {
                continue;
            }
            // Planned and never judged: the run ended before.
            let standing = outcome.map_or(Standing::Aborted, Outcome::standing);
            let seen = Seen { scenario: case.scenario.clone(), standing, because: outcome.and_then(because) };
            found.insert((case.id.clone(), variant.clone()), seen);
        }
    }
    found
}

fn because(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Pass | Outcome::Flaky { .. } => None,
        Outcome::Fail { failure, .. } => Some(in_short(failure)),
        Outcome::Error { message, .. } => Some(message.clone()),
        Outcome::Skipped { reason, .. }
        | Outcome::XFail { reason, .. }
        | Outcome::XPass { reason, .. }
        | Outcome::Aborted { reason } => Some(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Aborted, Error, Fail, Flaky, Pass, Skipped, XFail, XPass};

    #[test]
    fn each_pair_of_outcomes_is_one_change() {
        for (before, after, expected) in [
            (Some(Pass), Pass, None),
            (Some(Skipped), Skipped, None),
            (Some(Error), Error, None),
            (Some(Pass), Fail, Some(Change::NewlyFailing)),
            (Some(XFail), XPass, Some(Change::NewlyFailing)),
            (Some(Error), Fail, Some(Change::NewlyFailing)),
            (None, Fail, Some(Change::NewlyFailing)),
            (Some(Fail), Fail, Some(Change::StillFailing)),
            (Some(Fail), XPass, Some(Change::StillFailing)),
            (Some(Fail), Pass, Some(Change::NewlyPassing)),
            (Some(XPass), XFail, Some(Change::NewlyPassing)),
            (Some(Fail), Flaky, Some(Change::NewlyPassing)),
            (Some(Pass), Error, Some(Change::NoLongerJudged)),
            (Some(Fail), Aborted, Some(Change::NoLongerJudged)),
            (Some(Fail), Skipped, Some(Change::Changed)),
            (Some(Error), Pass, Some(Change::Changed)),
            (Some(Pass), XFail, Some(Change::Changed)),
            (Some(Skipped), Aborted, Some(Change::Changed)),
            (None, Pass, Some(Change::Added)),
        ] {
            assert_eq!(change(before, after), expected, "{before:?} to {after:?}");
        }
    }
}
