//! kill -9 at any moment: nothing lives on, nothing lies about, and the collection closes the run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::workplace::{SOON, Workplace, until};
use crate::{Case, Needs};

pub const TRIALS: &[Case] = &[
    (Needs::Namespaces, "killed::at_any_moment_nothing_is_left", at_any_moment_nothing_is_left),
    (Needs::Stranger, "killed::an_ordinary_user_can_run_and_be_killed", an_ordinary_user_can_run_and_be_killed),
];

/// In CI the moments are dense; at a desk a few of them are enough.
fn moments() -> u32 {
    if std::env::var_os("CI").is_some() { 50 } else { 8 }
}

fn at_any_moment_nothing_is_left() {
    let seed = std::env::var("CKNET_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    eprintln!("the moments come from CKNET_SEED={seed}");
    let mut chance = Chance(seed);
    let workplace = Workplace::new();
    // A whole run is the measure, so that the moments fall from its start to after its end on any machine.
    let started = Instant::now();
    workplace.run(["run", "policy.deny-all-ingress"]).expect(0);
    let whole = started.elapsed();
    let interfaces = interfaces();
    for moment in 0..moments() {
        let after = whole.mul_f64(chance.next());
        kill_after(&workplace, after);
        workplace.await_nothing_left();
        assert_eq!(interfaces, self::interfaces(), "moment {moment}, {after:?} after the start");
        assert_eq!(workplace.temporary_files(), Vec::<std::path::PathBuf>::new(), "moment {moment}, after {after:?}");
        collected(&workplace);
    }
}

/// Runs the suite and kills the runner alone: whatever it made has to end by itself.
fn kill_after(workplace: &Workplace, after: Duration) {
    let mut run = workplace.start(workplace.cknet(["run", "policy.deny-all-ingress"]));
    let started = Instant::now();
    while started.elapsed() < after && run.child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // So that the namespaces are known in which something might live on.
    workplace.processes();
    // It may have ended already.
    let _ = nix::sys::signal::kill(run.pid(), Signal::SIGKILL);
    run.child.wait().unwrap();
}

/// `cknet status` says that nothing runs, the first collection closes what was cut off, the second has nothing to do.
fn collected(workplace: &Workplace) {
    let status = workplace.run(["status"]).expect(0);
    assert!(status.stdout.starts_with("no cluster is running"), "{}", status.stdout);
    workplace.run(["gc"]).expect(0);
    let second = workplace.run(["gc"]).expect(0);
    assert!(second.stdout.starts_with("0 open runs"), "{}", second.stdout);
    for run in workplace.runs() {
        let ledger = fs::read_to_string(run.join("ledger.jsonl")).unwrap();
        assert!(ledger.trim_end().ends_with("\"record\":\"closed\"}"), "{}: {ledger}", run.display());
        let left = fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<_> = left.filter(|path| path.extension().is_some_and(|kind| kind == "sock")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Numbers in 0..1 that follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn an_ordinary_user_can_run_and_be_killed() {
    let workplace = Workplace::new();
    fs::set_permissions(workplace.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["state", "tmp", "reports"] {
        fs::set_permissions(workplace.path(folder), fs::Permissions::from_mode(0o777)).unwrap();
    }
    // The built executable may lie where nobody else may look.
    let program = workplace.path("cknet");
    fs::copy(env!("CARGO_BIN_EXE_cknet"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        workplace.settle(&mut command);
        command.env("HOME", "/nonexistent");
        workplace.start(command)
    };
    as_nobody(&["run", "policy.deny-all-ingress"]).ended(SOON).expect(0);
    workplace.await_nothing_left();

    let mut run = as_nobody(&["run", "policy.deny-all-ingress", "--keep"]);
    until("a pod of the run", SOON, || (!workplace.processes_of("probe serve").is_empty()).then_some(()));
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    workplace.await_nothing_left();
    as_nobody(&["gc"]).ended(SOON).expect(0);
    let second = as_nobody(&["gc"]).ended(SOON).expect(0);
    assert!(second.stdout.starts_with("0 open runs"), "{}", second.stdout);
}
