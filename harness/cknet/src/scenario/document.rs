//! Owns what is known of a document under test: its headings, and which of them nobody can test.
//! Must not know scenarios and claims.

use std::collections::BTreeMap;

use super::outline::Outline;

/// A document under test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Its headings in order.
    pub sections: Vec<Section>,
    /// Headings without anything that a cluster could confirm or refute, by anchor, and why.
    pub untestable: BTreeMap<String, String>,
}

/// A heading and what follows it up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// 1 for `#`.
    pub level: usize,
    pub title: String,
    /// As GitHub makes it: lower case, spaces to `-`, punctuation and symbols removed, a number behind repeated ones.
    pub anchor: String,
    /// Whether there is more in it than other headings.
    pub has_text: bool,
}

impl Document {
    /// Divides a text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self { sections: Outline::of(text).sections, untestable: BTreeMap::new() }
    }

    /// The section with that anchor.
    #[must_use]
    pub fn section(&self, anchor: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.anchor == anchor)
    }
}
