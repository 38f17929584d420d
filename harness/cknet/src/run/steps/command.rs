//! Commands that steps run on nodes.

use std::time::Duration;

use super::{Done, text};
use crate::provider::{Exit, Invocation};
use crate::run::stage::Stage;
use crate::scenario::model::NodeRun;

/// Longest time for a command on a node.
pub const COMMAND: Duration = Duration::from_secs(30);

pub async fn node_run(stage: &Stage<'_>, run: &NodeRun) -> Done {
    let argv: Result<Vec<String>, _> =
        run.argv.iter().map(|word| word.resolve(&|fact| stage.facts.lookup(fact))).collect();
    command(stage, run.node.as_str(), argv.map_err(text)?, i32::from(run.expect_exit)).await
}

/// Runs a command on a node; another exit code than the one wanted is an error with what it printed.
pub async fn command(stage: &Stage<'_>, node: &str, argv: Vec<String>, wanted: i32) -> Done {
    command_with(stage, node, argv, &[wanted]).await
}

pub async fn command_with(stage: &Stage<'_>, node: &str, argv: Vec<String>, wanted: &[i32]) -> Done {
    let machine = stage.cluster.nodes.get(node).ok_or_else(|| format!("no node is called `{node}`"))?;
    let shown = argv.join(" ");
    let output = machine.run(Invocation::new(argv), COMMAND).await.map_err(text)?;
    if wanted.iter().any(|code| output.exit == Exit::Code(*code)) {
        return Ok(());
    }
    let wanted = wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let said = match output.complaint() {
        said if said.is_empty() => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        said => said,
    };
    Err(format!("`{shown}` on {node} ended with {} instead of exit code {wanted}: {said}", output.exit))
}
