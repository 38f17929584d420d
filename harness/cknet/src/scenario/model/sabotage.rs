//! Owns how a scenario is made to fail on purpose, and how expectations and steps are named.
//! Must not know how a sabotaged scenario is run.

use std::fmt;

use super::super::read::{FromText, Read, Reading, read_text, record, text};
use super::super::tree::Node as TreeNode;
use super::{Cluster, ExpectationId, PhaseId, SabotageId, Step, Topology};

record! {
    "a sabotage";
    /// A change that has to turn one expectation red: proof that it can fail.
    pub struct Sabotage {
        /// Its id.
        pub id: SabotageId,
        /// What is broken, in a line.
        pub title: Option<String>,
        /// What is changed.
        pub change as "do": Change,
        /// The expectation that has to fail then, `PHASE/EXPECTATION`.
        pub must_fail: ExpectationRef,
    }
}

super::super::read::choice! {
    "a sabotage's `do`", "a sabotage";
    /// What a sabotage changes. Everything else, also what references stand for, stays.
    pub enum Change {
        /// One step is left out.
        IgnoreStep(StepRef) as "ignoreStep",
        /// One more step is done, after the other steps of its phase unless `at` says otherwise.
        ExtraStep(ExtraStep) as "extraStep",
        /// The cluster is set up otherwise: only what differs is given.
        Cluster(ClusterChange) as "cluster",
        /// Nodes or segments are otherwise: only what differs is given.
        Topology(TopologyChange) as "topology",
    }
}

record! {
    "an extra step";
    /// A step that only the sabotage does.
    pub struct ExtraStep {
        /// It is done before the first step of this phase; this or `after`.
        pub before: Option<PhaseId>,
        /// It is done after the last step of this phase, before its expectations; this or `before`.
        pub after: Option<PhaseId>,
        /// What is done.
        pub step: Step,
    }
}

/// A whole cluster, made from the scenario's and the keys that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterChange(pub Cluster);

/// A whole topology, made from the scenario's and the keys that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyChange(pub Topology);

impl Read for ClusterChange {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let merged = r.root.get("cluster").map_or_else(|| node.clone(), |base| base.merged(node));
        Cluster::read_whole(&merged, r).map(Self)
    }
}

impl Read for TopologyChange {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let merged = r.root.get("topology").map_or_else(|| node.clone(), |base| base.merged(node));
        Topology::read(&merged, r).map(Self)
    }
}

impl schemars::JsonSchema for ClusterChange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClusterChange".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Cluster::json_schema(generator)
    }
}

impl schemars::JsonSchema for TopologyChange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TopologyChange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The keys of `topology` that differ",
            "type": "object",
            "properties": { "segments": { "type": "object" }, "nodes": { "type": "object" } },
            "additionalProperties": false,
            "minProperties": 1,
        })
    }
}

/// An expectation by phase and id: `PHASE/EXPECTATION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpectationRef {
    /// The phase.
    pub phase: PhaseId,
    /// The expectation.
    pub expectation: ExpectationId,
}

impl fmt::Display for ExpectationRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.phase, self.expectation)
    }
}

impl FromText for ExpectationRef {
    const WANTED: &'static str = "an expectation, `PHASE/EXPECTATION`";
    fn from_text(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(phase, expectation)| {
                Some(Self { phase: phase.parse().ok()?, expectation: expectation.parse().ok()? })
            })
            .ok_or_else(|| format!("`{text}` is not {}", Self::WANTED))
    }
}

impl Read for ExpectationRef {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let named: Self = read_text(node, r)?;
        let all: Vec<String> = r
            .declared
            .phases
            .iter()
            .flat_map(|phase| phase.expectations.iter().map(|id| format!("{}/{id}", phase.id)))
            .collect();
        if all.contains(&named.to_string()) {
            return Some(named);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        r.no_such(node.span, "expectation", &named.to_string(), &all);
        None
    }
}

text!(@schema ExpectationRef, "ExpectationRef", "an expectation, `PHASE/EXPECTATION`", r"^[a-z0-9-]+/[a-z0-9-]+$");

/// A step by phase and number: `PHASE/0` is the first step of a phase.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepRef {
    /// The phase.
    pub phase: PhaseId,
    /// The step, from 0.
    pub index: usize,
}

impl fmt::Display for StepRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.phase, self.index)
    }
}

impl FromText for StepRef {
    const WANTED: &'static str = "a step, `PHASE/NUMBER` with numbers from 0";
    fn from_text(text: &str) -> Result<Self, String> {
        text.split_once('/')
            .and_then(|(phase, index)| Some(Self { phase: phase.parse().ok()?, index: index.parse().ok()? }))
            .ok_or_else(|| format!("`{text}` is not {}", Self::WANTED))
    }
}

impl Read for StepRef {
    fn read(node: &TreeNode, r: &mut Reading<'_>) -> Option<Self> {
        let named: Self = read_text(node, r)?;
        let Some(phase) = r.declared.phases.iter().find(|phase| named.phase == phase.id) else {
            let known: Vec<&str> = r.declared.phases.iter().map(|phase| phase.id).collect();
            r.no_such(node.span, "phase", named.phase.as_str(), &known);
            return None;
        };
        if named.index >= phase.steps {
            let message = match phase.steps {
                0 => format!("phase `{}` has no steps", named.phase),
                1 => format!("phase `{0}` has one step, `{0}/0`", named.phase),
                steps => format!("phase `{}` has the steps 0 to {}", named.phase, steps - 1),
            };
            r.problem(node.span, message);
            return None;
        }
        Some(named)
    }
}

text!(@schema StepRef, "StepRef", "a step, `PHASE/NUMBER` with numbers from 0", r"^[a-z0-9-]+/[0-9]+$");
