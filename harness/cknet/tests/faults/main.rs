//! The faults that cknet must survive, through the built executable and on the real kernel: kill -9, signals, dead
//! parts of a cluster, full disks, several runs at once, hostile clients.
//!
//! Trials that need namespaces are reported ignored where they are forbidden, and fail there when `CKNET_REQUIRE`
//! names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod api;
mod broken;
mod evidence;
mod existing;
mod former;
mod host;
mod kept;
mod killed;
mod operator;
mod output;
mod product;
mod scenario;
mod signals;
mod together;
mod workplace;

use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Trial};

/// What a trial needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Namespaces,
    /// Namespaces, and the right to mount.
    Root,
    /// The right to become an ordinary user, who may make user namespaces.
    Stranger,
}

fn main() {
    let required = requires("netns");
    let (root, namespaces) = (nix::unistd::geteuid().is_root(), namespaces());
    let stranger = root && succeeds("setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Urnpm --fork true");
    let trial = |needs: Needs, name: &str, test: fn()| {
        let (kind, able) = match needs {
            Needs::Nothing => ("", true),
            Needs::Namespaces => ("needs namespaces", required || namespaces),
            Needs::Root => ("needs root", root && (required || namespaces)),
            Needs::Stranger => ("needs root, and user namespaces for others", root && (requires("userns") || stranger)),
        };
        let test = move || {
            test();
            Ok(())
        };
        Trial::test(name, test).with_kind(kind).with_ignored_flag(!able)
    };
    let mut trials = Vec::new();
    let all = [
        api::TRIALS,
        broken::TRIALS,
        evidence::TRIALS,
        existing::TRIALS,
        former::TRIALS,
        host::TRIALS,
        kept::TRIALS,
        killed::TRIALS,
        operator::TRIALS,
        output::TRIALS,
        product::TRIALS,
        signals::TRIALS,
        together::TRIALS,
    ];
    for (needs, name, test) in all.concat() {
        trials.push(trial(needs, name, test));
    }
    let mut arguments = Arguments::from_args();
    // Each trial runs whole clusters; more of them at once only make each other slow.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    libtest_mimic::run(&arguments, trials).exit();
}

/// Whether the environment demands that trials with this need run.
fn requires(need: &str) -> bool {
    std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|named| named == need))
}

/// Whether this kernel lets this user make namespaces.
fn namespaces() -> bool {
    let flags = if nix::unistd::geteuid().is_root() { "-npm" } else { "-Urnpm" };
    succeeds(&format!("unshare {flags} --fork true"))
}

fn succeeds(command: &str) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A trial: what it needs, its name, what it does.
type Case = (Needs, &'static str, fn());
