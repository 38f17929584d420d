//! The suite through the test runner: one trial per case, so that `cargo test` and nextest list, filter and report
//! expectations by their names.
//!
//! The cases of a scenario share one run of the built binary on one cluster, also when every trial has a process of
//! its own (nextest): whoever comes first does the run under a file lock, the others wait and read its events.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cknet::event::{Event, Outcome, What};
use cknet::scenario::{Filter, Fixtures, Profile, Roots, Scenario, locate, read_suite};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let meeting_place = meeting_place();
    let trials = suite().into_iter().flat_map(|scenario| trials(&scenario, &meeting_place)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !conclusion.has_failed() && std::env::var_os("NEXTEST_RUN_ID").is_none() {
        // Other processes may still come to a meeting place of nextest; ours has served.
        let _ = fs::remove_dir_all(&meeting_place);
    }
    conclusion.exit_code()
}

fn suite() -> Vec<Scenario> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let roots = Roots::find(Some(&root.join("scenarios")), &root).unwrap();
    let profile = Profile::embedded("reference").unwrap().unwrap();
    let fixtures = Fixtures::open(&roots.fixtures, profile).unwrap_or_else(|problems| panic!("{problems}"));
    let found = locate(&roots, &Filter::default()).unwrap();
    read_suite(&found, &fixtures).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The folder in which trials of one test run meet: nextest gives all its processes the same id.
fn meeting_place() -> PathBuf {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("process-{}", std::process::id()));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{run}"))
}

fn trials(scenario: &Scenario, meeting_place: &Path) -> Vec<Trial> {
    let id = scenario.id().to_string();
    let cases = scenario.expectations().map(|(phase, expectation)| scenario.case_id(phase, expectation));
    cases
        .map(|case| {
            let (id, folder) = (id.clone(), meeting_place.join(&id));
            Trial::ignorable_test(case.clone(), move || verdict(&id, &case, &folder)).with_kind("case")
        })
        .collect()
}

/// What became of a case in the one run of its scenario.
fn verdict(scenario: &str, case: &str, folder: &Path) -> Result<Completion, Failed> {
    let output = run_once(scenario, folder)?;
    let events = fs::read_to_string(folder.join("events.ndjson")).unwrap_or_default();
    let judged =
        events.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()).find_map(|event| match event.what {
            What::ExpectationJudged(judged) if judged.case.id.0 == case => Some(judged.outcome),
            _ => None,
        });
    match judged {
        Some(Outcome::Pass | Outcome::XFail { .. }) => Ok(Completion::Completed),
        Some(Outcome::Skipped { reason, .. }) => Ok(Completion::ignored_with(reason)),
        _ => Err(output.into()),
    }
}

/// Runs the scenario unless that has been done, and returns what the run printed.
fn run_once(scenario: &str, folder: &Path) -> Result<String, Failed> {
    fs::create_dir_all(folder)?;
    let turn = File::create(folder.join("lock"))?;
    // Waits for the one run under way; nextest and cargo bound the whole trial.
    turn.lock()?;
    let done = folder.join("output");
    if let Ok(output) = fs::read_to_string(&done) {
        return Ok(output);
    }
    let run = Command::new(env!("CARGO_BIN_EXE_cknet"))
        .args(["run", scenario, "--quiet", "--reports"])
        .arg(folder)
        .env("CKNET_STATE", folder.join("state"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()?;
    let output = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let draft = folder.join("output.draft");
    fs::write(&draft, &output)?;
    fs::rename(draft, done)?;
    Ok(output)
}
