#![allow(clippy::unwrap_used, clippy::expect_used)]
use jiff::Timestamp;
use rstest::rstest;

use super::*;
use crate::event::{Detail, InfraKind, Severity, SkipCause};

fn case(name: &str, claim: Option<Claim>) -> Case {
    Case {
        id: format!("a.b/p/{name}").into(),
        scenario: "a.b".into(),
        phase: "p".into(),
        expectation: name.into(),
        file: "scenarios/a/b.yaml".into(),
        line: 7,
        claim,
        severity: Severity::Medium,
        owner: None,
    }
}

fn claim(docs: &str) -> Claim {
    Claim { id: "c".into(), text: "it is so".into(), docs: docs.into(), ..Claim::default() }
}

fn seen(verdicts: &mut Verdicts, case: &Case, outcome: Outcome) {
    let judged = ExpectationJudged {
        case: case.clone(),
        outcome,
        took_ms: 1,
        time_to_true_ms: None,
        samples: 1,
        detail: Detail { note: Some("seen".into()), ..Detail::default() },
    };
    verdicts.record(&Event::new(Timestamp::UNIX_EPOCH, judged));
}

fn xfail() -> Outcome {
    Outcome::XFail { reason: "known".into(), reference: Some("issue 1".into()) }
}

fn error() -> Outcome {
    Outcome::Error { kind: InfraKind::Probe, message: "broken".into() }
}

fn skipped() -> Outcome {
    Outcome::Skipped { cause: SkipCause::Unsupported, reason: "lacks x".into(), enable: None }
}

#[rstest]
#[case::holds(&[Some(Outcome::Pass)], Standing::Confirmed)]
#[case::fails(&[Some(xfail())], Standing::Refuted)]
#[case::one_against_is_enough(&[Some(Outcome::Pass), Some(xfail())], Standing::Refuted)]
#[case::doubt_confirms_nothing(&[Some(Outcome::Pass), Some(error())], Standing::Undecided)]
#[case::what_was_skipped_takes_nothing_away(&[Some(Outcome::Pass), Some(skipped())], Standing::Confirmed)]
#[case::skipped(&[Some(skipped()), None], Standing::Untested)]
fn claims_stand_by_their_evidence(#[case] outcomes: &[Option<Outcome>], #[case] standing: Standing) {
    let cases: Vec<Case> = (0..outcomes.len()).map(|n| case(&format!("e{n}"), Some(claim("d.md#top")))).collect();
    let mut verdicts = Verdicts::default();
    for (case, outcome) in cases.iter().zip(outcomes) {
        if let Some(outcome) = outcome {
            seen(&mut verdicts, case, outcome.clone());
        }
    }
    let findings = findings(&verdicts, &cases, &BTreeMap::new());
    let [claim] = findings.claims().collect::<Vec<_>>()[..] else { panic!("{findings:?}") };
    assert_eq!(claim.standing, standing);
    assert_eq!(claim.evidence.len(), outcomes.len());
    let why: &[&str] = match standing {
        Standing::Undecided => &["infra.probe: broken"],
        Standing::Untested => &["lacks x", "not part of this run"],
        _ => &[],
    };
    assert_eq!(claim.why, why);
}

#[test]
fn an_expectation_of_the_truth_refutes_where_it_holds_and_proves_nothing_where_it_fails() {
    let against = Claim { refutes: true, instead: Some("not so".into()), ..claim("d.md#top") };
    let case = case("truth", Some(against));
    for (outcome, standing) in [(Outcome::Pass, Standing::Refuted), (xfail(), Standing::Undecided)] {
        let mut verdicts = Verdicts::default();
        seen(&mut verdicts, &case, outcome);
        let findings = findings(&verdicts, std::slice::from_ref(&case), &BTreeMap::new());
        assert_eq!(findings.claims().next().unwrap().standing, standing);
    }
}

#[test]
fn sections_keep_the_order_of_the_document_and_say_why_they_are_empty() {
    let mut document = Document::read("# Top\n## B\ntext\n## A\ntext\n## Links\ntext\n");
    document.untestable.insert("links".into(), "a list".into());
    let documents = BTreeMap::from([("d.md".to_string(), document)]);
    let cases = [case("e", Some(claim("d.md#a")))];
    let found = findings(&Verdicts::default(), &cases, &documents);
    let sections: Vec<(&str, Option<&str>)> = found.documents[0]
        .sections
        .iter()
        .map(|section| (section.title.as_str(), section.without.as_deref()))
        .collect();
    let missing = "no scenario names a claim of this section";
    assert_eq!(sections, [("Top", None), ("B", Some(missing)), ("A", None), ("Links", Some("a list"))]);

    let gaps: Vec<String> = gaps(&cases, &Verdicts::default(), &documents).iter().map(ToString::to_string).collect();
    assert_eq!(gaps, [format!("d.md#b: {missing}"), "a.b/p/e: never judged: there is no verdict".to_string()]);
}
