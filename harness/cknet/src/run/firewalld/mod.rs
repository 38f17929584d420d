//! Nodes behind firewalld: it is started on a node with a bus of its own, told in its own words what to open, and
//! retired after the scenario. Where it is not installed, the same words make the rules that it would make.
//!
//! Everything that firewalld writes lies below the node's own `/run`, and it begins with the defaults that its package
//! brings: what the host has in `/etc/firewalld` would make results differ from machine to machine.

mod imitation;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use self::imitation::Imitation;
use super::stage::Stage;
use crate::provider::{Invocation, Node, Output};
use crate::scenario::model::{Capability, FirewallEngine, Firewalld};

/// Longest time from the start of firewalld to its first answer: an interpreter starts and reads some hundred files.
const STARTS: Duration = Duration::from_secs(60);

/// Longest time for one command line.
const COMMAND: Duration = Duration::from_secs(20);

/// Between two questions whether firewalld answers; each question starts an interpreter.
const ASK_AGAIN: Duration = Duration::from_millis(30);

const SOCKET: &str = "/run/dbus/system_bus_socket";
const BUS: &str = "firewalld-bus";
const SERVICE: &str = "firewalld";
/// Beside the socket, so that the folder that the socket needs is there.
const BUS_CONFIG: &str = "/run/dbus/cknet.conf";

/// A bus on which everything of the node may talk with everything: whoever is on the node is its administrator.
const BUS_RULES: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

/// By what a node's ports are guarded.
pub enum Behind {
    /// The real one, and what it says its version is.
    Firewalld { engine: String },
    /// Our rules in its place.
    Imitation { engine: String, state: Imitation },
}

impl Behind {
    /// In words, for reports.
    pub fn engine(&self) -> &str {
        match self {
            Self::Firewalld { engine } | Self::Imitation { engine, .. } => engine,
        }
    }
}

/// What a step does, in words.
pub fn describe(step: &Firewalld) -> String {
    let commands: Vec<String> = step.commands.iter().map(ToString::to_string).collect();
    let from = step.recipe.as_ref().map_or(String::new(), |recipe| format!(" as {recipe} says"));
    match commands.as_slice() {
        [] => format!("put behind firewalld{from}"),
        some => format!("put behind firewalld{from}: {}", some.join("; ")),
    }
}

/// Puts the nodes behind a firewall, those that are not yet, and has it do the commands.
pub async fn carry_out(stage: &mut Stage<'_>, nodes: &[String], step: &Firewalld) -> Result<(), String> {
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let commands: Result<Vec<String>, _> = step.commands.iter().map(|text| text.resolve(&lookup)).collect();
    let commands = commands.map_err(|error| error.to_string())?;
    let installed = stage.run.provider.capabilities().contains(&Capability::Firewalld);
    let work = nodes.iter().map(|name| {
        let (machine, known) = (stage.cluster.nodes.get(name).cloned(), stage.behind.remove(name));
        let commands = &commands;
        async move {
            let machine = machine.ok_or_else(|| format!("no node is called `{name}`"))?;
            let mut behind = match known {
                Some(known) => known,
                None => begin(machine.as_ref(), step.engine, installed).await?,
            };
            match &mut behind {
                Behind::Firewalld { .. } => tell(machine.as_ref(), commands).await?,
                Behind::Imitation { state, .. } => imitate(machine.as_ref(), state, commands).await?,
            }
            Ok((name.clone(), behind))
        }
    });
    let done: Vec<Result<_, String>> = futures::future::join_all(work.collect::<Vec<_>>()).await;
    for one in done {
        let (name, behind) = one.inspect_err(|_| stage.tainted = true)?;
        stage.behind.insert(name, behind);
    }
    Ok(())
}

/// The firewall as it is when it has just been installed: nothing is opened but SSH.
async fn begin(node: &dyn Node, engine: FirewallEngine, installed: bool) -> Result<Behind, String> {
    match (engine, installed) {
        (FirewallEngine::Firewalld, _) | (FirewallEngine::Any, true) => start(node).await,
        (FirewallEngine::BuiltIn, _) => Ok(imitation("firewalld's rules, made by cknet")),
        (FirewallEngine::Any, false) => {
            Ok(imitation("firewalld's rules, made by cknet because firewalld is not installed here"))
        }
    }
}

fn imitation(engine: &str) -> Behind {
    Behind::Imitation { engine: engine.into(), state: Imitation::default() }
}

/// Starts the bus and firewalld on it, and waits until firewalld answers.
async fn start(node: &dyn Node) -> Result<Behind, String> {
    /// Each start has a folder of its own: what one scenario made permanent is nothing to the next.
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let text = |error: crate::provider::NodeError| error.to_string();
    // A machine with an init of its own has a bus.
    let has_bus = node.run(Invocation::new(["test", "-S", SOCKET]), COMMAND).await.map_err(text)?.succeeded();
    if !has_bus && node.ended(BUS).await.is_none() && node.take(BUS_CONFIG).await.is_err() {
        node.put(BUS_CONFIG, 0o644, BUS_RULES.into()).await.map_err(text)?;
        let bus = ["dbus-daemon", "--nofork", "--nopidfile", "--config-file", BUS_CONFIG];
        node.start(BUS, Invocation::new(bus)).await.map_err(text)?;
    }
    let folder = format!("/run/cknet/firewalld-{}", STARTED.fetch_add(1, Ordering::Relaxed));
    // firewalld makes the files and not the folders.
    for part in ["zones", "policies", "services", "icmptypes", "ipsets", "helpers"] {
        node.put(&format!("{folder}/{part}/.cknet"), 0o644, Vec::new()).await.map_err(text)?;
    }
    let log = format!("{folder}/firewalld.log");
    let argv = ["firewalld", "--nofork", "--nopid", "--system-config", &folder, "--log-file", &log];
    node.start(SERVICE, quiet(argv)).await.map_err(text)?;
    let version = await_answer(node).await?;
    Ok(Behind::Firewalld { engine: format!("firewalld {version}") })
}

/// Python would otherwise write what it compiled beside its modules, which are the host's.
fn quiet<'a>(argv: impl IntoIterator<Item = &'a str>) -> Invocation {
    let environment = vec![("PYTHONDONTWRITEBYTECODE".into(), "1".into())];
    Invocation { environment, ..Invocation::new(argv) }
}

/// Waits until firewalld says that it runs; its version.
async fn await_answer(node: &dyn Node) -> Result<String, String> {
    let started = Instant::now();
    let mut last = String::from("it was not asked");
    while started.elapsed() < STARTS {
        match run(node, "firewall-cmd --version").await {
            Ok(version) => return Ok(version),
            Err(error) => last = error,
        }
        if let Some(exit) = node.ended(SERVICE).await {
            let log = node.take(&format!("/run/cknet/log/{SERVICE}.log")).await.unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let end = log.lines().last().unwrap_or_default();
            return Err(format!("firewalld on {} ended with {exit}: {end}", node.name()));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Err(format!("firewalld on {} does not answer after {STARTS:?}: {last}", node.name()))
}

/// Runs one line of `firewall-cmd` as it stands; what it printed.
async fn run(node: &dyn Node, line: &str) -> Result<String, String> {
    let output = node.run(quiet(line.split_whitespace()), COMMAND).await.map_err(|error| error.to_string())?;
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_string();
    if output.succeeded() {
        return Ok(said(&output));
    }
    let complaint = match output.complaint() {
        empty if empty.is_empty() => said(&output),
        complaint => complaint,
    };
    Err(format!("`{line}` on {} ended with {}: {complaint}", node.name(), output.exit))
}

async fn tell(node: &dyn Node, commands: &[String]) -> Result<(), String> {
    for line in commands {
        run(node, line).await?;
    }
    Ok(())
}

async fn imitate(node: &dyn Node, state: &mut Imitation, commands: &[String]) -> Result<(), String> {
    for line in commands {
        state.obey(line)?;
    }
    let argv = state.command();
    let shown = argv.join(" ");
    let output = node.run(Invocation::new(argv), COMMAND).await.map_err(|error| error.to_string())?;
    if output.succeeded() {
        return Ok(());
    }
    Err(format!("`{shown}` on {} ended with {}: {}", node.name(), output.exit, output.complaint()))
}

/// Ends firewalld on a node where the scenario started it. Its rules are taken away with everybody else's.
pub async fn retire(stage: &Stage<'_>, node: &dyn Node) -> Result<(), String> {
    match stage.behind.get(node.name()) {
        Some(Behind::Firewalld { .. }) => node.stop(SERVICE).await.map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}
