//! Real programs in containers: squid and BIRD from the project's own images (`fixtures/images`), and contrast clusters
//! from public ones.
//!
//! A trial whose image or engine is not there is reported as ignored, with the reason and the command that enables it.
//! `CKNET_REQUIRE=containers` makes a missing engine or a missing image of the project a failure, `k3s` and `kind` those
//! of the clusters.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bird;
mod clusters;
mod engine;
mod squid;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    // The public images' own programs, as the reference distribution runs them: `containers as curl URL`.
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(squid::AS) {
        let name = arguments.next().unwrap_or_default();
        return cknet_images::run(&name, &arguments.collect::<Vec<_>>()).expect("a program of the images");
    }
    let trials = [squid::trials(), bird::trials(), clusters::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
