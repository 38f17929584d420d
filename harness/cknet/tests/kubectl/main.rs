//! Stock kubectl against `cknet up`, as a person would use it: one cluster for all trials, one more for those that
//! break nodes, all taken down in the end.
//!
//! Needs kubectl 1.32 or newer: `CKNET_KUBECTL`, or the one on the path. `CKNET_REQUIRE=kubectl` makes its absence a
//! failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod broken;
mod cluster;
mod commands;
mod containers;
mod objects;
mod policies;
mod program;
mod recorded;
mod services;
mod workloads;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = objects::trials();
    trials.extend(workloads::trials());
    trials.extend(containers::trials());
    trials.extend(services::trials());
    trials.extend(policies::trials());
    trials.extend(recorded::trials());
    trials.extend(broken::trials());
    trials.extend(commands::trials());
    if let Err(why) = program::kubectl() {
        let required = std::env::var("CKNET_REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name == "kubectl") {
            eprintln!("error: CKNET_REQUIRE names kubectl: {why}");
            return ExitCode::FAILURE;
        }
        let kind = format!("ignored: {why}");
        trials = trials.into_iter().map(|trial| trial.with_kind(&kind).with_ignored_flag(true)).collect();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = cluster::down();
    left.iter().for_each(|problem| eprintln!("error: {problem}"));
    if left.is_empty() { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// A trial of a function that panics when it fails.
fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}
