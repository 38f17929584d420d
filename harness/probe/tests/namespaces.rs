//! The engine, the server and the personalities in real network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod answers;
mod held;
mod lab;
mod node_facts;
mod personalities;
mod sights;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let may = cknet_kernel::ns::NetNs::create();
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|item| item == "netns"));
    let mut trials = sights::trials();
    trials.extend(answers::trials());
    trials.extend(agent::trials());
    trials.extend(held::trials());
    trials.extend(personalities::trials());
    trials.extend(node_facts::trials());
    if let Err(error) = may {
        assert!(!required, "CKNET_REQUIRE names netns, but a network namespace cannot be made: {error}");
        let reason = format!("ignored: cannot make a network namespace: {error}");
        trials = trials.into_iter().map(|trial| trial.with_kind(&reason).with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial of a function that panics when it fails.
fn trial(name: &str, body: fn()) -> Trial {
    Trial::test(name, move || {
        body();
        Ok(())
    })
}
