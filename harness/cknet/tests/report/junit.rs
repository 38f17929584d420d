//! What machines read.

use std::fs;
use std::path::Path;

use cknet::event::{Detail, Event, Outcome, What};
use cknet::report::Reporter;
use cknet::report::junit::{Granularity, Junit, JunitOptions, Profile, SkippedReporting};
use rstest::rstest;
use tempfile::TempDir;

use crate::{rules, stream};

/// The report on `events`, without a file.
pub fn render(events: &[Event], edit: impl FnOnce(&mut JunitOptions)) -> String {
    let folder = TempDir::new().unwrap();
    let mut options = JunitOptions::in_folder(folder.path());
    edit(&mut options);
    let mut junit = Junit::new(options);
    for event in events {
        junit.event(event).unwrap();
    }
    junit.render().unwrap()
}

pub const PROFILES: [Profile; 3] = [Profile::Portable, Profile::Rich, Profile::Xunit10];
pub const GRANULARITIES: [Granularity; 3] = [Granularity::Expectation, Granularity::Phase, Granularity::Scenario];

#[test]
fn portable() {
    insta::assert_snapshot!(render(&stream::whole(), |_| {}));
}

#[test]
fn xunit10_by_phase() {
    let xml = render(&stream::whole(), |options| {
        options.profile = Profile::Xunit10;
        options.granularity = Granularity::Phase;
    });
    insta::assert_snapshot!(xml);
}

#[test]
fn every_profile_and_granularity_keeps_the_rules_at_every_moment() {
    for profile in PROFILES {
        for granularity in GRANULARITIES {
            let events = stream::whole();
            for length in 1..=events.len() {
                let xml = render(&events[..length], |options| {
                    options.profile = profile;
                    options.granularity = granularity;
                });
                rules::check(&xml, profile);
            }
        }
    }
}

/// An attribute of the root.
fn total(xml: &str, name: &str) -> usize {
    let document = roxmltree::Document::parse(xml).unwrap();
    document.root_element().attribute(name).unwrap().parse().unwrap()
}

/// Names of the suites and of the cases that have a child with that tag and type.
fn named(xml: &str, tag: &str, kind: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(xml).unwrap();
    let found = document.descendants().filter(|node| node.has_tag_name(tag) && node.attribute("type") == Some(kind));
    found.map(|node| node.parent().unwrap().attribute("name").unwrap().to_owned()).collect()
}

#[test]
fn numbers_are_those_of_the_run() {
    let xml = render(&stream::whole(), |_| {});
    // 13 planned cases; provision and bootstrap of one cluster, bootstrap of the other, clean-up.
    assert_eq!(["tests", "failures", "errors", "skipped"].map(|name| total(&xml, name)), [17, 3, 6, 3]);
    assert_eq!(named(&xml, "skipped", "xfail"), ["applied › known [cni=calico,provider=netns]"]);
    assert_eq!(named(&xml, "failure", "xpass"), ["applied › mended [cni=calico,provider=netns]"]);
    assert_eq!(named(&xml, "flakyFailure", "connectivity.dropped"), ["applied › late [cni=calico,provider=netns]"]);
}

#[rstest]
#[case(SkippedReporting::None, 15, 1)]
#[case(SkippedReporting::Unsupported, 17, 3)]
#[case(SkippedReporting::All, 18, 4)]
fn skipped_cases_as_asked(#[case] skipped: SkippedReporting, #[case] tests: usize, #[case] expected: usize) {
    let xml = render(&stream::whole(), |options| options.skipped = skipped);
    rules::check(&xml, Profile::Portable);
    assert_eq!((total(&xml, "tests"), total(&xml, "skipped")), (tests, expected));
}

#[test]
fn a_killed_run_leaves_a_whole_file() {
    let folder = TempDir::new().unwrap();
    let mut junit = Junit::new(JunitOptions::in_folder(folder.path()));
    let path = folder.path().join("TEST-cknet-all.xml");
    let mut aborted = Vec::new();
    for event in stream::killed() {
        junit.event(&event).unwrap();
        let file = fs::read_to_string(&path).unwrap();
        rules::check(&file, Profile::Portable);
        aborted.push(named(&file, "error", "aborted").len());
    }
    drop(junit);
    aborted.dedup();
    // All but the clean-up were planned; each scenario that ends takes its cases off.
    assert_eq!(aborted, [14, 11, 7, 5, 3]);
    let suffix = "[cni=calico,provider=netns]";
    let expected = ["plain › outside", "plain › inside", "cleanup"];
    let left = named(&fs::read_to_string(&path).unwrap(), "error", "aborted");
    assert_eq!(left, expected.map(|name| format!("{name} {suffix}")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays");
}

#[test]
fn names_are_the_same_in_a_run_that_ends_otherwise() {
    let names = |xml: &str| {
        let document = roxmltree::Document::parse(xml).unwrap();
        let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
        let name = |case: roxmltree::Node<'_, '_>| {
            format!("{} {}", case.attribute("classname").unwrap(), case.attribute("name").unwrap())
        };
        cases.map(name).filter(|name| !name.contains("infrastructure")).collect::<Vec<_>>()
    };
    let whole = names(&render(&stream::whole(), |_| {}));
    assert_eq!(names(&render(&stream::whole()[..1], |_| {})), whole);
    let mut other = stream::whole();
    for event in &mut other {
        match &mut event.what {
            What::ExpectationJudged(judged) => {
                judged.outcome = match &judged.outcome {
                    skipped @ Outcome::Skipped { .. } => skipped.clone(),
                    _ => Outcome::Pass,
                };
                judged.took_ms += 77;
            }
            What::RunStarted(run) => run.run = "r000000000".parse().unwrap(),
            _ => {}
        }
    }
    assert_eq!(names(&render(&other, |_| {})), whole);
}

#[test]
fn shard_is_in_the_file_name_and_cannot_leave_the_folder() {
    let options = JunitOptions::in_folder("out");
    assert_eq!(options.path(None), Path::new("out/TEST-cknet-all.xml"));
    assert_eq!(options.path(Some("2/4")), Path::new("out/TEST-cknet-2-4.xml"));
    assert_eq!(options.path(Some("../x y")), Path::new("out/TEST-cknet-..-x-y.xml"));
}

/// A refuted case that printed a lot.
fn talkative(number: usize, size: usize) -> Vec<Event> {
    let events = stream::whole();
    let is_refuted = |event: &&Event| matches!(&event.what, What::ExpectationJudged(judged) if judged.case.expectation == "cross-node-again");
    let template = events.iter().find(is_refuted).unwrap().clone();
    let mut all = vec![events[0].clone()];
    for index in 0..number {
        let mut event = template.clone();
        if let What::ExpectationJudged(judged) = &mut event.what {
            judged.case.id = format!("case-{index}").into();
            let output = format!("begin\n{}\nend", "x".repeat(size));
            judged.detail = Detail { output: Some(output), ..Detail::default() };
        }
        all.push(event);
    }
    all.push(events.last().unwrap().clone());
    all
}

#[test]
fn long_output_keeps_its_ends() {
    let xml = render(&talkative(1, 1 << 20), |_| {});
    rules::check(&xml, Profile::Portable);
    let document = roxmltree::Document::parse(&xml).unwrap();
    let output = document.descendants().find(|node| node.has_tag_name("system-out")).unwrap().text().unwrap();
    // GitLab looks for the first attachment at the beginning.
    let begin = "[[ATTACHMENT|artifacts/vxlan.pcap]]\nbegin\n";
    assert!(output.starts_with(begin) && output.ends_with("xxx\nend"));
    let cut = begin.len() + (1 << 20) + "\nend".len() - (64 << 10);
    assert!(output.contains(&format!("\n… {cut} bytes cut\n")));
}

#[test]
fn a_large_run_still_makes_a_file_that_readers_take() {
    let xml = render(&talkative(300, 70 << 10), |_| {});
    assert!(xml.len() <= 10_000_000, "{} bytes", xml.len());
    rules::check(&xml, Profile::Portable);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut junit = Junit::new(JunitOptions::in_folder(file.path()));
    let error = junit.event(&stream::whole()[0]).unwrap_err();
    assert!(error.to_string().contains(&format!("`{}/TEST-cknet-all.xml`", file.path().display())), "{error}");
}
