//! Programs that steps start on machines and that listen there, until the scenario is over.

use std::time::{Duration, Instant};

use cknet_probe::facts::Facts;

use super::stage::Stage;
use crate::provider::{Invocation, Node};

/// Longest wait for a program to listen.
const LISTENS: Duration = Duration::from_secs(10);
/// Between two looks at its port.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Longest time for a look.
const LOOK: Duration = Duration::from_secs(10);

/// Starts a program in place of the one that is this service already, and waits until it listens on a TCP port.
pub async fn start(
    stage: &mut Stage<'_>,
    node: &dyn Node,
    service: &'static str,
    argv: Vec<String>,
    port: u16,
) -> Result<(), String> {
    let text = |error: crate::provider::NodeError| error.to_string();
    node.stop(service).await.map_err(text)?;
    // Known before it is done, so that it is ended in any case.
    stage.services.insert((node.name().to_string(), service));
    node.start(service, Invocation::new(argv)).await.map_err(text)?;
    let started = Instant::now();
    while started.elapsed() < LISTENS {
        let looked = node.run(Invocation::new(["cknet", "facts", "listening"]), LOOK).await.map_err(text)?;
        // Facts that cannot be read are none; the next ones may be.
        let facts: Facts = serde_json::from_slice(&looked.stdout).unwrap_or_default();
        if facts.listening.iter().any(|socket| socket.protocol == "tcp" && socket.port == port) {
            return Ok(());
        }
        if let Some(exit) = node.ended(service).await {
            let log = node.take(&format!("/run/cknet/log/{service}.log")).await.unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let last = log.trim().lines().next_back().unwrap_or("no log");
            return Err(format!("the {service} on {} ended with {exit}: {last}", node.name()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(format!("the {service} on {} does not listen on port {port} after {LISTENS:?}", node.name()))
}

/// Ends what the scenario started on a machine.
pub async fn retire(stage: &Stage<'_>, node: &dyn Node) -> Result<(), String> {
    for (_, service) in stage.services.iter().filter(|(name, _)| name == node.name()) {
        node.stop(service).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
