//! `cknet rerun`: what failed in a former run, or what it did not come to, once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::place::Place;
use super::product::Product;
use super::run::{self, Manner};
use super::{Selection, complain, former, note, suite};
use crate::claims::Verdicts;
use crate::event::{Outcome, RunStarted, Standing};
use crate::exit::ExitCode;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs whole scenarios: those with a case that was refuted, that passed although it was expected \
                        to fail, that could not be judged for a failure of the machinery, or that the run did not come \
                        to: that is how a run is resumed which was killed.\nExit codes are those of `cknet run`; 4 also where nothing had failed."
)]
pub struct Options {
    /// A run by its id, the folder of its reports, its `events.ndjson` or an archive with it, as downloaded from a
    /// workflow; the latest run unless given.
    run: Option<PathBuf>,
    /// The folder of scenarios; `scenarios` here or above unless given.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    #[command(flatten)]
    product: Product,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    manner: Manner,
}

pub async fn rerun(options: Options) -> ExitCode {
    let runs = match former::runs(options.run.as_deref()) {
        Ok(runs) => runs,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let failed: BTreeSet<String> = runs.iter().flat_map(failed).collect();
    if failed.is_empty() {
        return complain(ExitCode::NothingChecked, "nothing failed in that run");
    }
    let known = match known(options.scenarios.clone()) {
        Ok(known) => known,
        Err(code) => return code,
    };
    let (filter, gone): (Vec<_>, Vec<_>) = failed.into_iter().partition(|id| known.contains(id));
    for id in gone {
        note(&format!("warning: `{id}` failed in that run, and there is no such scenario any more"));
    }
    if filter.is_empty() {
        return complain(ExitCode::NothingChecked, "no scenario that failed in that run is left");
    }
    let mut abouts = runs.iter().filter_map(|run| Some((&run.run.as_ref()?.distribution, &run.run.as_ref()?.variant)));
    let first = abouts.next();
    if abouts.any(|about| Some(about) != first) {
        return complain(ExitCode::Usage, "runs on several distributions or channels are there; name one of them");
    }
    let about = match runs.iter().find_map(|run| run.run.as_ref()) {
        Some(run) => or_that_of(options.product, options.place, run),
        None => Ok((options.product, options.place)),
    };
    let (product, place) = match about {
        Ok(about) => about,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let mut manner = options.manner;
    // In the order in which it failed, as far as fewer scenarios have one.
    manner.seed = manner.seed.or_else(|| runs.iter().find_map(|run| Some(run.run.as_ref()?.seed)));
    let selection = Selection { filter, scenarios: options.scenarios };
    run::run(run::Options { selection, partition: None, product, place, manner }).await
}

/// What a former run said on its command line.
#[derive(clap::Parser)]
struct Said {
    #[command(flatten)]
    options: run::Options,
}

/// What a former run was about, and where, as far as this command line leaves it open.
fn or_that_of(product: Product, place: Place, run: &RunStarted) -> Result<(Product, Place), String> {
    // `cknet run ...`: what is parsed begins with the name of a program.
    let said = match Said::try_parse_from(run.again.iter().skip(1)) {
        Ok(Said { options }) => (options.product, options.place),
        Err(_) => {
            // It names the provider, the distribution and its channel apart from these.
            note("warning: that run does not say how it was begun; its machines and files have to be named again");
            Default::default()
        }
    };
    // Paths of another machine say nothing here.
    let here = nix::sys::utsname::uname().is_ok_and(|system| system.nodename().to_string_lossy() == run.host);
    let there = |file: &Path| here && file.is_file();
    let place = place.or_that_of(&run.provider, said.1, there)?;
    let product = match place.is_present() {
        true => product.or_probe_image_of(said.0),
        false => product.or_that_of(run, said.0, there)?,
    };
    Ok((product, place))
}

/// Scenarios with a case that failed, or that was never judged.
fn failed(run: &Verdicts) -> Vec<String> {
    let again = |outcome: Option<&Outcome>| {
        let standing = outcome.map_or(Standing::Aborted, Outcome::standing);
        matches!(standing, Standing::Fail | Standing::XPass | Standing::Error | Standing::Aborted)
    };
    let cases = run.planned().filter(|case| again(run.of(&case.id).map(|judged| &judged.outcome)));
    cases.map(|case| case.scenario.clone()).collect()
}

/// The ids of all scenarios that there are now.
fn known(scenarios: Option<PathBuf>) -> Result<BTreeSet<String>, ExitCode> {
    let (found, _) = suite::find(&Selection { filter: Vec::new(), scenarios }, "reference")?;
    Ok(found.into_iter().filter_map(|found| Some(found.id?.to_string())).collect())
}
