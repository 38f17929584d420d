//! Owns how one verdict becomes one `<testcase>`, and how several become one. It must not know XML.

use crate::event::{Attempt, Case, Detail, ExpectationJudged, Outcome};
use crate::report::gather::Heard;
use crate::report::{failure, units};

/// A `<testcase>`; texts are as they came, cleaning and cutting is the writer's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TestCase {
    pub name: String,
    pub time_ms: u64,
    pub location: Option<(String, u32)>,
    pub assertions: u32,
    pub properties: Vec<(&'static str, String)>,
    pub verdict: Verdict,
    /// Earlier tries: `flaky*` elements when it passed in the end, `rerun*` elements when it failed.
    pub reruns: Vec<Rerun>,
    pub output: Vec<String>,
    /// What is shown only on demand: output of cases that passed.
    pub quiet_output: Vec<String>,
}

/// Ordered from harmless to grave; the gravest of several counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Verdict {
    Skipped {
        kind: Option<&'static str>,
        message: String,
    },
    #[default]
    Passed,
    Error(Trouble),
    Failure(Trouble),
}

/// The contents of `<failure>` and `<error>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub kind: String,
    pub message: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rerun {
    pub refuted: bool,
    pub trouble: Trouble,
}

/// The case as the report shows it, whether it has run or not.
pub fn testcase(heard: &Heard, name: String) -> TestCase {
    let case = &heard.case;
    let mut testcase = TestCase {
        name,
        location: Some((case.file.clone(), case.line)),
        properties: case_properties(case),
        ..TestCase::default()
    };
    match &heard.judged {
        None => testcase.verdict = aborted("not run: the run ended before this case"),
        Some(judged) => add_verdict(&mut testcase, judged),
    }
    testcase
}

fn case_properties(case: &Case) -> Vec<(&'static str, String)> {
    let mut properties = Vec::new();
    if let Some(claim) = &case.claim {
        properties.push(("claim", claim.id.clone()));
        properties.push(("docs", claim.docs.clone()));
    }
    properties.push(("severity", case.severity.as_str().to_owned()));
    properties.extend(case.owner.iter().map(|owner| ("owner", owner.clone())));
    properties
}

fn add_verdict(testcase: &mut TestCase, judged: &ExpectationJudged) {
    let ExpectationJudged { case, outcome, took_ms, time_to_true_ms, samples, detail } = judged;
    testcase.time_ms = *took_ms;
    testcase.assertions = *samples;
    testcase.properties.extend(time_to_true_ms.iter().map(|ms| ("time-to-true-ms", ms.to_string())));
    if *samples > 0 {
        testcase.properties.push(("samples", samples.to_string()));
    }
    let (verdict, earlier) = verdict(case, outcome);
    testcase.verdict = verdict;
    testcase.reruns = earlier.iter().map(|attempt| rerun(case, attempt)).collect();
    add_evidence(testcase, outcome, detail);
}

fn add_evidence(testcase: &mut TestCase, outcome: &Outcome, detail: &Detail) {
    let of_failure = match outcome {
        Outcome::Fail { failure, .. } => &failure.evidence[..],
        _ => &[],
    };
    attach(testcase, detail.evidence.iter().chain(of_failure).map(|attachment| attachment.path.as_str()));
    let printed = detail.note.iter().chain(&detail.output).cloned();
    if is_trouble(&testcase.verdict) {
        testcase.output.extend(printed);
    } else {
        testcase.quiet_output = printed.collect();
    }
}

/// Names files that belong to a case, each once.
pub fn attach<'a>(testcase: &mut TestCase, files: impl Iterator<Item = &'a str>) {
    let mut paths: Vec<&str> = Vec::new();
    for path in files {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    testcase.properties.extend(paths.iter().map(|path| ("attachment", (*path).to_owned())));
    if is_trouble(&testcase.verdict) {
        // GitLab takes the first of these lines, and only when it stands alone.
        testcase.output.extend(paths.iter().map(|path| format!("[[ATTACHMENT|{path}]]")));
    }
}

fn is_trouble(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Failure(_) | Verdict::Error(_))
}

fn verdict<'a>(case: &Case, outcome: &'a Outcome) -> (Verdict, &'a [Attempt]) {
    let verdict = match outcome {
        Outcome::Pass => Verdict::Passed,
        Outcome::Flaky { earlier } => return (Verdict::Passed, earlier),
        Outcome::Fail { failure, earlier } => {
            let trouble = Trouble {
                kind: failure.kind.clone(),
                message: failure::in_short(failure),
                text: failure::block(case, failure),
            };
            return (Verdict::Failure(trouble), earlier);
        }
        Outcome::Error { kind, message } => Verdict::Error(Trouble {
            kind: kind.as_str().to_owned(),
            message: message.clone(),
            text: format!("{}\n{message}", failure::headline(case)),
        }),
        Outcome::Skipped { reason, enable, .. } => {
            let enable = enable.as_ref().map_or_else(String::new, |command| format!("; to run it: {command}"));
            Verdict::Skipped { kind: None, message: format!("{reason}{enable}") }
        }
        Outcome::XFail { reason, reference } => {
            Verdict::Skipped { kind: Some("xfail"), message: with_reference(reason, reference.as_deref()) }
        }
        Outcome::XPass { reason, reference } => {
            let message = format!("expected to fail, and passed: {}", with_reference(reason, reference.as_deref()));
            let text = format!("{}\n{message}", failure::headline(case));
            Verdict::Failure(Trouble { kind: "xpass".into(), message, text })
        }
        Outcome::Aborted { reason } => aborted(reason),
    };
    (verdict, &[])
}

fn with_reference(reason: &str, reference: Option<&str>) -> String {
    reference.map_or_else(|| reason.to_owned(), |reference| format!("{reason} ({reference})"))
}

/// A case that was begun or planned and has no verdict.
pub fn aborted(reason: &str) -> Verdict {
    Verdict::Error(Trouble { kind: "aborted".into(), message: reason.to_owned(), text: String::new() })
}

fn rerun(case: &Case, attempt: &Attempt) -> Rerun {
    let took = |ms: u64| format!("gave up after {}", units::measured(ms));
    match attempt {
        Attempt::Failed { failure, took_ms } => {
            let text = format!("{}\n{}", failure::block(case, failure), took(*took_ms));
            let trouble = Trouble { kind: failure.kind.clone(), message: failure::in_short(failure), text };
            Rerun { refuted: true, trouble }
        }
        Attempt::Errored { kind, message, took_ms } => {
            let text = format!("{message}\n{}", took(*took_ms));
            let trouble = Trouble { kind: kind.as_str().to_owned(), message: message.clone(), text };
            Rerun { refuted: false, trouble }
        }
    }
}

/// One test case for several: the gravest verdict with the texts of all that are as grave, the sum of the times.
/// Without any there is none.
pub fn fold(name: String, parts: Vec<TestCase>) -> Option<TestCase> {
    let gravest = parts.iter().map(|part| gravity(&part.verdict)).max()?;
    let as_grave = || parts.iter().filter(|part| gravity(&part.verdict) == gravest);
    let first = as_grave().next()?;
    let mut folded =
        TestCase { name, location: first.location.clone(), verdict: first.verdict.clone(), ..TestCase::default() };
    let more = as_grave().count() - 1;
    let texts: Vec<&str> = as_grave().filter_map(|part| text(&part.verdict)).filter(|text| !text.is_empty()).collect();
    match &mut folded.verdict {
        Verdict::Error(trouble) | Verdict::Failure(trouble) => {
            trouble.text = texts.join("\n\n");
            add_more(&mut trouble.message, more);
        }
        Verdict::Skipped { message, .. } => add_more(message, more),
        Verdict::Passed => {}
    }
    for part in parts {
        folded.time_ms = folded.time_ms.saturating_add(part.time_ms);
        folded.assertions = folded.assertions.saturating_add(part.assertions);
        let attachments = part.properties.into_iter().filter(|(name, _)| *name == "attachment");
        for attachment in attachments {
            if !folded.properties.contains(&attachment) {
                folded.properties.push(attachment);
            }
        }
        folded.reruns.extend(part.reruns);
        for output in part.output {
            // Cases of one phase share their files.
            if !(output.starts_with("[[ATTACHMENT|") && folded.output.contains(&output)) {
                folded.output.push(output);
            }
        }
        folded.quiet_output.extend(part.quiet_output);
    }
    Some(folded)
}

fn add_more(message: &mut String, more: usize) {
    if more > 0 {
        message.push_str(&format!(" (and {more} more)"));
    }
}

fn text(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Error(trouble) | Verdict::Failure(trouble) => Some(&trouble.text),
        Verdict::Passed | Verdict::Skipped { .. } => None,
    }
}

fn gravity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Skipped { .. } => 0,
        Verdict::Passed => 1,
        Verdict::Error(_) => 2,
        Verdict::Failure(_) => 3,
    }
}
