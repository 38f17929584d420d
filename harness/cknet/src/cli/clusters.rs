//! Clusters that run now, and what dead runs left: `cknet status` and `cknet gc`.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::keep;
use super::place::{self, Purpose};
use super::{complain, print};
use crate::exit::ExitCode;
use crate::ledger::{
    Destroyers, Fate, Liveness, NODES, Owner, Resource, Retention, RunId, StateDir, UNTIL, collect, open_ledgers,
};

/// The provider whose nodes end with the process that holds them.
const NETNS: &str = "netns";

/// A cluster that runs, or is left of a run.
pub struct Running {
    pub run: RunId,
    /// The process that holds it.
    pub owner: Owner,
    /// The folder of its run.
    pub folder: PathBuf,
    /// Its name within the run.
    pub key: String,
    /// The provider of its nodes.
    pub provider: String,
    /// Its nodes, where they were noted.
    pub nodes: Vec<String>,
    /// When it is taken down by itself, if it is.
    pub until: Option<Timestamp>,
}

impl Running {
    /// Whether the process that holds it still does; one that has ended and was not collected yet does not.
    pub fn lives(&self) -> bool {
        self.owner.liveness() == Liveness::Alive
    }

    /// Its nodes, or its name.
    pub fn what(&self) -> String {
        if self.nodes.is_empty() { self.key.clone() } else { self.nodes.join(", ") }
    }

    /// What is said of machines whose run has ended.
    pub fn abandoned(&self) -> String {
        format!(
            "{}  {}  left by a run that has ended, on {}; remove it: cknet gc",
            self.run,
            self.what(),
            self.provider
        )
    }

    /// Where its fabric listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.key))
    }

    /// Its kubeconfig, if the cluster was left running on purpose.
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        let path = self.folder.join(format!("{}.kubeconfig", self.key));
        path.is_file().then_some(path)
    }
}

/// The clusters of all live runs of this user, the newest first.
pub fn running() -> Result<Vec<Running>, String> {
    held_by(Liveness::Alive)
}

/// Machines of runs that have ended without taking them down, the newest first. Namespaces have ended with their run.
pub fn left_behind() -> Result<Vec<Running>, String> {
    let left = held_by(Liveness::Dead)?;
    Ok(left.into_iter().filter(|cluster| cluster.provider != NETNS).collect())
}

fn held_by(liveness: Liveness) -> Result<Vec<Running>, String> {
    let state = StateDir::from_env(|name| std::env::var_os(name)).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for open in open_ledgers(&state).map_err(|error| error.to_string())? {
        let Ok(history) = &open.history else { continue };
        if history.owner.liveness() != liveness {
            continue;
        }
        for resource in history.outstanding() {
            let until = resource.details.get(UNTIL).and_then(|text| text.parse().ok());
            let nodes = resource.details.get(NODES).map(|names| names.split(' ').map(String::from).collect());
            found.push(Running {
                run: open.run.clone(),
                owner: history.owner.clone(),
                folder: open.folder.clone(),
                key: resource.key.name.clone(),
                provider: resource.key.provider.clone(),
                nodes: nodes.unwrap_or_default(),
                until,
            });
        }
    }
    found.reverse();
    Ok(found)
}

pub fn status() -> ExitCode {
    let running = match running() {
        Ok(running) => running,
        Err(problem) => return complain(ExitCode::Infrastructure, &problem),
    };
    let mut text = String::new();
    if running.is_empty() {
        text.push_str("no cluster is running; make one: cknet up\n");
    }
    for cluster in &running {
        let what = cluster.what();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {what}  held by process {}", cluster.run, cluster.owner.pid);
        if let Some(path) = cluster.kubeconfig() {
            let _ = writeln!(text, "  kept {}", keep::left(cluster));
            let _ = writeln!(text, "  export KUBECONFIG={}", path.display());
        }
    }
    for left in left_behind().unwrap_or_default() {
        let _ = writeln!(text, "{}", left.abandoned());
    }
    print(&text)
}

#[derive(Debug, clap::Args)]
pub struct GcOptions {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

pub fn gc(options: &GcOptions) -> ExitCode {
    let state = match StateDir::from_env(|name| std::env::var_os(name)) {
        Ok(state) => state,
        Err(error) => return complain(ExitCode::Infrastructure, &error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(ExitCode::Infrastructure, &error.to_string()),
    };
    let runs = state.runs();
    let (runs, runtime) = (&runs, &runtime);
    let mut destroyers = Destroyers::default();
    destroyers.add("netns-cluster", |run, resource| destroy_netns(&runs.join(run.as_str()), resource));
    for provider in place::lasting(&Purpose { run: "", folder: Path::new("/"), way_out: false }) {
        let name = provider.name();
        destroyers.add(format!("{name}-cluster"), move |run, resource| {
            let folder = runs.join(run.as_str());
            let purpose = Purpose { run: run.as_str(), folder: &folder, way_out: false };
            let all = place::lasting(&purpose);
            let provider = all.iter().find(|provider| provider.name() == name).ok_or("no such provider")?;
            Ok(runtime.block_on(provider.reclaim(&resource.key.name))?)
        });
    }
    let collected = collect(&state, &mut destroyers, Retention::default(), Timestamp::now(), options.dry_run);
    let report = match collected {
        Ok(report) => report,
        Err(error) => return complain(ExitCode::Infrastructure, &error.to_string()),
    };
    let mut text = String::new();
    for (run, fate) in &report.runs {
        let line = match fate {
            Fate::Left { why } => format!("left alone: {why}"),
            Fate::WouldDestroy(resources) => format!("dead; would remove {}", names(resources)),
            Fate::Collected(collected) if collected.failed.is_empty() => {
                format!("dead; removed {}, closed", names(&collected.destroyed))
            }
            Fate::Collected(collected) => {
                let failed = collected.failed.iter().map(|(what, why)| format!("{}: {why}", what.key.name));
                format!("dead; still there: {}", failed.collect::<Vec<_>>().join("; "))
            }
            Fate::Broken(error) => error.to_string(),
        };
        let _ = writeln!(text, "{run}  {line}");
    }
    let verb = if options.dry_run { "would remove" } else { "removed" };
    let _ = writeln!(text, "{} open runs, {verb} {} old run folders", report.runs.len(), report.pruned.len());
    match print(&text) {
        ExitCode::Passed if !report.is_clean() => ExitCode::Leaked,
        code => code,
    }
}

fn names(resources: &[Resource]) -> String {
    match resources {
        [] => "nothing".into(),
        some => some.iter().map(|resource| resource.key.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// The kernel has freed the namespaces with the process that held them; that is left to be seen, and what led to the
/// cluster is removed.
fn destroy_netns(folder: &Path, resource: &Resource) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for kind in ["sock", "kubeconfig"] {
        match std::fs::remove_file(folder.join(format!("{}.{kind}", resource.key.name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let Some(process) = resource.details.get("process") else { return Ok(()) };
    let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let is_fabric = command.split(|byte| *byte == 0).any(|word| word == b"fabric");
    if is_fabric {
        return Err(format!("the process {process} that holds its namespaces is still there").into());
    }
    Ok(())
}
