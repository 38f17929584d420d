//! Steps that change workloads: their labels, and which of them there are.

use kube::api::Patch;
use serde_json::{Value, json};

use super::{Done, text};
use crate::cluster::facts::RunFacts;
use crate::cluster::workloads;
use crate::run::stage::Stage;
use crate::scenario::model::{Relabel, WorkloadChange};

pub async fn label(stage: &mut Stage<'_>, relabel: &Relabel) -> Done {
    let pod = stage.placed.pods.get(&relabel.workload);
    let namespace =
        pod.map(|pod| pod.namespace.clone()).ok_or_else(|| format!("no workload `{}`", relabel.workload))?;
    let mut labels = serde_json::Map::new();
    for (key, value) in relabel.set.iter() {
        labels.insert(key.as_str().to_string(), json!(value));
    }
    for key in &relabel.remove {
        labels.insert(key.as_str().to_string(), Value::Null);
    }
    let at = workloads::pod_coordinates(&relabel.workload, &namespace);
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    stage.cluster.objects.patch(&at, &patch).await.map_err(text)
}

pub async fn change_workloads(stage: &mut Stage<'_>, change: &WorkloadChange) -> Done {
    for name in &change.terminate {
        let pod = stage.placed.pods.get(name).ok_or_else(|| format!("no workload `{name}`"))?;
        workloads::terminate(stage.cluster, name, pod).await.map_err(text)?;
    }
    for name in &change.remove {
        if let Some(pod) = stage.placed.pods.remove(name) {
            workloads::remove(stage.cluster, name, &pod).await.map_err(text)?;
        }
    }
    for (name, workload) in change.add.iter() {
        let topology = &stage.scenario.topology;
        let (pod, at) = workloads::add(stage.cluster, topology, name, workload).await.map_err(text)?;
        stage.placed.pods.insert(name.clone(), pod);
        stage.made.extend(at);
    }
    stage.facts = RunFacts::gather(stage.cluster, stage.scenario, &stage.placed).await.map_err(text)?;
    Ok(())
}
