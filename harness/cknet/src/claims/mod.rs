//! What a run says about a document: claim by claim in the order of its sections, and which headings nobody tests.
//!
//! Pure: made from cases, verdicts and the document's headings. It must not know how it is shown.

mod coverage;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::coverage::{Gap, gaps};

use crate::event::{Case, CaseId, Claim, Event, ExpectationJudged, Fidelity, Outcome, RunStarted, What};
use crate::report::in_short;
use crate::scenario::Document;

/// What is known of a run that bears on claims.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    pub run: Option<Box<RunStarted>>,
    judged: BTreeMap<CaseId, ExpectationJudged>,
}

impl Verdicts {
    /// Takes one event into account.
    pub fn record(&mut self, event: &Event) {
        match &event.what {
            What::RunStarted(run) => self.run = Some(run.clone()),
            What::ExpectationJudged(judged) => {
                self.judged.insert(judged.case.id.clone(), ExpectationJudged::clone(judged));
            }
            _ => {}
        }
    }

    /// The verdict on a case.
    pub fn of(&self, case: &CaseId) -> Option<&ExpectationJudged> {
        self.judged.get(case)
    }

    /// All cases that the run meant to judge.
    pub fn planned(&self) -> impl Iterator<Item = &Case> {
        self.run.iter().flat_map(|run| run.planned.iter().flat_map(|scenario| &scenario.cases))
    }
}

/// What a run says about all documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    pub run: String,
    pub distribution: String,
    pub provider: String,
    pub fidelity: Fidelity,
    /// What the findings may be quoted for.
    pub statement: String,
    pub documents: Vec<DocumentFindings>,
}

/// What a run says about one document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DocumentFindings {
    pub file: String,
    pub sections: Vec<SectionFindings>,
}

/// A heading and the claims below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SectionFindings {
    pub level: usize,
    pub title: String,
    pub anchor: String,
    /// Why there is no claim, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<String>,
    pub claims: Vec<ClaimFindings>,
}

/// What a run says about a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimFindings {
    pub id: String,
    pub text: String,
    pub docs: String,
    pub standing: Standing,
    /// Why it is not decided or not tested here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// What is true instead, as far as a scenario says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub evidence: Vec<Evidence>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Confirmed,
    Refuted,
    /// Something spoke neither for nor against it, and nothing against it.
    Undecided,
    Untested,
}

impl Standing {
    pub const ALL: [Self; 4] = [Self::Confirmed, Self::Refuted, Self::Undecided, Self::Untested];

    /// The word for it in every report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
            Self::Untested => "untested",
        }
    }
}

/// A case that was to decide on a claim, and what it came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    pub case: String,
    /// The scenario file and line.
    pub place: String,
    pub says: Says,
    pub outcome: String,
    /// What was seen, or why nothing was.
    pub observed: String,
}

/// What a case says about its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    For,
    Against,
    /// It was tried and nothing can be said.
    Nothing,
    NotTried,
}

/// Everything that `verdicts` say about the claims of `known` cases, and of those of the run itself.
pub fn findings(verdicts: &Verdicts, known: &[Case], documents: &BTreeMap<String, Document>) -> Findings {
    let mut cases: BTreeMap<&CaseId, &Case> = known.iter().map(|case| (&case.id, case)).collect();
    // What the run was about is as it was then, whatever the files say now.
    cases.extend(verdicts.planned().map(|case| (&case.id, case)));
    let mut by_passage: BTreeMap<&str, Vec<ClaimFindings>> = BTreeMap::new();
    for (case, claim) in cases.values().filter_map(|case| Some((*case, case.claim.as_ref()?))) {
        let claims = by_passage.entry(&claim.docs).or_default();
        let evidence = evidence(case, claim, verdicts.of(&case.id));
        match claims.iter_mut().find(|known| known.id == claim.id && known.text == claim.text) {
            Some(known) => known.evidence.push(evidence),
            None => claims.push(of_claim(claim, evidence)),
        }
    }
    for claim in by_passage.values_mut().flatten() {
        claim.conclude();
    }
    let run = verdicts.run.as_deref();
    let distribution = run.map(|run| run.distribution.clone()).unwrap_or_default();
    let fidelity = run.map_or(Fidelity::Model, |run| run.fidelity);
    Findings {
        run: run.map(|run| run.run.to_string()).unwrap_or_default(),
        statement: fidelity.statement(&distribution),
        distribution,
        provider: run.map(|run| run.provider.clone()).unwrap_or_default(),
        fidelity,
        documents: in_sections(&by_passage, documents),
    }
}

fn of_claim(claim: &Claim, evidence: Evidence) -> ClaimFindings {
    ClaimFindings {
        id: claim.id.clone(),
        text: claim.text.clone(),
        docs: claim.docs.clone(),
        standing: Standing::Untested,
        why: Vec::new(),
        instead: claim.instead.clone(),
        reference: claim.reference.clone(),
        evidence: vec![evidence],
    }
}

impl ClaimFindings {
    /// Concludes from the evidence.
    fn conclude(&mut self) {
        let any = |wanted| self.evidence.iter().any(|evidence| evidence.says == wanted);
        self.standing = match (any(Says::Against), any(Says::Nothing), any(Says::For)) {
            (true, _, _) => Standing::Refuted,
            (false, true, _) => Standing::Undecided,
            (false, false, true) => Standing::Confirmed,
            (false, false, false) => Standing::Untested,
        };
        if matches!(self.standing, Standing::Undecided | Standing::Untested) {
            let open = self.evidence.iter().filter(|evidence| matches!(evidence.says, Says::Nothing | Says::NotTried));
            for evidence in open {
                if !self.why.contains(&evidence.observed) {
                    self.why.push(evidence.observed.clone());
                }
            }
        }
    }

    /// Whether something speaks for it and something against it.
    pub fn in_part(&self) -> bool {
        self.standing == Standing::Refuted && self.evidence.iter().any(|evidence| evidence.says == Says::For)
    }
}

fn evidence(case: &Case, claim: &Claim, judged: Option<&ExpectationJudged>) -> Evidence {
    let (says, outcome, observed) = match judged {
        None => (Says::NotTried, "not run", "not part of this run".to_string()),
        Some(judged) => says(claim, judged),
    };
    Evidence {
        case: case.id.to_string(),
        place: format!("{}:{}", case.file, case.line),
        says,
        outcome: outcome.to_string(),
        observed,
    }
}

/// What a verdict says about the claim, and what was seen.
fn says(claim: &Claim, judged: &ExpectationJudged) -> (Says, &'static str, String) {
    let holds = if claim.refutes { Says::Against } else { Says::For };
    // That the opposite of a claim does not hold here is no proof of the claim.
    let fails = if claim.refutes { Says::Nothing } else { Says::Against };
    let note = || judged.detail.note.clone().unwrap_or_else(|| "as expected".into());
    let with = |reason: &str, reference: &Option<String>| match reference {
        Some(reference) => format!("{reason} ({reference})"),
        None => reason.to_string(),
    };
    let (says, observed) = match &judged.outcome {
        Outcome::Pass => (holds, note()),
        Outcome::Flaky { .. } => (holds, format!("{}, but not at the first try", note())),
        Outcome::XPass { .. } => (holds, format!("{}, though expected to fail", note())),
        Outcome::Fail { failure, .. } => (fails, in_short(failure)),
        Outcome::XFail { reason, reference } => (fails, with(reason, reference)),
        Outcome::Error { kind, message } => (Says::Nothing, format!("{kind}: {message}")),
        Outcome::Aborted { reason } => (Says::Nothing, reason.clone()),
        Outcome::Skipped { reason, .. } => (Says::NotTried, reason.clone()),
    };
    (says, judged.outcome.standing().as_str(), observed)
}

/// The claims under the headings of their documents; passages of unknown documents in the order of their anchors.
fn in_sections(
    by_passage: &BTreeMap<&str, Vec<ClaimFindings>>,
    documents: &BTreeMap<String, Document>,
) -> Vec<DocumentFindings> {
    let claims = |file: &str, anchor: &str| by_passage.get(format!("{file}#{anchor}").as_str()).cloned();
    let known = documents.iter().map(|(file, document)| DocumentFindings {
        file: file.clone(),
        sections: document
            .sections
            .iter()
            .map(|section| {
                let claims = claims(file, &section.anchor).unwrap_or_default();
                let exempt = document.untestable.get(&section.anchor).cloned();
                let without = match (claims.is_empty(), section.has_text) {
                    (true, true) => Some(exempt.unwrap_or_else(|| "no scenario names a claim of this section".into())),
                    _ => None,
                };
                SectionFindings {
                    level: section.level,
                    title: section.title.clone(),
                    anchor: section.anchor.clone(),
                    without,
                    claims,
                }
            })
            .collect(),
    });
    let mut all: Vec<DocumentFindings> = known.collect();
    for (passage, claims) in by_passage {
        let (file, anchor) = passage.split_once('#').unwrap_or((passage, ""));
        if documents.get(file).is_some_and(|document| document.section(anchor).is_some()) {
            continue;
        }
        let section = SectionFindings {
            level: 2,
            title: format!("#{anchor}"),
            anchor: anchor.to_string(),
            without: None,
            claims: claims.clone(),
        };
        match all.iter_mut().find(|document| document.file == file) {
            Some(document) => document.sections.push(section),
            None => all.push(DocumentFindings { file: file.to_string(), sections: vec![section] }),
        }
    }
    all
}

impl Findings {
    /// Only what is about this document.
    #[must_use]
    pub fn of_document(mut self, file: &str) -> Self {
        self.documents.retain(|document| document.file == file);
        self
    }

    /// All claims in order.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimFindings> {
        self.documents.iter().flat_map(|document| document.sections.iter().flat_map(|section| &section.claims))
    }

    /// How many claims stand so.
    pub fn count(&self, standing: Standing) -> usize {
        self.claims().filter(|claim| claim.standing == standing).count()
    }

    /// What is to be corrected in documents.
    pub fn refuted(&self) -> impl Iterator<Item = &ClaimFindings> {
        self.claims().filter(|claim| claim.standing == Standing::Refuted)
    }
}

#[cfg(test)]
mod tests;
