//! Creating objects.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::super::kinds::{self, Kind};
use super::super::request::{FieldValidation, Target, WriteOptions};
use super::super::status::{Cause, Refusal};
use super::super::store::{Object, Transaction};
use super::super::{addresses, defaults, ownership, random, time, validate};
use super::{Written, as_kept, author, check_namespace, check_type, decode, now, shape, unsaved};

/// A generated name keeps this much of its base, so that the suffix still fits.
const LONGEST_BASE: usize = 58;

/// Creates the object that `body` describes.
pub fn create(cluster: &Cluster, target: &Target, mut body: Value, options: &WriteOptions) -> Result<Written, Refusal> {
    let kind = target.kind();
    check_type(kind, &mut body)?;
    let warnings = decode(kind, &mut body, options.validation)?;
    let mut object = as_kept(kind, body);
    place(target, &mut object)?;
    name(kind, &mut object)?;
    system_fields(kind, &mut object);
    initial_status(kind, &mut object);
    defaults::fill(kind, &mut object);
    let object = cluster.store.write(|tx| insert(cluster, tx, target, object, options))?;
    Ok(Written { object, created: true, warnings })
}

/// Creates an object on behalf of the server itself, unless it is there already.
pub fn seed(cluster: &Cluster, target: &Target, body: Value) -> Result<(), Refusal> {
    let options = server_options();
    match create(cluster, target, body, &options) {
        Err(refusal) if refusal.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop),
    }
}

fn server_options() -> WriteOptions {
    WriteOptions {
        manager: "kube-apiserver".to_owned(),
        manager_given: true,
        dry_run: false,
        force: false,
        validation: FieldValidation::Ignore,
    }
}

/// Checks the namespace of the object against that of the path.
pub(super) fn place(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    let meta = &mut object["metadata"];
    let own = meta["namespace"].as_str().unwrap_or_default();
    match &target.namespace {
        Some(namespace) if own.is_empty() => meta["namespace"] = json!(namespace),
        Some(namespace) if own != namespace => {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::bad_request(why));
        }
        Some(_) => {}
        None if target.kind().namespaced => {
            return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
        }
        None => {
            meta.as_object_mut().map(|map| map.remove("namespace"));
        }
    }
    Ok(())
}

fn name(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let meta = &mut object["metadata"];
    if meta["name"].as_str().is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    let Some(base) = meta["generateName"].as_str().filter(|base| !base.is_empty()) else {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Refusal::invalid(kind.group, kind.kind, "", vec![cause]));
    };
    let base: String = base.chars().take(LONGEST_BASE).collect();
    meta["name"] = json!(format!("{base}{}", random::suffix()));
    Ok(())
}

pub(super) fn system_fields(kind: &Kind, object: &mut Value) {
    let Some(meta) = object["metadata"].as_object_mut() else {
        return;
    };
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        meta.remove(field);
    }
    meta.insert("uid".to_owned(), json!(random::uid()));
    meta.insert("creationTimestamp".to_owned(), json!(time::now()));
    if kind.counts_generation {
        meta.insert("generation".to_owned(), json!(1));
    }
}

/// A client does not say what the state of a new object is; nodes, which report themselves, do.
pub(super) fn initial_status(kind: &Kind, object: &mut Value) {
    if !kind.splits_status() || kind.kind == "Node" {
        return;
    }
    object["status"] = match kind.kind {
        "Service" => json!({ "loadBalancer": {} }),
        "ReplicaSet" => json!({ "replicas": 0 }),
        "DaemonSet" => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }),
        _ => json!({}),
    };
    if kind.kind == "Namespace" {
        object["spec"] = json!({ "finalizers": ["kubernetes"] });
    }
}

/// What an object of a kind holds before anybody has set anything: fields that are always there.
fn blank(kind: &Kind) -> Value {
    match kind.kind {
        "NetworkPolicy" => json!({ "spec": { "podSelector": {} } }),
        "Service" => json!({ "status": { "loadBalancer": {} } }),
        _ => json!({}),
    }
}

/// Puts a complete new object into the store.
fn insert(
    cluster: &Cluster,
    tx: &mut Transaction<'_>,
    target: &Target,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Arc<Object>, Refusal> {
    let api_version = target.kind().api_version();
    let by = author(options, target.kind(), &api_version, None);
    let shelf = &kinds::KINDS[target.shelf()];
    ownership::note_update(&blank(shelf), &mut object, &shape(target), &by, now());
    check_and_put(cluster, tx, target, object, options.dry_run)
}

/// The checks that need the store, and the insertion. Ownership is already noted.
pub(super) fn check_and_put(
    cluster: &Cluster,
    tx: &mut Transaction<'_>,
    target: &Target,
    mut object: Value,
    dry_run: bool,
) -> Result<Arc<Object>, Refusal> {
    let kind = target.kind();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    check_namespace(tx, target, Some(&name))?;
    if tx.get(target.shelf(), target.place(), &name).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    validate::object(&kinds::KINDS[target.shelf()], &object)?;
    if kind.is_core("services") {
        addresses::assign(tx, cluster.service_cidr, &Value::Null, &mut object, dry_run)?;
    }
    if dry_run {
        return Ok(unsaved(object));
    }
    let stored = tx.put(target.shelf(), object);
    if kind.is_core("namespaces") {
        furnish(cluster, tx, &name);
    }
    Ok(stored)
}

/// What every namespace comes with.
fn furnish(cluster: &Cluster, tx: &mut Transaction<'_>, namespace: &str) {
    let meta = |name: &str| json!({ "name": name, "namespace": namespace, "uid": random::uid(), "creationTimestamp": time::now() });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("default") });
    let mut authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("kube-root-ca.crt"),
        "data": { "ca.crt": cluster.ca_pem },
    });
    authority["metadata"]["annotations"]["kubernetes.io/description"] =
        json!("The certificate authority that the API server and the kubelets of this cluster are signed by.");
    tx.put(kinds::core_index("serviceaccounts"), account);
    tx.put(kinds::core_index("configmaps"), authority);
}
