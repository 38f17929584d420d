//! `cknet down`: tells the processes that hold clusters for `cknet up` to end.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::clusters::{Running, running};
use super::up::{DEADLINE, MACHINES};
use super::{complain, print};
use crate::exit::ExitCode;

const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run to take down, as `cknet status` shows it; the only one unless given.
    run: Option<String>,
    /// Take down all.
    #[arg(long, conflicts_with = "run")]
    all: bool,
}

pub fn down(options: &Options) -> ExitCode {
    let all = match running() {
        // Runs of scenarios take themselves down.
        Ok(all) => all.into_iter().filter(|cluster| cluster.kubeconfig().is_some()).collect::<Vec<_>>(),
        Err(problem) => return complain(ExitCode::Infrastructure, &problem),
    };
    let chosen: Vec<&Running> = match &options.run {
        Some(run) => all.iter().filter(|cluster| cluster.run.as_str() == run).collect(),
        None => all.iter().collect(),
    };
    match (chosen.as_slice(), &options.run) {
        ([], Some(run)) => {
            return complain(ExitCode::Usage, &format!("no cluster `{run}` is running; see: cknet status"));
        }
        ([], None) => return print("no cluster is running\n"),
        ([_, _, ..], _) if !options.all => {
            let names: Vec<&str> = chosen.iter().map(|cluster| cluster.run.as_str()).collect();
            let problem = format!("{} clusters are running: name one of {}, or --all", names.len(), names.join(", "));
            return complain(ExitCode::Usage, &problem);
        }
        _ => {}
    }
    chosen.into_iter().map(end).find(|code| *code != ExitCode::Passed).unwrap_or(ExitCode::Passed)
}

/// Tells the holding process to end and waits until it has.
fn end(cluster: &Running) -> ExitCode {
    let holder = Pid::from_raw(cluster.owner.pid.cast_signed());
    if let Err(error) = kill(holder, Signal::SIGTERM) {
        return complain(ExitCode::Infrastructure, &format!("cannot end process {holder}: {error}"));
    }
    let started = Instant::now();
    let deadline = if cluster.provider == "netns" { DEADLINE } else { MACHINES };
    while cluster.lives() {
        if started.elapsed() >= deadline {
            let problem = format!("process {holder} has not taken the cluster down within {deadline:?}");
            return complain(ExitCode::Leaked, &problem);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    print(&format!("cluster {} is down\n", cluster.run))
}
