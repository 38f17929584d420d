//! Owns the results that a case can have. It must not know how a result was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Failure;

/// The part of the machinery that broke, when nothing was disproved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InfraKind {
    #[serde(rename = "infra.preflight")]
    Preflight,
    #[serde(rename = "infra.provision")]
    Provision,
    #[serde(rename = "infra.bootstrap")]
    Bootstrap,
    #[serde(rename = "infra.step")]
    Step,
    #[serde(rename = "infra.probe")]
    Probe,
    #[serde(rename = "infra.control")]
    Control,
    #[serde(rename = "infra.restore")]
    Restore,
    #[serde(rename = "infra.cleanup")]
    Cleanup,
    #[serde(rename = "infra.internal")]
    Internal,
}

impl InfraKind {
    /// The published name, `infra.*`; the `type` of a JUnit error.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "infra.preflight",
            Self::Provision => "infra.provision",
            Self::Bootstrap => "infra.bootstrap",
            Self::Step => "infra.step",
            Self::Probe => "infra.probe",
            Self::Control => "infra.control",
            Self::Restore => "infra.restore",
            Self::Cleanup => "infra.cleanup",
            Self::Internal => "infra.internal",
        }
    }
}

impl fmt::Display for InfraKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a case did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipCause {
    /// The provider, distribution or machine lacks something.
    #[default]
    Unsupported,
    /// Something before it in the same scenario made it pointless.
    Dependent,
    /// Nobody asked for it.
    Deselected,
}

/// An earlier try of a case that was tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Attempt {
    Failed { failure: Box<Failure>, took_ms: u64 },
    Errored { kind: InfraKind, message: String, took_ms: u64 },
}

/// The verdict on a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Outcome {
    Pass,
    /// The expectation was refuted, at every try.
    Fail {
        failure: Box<Failure>,
        /// The tries before the last one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        earlier: Vec<Attempt>,
    },
    /// Nothing was proved or disproved.
    Error {
        kind: InfraKind,
        message: String,
    },
    Skipped {
        #[serde(default)]
        cause: SkipCause,
        reason: String,
        /// The command that would make it run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        enable: Option<String>,
    },
    /// It failed as the scenario file says it does.
    XFail {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// The scenario file says that it fails, and it did not.
    XPass {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// It held, but not at the first try.
    Flaky {
        earlier: Vec<Attempt>,
    },
    /// The run ended while it was under way.
    Aborted {
        reason: String,
    },
}

/// An outcome without its contents, ordered from harmless to grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    Skipped,
    XFail,
    Pass,
    Flaky,
    Aborted,
    Error,
    XPass,
    Fail,
}

impl Outcome {
    /// False for a case that nobody asked for: it counts nowhere.
    pub fn is_selected(&self) -> bool {
        !matches!(self, Self::Skipped { cause: SkipCause::Deselected, .. })
    }

    /// What kind of outcome this is.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Pass => Standing::Pass,
            Self::Fail { .. } => Standing::Fail,
            Self::Error { .. } => Standing::Error,
            Self::Skipped { .. } => Standing::Skipped,
            Self::XFail { .. } => Standing::XFail,
            Self::XPass { .. } => Standing::XPass,
            Self::Flaky { .. } => Standing::Flaky,
            Self::Aborted { .. } => Standing::Aborted,
        }
    }
}

impl Standing {
    /// The word for it in every report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::XFail => "xfail",
            Self::XPass => "xpass",
            Self::Flaky => "flaky",
            Self::Aborted => "aborted",
        }
    }
}
