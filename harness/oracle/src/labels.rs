//! Labels and label selectors, with Kubernetes' rules of matching.
//!
//! Must not know what a selector selects: pods and namespaces are matched by the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The labels of one object.
pub type Labels = BTreeMap<String, String>;

/// The label that Kubernetes sets on every namespace, holding the namespace's own name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A label selector: every requirement must hold, so that no requirement means every object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement of a selector. A `matchLabels` entry is an `Is`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The key is there with exactly this value.
    Is(String, String),
    /// The key is there with one of these values.
    In(String, BTreeSet<String>),
    /// The key is absent, or has none of these values.
    NotIn(String, BTreeSet<String>),
    /// The key is there, whatever its value.
    Exists(String),
    /// The key is absent.
    DoesNotExist(String),
}

impl Selector {
    /// The selector `{}`: every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// A selector of these requirements, all of which must hold.
    pub fn of(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self { requirements: requirements.into_iter().collect() }
    }

    /// The selector that a plain map of labels stands for, as in a Service or in `matchLabels`.
    pub fn labels(labels: &Labels) -> Self {
        Self::of(labels.iter().map(|(key, value)| Requirement::Is(key.clone(), value.clone())))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }

    /// Whether this is `{}`.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// What the selector demands, in the order it was written (`matchLabels` first).
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl Requirement {
    /// The label key that the requirement looks at.
    pub fn key(&self) -> &str {
        match self {
            Self::Is(key, _) | Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::DoesNotExist(key) => {
                key
            }
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let found = labels.get(self.key());
        match self {
            Self::Is(_, value) => found == Some(value),
            Self::In(_, values) => found.is_some_and(|found| values.contains(found)),
            Self::NotIn(_, values) => found.is_none_or(|found| !values.contains(found)),
            Self::Exists(_) => found.is_some(),
            Self::DoesNotExist(_) => found.is_none(),
        }
    }
}

/// Written as `kubectl --selector` takes it; the empty selector is written `{}`.
impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return out.write_str("{}");
        }
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                out.write_str(",")?;
            }
            write!(out, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
        match self {
            Self::Is(key, value) => write!(out, "{key}={value}"),
            Self::In(key, values) => write!(out, "{key} in ({})", listed(values)),
            Self::NotIn(key, values) => write!(out, "{key} notin ({})", listed(values)),
            Self::Exists(key) => out.write_str(key),
            Self::DoesNotExist(key) => write!(out, "!{key}"),
        }
    }
}

/// `app=web,tier=front`, or `no labels`: for sentences about an object.
pub(crate) struct Listed<'a>(pub &'a Labels);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("no labels");
        }
        for (position, (key, value)) in self.0.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            write!(out, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}
