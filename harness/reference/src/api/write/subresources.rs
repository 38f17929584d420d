//! Scale, and the end of a namespace.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::super::patch as patches;
use super::super::request::{Target, WriteOptions};
use super::super::schema::Shape;
use super::super::status::Refusal;
use super::super::store::Object;
use super::update::{Patch, finish, patch};
use super::{author, may_go, now, shape, unsaved};

/// The `Scale` of a workload.
pub fn scale(workload: &Value) -> Value {
    let meta = &workload["metadata"];
    let labels = workload["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let mut told = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        told[field] = meta[field].clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": told,
        "spec": { "replicas": workload["spec"]["replicas"].as_i64().unwrap_or(0) },
        "status": { "replicas": workload["status"]["replicas"].as_i64().unwrap_or(0), "selector": labels.join(",") },
    })
}

/// Sets the replicas that a `Scale` asks for.
pub fn put_scale(
    cluster: &Cluster,
    target: &Target,
    wanted: &Value,
    options: &WriteOptions,
) -> Result<Arc<Object>, Refusal> {
    let mut change = json!({ "spec": { "replicas": wanted["spec"]["replicas"].as_i64().unwrap_or(0) } });
    if let Some(version) = wanted["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty()) {
        change["metadata"]["resourceVersion"] = json!(version);
    }
    // The door writes the workload itself, in the name of its subresource.
    patch(cluster, &Target { sub: None, ..target.clone() }, Patch::Merge(change), options).map(|written| written.object)
}

/// Patches the `Scale` of a workload.
pub fn patch_scale(
    cluster: &Cluster,
    target: &Target,
    change: &Patch,
    options: &WriteOptions,
) -> Result<Arc<Object>, Refusal> {
    let name = target.named()?;
    let found = cluster
        .store
        .get(target.shelf(), target.place(), name)
        .ok_or_else(|| Refusal::not_found(target.kind(), name))?;
    let mut wanted = scale(&found.value);
    let seen = wanted["metadata"]["resourceVersion"].clone();
    match change {
        Patch::Json(operations) => patches::json_patch(&mut wanted, operations)?,
        Patch::Strategic(patch) => patches::strategic(&mut wanted, patch, &Shape::Any)?,
        Patch::Merge(patch) | Patch::Apply(patch) => patches::merge_patch(&mut wanted, patch),
    }
    if wanted["metadata"]["resourceVersion"] == seen {
        // The client named no version of its own, so a write in between does not matter.
        wanted["metadata"]["resourceVersion"] = Value::Null;
    }
    put_scale(cluster, target, &wanted, options)
}

/// Takes over the finalizers of a namespace's spec; without any, a deleted namespace is gone.
pub fn finalize(
    cluster: &Cluster,
    target: &Target,
    wanted: &Value,
    options: &WriteOptions,
) -> Result<Arc<Object>, Refusal> {
    let kind = target.kind();
    let name = target.named()?;
    cluster.store.write(|tx| {
        let found = tx.get(target.shelf(), "", name).ok_or_else(|| Refusal::not_found(kind, name))?;
        if let Some(seen) = wanted["metadata"]["resourceVersion"].as_str().filter(|seen| !seen.is_empty())
            && found.value["metadata"]["resourceVersion"] != *seen
        {
            return Err(Refusal::modified(kind, name));
        }
        let mut object = found.value.clone();
        object["spec"] = json!({});
        if let Some(finalizers) = wanted["spec"]["finalizers"].as_array().filter(|all| !all.is_empty()) {
            object["spec"]["finalizers"] = json!(finalizers);
        }
        if options.dry_run {
            return Ok(unsaved(object));
        }
        if may_go(kind, &object) {
            return Ok(tx.remove(target.shelf(), object));
        }
        let api_version = kind.api_version();
        super::super::ownership::note_update(
            &found.value,
            &mut object,
            &shape(target),
            &author(options, kind, &api_version, None),
            now(),
        );
        finish(cluster, tx, target, &found, object, false)
    })
}
