//! Owns values in which something is left that only a run knows.
//! Must not know how the run finds it out.

use std::fmt;

use super::model::{BadText, NodeName, ServiceName, WorkloadName};

/// A fact that is known only once a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LateFact {
    /// `${workload.NAME.ip}`: the address of the workload's pod.
    WorkloadIp(WorkloadName),
    /// `${service.NAME.clusterIp}`: the virtual address of the service.
    ServiceClusterIp(ServiceName),
    /// `${node.NAME.tunnelAddress}`: the address of the node's overlay device.
    NodeTunnelAddress(NodeName),
    /// `${node.NAME.podBlock}`: the first block of pod addresses of the node, as a CIDR.
    NodePodBlock(NodeName),
}

impl fmt::Display for LateFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkloadIp(name) => write!(f, "${{workload.{name}.ip}}"),
            Self::ServiceClusterIp(name) => write!(f, "${{service.{name}.clusterIp}}"),
            Self::NodeTunnelAddress(name) => write!(f, "${{node.{name}.tunnelAddress}}"),
            Self::NodePodBlock(name) => write!(f, "${{node.{name}.podBlock}}"),
        }
    }
}

/// A part of a [`Text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is; references that were known before the run are in it already.
    Literal(String),
    /// To be filled in by the run.
    Late(LateFact),
}

/// A text, perhaps with facts in it that only a run knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(Vec<Piece>);

/// Gives the value of a late fact, if it is known by now.
pub type Lookup<'l> = &'l dyn Fn(&LateFact) -> Option<String>;

/// Why a [`Text`] or a [`Late`] value could not be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The run does not know the fact (yet).
    #[error("`{0}` is not known yet")]
    Unknown(LateFact),
    /// The completed text does not mean what is wanted there.
    #[error("`{text}` (from `{written}`): {wrong}")]
    Bad {
        /// The completed text.
        text: String,
        /// As it was written.
        written: String,
        /// What is wrong with it.
        wrong: BadText,
    },
}

impl Text {
    /// A text without references.
    #[must_use]
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Piece::Literal(text.into())])
    }

    /// The parts, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text, if nothing is left for the run to fill in.
    #[must_use]
    pub fn fixed(&self) -> Option<String> {
        self.resolve(&|_| None).ok()
    }

    /// The text with each late fact filled in.
    ///
    /// # Errors
    /// [`ResolveError::Unknown`] with the first fact that `lookup` does not know.
    pub fn resolve(&self, lookup: Lookup<'_>) -> Result<String, ResolveError> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(part) => text.push_str(part),
                Piece::Late(fact) => {
                    let value = lookup(fact).ok_or_else(|| ResolveError::Unknown(fact.clone()))?;
                    text.push_str(&value);
                }
            }
        }
        Ok(text)
    }

    pub(super) const fn of(pieces: Vec<Piece>) -> Self {
        Self(pieces)
    }

    pub(super) fn late_facts(&self) -> impl Iterator<Item = &LateFact> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Late(fact) => Some(fact),
            Piece::Literal(_) => None,
        })
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(part) => f.write_str(part),
            Piece::Late(fact) => fact.fmt(f),
        })
    }
}

/// A value that is either known from the file or completed by the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Late<T> {
    /// Known now.
    Known(T),
    /// A text that means a `T` once its references are filled in.
    AtRun(Text),
}

impl<T: std::str::FromStr<Err = BadText> + Clone> Late<T> {
    /// The value, with each late fact filled in.
    ///
    /// # Errors
    /// A fact that `lookup` does not know, or a completed text that is no `T`.
    pub fn resolve(&self, lookup: Lookup<'_>) -> Result<T, ResolveError> {
        match self {
            Self::Known(value) => Ok(value.clone()),
            Self::AtRun(written) => {
                let text = written.resolve(lookup)?;
                text.parse().map_err(|wrong| ResolveError::Bad {
                    text: text.clone(),
                    written: written.to_string(),
                    wrong,
                })
            }
        }
    }
}

impl<T: fmt::Display> fmt::Display for Late<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::AtRun(text) => text.fmt(f),
        }
    }
}
