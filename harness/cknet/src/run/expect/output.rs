//! Expectations about what programs print: commands and logs. In pods they are asked for through the API server, as
//! `kubectl exec` and `kubectl logs` do, so that the way to the kubelet is part of what is seen.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams};
use tokio::io::AsyncReadExt;

use super::Looked;
use crate::cluster::workloads::PlacedPod;
use crate::judge::{Look, Seen};
use crate::provider::{Exit, Invocation};
use crate::run::stage::Stage;
use crate::scenario::Text;
use crate::scenario::model::{Command, Endpoint, Kubelet, Log, WorkloadName};

/// Longest time for a command.
const RUN: Duration = Duration::from_secs(10);

/// As much of an output is looked at, in bytes.
const MOST: u64 = 1 << 20;

/// As much of what was seen is shown, in characters.
const SHOWN: usize = 160;

/// What a command expectation wants, in words.
pub fn command(command: &Command) -> String {
    let argv = command.argv.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let prints = command.prints.as_ref().map_or(String::new(), |text| format!(", printing `{text}`"));
    match command.kubelet {
        Kubelet::Reached => format!("`{argv}` at {} ends with exit code {}{prints}", command.at, command.exit),
        Kubelet::Unreached => format!("`{argv}` at {} cannot be run: the kubelet is not reached", command.at),
    }
}

/// What a log expectation wants, in words.
pub fn log(log: &Log) -> String {
    let of = log.file.as_ref().map_or_else(|| log.of.to_string(), |file| format!("{} in {file}", log.of));
    match (log.kubelet, &log.has) {
        (Kubelet::Unreached, _) => format!("the log of {of} cannot be read: the kubelet is not reached"),
        (_, None) => format!("the log of {of} can be read"),
        (_, Some(text)) if log.present => format!("the log of {of} has `{text}`"),
        (_, Some(text)) => format!("the log of {of} has no `{text}`"),
    }
}

/// What came of asking a kubelet for something.
enum Asked<T> {
    Answered(T),
    /// The API server does not reach it, in its own words.
    Unreached(String),
}

/// An answer of the API server that says that it does not reach the kubelet; anything else proves nothing.
fn unreached<T>(error: kube::Error) -> Result<Asked<T>, String> {
    let text = match &error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::UpgradeConnection(inner) => inner.to_string(),
        other => other.to_string(),
    };
    let says = ["dial tcp", "dialing backend"].iter().any(|words| text.contains(words));
    // A client that asks for an upgrade hears only the code of the refusal.
    let refused = matches!(&error, kube::Error::UpgradeConnection(_)) && text.contains("500");
    if says || refused { Ok(Asked::Unreached(text)) } else { Err(text) }
}

fn pod<'s>(stage: &'s Stage<'_>, name: &WorkloadName) -> Result<(&'s PlacedPod, Api<Pod>), String> {
    let pod = stage.placed.pods.get(name).ok_or_else(|| format!("workload `{name}` does not run"))?;
    Ok((pod, Api::namespaced(stage.cluster.client.clone(), &pod.namespace)))
}

fn filled(stage: &Stage<'_>, text: &Text) -> Result<String, String> {
    text.resolve(&|fact| stage.facts.lookup(fact)).map_err(|error| error.to_string())
}

pub async fn look_at_command(stage: &Stage<'_>, expected: &Command) -> Looked {
    let argv: Vec<String> = expected.argv.iter().map(|word| filled(stage, word)).collect::<Result<_, _>>()?;
    let wanted = expected.prints.as_ref().map(|text| filled(stage, text)).transpose()?;
    let ran = match &expected.at {
        Endpoint::Workload(name) => in_pod(stage, name, argv).await?,
        Endpoint::Node(name) => Asked::Answered(on_node(stage, name.as_str(), argv).await?),
        other => return Err(format!("nothing can be run at `{other}`")),
    };
    let (code, printed) = match ran {
        Asked::Unreached(why) => return Ok(about_the_kubelet(expected.kubelet, why)),
        Asked::Answered(_) if expected.kubelet == Kubelet::Unreached => {
            return Ok(Look::Refuted(Seen::word("the kubelet was reached")));
        }
        Asked::Answered(ended) => ended,
    };
    let shown = format!("exit code {code}, {}", short(&printed));
    let right = code == i32::from(expected.exit) && wanted.is_none_or(|wanted| printed.contains(&wanted));
    Ok(if right { Look::Holds(shown) } else { Look::Refuted(Seen::word(shown)) })
}

fn about_the_kubelet(expected: Kubelet, why: String) -> Look {
    match expected {
        Kubelet::Unreached => Look::Holds(why),
        Kubelet::Reached => Look::Refuted(Seen::word(format!("unreached: {why}"))),
    }
}

async fn on_node(stage: &Stage<'_>, node: &str, argv: Vec<String>) -> Result<(i32, String), String> {
    let machine = stage.cluster.nodes.get(node).ok_or_else(|| format!("no node is called `{node}`"))?;
    let environment = stage.environment.get(node).cloned().unwrap_or_default();
    let invocation = Invocation { environment, ..Invocation::new(argv) };
    let output = machine.run(invocation, RUN).await.map_err(|error| error.to_string())?;
    let printed = [output.stdout, output.stderr].concat();
    match output.exit {
        Exit::Code(code) => Ok((code, String::from_utf8_lossy(&printed).into_owned())),
        Exit::Signal(signal) => Err(format!("the command was ended by signal {signal}")),
    }
}

async fn in_pod(stage: &Stage<'_>, name: &WorkloadName, argv: Vec<String>) -> Result<Asked<(i32, String)>, String> {
    let (_, pods) = pod(stage, name)?;
    let run = async {
        let mut attached = match pods.exec(name.as_str(), argv, &AttachParams::default().stderr(true)).await {
            Ok(attached) => attached,
            Err(error) => return unreached(error),
        };
        let status = attached.take_status();
        let (stdout, stderr) = (attached.stdout(), attached.stderr());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (first, second) = tokio::join!(
            async { if let Some(stream) = stdout { stream.take(MOST).read_to_end(&mut out).await } else { Ok(0) } },
            async { if let Some(stream) = stderr { stream.take(MOST).read_to_end(&mut err).await } else { Ok(0) } },
        );
        first.and(second).map_err(|error| error.to_string())?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let status = status.ok_or("the command's end was not told")?;
        let printed = String::from_utf8_lossy(&[out, err].concat()).into_owned();
        Ok(Asked::Answered((exit_code(&status)?, printed)))
    };
    tokio::time::timeout(RUN, run).await.map_err(|_| format!("the command did not end within {RUN:?}"))?
}

/// The exit code in the status that ends an exec: success, or a cause named `ExitCode`.
fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Result<i32, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().filter_map(|details| details.causes.as_ref()).flatten();
    let mut codes = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes.next().and_then(|cause| cause.message.as_ref()?.parse().ok());
    code.ok_or_else(|| status.message.clone().unwrap_or_else(|| "the command's exit code was not told".into()))
}

pub async fn look_at_log(stage: &Stage<'_>, expected: &Log) -> Looked {
    let wanted = expected.has.as_ref().map(|text| filled(stage, text)).transpose()?;
    let read = match (&expected.of, &expected.file) {
        (Endpoint::Workload(name), _) => {
            let (_, pods) = pod(stage, name)?;
            let limit = LogParams { limit_bytes: i64::try_from(MOST).ok(), ..LogParams::default() };
            match pods.logs(name.as_str(), &limit).await {
                Ok(text) => Asked::Answered(text),
                Err(error) => unreached(error)?,
            }
        }
        (Endpoint::Node(name), Some(file)) => {
            let machine = stage.cluster.nodes.get(name.as_str()).ok_or_else(|| format!("no node `{name}`"))?;
            let bytes = machine.take(file).await.map_err(|error| error.to_string())?;
            Asked::Answered(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => return Err(format!("`{}` has no log", expected.of)),
    };
    let text = match read {
        Asked::Unreached(why) => return Ok(about_the_kubelet(expected.kubelet, why)),
        Asked::Answered(_) if expected.kubelet == Kubelet::Unreached => {
            return Ok(Look::Refuted(Seen::word("the kubelet was reached")));
        }
        Asked::Answered(text) => text,
    };
    let Some(wanted) = wanted else { return Ok(Look::Holds(format!("{} lines", text.lines().count()))) };
    let line = text.lines().find(|line| line.contains(&wanted));
    Ok(match (line, expected.present) {
        (Some(line), true) => Look::Holds(short(line)),
        (Some(line), false) => Look::Refuted(Seen::word(format!("it has: {}", short(line)))),
        (None, true) => Look::Refuted(Seen::word(format!("no such line of {}", text.lines().count()))),
        (None, false) => Look::Holds(format!("none of {} lines", text.lines().count())),
    })
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}
