//! `cknet check`: scenario files without a cluster.

use super::{Selection, print, suite};
use crate::exit::ExitCode;
use crate::plan::plan;

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
    match plan(scenarios, 0) {
        Ok(plan) => print(&format!(
            "{count} scenarios, {expectations} expectations, {} clusters: no problems\n",
            plan.clusters.len()
        )),
        Err(error) => super::complain(ExitCode::Usage, &error.to_string()),
    }
}
