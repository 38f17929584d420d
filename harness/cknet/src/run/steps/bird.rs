//! BIRD on machines.

use super::command::command;
use super::{Done, text};
use crate::provider::Invocation;
use crate::run::stage::Stage;
use crate::scenario::model::Bird;

/// BIRD on a machine outside of the cluster; one that runs there already is ended.
pub async fn start_bird(stage: &Stage<'_>, bird: &Bird) -> Done {
    const CONFIG: &str = "/run/bird/bird.conf";
    const SERVICE: &str = "bird";
    let name = bird.node.as_str();
    let node = stage.cluster.nodes.get(name).ok_or_else(|| format!("no machine is called `{name}`"))?;
    let config = bird.config.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
    node.put(CONFIG, 0o644, config.into_bytes()).await.map_err(text)?;
    command(stage, name, ["bird", "-p", "-c", CONFIG].map(String::from).to_vec(), 0).await?;
    node.stop(SERVICE).await.map_err(text)?;
    let invocation = Invocation::new(["bird", "-f", "-c", CONFIG, "-s", "/run/bird/bird.ctl"]);
    node.start(SERVICE, invocation).await.map_err(text)
}
