//! Stock test images on clusters of `cknet up`, as a person's own manifests use them: what was recorded on a real
//! cluster with Calico, the public recipes for policies, the pods of upstream's policy suite, the machinery of pods.
//!
//! Everything goes through the API, so that no kubectl is needed. A trial whose needs are missing is reported as
//! ignored with the reason, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod breaking;
mod images;
mod machinery;
mod recipes;
mod recorded;
mod stand;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use cknet::provider::Provider;
use cknet::provider::netns::Netns;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let provider = Netns { executable: PathBuf::new(), folder: PathBuf::new() };
    let missing: Vec<String> = provider.preflight().into_iter().map(|finding| finding.what).collect();
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let mut trials = images::trials();
    trials.extend(recorded::trials());
    trials.extend(breaking::trials());
    trials.extend(recipes::trials());
    trials.extend(suite::trials());
    trials.extend(machinery::trials());
    if !missing.is_empty() && !required {
        let why = format!("ignored: {}", missing.join("; "));
        trials = trials.into_iter().map(|trial| trial.with_kind(&why).with_ignored_flag(true)).collect();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = stand::down();
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

/// A trial that needs a program on this machine.
fn trial_with(program: &str, name: &str, body: fn()) -> Trial {
    let path = std::env::var("PATH").unwrap_or_default();
    if path.split(':').any(|folder| std::path::Path::new(folder).join(program).is_file()) {
        return trial(name, body);
    }
    let why = format!("ignored: there is no `{program}` on this machine; install it: apt-get install {program}");
    trial(name, body).with_kind(why).with_ignored_flag(true)
}
