//! Workloads on machines that are no members of the cluster: a process there that answers like a pod does.

use std::time::{Duration, Instant};

use cknet_probe::facts::Facts;

use super::Cluster;
use super::workloads::{PlacedPod, server_arguments};
use crate::provider::{Exit, Invocation, Node, NodeError};
use crate::scenario::model::{Topology, Workload, WorkloadName};

/// Longest wait for a process to listen.
const LISTENS: Duration = Duration::from_secs(10);

/// Between two looks at its ports.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A workload outside of the cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("no machine is called `{0}`")]
    NoMachine(String),
    #[error("workload `{name}` ended on `{machine}` with {exit}: {last}")]
    Ended { name: String, machine: String, exit: Exit, last: String },
    #[error("workload `{name}` does not listen on `{machine}` after {LISTENS:?}")]
    Silent { name: String, machine: String },
}

/// The service under which the process runs on its machine.
fn service(name: &WorkloadName) -> String {
    format!("workload-{name}")
}

/// Starts the workload's process and waits until it listens.
pub async fn start(
    cluster: &Cluster,
    topology: &Topology,
    name: &WorkloadName,
    workload: &Workload,
) -> Result<PlacedPod, OutsideError> {
    let no_machine = || OutsideError::NoMachine(workload.node.to_string());
    let machine = cluster.nodes.get(workload.node.as_str()).ok_or_else(no_machine)?;
    let address = topology.address(&workload.node).ok_or_else(no_machine)?;
    // One that only asks needs no process: probes leave from the machine itself.
    if !workload.listen.is_empty() {
        let words = ["cknet", "probe", "serve"].into_iter().map(String::from);
        machine.start(&service(name), Invocation::new(words.chain(server_arguments(name, workload)))).await?;
        await_listening(machine.as_ref(), name, workload).await?;
    }
    Ok(PlacedPod {
        namespace: workload.namespace.as_str().to_string(),
        node: workload.node.as_str().to_string(),
        address,
        uid: None,
        host_network: true,
        listen: workload.listen.clone(),
        host_ports: Vec::new(),
    })
}

/// Ends the workload's process and waits until it has ended.
pub async fn stop(cluster: &Cluster, name: &WorkloadName, process: &PlacedPod) -> Result<(), OutsideError> {
    let machine = cluster.nodes.get(&process.node).ok_or_else(|| OutsideError::NoMachine(process.node.clone()))?;
    Ok(machine.stop(&service(name)).await?)
}

async fn await_listening(machine: &dyn Node, name: &WorkloadName, workload: &Workload) -> Result<(), OutsideError> {
    let started = Instant::now();
    loop {
        let told = machine.run(Invocation::new(["cknet", "facts", "listening"]), LISTENS).await?;
        // Facts that cannot be read are none; the next ones may be.
        let facts: Facts = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let open = workload.listen.iter().all(|port| {
            let protocol = port.protocol.to_string();
            facts.listening.iter().any(|socket| socket.protocol == protocol && socket.port == port.port.get())
        });
        if let Some(exit) = machine.ended(&service(name)).await {
            let log = machine.take(&format!("/run/cknet/log/{}.log", service(name))).await.unwrap_or_default();
            let last = String::from_utf8_lossy(&log).trim().lines().next_back().unwrap_or("no log").to_string();
            return Err(OutsideError::Ended { name: name.to_string(), machine: machine.name().into(), exit, last });
        }
        if open {
            return Ok(());
        }
        if started.elapsed() >= LISTENS {
            return Err(OutsideError::Silent { name: name.to_string(), machine: machine.name().into() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
