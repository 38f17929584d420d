//! Owns what a scenario says about itself: id, passages, claims, ids of its parts.
//! Must not know what the parts do.

use super::super::model::{Citation, Kind};
use super::super::nearest::{listed, nearest};
use super::{Checking, Part};

pub(super) fn check(c: &mut Checking<'_>) {
    own_id(c);
    passages(c);
    unique_ids(c);
}

/// What only a whole file can lack.
pub(super) fn complete(c: &mut Checking<'_>) {
    claims_are_judged(c);
    pitfall_phases(c);
    if c.scenario.phases.is_empty() {
        c.problem_with_key(path!["phases"], "a scenario has at least one phase");
    }
    if c.scenario.sabotage.is_empty() {
        let message = "a scenario has at least one sabotage, which proves that it can fail; add `sabotage`";
        c.problem_with_key(path!["metadata"], message);
    }
}

fn own_id(c: &mut Checking<'_>) {
    let Some(place) = &c.file.place else { return };
    if place != c.scenario.id() {
        c.problem(path!["metadata", "id"], format!("the path of this file makes its id `{place}`"));
    }
}

fn passages(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    passage(c, &scenario.metadata.docs, path!["metadata", "docs"]);
    for (index, claim) in scenario.claims.iter().enumerate() {
        if let Some(docs) = &claim.docs {
            passage(c, docs, path!["claims", index, "docs"]);
        }
    }
}

fn passage(c: &mut Checking<'_>, citation: &Citation, path: &[Part<'_>]) {
    let Some(document) = c.fixtures.documents.get(&citation.file) else {
        let known = c.fixtures.documents.keys().map(String::as_str);
        let message = format!("no document `{}`; there are {}", citation.file, listed(known));
        return c.problem(path, message);
    };
    if document.section(&citation.anchor).is_some() {
        return;
    }
    let anchors = document.sections.iter().map(|section| section.anchor.as_str());
    let message = match nearest(&citation.anchor, anchors) {
        Some(near) => format!("no heading has the anchor `{}`; did you mean `{near}`?", citation.anchor),
        None => format!("no heading of `{}` has the anchor `{}`", citation.file, citation.anchor),
    };
    c.problem(path, message);
}

fn unique_ids(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    unique(c, "claim", scenario.claims.iter().map(|claim| claim.id.as_str()), &|i| vec!["claims".into(), i.into()]);
    unique(c, "phase", scenario.phases.iter().map(|phase| phase.id.as_str()), &|i| vec!["phases".into(), i.into()]);
    for (index, phase) in scenario.phases.iter().enumerate() {
        let ids = phase.expect.iter().map(|expectation| expectation.id.as_str());
        unique(c, "expectation of this phase", ids, &|i| {
            vec!["phases".into(), index.into(), "expect".into(), i.into()]
        });
    }
    unique(c, "sabotage", scenario.sabotage.iter().map(|sabotage| sabotage.id.as_str()), &|i| {
        vec!["sabotage".into(), i.into()]
    });
}

fn unique<'i>(
    c: &mut Checking<'_>,
    what: &str,
    ids: impl Iterator<Item = &'i str>,
    path: &dyn Fn(usize) -> Vec<Part<'static>>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, id) in ids.enumerate() {
        if seen.contains(&id) {
            let mut path = path(index);
            path.push("id".into());
            c.problem(&path, format!("another {what} has this id already"));
        }
        seen.push(id);
    }
}

/// A claim on which nothing decides would be reported as neither right nor wrong, and one that is refuted leaves a
/// reader with the question what is right.
fn claims_are_judged(c: &mut Checking<'_>) {
    let scenario = c.scenario;
    for (index, claim) in scenario.claims.iter().enumerate() {
        let confirms = scenario.expectations().any(|(_, one)| one.claim.as_ref() == Some(&claim.id));
        let refutes = scenario.expectations().any(|(_, one)| one.refutes.as_ref() == Some(&claim.id));
        if !confirms && !refutes {
            c.problem(path!["claims", index, "id"], "no expectation decides on this claim; name it in one as `claim`");
        }
        if refutes && (claim.instead.is_none() || claim.reference.is_none()) {
            let message = "an expectation refutes this claim; say what is true with `instead` and `reference`";
            c.problem(path!["claims", index, "id"], message);
        }
    }
}

fn pitfall_phases(c: &mut Checking<'_>) {
    if c.scenario.metadata.kind != Kind::Pitfall {
        return;
    }
    for id in ["wrong", "correct"] {
        if !c.scenario.phases.iter().any(|phase| phase.id == id) {
            c.problem(path!["metadata", "kind"], format!("a pitfall has a phase `{id}`"));
        }
    }
}
