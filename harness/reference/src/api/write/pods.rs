//! The doors of pods that change them: binding to a node, and eviction.

use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::super::request::{Query, Target, WriteOptions};
use super::super::status::Refusal;
use super::super::time;
use super::delete::{DeleteOptions, delete};
use super::unsaved;

/// Binds a pod to the node that a `Binding` names.
pub fn bind(cluster: &Cluster, target: &Target, binding: &Value, options: &WriteOptions) -> Result<(), Refusal> {
    let kind = target.kind();
    let name = target.named()?;
    let Some(node) = binding["target"]["name"].as_str().filter(|node| !node.is_empty()) else {
        return Err(Refusal::bad_request("a binding must name the node it is to in `target.name`"));
    };
    cluster.store.write(|tx| {
        let found = tx.get(target.shelf(), target.place(), name).ok_or_else(|| Refusal::not_found(kind, name))?;
        let mut pod = found.value.clone();
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(Refusal::conflict(kind, name, &why));
        }
        if let Some(other) = pod["spec"]["nodeName"].as_str().filter(|other| !other.is_empty()) {
            let why = format!("pod {name} is already assigned to node {other:?}");
            return Err(Refusal::conflict(kind, name, &why));
        }
        pod["spec"]["nodeName"] = json!(node);
        note_scheduled(&mut pod);
        if !options.dry_run {
            tx.put(target.shelf(), pod);
        } else {
            unsaved(pod);
        }
        Ok(())
    })
}

fn note_scheduled(pod: &mut Value) {
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::now(),
    });
    let status = &mut pod["status"];
    match status["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|known| known["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => status["conditions"] = json!([condition]),
    }
}

/// Evicts a pod: nothing here limits disruptions, so it is deleted.
pub fn evict(cluster: &Cluster, target: &Target, eviction: &Value) -> Result<(), Refusal> {
    let options = DeleteOptions::parse(&Query::default(), &eviction["deleteOptions"])?;
    delete(cluster, target, &options).map(drop)
}
