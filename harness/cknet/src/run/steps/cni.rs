//! Steps that change which CNI configurations nodes have.

use super::command::command;
use super::{Done, nodes_of, text};
use crate::run::stage::Stage;
use crate::scenario::model::InstallCni;

pub async fn install_cni(stage: &Stage<'_>, install: &InstallCni) -> Done {
    let path = format!("/etc/cni/net.d/{}", install.file);
    let lookup = |fact: &_| stage.facts.lookup(fact);
    let content = match (&install.config, &install.text) {
        (Some(config), _) => Some(format!("{:#}\n", config.resolve(&lookup).map_err(text)?)),
        (None, Some(broken)) => Some(broken.resolve(&lookup).map_err(text)?),
        (None, None) => None,
    };
    for name in nodes_of(stage, &install.nodes) {
        match &content {
            Some(content) => {
                let node = stage.cluster.nodes.get(&name).ok_or_else(|| format!("no node is called `{name}`"))?;
                node.put(&path, 0o644, content.clone().into_bytes()).await.map_err(text)?;
            }
            None => {
                let argv = ["cknet", "node-file", "remove", &path].map(String::from).to_vec();
                command(stage, &name, argv, 0).await?;
            }
        }
    }
    Ok(())
}
