//! Each file in `fixtures/bad-scenarios` is refused with the message that its snapshot shows.
//! Files that cannot well lie in a repository are made here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use cknet::scenario::{Fixtures, Found, Problems, Profile, Scenario, check, load_bytes, read_suite};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn fixtures() -> Fixtures {
    let profile = Profile::embedded("reference").unwrap().unwrap();
    Fixtures::open(&repository().join("fixtures"), profile).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// What the runner does with a file, as if it lay in the suite.
fn read(path: &Path, fixtures: &Fixtures) -> Result<Vec<Scenario>, Problems> {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let found = Found {
        path: path.to_owned(),
        id: Some(format!("bad.{stem}").parse().unwrap()),
        name: format!("scenarios/bad/{stem}.yaml"),
    };
    read_suite(&[found], fixtures)
}

#[test]
fn each_bad_scenario_has_its_message() {
    let folder = repository().join("fixtures/bad-scenarios");
    let fixtures = fixtures();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    assert!(files.len() >= 50, "only {} files", files.len());
    for path in files {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        match read(&path, &fixtures) {
            Ok(_) => panic!("`{stem}` is taken for a sound scenario"),
            Err(problems) => insta::assert_snapshot!(stem, problems.to_string()),
        }
    }
}

/// A scenario without a fault, of which the bad ones are changed copies.
const SOUND: &str = include_str!("../../../fixtures/bad-scenarios/no-sabotage.yaml");
const SABOTAGE: &str = "sabotage:\n  - {id: never-closed, do: {ignoreStep: closed/0}, mustFail: closed/cross-node}\n";

fn refused(bytes: impl Into<Vec<u8>>) -> String {
    let fixtures = fixtures();
    load_bytes(bytes, "scenarios/bad/no-sabotage.yaml", &fixtures)
        .and_then(|file| check(vec![file], &fixtures))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_scenario_they_are_made_from_is_sound() {
    let fixtures = fixtures();
    let text = format!("{SOUND}{SABOTAGE}");
    let file = load_bytes(text, "scenarios/bad/no-sabotage.yaml", &fixtures).unwrap_or_else(|e| panic!("{e}"));
    let scenarios = check(vec![file], &fixtures).unwrap_or_else(|e| panic!("{e}"));
    let scenario = &scenarios[0];
    let node = scenario.topology.nodes.get(&"w1".parse().unwrap()).unwrap();
    assert_eq!(node.first_nic().unwrap().1.address.to_string(), "192.168.60.12");
    let (phase, expectation) = scenario.expectations().next().unwrap();
    assert_eq!(scenario.case_id(phase, expectation), "bad.no-sabotage/closed/cross-node");
    assert_eq!(text_line(expectation.line), "      - id: cross-node");
    assert_eq!(text_line(phase.steps[0].line), "      - firewall: {nodes: all, close: 4789/udp}");
}

fn text_line(line: usize) -> &'static str {
    SOUND.lines().nth(line - 1).unwrap()
}

#[test]
fn a_file_of_ten_megabytes_is_not_read() {
    let text = format!("{SOUND}{}", "# filler\n".repeat(10 * 1024 * 1024 / 9));
    insta::assert_snapshot!(refused(text), @r"
    error: `scenarios/bad/no-sabotage.yaml` has 1 problem
      scenarios/bad/no-sabotage.yaml: longer than 1024 KiB, the most that is read
    ");
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut bytes = SOUND.as_bytes().to_vec();
    let title = SOUND.find("A firewall").unwrap();
    bytes[title] = 0xff;
    insta::assert_snapshot!(refused(bytes), @r"
    error: `scenarios/bad/no-sabotage.yaml` has 1 problem
      scenarios/bad/no-sabotage.yaml: not UTF-8 text: byte 77, in line 5
    ");
}

#[test]
fn a_yaml_bomb_does_no_harm() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    insta::assert_snapshot!(refused(text), @r"
    error: `scenarios/bad/no-sabotage.yaml` has 1 problem
      scenarios/bad/no-sabotage.yaml:1:5
    1 │ a0: &a0 [x, x, x, x, x, x, x, x, x, x]
      │     ^^^ anchors and aliases are not part of this format; write the value out
    ");
}

#[test]
fn a_file_that_nests_without_end_is_refused() {
    let told = refused(format!("metadata: {}", "[".repeat(100_000)));
    assert!(told.ends_with("nested more than 32 levels deep"), "{told}");
}

#[test]
fn the_problems_of_several_files_are_told_together() {
    let folder = repository().join("fixtures/bad-scenarios");
    let found = |stem: &str| Found {
        path: folder.join(stem).with_extension("yaml"),
        id: None,
        name: format!("scenarios/bad/{stem}.yaml"),
    };
    let all = [found("within-zero"), found("no-sabotage"), found("is-not-there")];
    let problems = read_suite(&all, &fixtures()).unwrap_err();
    let files: Vec<&str> = problems.files().iter().map(|file| file.file()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(problems.count(), 3);
}

#[test]
fn two_files_with_one_id_are_refused() {
    let fixtures = fixtures();
    let text = format!("{SOUND}{SABOTAGE}");
    let file = |name: &str| load_bytes(text.clone(), name, &fixtures).unwrap();
    let twice = vec![file("one.yaml"), file("two.yaml")];
    let problems = check(twice, &fixtures).unwrap_err().to_string();
    assert!(problems.contains("`one.yaml` has this id already"), "{problems}");
    assert!(problems.starts_with("error: `two.yaml` has 1 problem"), "{problems}");
}

/// A sound scenario with something else in the place of a part of it.
fn damaged() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("${"),
        Just("${node.w1.address}"),
        Just("|\n"),
        Just("\t"),
        Just("- "),
        Just(": "),
        Just("{"),
        Just("]"),
        Just("&a "),
        Just("*a"),
        Just("<<: "),
        Just("---\n"),
        Just("\u{feff}"),
        Just("\r\n"),
        Just("é❌"),
        Just("'"),
        Just("\""),
        Just("0"),
        Just("~"),
        Just("!!int "),
        Just("%"),
        Just("? "),
        Just(""),
    ];
    let fragment = prop_oneof![3 => fragment.prop_map(str::to_owned), 1 => "\\PC{0,12}"];
    (0..SOUND.len(), 0..40_usize, fragment).prop_map(|(start, length, fragment)| {
        let end = (start + length).min(SOUND.len());
        format!("{}{fragment}{}{SABOTAGE}", &SOUND[..start], &SOUND[end..])
    })
}

proptest! {
    /// Whatever is written, it is either taken or refused with places that exist.
    #[test]
    fn no_text_is_too_strange(text in damaged()) {
        let fixtures = fixtures();
        let read = load_bytes(text.clone(), "scenarios/bad/no-sabotage.yaml", &fixtures)
            .and_then(|file| check(vec![file], &fixtures));
        if let Err(problems) = read {
            prop_assert!(problems.count() > 0);
            prop_assert!(problems.to_string().starts_with("error: "));
            let lines = text.split('\n').count();
            for (position, problem) in problems.files().iter().flat_map(|file| file.located()) {
                prop_assert!(position.line <= lines, "{position}: {}", problem.message);
            }
        }
    }
}
