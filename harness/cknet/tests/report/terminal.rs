//! What a person sees.

use anstream::StripStream;
use cknet::event::{CleanupState, Counts, Event, RunFinished, Summary, What};
use cknet::report::Reporter;
use cknet::report::terminal::{Terminal, TerminalOptions, Verbosity};
use indicatif::ProgressBar;

use crate::stream;

/// Both streams, styles and all.
fn told(events: &[Event], verbosity: Verbosity) -> (Vec<u8>, Vec<u8>) {
    let (mut results, mut progress) = (Vec::new(), Vec::new());
    let options = TerminalOptions { verbosity, ..TerminalOptions::default() };
    let mut terminal = Terminal::new(&mut results, &mut progress, ProgressBar::hidden(), options);
    for event in events {
        terminal.event(event).unwrap();
    }
    terminal.finish().unwrap();
    drop(terminal);
    (results, progress)
}

fn plain(styled: &[u8]) -> String {
    let mut stream = StripStream::new(Vec::new());
    std::io::Write::write_all(&mut stream, styled).unwrap();
    String::from_utf8(stream.into_inner()).unwrap()
}

fn page(verbosity: Verbosity) -> String {
    let (results, progress) = told(&stream::whole(), verbosity);
    format!("--- results\n{}--- progress\n{}", plain(&results), plain(&progress))
}

#[test]
fn normal() {
    insta::assert_snapshot!(page(Verbosity::Normal));
}

#[test]
fn verbose() {
    insta::assert_snapshot!(page(Verbosity::Verbose));
}

#[test]
fn quiet() {
    insta::assert_snapshot!(page(Verbosity::Quiet));
}

#[test]
fn styles_are_in_the_stream_and_add_nothing_to_the_words() {
    let (results, _) = told(&stream::whole(), Verbosity::Normal);
    let text = String::from_utf8(results.clone()).unwrap();
    assert!(text.contains("\u{1b}[31m"), "failures are red");
    assert!(!plain(&results).contains('\u{1b}'));
}

#[test]
fn node_output_cannot_steer_the_terminal() {
    let mut events = stream::whole();
    for event in &mut events {
        if let What::ExpectationJudged(judged) = &mut event.what {
            judged.case.expectation.push_str("\u{1b}[2J\u{7}");
        }
    }
    let (results, _) = told(&events, Verbosity::Verbose);
    let text = String::from_utf8(results).unwrap();
    assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{7}'));
}

#[test]
fn a_green_run_says_what_it_is_no_proof_of() {
    let mut events = stream::whole();
    events.truncate(1);
    let counts = Counts { passed: 2, ..Counts::default() };
    let cleanup = CleanupState::Clean;
    let summary = Summary { counts, scenarios: 1, took_ms: 1_000, cleanup, ..Summary::default() };
    events.push(Event::new(events[0].at, RunFinished { summary }));
    for verbosity in [Verbosity::Quiet, Verbosity::Normal] {
        let text = plain(&told(&events, verbosity).0);
        let expected = "
PASSED  2 cases in 1 scenario: 2 passed  1.0 s
fidelity  model: this is a statement about the reference model, not about Canonical Kubernetes
seed      42      again: cknet run --seed 42
";
        assert_eq!(text, expected);
    }
}
