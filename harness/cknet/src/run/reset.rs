//! The way back after a scenario: what it made is deleted, what it closed is opened, and the cluster is looked at
//! before it is trusted with the next scenario.

use std::time::Duration;

use super::stage::{Reuse, Stage};
use super::{firewalld, proxy, service};
use crate::cluster::workloads;
use crate::provider::Invocation;
use crate::scenario::model::Capability;

/// Longest time to clear the firewall of one node.
const CLEAR: Duration = Duration::from_secs(10);

/// Undoes a scenario. The cluster is not used again when that is impossible or did not work.
pub async fn after(stage: &Stage<'_>) -> Reuse {
    if stage.tainted || stage.run.keep.is_some() || stage.run.stop.is_cancelled() {
        return Reuse::No;
    }
    // First, so that what was open ends before its ends do.
    if !stage.held.is_empty() && stage.cluster.prober.release().await.is_err() {
        return Reuse::No;
    }
    let may_change = stage.run.provider.capabilities().contains(&Capability::NodeFirewall);
    // Nodes that are not to be touched were not.
    for node in stage.cluster.nodes.by_name.values().filter(|_| may_change) {
        let retired = async {
            firewalld::retire(stage, node.as_ref()).await?;
            service::retire(stage, node.as_ref()).await?;
            proxy::retire(stage, node.as_ref()).await
        };
        if retired.await.is_err() {
            return Reuse::No;
        }
        let clear = node.run(Invocation::new(["cknet", "node-firewall", "clear"]), CLEAR).await;
        if !clear.is_ok_and(|output| output.succeeded()) {
            return Reuse::No;
        }
    }
    for (name, process) in stage.placed.pods.iter().filter(|(_, pod)| pod.uid.is_none()) {
        if workloads::remove(stage.cluster, name, process).await.is_err() {
            return Reuse::No;
        }
    }
    // The newest first; several at once, because each is waited for until it is gone.
    let (namespaces, rest): (Vec<_>, Vec<_>) = stage.made.iter().rev().partition(|at| at.kind == "Namespace");
    for group in [rest, namespaces] {
        let deletions = group.into_iter().map(|at| stage.cluster.objects.delete(at));
        if futures::future::join_all(deletions).await.into_iter().any(|deleted| deleted.is_err()) {
            return Reuse::No;
        }
    }
    Reuse::Yes
}
