//! Image registries on machines.

use super::service;
use super::stage::Stage;
use crate::scenario::model::ImageRegistry;

const SERVICE: &str = "registry";
const USUAL_PORT: u16 = 5000;

/// What a step does, in words.
pub fn describe(registry: &ImageRegistry) -> String {
    format!("start an image registry on {}, port {}", registry.node, port(registry))
}

fn port(registry: &ImageRegistry) -> u16 {
    registry.port.map_or(USUAL_PORT, |port| port.get())
}

/// Starts the registry in place of one that runs there, and waits until it listens.
pub async fn start(stage: &mut Stage<'_>, registry: &ImageRegistry) -> Result<(), String> {
    let name = registry.node.as_str();
    let node = stage.cluster.nodes.get(name).ok_or_else(|| format!("no machine is called `{name}`"))?.clone();
    let argv = ["cknet", "registry", "--port", &port(registry).to_string()].map(String::from).to_vec();
    service::start(stage, node.as_ref(), SERVICE, argv, port(registry)).await
}
