//! `cknet up`: a cluster that outlives the command.
//!
//! A process of its own holds the cluster, because a cluster of namespaces lives as long as its holder. `up` starts
//! that process in a session of its own and waits until it says that the cluster is ready; `cknet down` ends it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupt::Interrupts;
use super::keep as keeping;
use super::place::Machines;
use super::run::Workshop;
use super::{Selection, complain, note, print, suite};
use crate::cluster::Cluster;
use crate::distribution::ClusterSpec;
use crate::exit::ExitCode;
use crate::ledger::{NODES, Resource, UNTIL};
use crate::plan::{cluster_of, standard_cluster};
use crate::private_file;
use crate::provider::Topology;

/// Longest wait for a cluster of namespaces to be ready, and for one to be gone.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The same for one of machines, whose image may have to be downloaded.
pub const MACHINES: Duration = Duration::from_secs(30 * 60);

/// The name of the one cluster of an `up`.
const KEY: &str = "up";

#[derive(Debug, clap::Args)]
pub struct UpOptions {
    /// Make the cluster that this scenario wants; one control plane and two workers unless given.
    #[arg(value_name = "SCENARIO")]
    scenario: Option<String>,
    /// The folder of scenarios; `scenarios` here or above unless given.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// Workers beside the one control plane, where no scenario is given.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=60))]
    workers: u8,
    #[command(flatten)]
    machines: Machines,
    /// Take it down by itself after so long a time: 30m, 4h.
    #[arg(long, value_name = "TIME", value_parser = keeping::time)]
    keep_for: Option<Duration>,
    /// Hold the cluster in this process; end it with Ctrl-C.
    #[arg(long)]
    foreground: bool,
    /// Let go of the standard streams once the cluster is ready: how `cknet up` starts the holding process.
    #[arg(long, hide = true, requires = "foreground")]
    detached: bool,
}

pub fn up(options: UpOptions) -> ExitCode {
    if options.foreground {
        return super::with_runtime(hold(options));
    }
    match detach(&options) {
        Ok(code) => code,
        Err(error) => complain(ExitCode::Infrastructure, &format!("cannot start the holding process: {error}")),
    }
}

/// Starts the holding process and waits for its news: what it prints, closing its output, when the cluster is ready.
///
/// There are no files between the two. When this process dies, the holding one cannot tell and takes the cluster down.
fn detach(options: &UpOptions) -> std::io::Result<ExitCode> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["up", "--foreground", "--detached", "--workers"]).arg(options.workers.to_string());
    command.args(options.machines.words()).args(&options.scenario);
    if let Some(time) = options.keep_for {
        command.arg("--keep-for").arg(format!("{}s", time.as_secs()));
    }
    let deadline = if options.machines.words().is_empty() { DEADLINE } else { MACHINES };
    if let Some(scenarios) = &options.scenarios {
        command.arg("--scenarios").arg(std::path::absolute(scenarios)?);
    }
    // A group of its own, so that Ctrl-C in this terminal later does not reach it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut holder = command.spawn()?;
    let (news, complaints) = (read_all(holder.stdout.take())?, read_all(holder.stderr.take())?);
    match news.recv_timeout(deadline) {
        Ok(text) if !text.is_empty() => Ok(print(&text)),
        Ok(_) => {
            let status = holder.wait()?;
            note(complaints.recv_timeout(DEADLINE).unwrap_or_default().trim_end());
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.and_then(ExitCode::of).unwrap_or(ExitCode::Infrastructure))
        }
        Err(_) => {
            // It may still be at work: it is told to take everything down.
            let _ = kill(Pid::from_raw(holder.id().cast_signed()), Signal::SIGTERM);
            Ok(complain(ExitCode::Infrastructure, &format!("the cluster was not ready within {deadline:?}")))
        }
    }
}

/// Reads a stream to its end beside what else is done, so that waiting for it can be bounded.
fn read_all(stream: Option<impl Read + Send + 'static>) -> std::io::Result<mpsc::Receiver<String>> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What came before an error is all there is to know.
            let _ = stream.read_to_end(&mut bytes);
        }
        // Nobody may be waiting any more.
        let _ = tell.send(String::from_utf8_lossy(&bytes).into_owned());
    })?;
    Ok(told)
}

/// Tells that the cluster is ready, and lets go of the streams of the process that waited for it.
fn tell_and_detach(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    let null = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stderr(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

/// Makes a cluster and holds it until a signal.
async fn hold(options: UpOptions) -> ExitCode {
    let (topology, spec) = match wanted(&options) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let (workshop, interrupts) = match Workshop::open(&options.machines)
        .and_then(|workshop| Ok((workshop, Interrupts::listen().map_err(|error| error.to_string())?)))
    {
        Ok(opened) => opened,
        Err(problem) => return complain(ExitCode::Infrastructure, &problem),
    };
    let resource = workshop.resource(KEY);
    if let Err(error) = workshop.ledger.intent(&resource) {
        return complain(ExitCode::Infrastructure, &error.to_string());
    }
    let making = Cluster::create(workshop.provider(), workshop.distribution(), KEY, &topology, &spec);
    let made = tokio::select! {
        made = making => made.map_err(|error| error.to_string()),
        () = interrupts.stop.cancelled() => Err("interrupted".into()),
    };
    let code = match made {
        Ok(cluster) => keep(&workshop, cluster, resource.clone(), &options, &interrupts).await,
        Err(problem) => complain(ExitCode::Infrastructure, &problem),
    };
    // Whatever did not come to its end is removed; what cannot be stays in the ledger.
    let code = match workshop.provider().reclaim(KEY).await {
        Ok(()) => code,
        Err(left) => complain(ExitCode::Leaked, &format!("{left}; try: cknet gc")),
    };
    if code != ExitCode::Leaked
        && let Err(error) = workshop.ledger.destroyed(&resource.key)
    {
        note(&format!("warning: {error}"));
    }
    workshop.close();
    code
}

async fn keep(
    workshop: &Workshop,
    cluster: Cluster,
    resource: Resource,
    options: &UpOptions,
    interrupts: &Interrupts,
) -> ExitCode {
    let until = keeping::until(options.keep_for);
    let resource = match until {
        Some(until) => resource.with(UNTIL, until.to_string()),
        None => resource,
    };
    let process = cluster.holder().map(|process| process.to_string()).unwrap_or_default();
    let path = workshop.ledger.folder().join(format!("{KEY}.kubeconfig"));
    let written = workshop
        .ledger
        .created(
            &resource
                .with("process", process)
                .with(NODES, cluster.nodes.by_name.keys().cloned().collect::<Vec<_>>().join(" ")),
        )
        .map_err(|error| error.to_string())
        .and_then(|()| {
            private_file::write(&path, &cluster.kubeconfig)
                .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
        });
    if let Err(problem) = written {
        return complain(ExitCode::Infrastructure, &problem);
    }
    let text = how_to_use(workshop, &cluster, &path);
    if !options.detached {
        print(&text);
    } else if let Err(error) = tell_and_detach(&text) {
        note(&format!("nobody waits for the cluster any more ({error}): it is taken down"));
        interrupts.stop.cancel();
    }
    tokio::select! {
        () = interrupts.stop.cancelled() => {}
        () = keeping::over(until) => {}
    }
    // A client must not be led to whatever listens on that port next.
    let _ = std::fs::remove_file(&path);
    match cluster.destroy().await {
        Ok(()) => ExitCode::Passed,
        Err(error) => complain(ExitCode::Leaked, &error.to_string()),
    }
}

fn how_to_use(workshop: &Workshop, cluster: &Cluster, kubeconfig: &Path) -> String {
    let nodes: Vec<&str> = cluster.nodes.by_name.keys().map(String::as_str).collect();
    let run = workshop.ledger.run();
    let first = nodes.first().copied().unwrap_or_default();
    format!(
        "cluster {run} is ready: {} ({:.2} s)\n\
         a model of the documented behaviour, not Canonical Kubernetes\n\n\
         export KUBECONFIG={}\n\
         kubectl get nodes -o wide          work with it\n\
         cknet shell {first:<22} a shell on a node; or in a pod: cknet shell NAMESPACE/POD\n\
         cknet down {run}              take it down\n",
        nodes.join(", "),
        cluster.timings.total().as_secs_f64(),
        kubeconfig.display(),
    )
}

fn wanted(options: &UpOptions) -> Result<(Topology, ClusterSpec), ExitCode> {
    let Some(id) = &options.scenario else { return Ok(standard_cluster(options.workers)) };
    let selection = Selection { filter: vec![id.clone()], scenarios: options.scenarios.clone() };
    let scenarios = suite::read(&selection, "reference")?;
    match scenarios.as_slice() {
        [scenario] => cluster_of(scenario).map_err(|error| complain(ExitCode::Usage, &error.to_string())),
        several => Err(complain(ExitCode::Usage, &format!("`{id}` names {} scenarios; name one", several.len()))),
    }
}
