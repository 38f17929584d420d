//! `cknet up`: a cluster that outlives the command.
//!
//! A process of its own holds the cluster, because a cluster of namespaces lives as long as its holder. `up` starts
//! that process in a session of its own and waits until it says that the cluster is ready; `cknet down` ends it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
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
use super::product::Product;
use super::workshop::{Workshop, telling};
use super::{Selection, complain, note, print, suite};
use crate::cluster::Cluster;
use crate::distribution::{ClusterSpec, Distribution};
use crate::event::Fidelity;
use crate::exit::ExitCode;
use crate::ledger::{NODES, Resource, UNTIL};
use crate::plan::{cluster_of, fidelity, standard_cluster};
use crate::private_file;
use crate::provider::Topology;

/// Longest wait for a cluster of namespaces to be ready, and for one to be gone.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The same for one of machines, whose image may have to be downloaded.
pub const MACHINES: Duration = Duration::from_secs(30 * 60);

/// The same where a distribution is installed on them, whose steps have deadlines of their own: it is for what they
/// come to on a slow way to the internet.
const INSTALLED: Duration = Duration::from_secs(2 * 60 * 60);

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
    product: Product,
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
    options.product.tell(&mut command);
    command.args(options.machines.words()).args(&options.scenario);
    if let Some(time) = options.keep_for {
        command.arg("--keep-for").arg(format!("{}s", time.as_secs()));
    }
    let deadline = match options.product.is_real() {
        true => INSTALLED,
        false if options.machines.words().is_empty() => DEADLINE,
        false => MACHINES,
    };
    if let Some(scenarios) = &options.scenarios {
        command.arg("--scenarios").arg(std::path::absolute(scenarios)?);
    }
    // A group of its own, so that Ctrl-C in this terminal later does not reach it.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut holder = command.spawn()?;
    let (news, told) = (read_all(holder.stdout.take())?, pass_on(holder.stderr.take())?);
    match news.recv_timeout(deadline) {
        Ok(text) if !text.is_empty() => Ok(print(&text)),
        Ok(_) => {
            let status = holder.wait()?;
            // All of what it said comes before what this process does next; who says nothing more has said it.
            let _ = told.recv_timeout(DEADLINE);
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

/// Passes on each line as it is said: an installation takes minutes.
fn pass_on(stream: Option<impl Read + Send + 'static>) -> std::io::Result<mpsc::Receiver<()>> {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let lines = stream.into_iter().flat_map(|stream| BufReader::new(stream).split(b'\n')).map_while(Result::ok);
        lines.for_each(|line| note(&String::from_utf8_lossy(&line)));
        let _ = tell.send(());
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
    let product = options.product.clone().told(|name| std::env::var(name).ok());
    let distribution = match product.distribution(telling()) {
        Ok(distribution) => distribution,
        Err(problem) => return complain(ExitCode::Usage, &problem),
    };
    let (topology, spec) = match wanted(&options, &*distribution) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return complain(ExitCode::Infrastructure, &format!("cannot listen for signals: {error}")),
    };
    let workshop = match Workshop::open(distribution, &options.machines) {
        Ok(workshop) => workshop,
        Err(code) => return code,
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
        Ok(cluster) => keep(&workshop, cluster, resource.clone(), &spec, &options, &interrupts).await,
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
    spec: &ClusterSpec,
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
    let text = how_to_use(workshop, &cluster, spec, &path);
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

fn how_to_use(workshop: &Workshop, cluster: &Cluster, spec: &ClusterSpec, kubeconfig: &Path) -> String {
    let nodes: Vec<&str> = cluster.nodes.by_name.keys().map(String::as_str).collect();
    let run = workshop.ledger.run();
    let first = nodes.first().copied().unwrap_or_default();
    let what = what_it_is(fidelity(workshop.provider(), workshop.distribution()), workshop.distribution(), spec);
    format!(
        "cluster {run} is ready: {} ({:.2} s)\n\
         {what}\n\n\
         export KUBECONFIG={}\n\
         kubectl get nodes -o wide          work with it\n\
         cknet shell {first:<22} a shell on a node; or in a pod: cknet shell NAMESPACE/POD\n\
         cknet down {run}              take it down\n",
        nodes.join(", "),
        cluster.timings.total().as_secs_f64(),
        kubeconfig.display(),
    )
}

/// Whether it is a model of a product or the product.
fn what_it_is(fidelity: Fidelity, distribution: &dyn Distribution, spec: &ClusterSpec) -> String {
    let product = spec.flavour.product();
    match fidelity {
        Fidelity::Model => format!("a model of the documented behaviour, not {product}"),
        Fidelity::Dataplane => format!("a model of the documented behaviour on machines, not {product}"),
        Fidelity::Cluster => {
            let (name, channel) = (distribution.name(), distribution.channel().unwrap_or_default());
            format!("{name} {channel} itself and no model; network of pods: {}", distribution.profile())
        }
    }
}

fn wanted(options: &UpOptions, distribution: &dyn Distribution) -> Result<(Topology, ClusterSpec), ExitCode> {
    let refused = |problem: String| complain(ExitCode::Usage, &problem);
    let carries = distribution.carries();
    let Some(id) = &options.scenario else {
        let (topology, mut spec) = standard_cluster(options.workers);
        // Nobody has asked for another product's set-up than its own.
        if let Some(own) = carries.flavours.first().filter(|_| !carries.flavours.contains(&spec.flavour)) {
            spec.flavour = *own;
        }
        return Ok((topology, spec));
    };
    let selection = Selection { filter: vec![id.clone()], scenarios: options.scenarios.clone() };
    let scenarios = suite::read(&selection, distribution.profile())?;
    let [scenario] = scenarios.as_slice() else {
        return Err(refused(format!("`{id}` names {} scenarios; name one", scenarios.len())));
    };
    let (topology, spec) = cluster_of(scenario).map_err(|error| refused(error.to_string()))?;
    match carries.lacks(&spec) {
        Some(lacking) => Err(refused(format!("`{id}` wants {lacking}; {} cannot be that", distribution.name()))),
        None => Ok((topology, spec)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::distribution::reference::Reference;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: UpOptions,
    }

    /// What the command line asks for, and what is said of it.
    fn said(arguments: &[&str], fidelity: Fidelity) -> String {
        let options = Line::parse_from([&["cknet"], arguments].concat()).options;
        let distribution = options.product.distribution(crate::distribution::recipe::silent()).unwrap();
        let (_, spec) = wanted(&options, &*distribution).unwrap();
        what_it_is(fidelity, &*distribution, &spec)
    }

    #[test]
    fn a_model_is_told_from_a_product() {
        assert_eq!(said(&[], Fidelity::Model), "a model of the documented behaviour, not Canonical Kubernetes");
        let on_machines = "a model of the documented behaviour on machines, not Canonical Kubernetes";
        assert_eq!(said(&[], Fidelity::Dataplane), on_machines);
        let canonical = ["--distribution", "canonical", "--channel", "1.36-classic/stable", "--cni", "calico"];
        let itself = "canonical 1.36-classic/stable itself and no model; network of pods: calico";
        assert_eq!(said(&canonical, Fidelity::Cluster), itself);
        let k3s = ["--distribution", "k3s", "--channel", "v1.33"];
        assert_eq!(said(&k3s, Fidelity::Cluster), "k3s v1.33 itself and no model; network of pods: k3s");
    }

    /// The standard cluster has the set-up of the product that is asked for.
    #[test]
    fn each_product_is_itself_where_no_scenario_is_named() {
        for (name, channel) in
            [("canonical", "1.32/stable"), ("microk8s", "1.33"), ("k3s", "v1"), ("rke2", "v1"), ("kubeadm", "v1.33")]
        {
            let options = Line::parse_from(["cknet", "--distribution", name, "--channel", channel]).options;
            let distribution = options.product.distribution(crate::distribution::recipe::silent()).unwrap();
            let (_, spec) = wanted(&options, &*distribution).unwrap();
            assert_eq!(distribution.carries().lacks(&spec), None, "{name}");
        }
        assert_eq!(Reference.carries().flavours.len(), 4, "the model can be any of them");
    }
}
