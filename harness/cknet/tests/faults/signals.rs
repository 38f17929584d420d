//! Signals in each stage of a run: what is under way is aborted, everything is taken down, the reports are whole.
//!
//! Signals go to the whole process group, as a terminal sends them, unless a trial says otherwise.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::workplace::{Ended, FREED, Process, Running, SOON, Workplace, until};
use crate::{Case, Needs};

/// An interrupted run has taken down and reported within this time.
const STOPPED: Duration = Duration::from_secs(10);

pub const TRIALS: &[Case] = &[
    (Needs::Namespaces, "signals::while_the_cluster_is_made", while_the_cluster_is_made),
    (Needs::Namespaces, "signals::during_a_step", during_a_step),
    (Needs::Namespaces, "signals::while_an_expectation_waits", while_an_expectation_waits),
    (Needs::Namespaces, "signals::while_a_kept_cluster_stands", while_a_kept_cluster_stands),
    (
        Needs::Namespaces,
        "signals::the_second_one_ends_a_take_down_that_hangs",
        the_second_one_ends_a_take_down_that_hangs,
    ),
    (
        Needs::Namespaces,
        "signals::the_third_one_ends_a_run_whose_output_is_stuck",
        the_third_one_ends_a_run_that_is_stuck,
    ),
    (Needs::Namespaces, "signals::a_run_that_ignores_hangups_goes_on", a_run_that_ignores_hangups_goes_on),
];

const CODES: [(Signal, i32); 3] = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 143)];

fn run(workplace: &Workplace, suite: &std::path::Path, more: &[&str]) -> Running {
    let mut command = workplace.cknet(["run", "--verbose", "--scenarios"]);
    command.arg(suite).arg("--reports").arg(workplace.reports()).args(more);
    workplace.start(command)
}

/// Interrupts a run, sees that it ends as it should, and returns what it said.
fn interrupted(workplace: &Workplace, run: Running, signal: Signal, code: i32) -> Ended {
    run.signal_group(signal);
    let ended = run.ended(STOPPED).expect(code);
    assert!(ended.stdout.contains("INTERRUPTED"), "{signal}: {}", ended.stdout);
    workplace.await_nothing_left();
    assert_eq!(workplace.temporary_files(), Vec::<std::path::PathBuf>::new());
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"), "{signal}");
    ended
}

/// The JUnit file as a parsed document: test cases by name, and the `type` of what went wrong with them.
fn junit(workplace: &Workplace) -> Vec<(String, Option<String>)> {
    let text = fs::read_to_string(workplace.reports().join("TEST-cknet-all.xml")).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let trouble = |case: roxmltree::Node<'_, '_>| {
        let found = case.children().find(|child| ["error", "failure", "skipped"].contains(&child.tag_name().name()));
        found.map(|found| format!("{} {}", found.tag_name().name(), found.attribute("type").unwrap_or_default()))
    };
    cases.map(|case| (case.attribute("name").unwrap_or_default().to_string(), trouble(case))).collect()
}

/// All five cases of the suite are in the report; each of them passed or was aborted, and nothing else.
fn all_told(workplace: &Workplace, aborted: usize) {
    let cases = junit(workplace);
    // Making and taking down are cases too, which the signal may have cut off.
    let trouble = |of_scenario: bool| -> Vec<Option<&str>> {
        let kind =
            cases.iter().filter(|(name, _)| (name.starts_with("deny ") || name.starts_with("later ")) == of_scenario);
        kind.map(|(_, trouble)| trouble.as_deref()).collect()
    };
    assert_eq!(trouble(true).len(), 5, "{cases:?}");
    assert_eq!(trouble(true).into_iter().flatten().collect::<Vec<_>>(), vec!["error aborted"; aborted], "{cases:?}");
    assert!(trouble(false).into_iter().flatten().all(|what| what == "error aborted"), "{cases:?}");
}

fn while_the_cluster_is_made() {
    let workplace = Workplace::new();
    let suite = workplace.suite_that_holds();
    for (signal, code) in CODES {
        let mut run = run(&workplace, &suite, &[]);
        run.await_words("making 2 nodes");
        interrupted(&workplace, run, signal, code);
        all_told(&workplace, 5);
    }
}

fn during_a_step() {
    let workplace = Workplace::new();
    let suite = workplace.suite_with_a_long_step();
    for (signal, code) in CODES {
        let run = run(&workplace, &suite, &[]);
        until("the step's program", SOON, || (!workplace.processes_of("25.4711").is_empty()).then_some(()));
        interrupted(&workplace, run, signal, code);
        all_told(&workplace, 5);
    }
}

fn while_an_expectation_waits() {
    let workplace = Workplace::new();
    let suite = workplace.suite_that_holds();
    for (signal, code) in CODES {
        // What an earlier run told must not be taken for this one's.
        let _ = fs::remove_file(workplace.reports().join("events.ndjson"));
        let mut run = run(&workplace, &suite, &[]);
        workplace.await_event("step-done", &mut run);
        interrupted(&workplace, run, signal, code);
        all_told(&workplace, 5);
        let told = workplace.outcomes();
        assert!(told.values().all(|outcome| outcome == "aborted"), "{told:?}");
    }
}

fn while_a_kept_cluster_stands() {
    let workplace = Workplace::new();
    let mut command = workplace.cknet(["run", "policy.deny-all-ingress", "--keep", "--reports"]);
    command.arg(workplace.reports());
    let mut run = workplace.start(command);
    workplace.await_event("scenario-finished", &mut run);
    let status = workplace.run(["status"]).expect(0);
    assert!(status.stdout.contains("KUBECONFIG="), "{}", status.stdout);
    run.signal_group(Signal::SIGINT);
    run.ended(STOPPED).expect(130);
    workplace.await_nothing_left();
}

/// The process that waits for the machines to end.
fn holder(workplace: &Workplace) -> Process {
    let found = workplace.processes().into_iter().find(|process| process.command.ends_with(" fabric"));
    found.expect("a run with a cluster has a fabric")
}

fn the_second_one_ends_a_take_down_that_hangs() {
    let workplace = Workplace::new();
    let suite = workplace.suite_that_holds();
    let mut run = run(&workplace, &suite, &[]);
    workplace.await_event("step-done", &mut run);
    let holder = holder(&workplace);
    holder.signal(Signal::SIGSTOP);
    run.signal(Signal::SIGTERM);
    workplace.await_event("scenario-finished", &mut run);
    assert!(run.child.try_wait().unwrap().is_none(), "the take-down waits for the holder");
    run.signal(Signal::SIGINT);
    let ended = run.ended(STOPPED).expect(143);
    assert!(ended.stderr.contains("cknet gc"), "{}", ended.stderr);
    all_told(&workplace, 5);
    holder.signal(Signal::SIGCONT);
    workplace.await_nothing_left();
    workplace.run(["gc"]).expect(0);
    assert!(workplace.run(["gc"]).expect(0).stdout.starts_with("0 open runs"));
}

/// Nobody reads the run's output: what it says blocks, and only the third signal gets it out of there.
fn the_third_one_ends_a_run_that_is_stuck() {
    let workplace = Workplace::new();
    let suite = workplace.suite_that_holds();
    let mut command = workplace.cknet(["run", "--verbose", "--scenarios"]);
    command.arg(&suite).arg("--reports").arg(workplace.reports()).process_group(0);
    let (_reader, full) = full_pipe();
    let mut child = command.stdout(full.try_clone().unwrap()).stderr(full).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    // The report is begun before the terminal is told, and then nothing comes any more.
    until("the JUnit file", SOON, || workplace.reports().join("TEST-cknet-all.xml").exists().then_some(()));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < STOPPED, "signals do not end it");
        // More than three: one that comes while another is pending is merged with it.
        let _ = nix::sys::signal::kill(pid, Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130), "{status}");
    workplace.await_nothing_left();
}

/// A pipe that takes nothing more.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'.'; 1024]).is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    (reader, writer)
}

fn a_run_that_ignores_hangups_goes_on() {
    let workplace = Workplace::new();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' HUP; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_cknet"),
        "run",
        "policy.deny-all-ingress",
        "--reports",
    ]);
    command.arg(workplace.reports());
    workplace.settle(&mut command);
    let mut run = workplace.start(command);
    workplace.await_event("cluster-ready", &mut run);
    run.signal(Signal::SIGHUP);
    run.ended(SOON).expect(0);
    until("the end of everything", FREED, || workplace.processes().is_empty().then_some(()));
}
