//! Steps that stop components of the cluster's network on nodes, and start them again.

use std::time::Duration;

use kube::api::Patch;
use serde_json::{Value, json};

use super::command::COMMAND;
use super::objects::take_over;
use super::{Done, nodes_of, text};
use crate::cluster::objects::Coordinates;
use crate::run::stage::Stage;
use crate::scenario::model::Component;

/// The label by which a stopped component's DaemonSet is kept off a node.
const STOPPED: &str = "cknet.dev/stopped";

/// A DaemonSet's pod is kept off a node by a node affinity that the DaemonSet otherwise has not, and comes back
/// without it: what an administrator can do on any cluster.
pub async fn switch(stage: &Stage<'_>, component: &Component, on: bool) -> Done {
    for name in nodes_of(stage, &component.nodes) {
        let at = Coordinates { api_version: "v1".into(), kind: "Node".into(), namespace: None, name };
        let value = if on { Value::Null } else { json!(component.component) };
        let patch = json!({"metadata": {"labels": {STOPPED: value}}});
        stage.cluster.objects.patch(&at, &Patch::Merge(patch)).await.map_err(text)?;
    }
    let profile = &stage.cluster.profile;
    let at = Coordinates {
        api_version: "apps/v1".into(),
        kind: "DaemonSet".into(),
        namespace: Some(profile.namespace.clone()),
        name: component.component.clone(),
    };
    take_over(stage, &at).await?;
    let term = json!({"matchExpressions": [{"key": STOPPED, "operator": "DoesNotExist"}]});
    let affinity =
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    stage.cluster.objects.patch(&at, &Patch::Merge(patch)).await.map_err(text)?;
    await_component(stage, component, on).await
}

/// Waits until the component's pods are gone from the nodes, or run there again.
async fn await_component(stage: &Stage<'_>, component: &Component, on: bool) -> Done {
    let nodes = nodes_of(stage, &component.nodes);
    let profile = &stage.cluster.profile;
    let started = std::time::Instant::now();
    loop {
        let pods = stage
            .cluster
            .objects
            .list("v1", "Pod", Some(&profile.namespace), profile.node_selector.as_deref())
            .await
            .map_err(text)?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        let on_node =
            |name: &String| pods.iter().filter(|pod| pod["spec"]["nodeName"] == name.as_str()).collect::<Vec<_>>();
        let reached = nodes.iter().all(|name| match on {
            true => on_node(name).iter().any(ready),
            false => on_node(name).is_empty(),
        });
        if reached {
            return Ok(());
        }
        if started.elapsed() >= COMMAND {
            let state = if on { "run" } else { "end" };
            return Err(format!("the pods of `{}` did not {state} within {COMMAND:?}", component.component));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
