//! `cknet check`: scenario files without a cluster.

use super::{Selection, print, suite};
use crate::exit::ExitCode;
use crate::plan::cluster_of;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    selection: Selection,
    /// The CNI profile against which `${cni...}` is resolved.
    #[arg(long, default_value = "reference")]
    profile: String,
}

pub fn check(options: &Options) -> ExitCode {
    let scenarios = match suite::read(&options.selection, &options.profile) {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let expectations: usize = scenarios.iter().map(|scenario| scenario.expectations().count()).sum();
    let count = scenarios.len();
    match scenarios.iter().map(cluster_of).find_map(Result::err) {
        None => {
            let (scenarios, expected) = (counted(count, "scenario"), counted(expectations, "expectation"));
            print(&format!("{scenarios}, {expected}: no problems\n"))
        }
        Some(error) => super::complain(ExitCode::Usage, &error.to_string()),
    }
}

/// `1 scenario`, `2 scenarios`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
