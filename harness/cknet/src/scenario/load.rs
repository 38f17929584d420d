//! Owns the way from bytes to a [`ScenarioFile`].
//! Must not know what makes a scenario sensible: that is checked afterwards.

use std::path::Path;
use std::sync::Arc;

use super::check::{self, Depth};
use super::declared::Declared;
use super::fixtures::{Fixtures, read_named, read_source, source_of};
use super::locate::Found;
use super::model::{ExpectationId, ExpectationRef, Lacks, PhaseId, Scenario, ScenarioId};
use super::problem::{Problem, Problems};
use super::profile::Profile;
use super::read::{FromText, Read, Reading};
use super::reference::Facts;
use super::source::{Source, Span};
use super::tree::{self, Node};

/// A scenario file that could be read: each key is known, each value is of its type, each name
/// that is used is declared. Whether it makes sense is for [`check`](super::check()) to say.
#[derive(Debug, Clone)]
pub struct ScenarioFile {
    pub(super) source: Arc<Source>,
    pub(super) tree: Node,
    /// The id that the path of the file demands, if it lies under a folder of scenarios.
    pub(super) place: Option<ScenarioId>,
    pub(super) scenario: Scenario,
}

impl ScenarioFile {
    /// The text from which it was read.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What was read.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }
}

/// What became of reading one file: as much as could be read, and what is wrong.
struct Attempt {
    source: Arc<Source>,
    file: Option<ScenarioFile>,
    problems: Vec<Problem>,
}

/// Reads one scenario file.
///
/// # Errors
/// Everything in the file that cannot be read, with its place.
pub fn load(path: &Path, fixtures: &Fixtures) -> Result<ScenarioFile, Problems> {
    let place = ScenarioId::of_path(path);
    finish(attempt(read_source(path)?, place, fixtures))
}

/// Reads a scenario from bytes that messages call `name`.
///
/// # Errors
/// Everything in the text that cannot be read, with its place.
pub fn load_bytes(bytes: impl Into<Vec<u8>>, name: &str, fixtures: &Fixtures) -> Result<ScenarioFile, Problems> {
    let place = ScenarioId::of_path(Path::new(name));
    finish(attempt(source_of(bytes.into(), name)?, place, fixtures))
}

/// Reads and checks all files, telling the problems of all of them together, those of reading
/// beside those of sense.
///
/// # Errors
/// Everything that is wrong with any of the files.
pub fn read_suite(found: &[Found], fixtures: &Fixtures) -> Result<Vec<Scenario>, Problems> {
    let mut problems = Problems::default();
    let mut files = Vec::new();
    for one in found {
        match read_named(&one.path, &one.name) {
            Err(wrong) => problems.extend(wrong),
            Ok(source) => files.push(attempt(source, one.id.clone(), fixtures)),
        }
    }
    let ids: Vec<ScenarioFile> = files.iter().filter_map(|attempt| attempt.file.clone()).collect();
    let mut scenarios = Vec::new();
    for mut attempt in files {
        if let Some(file) = attempt.file {
            // What is missing may be what could not be read; it is told when the rest is right.
            let depth = if attempt.problems.is_empty() { Depth::Whole } else { Depth::WhatIsThere };
            check::one(&file, fixtures, depth, &mut attempt.problems);
            check::same_id(&file, &ids, &mut attempt.problems);
            scenarios.push(file.scenario);
        }
        problems.add(attempt.source, attempt.problems);
    }
    problems.or(scenarios)
}

fn finish(attempt: Attempt) -> Result<ScenarioFile, Problems> {
    match attempt.file {
        Some(file) if attempt.problems.is_empty() => Ok(file),
        _ => Err(Problems::of(attempt.source, attempt.problems)),
    }
}

fn attempt(source: Source, place: Option<ScenarioId>, fixtures: &Fixtures) -> Attempt {
    let source = Arc::new(source);
    let mut problems = Vec::new();
    let tree = tree::parse_one(source.text(), &mut problems);
    let scenario = match &tree {
        Some(tree) => read(tree, &source, fixtures, &mut problems),
        None => None,
    };
    if scenario.is_none() && problems.is_empty() {
        problems.push(Problem::whole("the file is empty; a scenario starts with `apiVersion: cknet/v1`"));
    }
    let file =
        tree.zip(scenario).map(|(tree, scenario)| ScenarioFile { source: Arc::clone(&source), tree, place, scenario });
    Attempt { source, file, problems }
}

/// The profile of the cluster's flavour, where the scenario names another than the usual one.
fn flavoured(tree: &Node) -> Option<Profile> {
    let flavour = tree.get("cluster")?.get("flavour")?.text()?;
    let other = ["kubeadm", "k3s", "rke2"].contains(&flavour);
    other.then(|| Profile::embedded(flavour)).flatten()?.ok()
}

/// A scenario for the cluster that is at hand. One that refers to what its CNI does not have is read with the reference's
/// there, and says what is lacking, and for what.
fn read(tree: &Node, source: &Source, fixtures: &Fixtures, problems: &mut Vec<Problem>) -> Option<Scenario> {
    if tree.is_null() {
        return None;
    }
    let flavoured = flavoured(tree);
    let syntax = std::mem::take(problems);
    let profile = flavoured.as_ref().unwrap_or(&fixtures.profile);
    let first = read_for(profile, None, tree, source, fixtures, syntax.clone());
    if first.absent.is_empty() {
        *problems = first.problems;
        return first.scenario;
    }
    let reference =
        Profile::reference().filter(|reference| flavoured.is_none() && reference.name != fixtures.profile.name);
    let Some(reference) = reference else {
        // It asks for a CNI that it cannot be for.
        *problems = [first.problems, first.absent].concat();
        return first.scenario;
    };
    let second = read_for(profile, Some(&reference), tree, source, fixtures, syntax);
    *problems = second.problems;
    let lacks = lacks(&first.absent, tree, source);
    second.scenario.map(|scenario| Scenario { lacks, ..scenario })
}

/// What cannot be done or judged without what is absent.
fn lacks(absent: &[Problem], tree: &Node, source: &Source) -> Lacks {
    let mut lacks = Lacks::default();
    for problem in absent {
        let written = problem.span.and_then(|span| source.text().get(span.start..span.end)).unwrap_or_default();
        let why = format!("refers to `{written}`: {}", problem.message);
        match problem.span.and_then(|span| expectation_at(tree, span)) {
            Some(expectation) => lacks.expectations.entry(expectation).or_insert(why),
            None => lacks.whole.get_or_insert(why),
        };
    }
    lacks
}

/// The expectation in whose text a place is.
fn expectation_at(tree: &Node, place: Span) -> Option<ExpectationRef> {
    let word = |node: &Node| Some(node.get("id")?.text()?.to_owned());
    tree.get("phases")?.items().iter().find_map(|phase| {
        let holds = |node: &&Node| node.span.start <= place.start && place.end <= node.span.end;
        let expectation = phase.get("expect")?.items().iter().find(holds)?;
        let phase = PhaseId::from_text(&word(phase)?).ok()?;
        Some(ExpectationRef { phase, expectation: ExpectationId::from_text(&word(expectation)?).ok()? })
    })
}

/// What became of reading for one CNI.
struct ReadFor {
    scenario: Option<Scenario>,
    problems: Vec<Problem>,
    absent: Vec<Problem>,
}

fn read_for(
    profile: &Profile,
    absent_from: Option<&Profile>,
    tree: &Node,
    source: &Source,
    fixtures: &Fixtures,
    problems: Vec<Problem>,
) -> ReadFor {
    let taught = |profile: &Profile| {
        let mut facts = Facts::default();
        profile.teach(&mut facts);
        facts
    };
    let mut facts = taught(profile);
    if let Some(other) = absent_from {
        facts.complete(&taught(other));
    }
    let mut declared = Declared::of(tree);
    if !declared.namespaces.contains(&profile.namespace.as_str()) {
        declared.namespaces.push(&profile.namespace);
    }
    let mut reading = Reading {
        source,
        root: tree,
        declared,
        facts,
        manifests: &fixtures.manifests,
        code: &fixtures.code,
        premises: fixtures.premises.as_deref(),
        problems,
        absent: Vec::new(),
    };
    let scenario = Scenario::read(tree, &mut reading);
    ReadFor { scenario, problems: reading.problems, absent: reading.absent }
}
