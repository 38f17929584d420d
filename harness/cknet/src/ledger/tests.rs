//! The ledger as its users see it: written by one process, read and collected by another.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, StateDir) {
    let folder = TempDir::new().unwrap();
    let state = StateDir::at(folder.path().join("state"));
    (folder, state)
}

fn dead_owner() -> Owner {
    Owner { boot_id: "a boot long ago".into(), ..Owner::current().unwrap() }
}

fn dead_run(state: &StateDir) -> Ledger {
    state.begin_as(dead_owner(), Timestamp::now()).unwrap()
}

fn vm(name: &str) -> Resource {
    Resource::new("vm", "vagrant", name)
}

fn names<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<&'a str> {
    resources.into_iter().map(|resource| resource.key.name.as_str()).collect()
}

fn ledger_file(ledger: &Ledger) -> PathBuf {
    ledger.folder().join("ledger.jsonl")
}

fn run_gc(state: &StateDir, destroyers: &mut Destroyers<'_>, dry_run: bool) -> GcReport {
    collect(state, destroyers, Retention::default(), Timestamp::now(), dry_run).unwrap()
}

#[rstest]
#[case::own_variable(&[("CKNET_STATE", "/a"), ("XDG_STATE_HOME", "/b"), ("HOME", "/c")], "/a")]
#[case::xdg(&[("XDG_STATE_HOME", "/b"), ("HOME", "/c")], "/b/cknet")]
#[case::home(&[("HOME", "/c")], "/c/.local/state/cknet")]
#[case::relative_is_ignored(&[("CKNET_STATE", "a"), ("XDG_STATE_HOME", ""), ("HOME", "/c")], "/c/.local/state/cknet")]
fn place_from_environment(#[case] variables: &[(&str, &str)], #[case] expected: &str) {
    let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
    assert_eq!(StateDir::from_env(get).unwrap(), StateDir::at(expected));
}

#[test]
fn no_place_names_the_variable() {
    let error = StateDir::from_env(|_| None).unwrap_err();
    assert!(error.to_string().contains("`CKNET_STATE`"), "{error}");
}

#[test]
fn a_place_that_cannot_be_made_names_the_variable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = StateDir::at(file.path().join("state")).begin().unwrap_err().to_string();
    assert!(error.contains("`CKNET_STATE`") && error.contains("runs"), "{error}");
}

#[test]
fn many_runs_may_begin_at_once() {
    let (_folder, state) = place();
    let at = Timestamp::now();
    let mut runs: Vec<RunId> = std::thread::scope(|scope| {
        let begin = || state.begin_as(Owner::current().unwrap(), at).unwrap().run().clone();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(begin)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 16);
    assert_eq!(open_ledgers(&state).unwrap().len(), 16);
    let leftovers = fs::read_dir(state.runs()).unwrap().count();
    assert_eq!(leftovers, 16, "no draft may stay");
}

#[test]
fn others_cannot_look_in() {
    let (_folder, state) = place();
    let ledger = state.begin().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077;
    assert_eq!(mode(&state.runs()), 0);
    assert_eq!(mode(ledger.folder()), 0);
}

#[test]
fn what_was_meant_counts_until_it_is_gone() {
    let (_folder, state) = place();
    let ledger = state.begin().unwrap();
    ledger.intent(&vm("a").with("box", "noble")).unwrap();
    ledger.intent(&vm("b")).unwrap();
    ledger.created(&vm("a").with("id", "17")).unwrap();
    ledger.intent(&vm("c")).unwrap();
    ledger.destroyed(&vm("b").key).unwrap();

    let history = History::read(&ledger_file(&ledger)).unwrap();
    assert_eq!(names(history.outstanding()), ["c", "a"], "the newest goes first");
    assert_eq!(names(&ledger.outstanding()), ["c", "a"]);
    let a = history.outstanding().nth(1).unwrap();
    assert_eq!(*a, vm("a").with("box", "noble").with("id", "17"));
    assert_eq!(history.owner, Owner::current().unwrap());
}

#[test]
fn closes_only_when_nothing_is_left() {
    let (_folder, state) = place();
    let ledger = state.begin().unwrap();
    ledger.intent(&vm("a")).unwrap();
    assert_eq!(names(&ledger.close().unwrap()), ["a"]);
    assert!(!History::read(&ledger_file(&ledger)).unwrap().closed);

    ledger.destroyed(&vm("a").key).unwrap();
    assert!(ledger.close().unwrap().is_empty());
    assert!(History::read(&ledger_file(&ledger)).unwrap().closed);
    assert!(open_ledgers(&state).unwrap().is_empty());
}

#[test]
fn any_cut_of_the_last_line_is_survived() {
    let (_folder, state) = place();
    let ledger = dead_run(&state);
    ledger.intent(&vm("a")).unwrap();
    let path = ledger_file(&ledger);
    let kept = fs::metadata(&path).unwrap().len() as usize;
    ledger.intent(&vm("b")).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in kept..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let expected: &[&str] = if cut + 1 >= whole.len() { &["b", "a"] } else { &["a"] };
        assert_eq!(names(History::read(&path).unwrap().outstanding()), expected, "cut at {cut}");

        let resumed = state.resume(ledger.run().clone()).unwrap();
        resumed.intent(&vm("c")).unwrap();
        let after = History::read(&path).unwrap();
        assert_eq!(names(after.outstanding()), [&["c"], expected].concat(), "written on after a cut at {cut}");
    }
}

#[test]
fn a_broken_line_in_the_middle_is_told_and_touches_nothing() {
    let (_folder, state) = place();
    let ledger = dead_run(&state);
    let path = ledger_file(&ledger);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"record\":\"nonsense\"}\n{}\n");
    fs::write(&path, &text).unwrap();
    let error = History::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");

    let report = run_gc(&state, &mut Destroyers::default(), false);
    assert!(matches!(report.runs[..], [(_, Fate::Broken(_))]));
    assert!(!report.is_clean());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_living_run_is_left_alone() {
    let (_folder, state) = place();
    let ledger = state.begin().unwrap();
    ledger.intent(&vm("a")).unwrap();
    let mut destroyers = Destroyers::default();
    destroyers.add("vm", |_: &RunId, _: &Resource| panic!("it lives"));
    let report = run_gc(&state, &mut destroyers, false);
    assert!(matches!(&report.runs[..], [(_, Fate::Left { .. })]));
    assert!(report.is_clean());
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let (_folder, state) = place();
    let ledger = dead_run(&state);
    ledger.intent(&vm("a")).unwrap();
    let before = fs::read(ledger_file(&ledger)).unwrap();
    let mut destroyers = Destroyers::default();
    destroyers.add("vm", |_: &RunId, _: &Resource| panic!("only a dry run"));
    let report = run_gc(&state, &mut destroyers, true);
    let [(_, Fate::WouldDestroy(would))] = &report.runs[..] else { panic!("{report:?}") };
    assert_eq!(names(would), ["a"]);
    assert_eq!(fs::read(ledger_file(&ledger)).unwrap(), before);
}

#[test]
fn a_dead_run_is_destroyed_over_errors_and_closed_in_the_end() {
    let (_folder, state) = place();
    let ledger = dead_run(&state);
    for name in ["a", "b", "c"] {
        ledger.intent(&vm(name)).unwrap();
    }
    ledger.intent(&Resource::new("bridge", "lxd", "d")).unwrap();

    let asked = RefCell::new(Vec::new());
    let mut destroyers = Destroyers::default();
    destroyers.add("vm", |run: &RunId, resource: &Resource| {
        assert_eq!(run, ledger.run());
        asked.borrow_mut().push(resource.key.name.clone());
        if resource.key.name == "b" { Err("it is locked".into()) } else { Ok(()) }
    });
    let report = run_gc(&state, &mut destroyers, false);
    assert_eq!(*asked.borrow(), ["c", "b", "a"]);
    let [(_, Fate::Collected(collected))] = &report.runs[..] else { panic!("{report:?}") };
    assert_eq!(names(&collected.destroyed), ["c", "a"]);
    let failed: Vec<_> = collected.failed.iter().map(|(r, why)| (r.key.name.as_str(), why.as_str())).collect();
    assert_eq!(failed, [("d", "nothing here knows how to destroy a `bridge`"), ("b", "it is locked")]);
    assert!(!report.is_clean());

    let mut second = Destroyers::default();
    second.add("vm", |_: &RunId, _: &Resource| Ok(()));
    second.add("bridge", |_: &RunId, _: &Resource| Ok(()));
    let report = run_gc(&state, &mut second, false);
    let [(_, Fate::Collected(collected))] = &report.runs[..] else { panic!("{report:?}") };
    assert_eq!(names(&collected.destroyed), ["d", "b"]);
    assert!(report.is_clean());
    assert!(open_ledgers(&state).unwrap().is_empty());
}

#[test]
fn two_collections_do_not_meet_in_one_run() {
    let (_folder, state) = place();
    let ledger = dead_run(&state);
    ledger.intent(&vm("a")).unwrap();
    let inner = RefCell::new(None);
    let mut destroyers = Destroyers::default();
    destroyers.add("vm", |_: &RunId, _: &Resource| {
        *inner.borrow_mut() = Some(run_gc(&state, &mut Destroyers::default(), false));
        Ok(())
    });
    run_gc(&state, &mut destroyers, false);
    let inner = inner.borrow_mut().take().unwrap();
    assert!(matches!(&inner.runs[..], [(_, Fate::Left { .. })]), "{inner:?}");
}

#[test]
fn old_closed_folders_go_and_open_ones_stay() {
    let (_folder, state) = place();
    let now = Timestamp::now();
    let ago = |hours| now - SignedDuration::from_hours(hours);
    let closed = |hours| {
        let ledger = state.begin_as(dead_owner(), ago(hours)).unwrap();
        ledger.close().unwrap();
        ledger.run().clone()
    };
    let (ancient, older, newer, newest) = (closed(40 * 24), closed(3), closed(2), closed(1));
    let open = state.begin_as(Owner::current().unwrap(), ago(50 * 24)).unwrap();
    let retention = Retention { count: 2, ..Retention::default() };
    let mut none = Destroyers::default();

    let dry = collect(&state, &mut none, retention, now, true).unwrap();
    assert_eq!(dry.pruned, [older.clone(), ancient.clone()]);
    assert_eq!(all_runs(&state).len(), 5);

    let report = collect(&state, &mut none, retention, now, false).unwrap();
    assert_eq!(report.pruned, [older, ancient]);
    assert_eq!(all_runs(&state), [open.run().clone(), newer, newest]);
}

fn all_runs(state: &StateDir) -> Vec<RunId> {
    state_dir::all_ledgers(state).unwrap().into_iter().map(|found| found.run).collect()
}
