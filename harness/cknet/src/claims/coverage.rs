//! What nobody tests: headings without a claim, and expectations that were never judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Case, Standing};
use crate::scenario::Document;

use super::Verdicts;

/// Something that is not covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// A heading of a document that no claim names, and that is not exempt.
    Heading { file: String, anchor: String },
    /// An exempt heading about which there is a claim after all.
    Exempt { file: String, anchor: String },
    /// An expectation that was not judged, and why.
    Case { case: String, why: String },
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Heading { file, anchor } => write!(f, "{file}#{anchor}: no scenario names a claim of this section"),
            Self::Exempt { file, anchor } => {
                write!(f, "{file}#{anchor}: listed as untestable, and a scenario names a claim of it")
            }
            Self::Case { case, why } => write!(f, "{case}: never judged: {why}"),
        }
    }
}

/// Every gap in what `cases` cover of `documents`. What a machine cannot do is no gap.
pub fn gaps(cases: &[Case], verdicts: &Verdicts, documents: &BTreeMap<String, Document>) -> Vec<Gap> {
    let passages: BTreeSet<&str> =
        cases.iter().filter_map(|case| case.claim.as_ref()).map(|claim| claim.docs.as_str()).collect();
    let mut gaps = Vec::new();
    for (file, document) in documents {
        for section in &document.sections {
            let named = passages.contains(format!("{file}#{}", section.anchor).as_str());
            let exempt = document.untestable.contains_key(&section.anchor);
            let (file, anchor) = (file.clone(), section.anchor.clone());
            match (named, exempt, section.has_text) {
                (false, false, true) => gaps.push(Gap::Heading { file, anchor }),
                (true, true, _) => gaps.push(Gap::Exempt { file, anchor }),
                _ => {}
            }
        }
    }
    for case in cases {
        let why = match verdicts.of(&case.id) {
            None => "there is no verdict".to_string(),
            Some(judged) => match judged.outcome.standing() {
                Standing::Error | Standing::Aborted => judged.outcome.standing().as_str().to_string(),
                _ => continue,
            },
        };
        gaps.push(Gap::Case { case: case.id.to_string(), why });
    }
    gaps
}
