//! Owns what is known of a refuted expectation, as data. It must not know how it is worded: that is
//! `report::failure`, so that the terminal, JUnit and anything else cannot disagree.

use serde::{Deserialize, Serialize};

/// A refuted expectation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// `<expectation>.<what was seen>`, such as `connectivity.dropped`; the `type` of a JUnit failure.
    pub kind: String,
    pub expected: Expected,
    pub observed: Observed,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<LostAt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// The likely cause, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the document under test says that one should do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// What the rules of Kubernetes predict for each flow that is not as expected, and because of which rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The command that does it again and keeps the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// The command that opens a shell where the trouble is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Attachment>,
}

/// One end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// The time an expectation is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Milliseconds within which it must become true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// Milliseconds for which it must then stay true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What the scenario file demands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Expected {
    /// One flow has one outcome.
    Flow { from: Endpoint, to: Endpoint, port: String, is: String, window: Window },
    /// Anything else: `subject` (a node, a route, an object) is `is`.
    State { subject: String, is: String, window: Window },
}

/// How often one outcome was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub is: String,
    pub times: u32,
}

/// What another flow did at the same time, to tell a refusal from an outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    pub name: String,
    pub is: String,
}

/// What was seen instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Each outcome seen, the most frequent first; one entry for a state.
    pub seen: Vec<Seen>,
    /// Milliseconds over which it was watched.
    pub over_ms: u64,
    /// Age of the last look in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ago_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
}

/// A passage of the document under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub text: String,
    /// `FILE.md#anchor`.
    pub docs: String,
}

/// The place that swallowed the packets: a rule whose counter rose meanwhile, or an interface to which they did not
/// come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostAt {
    pub node: String,
    /// Table and chain, or a device.
    pub place: String,
    /// By how much its drop counter rose; 0 where nothing counts them.
    pub drops: u64,
    /// What the rule there matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<LastSeen>,
    /// Where it should have appeared next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<LastSeen>,
    /// It is the answer that was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer: bool,
}

/// A place where the flow was still seen, or should have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// `leaving` or `entering`.
    pub direction: String,
    pub node: String,
    pub device: String,
}

/// A table of flows, rows to columns, as the scenario file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    pub columns: Vec<String>,
    pub rows: Vec<MatrixRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixRow {
    pub name: String,
    pub cells: Vec<MatrixCell>,
}

/// One flow of the table. A cell that the file leaves open expects nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixCell {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
}

impl MatrixCell {
    /// Whether the file demands something here that was not seen.
    pub fn is_wrong(&self) -> bool {
        self.expected.is_some() && self.expected != self.observed
    }
}

/// A file that was written for a case, by path relative to the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub path: String,
    /// What it is: `bundle`, `pcap`, `journal`.
    pub label: String,
}

impl Attachment {
    /// The file of a bundle that names the others: readers of reports link to files, not to folders.
    pub const INDEX: &'static str = "index.txt";

    /// The files in a folder.
    pub fn bundle(folder: &str) -> Self {
        Self { path: format!("{folder}/{}", Self::INDEX), label: "bundle".into() }
    }

    /// In words: of a bundle the folder in which all of it lies.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.path.strip_suffix(Self::INDEX).unwrap_or(&self.path), self.label)
    }
}
