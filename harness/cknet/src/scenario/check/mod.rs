//! Owns whether a scenario that could be read makes sense.
//! Must not read files: manifests, documents and profile come as [`Fixtures`].

/// A way through the tree: keys and indexes.
macro_rules! path {
    [$($part:expr),* $(,)?] => { &[$($crate::scenario::check::Part::from($part)),*] };
}

mod capabilities;
mod connections;
mod controls;
mod expectations;
mod identity;
mod late;
mod network;
mod sabotage;
mod steps;

use super::fixtures::Fixtures;
use super::load::ScenarioFile;
use super::model::Scenario;
use super::problem::{Problem, Problems};
use super::source::Span;
use super::tree::Node;

/// Checks all files and hands out their scenarios, in the same order.
///
/// # Errors
/// Everything that makes no sense in any of the files.
pub fn check(files: Vec<ScenarioFile>, fixtures: &Fixtures) -> Result<Vec<Scenario>, Problems> {
    let mut problems = Problems::default();
    for file in &files {
        let mut wrong = Vec::new();
        one(file, fixtures, Depth::Whole, &mut wrong);
        same_id(file, &files, &mut wrong);
        problems.add(file.source.clone(), wrong);
    }
    problems.or(files.into_iter().map(|file| file.scenario).collect())
}

/// How much of a file is there to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it.
    Whole,
    /// Parts could not be read, so that nothing can be said about what is missing.
    WhatIsThere,
}

/// One file while it is checked.
struct Checking<'c> {
    file: &'c ScenarioFile,
    scenario: &'c Scenario,
    fixtures: &'c Fixtures,
    problems: &'c mut Vec<Problem>,
}

/// Checks one file by itself.
pub(super) fn one(file: &ScenarioFile, fixtures: &Fixtures, depth: Depth, problems: &mut Vec<Problem>) {
    let mut checking = Checking { file, scenario: &file.scenario, fixtures, problems };
    identity::check(&mut checking);
    network::check(&mut checking);
    // The rest counts phases and expectations, and has nothing to hold on to if some are missing.
    if depth == Depth::Whole {
        identity::complete(&mut checking);
        network::complete(&mut checking);
        steps::check(&mut checking);
        expectations::check(&mut checking);
        connections::check(&mut checking);
        controls::check(&mut checking);
        capabilities::check(&mut checking);
        sabotage::check(&mut checking);
    }
}

/// Tells if an earlier one of `files` has the same id.
pub(super) fn same_id(file: &ScenarioFile, files: &[ScenarioFile], problems: &mut Vec<Problem>) {
    let earlier = files
        .iter()
        .take_while(|other| !std::sync::Arc::ptr_eq(&other.source, &file.source))
        .find(|other| other.scenario.id() == file.scenario.id());
    if let Some(earlier) = earlier {
        let span = place(&file.tree, path!["metadata", "id"]);
        problems.push(Problem::at(span, format!("`{}` has this id already", earlier.source.name())));
    }
}

/// One step on the way to a place in the tree.
#[derive(Debug, Clone, Copy)]
enum Part<'p> {
    Key(&'p str),
    Index(usize),
}

impl<'p> From<&'p str> for Part<'p> {
    fn from(key: &'p str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Part<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The value at the end of a path; as much of the path as there is.
fn node_at<'n>(tree: &'n Node, path: &[Part<'_>]) -> &'n Node {
    let mut node = tree;
    for part in path {
        let next = match part {
            Part::Key(key) => node.get(key),
            Part::Index(index) => node.items().get(*index),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node
}

/// Where the value at the end of a path stands; as much of the path as there is.
fn place(tree: &Node, path: &[Part<'_>]) -> Span {
    node_at(tree, path).point()
}

impl Checking<'_> {
    /// Tells of the value at the end of the path.
    fn problem(&mut self, path: &[Part<'_>], message: impl Into<String>) {
        let span = place(&self.file.tree, path);
        self.problems.push(Problem::at(span, message));
    }

    /// Tells of the last key of the path itself.
    fn problem_with_key(&mut self, path: &[Part<'_>], message: impl Into<String>) {
        let span = self.key_span(path).unwrap_or_else(|| place(&self.file.tree, path));
        self.problems.push(Problem::at(span, message));
    }

    fn key_span(&self, path: &[Part<'_>]) -> Option<Span> {
        let (Part::Key(last), way) = path.split_last()? else {
            return None;
        };
        let node = way.iter().try_fold(&self.file.tree, |node, part| match part {
            Part::Key(key) => node.get(key),
            Part::Index(index) => node.items().get(*index),
        })?;
        node.entry(last).map(|entry| entry.key_span)
    }
}
