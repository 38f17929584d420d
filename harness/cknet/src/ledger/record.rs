//! Owns the form of a ledger line. It must not know files.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Owner;

/// The detail of a cluster that names its nodes, with blanks between them.
pub const NODES: &str = "nodes";

/// The detail of a cluster that says when it is taken down by itself.
pub const UNTIL: &str = "until";

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    #[serde(flatten)]
    pub record: Record,
}

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// The process that answers for the run. Always the first line.
    Owner(Owner),
    /// The thing is about to be made; it may exist from here on.
    Intent(Resource),
    /// The thing exists; `details` may say more than the intent did.
    Created(Resource),
    /// The thing is gone.
    Destroyed(ResourceKey),
    /// Nothing is left.
    Closed {},
}

/// What identifies a thing within a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// `vm`, `network`, `namespace`, ...: what it takes to destroy it.
    pub kind: String,
    pub provider: String,
    /// The provider's name for it. It carries the run id.
    pub name: String,
}

/// A thing that a run makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    #[serde(flatten)]
    pub key: ResourceKey,
    /// Whatever destroying it needs beyond the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Resource {
    /// A thing without details.
    pub fn new(kind: impl Into<String>, provider: impl Into<String>, name: impl Into<String>) -> Self {
        let key = ResourceKey { kind: kind.into(), provider: provider.into(), name: name.into() };
        Self { key, details: BTreeMap::new() }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }
}
