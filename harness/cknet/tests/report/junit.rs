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
pub const GRANULARITIES: [Granularity; 3] = [
    Granularity::Expectation,
    Granularity::Phase,
    Granularity::Scenario,
];

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

#[test]
fn another_implementation_reads_the_same_numbers() {
    let xml = render(&stream::whole(), |_| {});
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    // 13 planned, 1 bootstrap of each of two clusters, 1 provision, 1 clean-up.
    assert_eq!(
        (report.tests, report.failures, report.errors, report.skipped),
        (17, 3, 6, 3)
    );
    let suites: Vec<&str> = report
        .test_suites
        .iter()
        .map(|suite| suite.name.as_str())
        .collect();
    let suffix = "[cni=calico,provider=netns]";
    let expected = [
        "firewall.vxlan-port-blocked",
        "policy.deny-ingress",
        "dns.ipv6",
        "services.empty",
        "services.node-port",
        "infrastructure",
    ];
    assert_eq!(suites, expected.map(|name| format!("{name} {suffix}")));
}

#[rstest]
#[case(SkippedReporting::None, 14, 1)]
#[case(SkippedReporting::Unsupported, 16, 3)]
#[case(SkippedReporting::All, 17, 4)]
fn skipped_cases_as_asked(
    #[case] skipped: SkippedReporting,
    #[case] tests: usize,
    #[case] expected: usize,
) {
    let mut events = stream::whole();
    // Without the aborted scenario, to keep apart what is skipped and what never ran.
    events.retain(|event| !matches!(&event.what, What::ClusterFailed(_)));
    let report = quick_junit::Report::deserialize_from_str(&render(&events, |options| {
        options.skipped = skipped
    }))
    .unwrap();
    assert_eq!((report.tests, report.skipped), (tests + 1, expected));
}

#[test]
fn a_killed_run_leaves_a_whole_file() {
    let folder = TempDir::new().unwrap();
    let mut junit = Junit::new(JunitOptions::in_folder(folder.path()));
    let path = folder.path().join("TEST-cknet-all.xml");
    let mut written = 0;
    for event in stream::killed() {
        let before = fs::read_to_string(&path).ok();
        junit.event(&event).unwrap();
        let after = fs::read_to_string(&path).unwrap();
        rules::check(&after, Profile::Portable);
        if before.as_ref() != Some(&after) {
            written += 1;
        }
    }
    // The start, four scenarios that ended, a cluster that failed; the skipped one changes the file too.
    assert_eq!(written, 6);
    drop(junit);
    let report =
        quick_junit::Report::deserialize_from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let aborted = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .filter(|case| match &case.status {
            quick_junit::TestCaseStatus::NonSuccess { ty, .. } => ty.as_deref() == Some("aborted"),
            _ => false,
        });
    let aborted: Vec<&str> = aborted.map(|case| case.name.as_str()).collect();
    let suffix = "[cni=calico,provider=netns]";
    // The last verdict came after the last time that the file was written.
    let expected = ["plain › outside", "plain › inside", "cleanup"];
    assert_eq!(aborted, expected.map(|name| format!("{name} {suffix}")));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft stays"
    );
}

#[test]
fn names_are_the_same_in_a_run_that_ends_otherwise() {
    let names = |xml: &str| {
        let document = roxmltree::Document::parse(xml).unwrap();
        let cases = document
            .descendants()
            .filter(|node| node.has_tag_name("testcase"));
        let name = |case: roxmltree::Node<'_, '_>| {
            format!(
                "{} {}",
                case.attribute("classname").unwrap(),
                case.attribute("name").unwrap()
            )
        };
        cases
            .map(name)
            .filter(|name| !name.contains("infrastructure"))
            .collect::<Vec<_>>()
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
    assert_eq!(
        options.path(Some("2/4")),
        Path::new("out/TEST-cknet-2-4.xml")
    );
    assert_eq!(
        options.path(Some("../x y")),
        Path::new("out/TEST-cknet-..-x-y.xml")
    );
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
            judged.detail = Detail {
                output: Some(output),
                ..Detail::default()
            };
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
    let output = document
        .descendants()
        .find(|node| node.has_tag_name("system-out"))
        .unwrap()
        .text()
        .unwrap();
    assert!(output.starts_with("begin\nxxx") && output.ends_with("xxx\nend"));
    assert!(output.contains(&format!(
        "\n… {} bytes cut, see bundle\n",
        (1 << 20) + 10 - (64 << 10)
    )));
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
    assert!(
        error
            .to_string()
            .contains(&format!("`{}/TEST-cknet-all.xml`", file.path().display())),
        "{error}"
    );
}
