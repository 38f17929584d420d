//! Policies and services on the real kernel: packets between namespaces, seen or not seen at the other end.
//!
//! Each trial builds its own small network, programs it, and sends. A trial whose needs are missing is reported as
//! ignored, unless `CKNET_REQUIRE` names `netns`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;
mod links;
mod policies;
mod services;

use cknet_kernel::ns::NetNs;
use libtest_mimic::{Arguments, Trial};

fn main() {
    let required = std::env::var("CKNET_REQUIRE").is_ok_and(|list| list.split(',').any(|need| need == "netns"));
    let able = required || NetNs::create().is_ok();
    let trials = policies::TRIALS.iter().chain(services::TRIALS).chain(links::TRIALS).map(|(name, test)| {
        let test = *test;
        Trial::test(format!("{name} [needs CAP_SYS_ADMIN]"), move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!able)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
