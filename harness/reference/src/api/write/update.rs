//! Changing objects: replacing, patching, and applying.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::super::kinds::{self, Kind, Sub};
use super::super::request::{Target, WriteOptions};
use super::super::schema::Shape;
use super::super::status::{Cause, Refusal};
use super::super::store::{Object, Transaction};
use super::super::{addresses, defaults, events, ownership, patch as patches, validate};
use super::create::{check_and_put, initial_status, place, system_fields};
use super::{
    Written, as_kept, author, check_namespace, check_type, decode, desired, lasting, may_go, now, shape, unsaved,
};

/// A patch with its type.
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// Replaces an object, or its status, by `body`.
pub fn replace(
    cluster: &Cluster,
    target: &Target,
    mut body: Value,
    options: &WriteOptions,
) -> Result<Written, Refusal> {
    let kind = target.kind();
    let name = target.named()?;
    check_type(kind, &mut body)?;
    let warnings = decode(kind, &mut body, options.validation)?;
    let mut new = as_kept(kind, body);
    place(target, &mut new)?;
    match new["metadata"]["name"].as_str() {
        None | Some("") => new["metadata"]["name"] = json!(name),
        Some(own) if own != name => {
            let why = format!("the name of the object ({own}) does not match the name on the URL ({name})");
            return Err(Refusal::bad_request(why));
        }
        Some(_) => {}
    }
    cluster.store.write(|tx| {
        let old = existing(tx, target)?;
        let object = store_change(cluster, tx, target, &old, new, options)?;
        Ok(Written { object, created: false, warnings })
    })
}

fn existing(tx: &Transaction<'_>, target: &Target) -> Result<Arc<Object>, Refusal> {
    let name = target.named()?;
    if let Some(found) = tx.get(target.shelf(), target.place(), name) {
        return Ok(found);
    }
    check_namespace(tx, target, None)?;
    Err(Refusal::not_found(target.kind(), name))
}

/// Patches an object, or its status.
pub fn patch(cluster: &Cluster, target: &Target, patch: Patch, options: &WriteOptions) -> Result<Written, Refusal> {
    if let Patch::Apply(config) = patch {
        return apply(cluster, target, config, options);
    }
    cluster.store.write(|tx| {
        let old = existing(tx, target)?;
        let (new, warnings) = patched(target, &old.value, &patch, options)?;
        let object = store_change(cluster, tx, target, &old, new, options)?;
        Ok(Written { object, created: false, warnings })
    })
}

fn patched(
    target: &Target,
    old: &Value,
    patch: &Patch,
    options: &WriteOptions,
) -> Result<(Value, Vec<String>), Refusal> {
    let kind = target.kind();
    let mut new = if events::has_two_faces(kind) { events::shown(old) } else { old.clone() };
    match patch {
        Patch::Json(operations) => patches::json_patch(&mut new, operations)?,
        Patch::Merge(patch) => patches::merge_patch(&mut new, patch),
        Patch::Strategic(_) if kind.is_custom() => return Err(Refusal::patch_format()),
        Patch::Strategic(patch) => patches::strategic(&mut new, patch, &Shape::of_type(kind.fields))?,
        Patch::Apply(_) => {}
    }
    check_type(kind, &mut new)?;
    let warnings = decode(kind, &mut new, options.validation)?;
    let mut new = as_kept(kind, new);
    place(target, &mut new)?;
    Ok((new, warnings))
}

/// Server-side apply, which also creates.
fn apply(cluster: &Cluster, target: &Target, mut config: Value, options: &WriteOptions) -> Result<Written, Refusal> {
    let kind = target.kind();
    let name = target.named()?;
    check_type(kind, &mut config)?;
    let warnings = decode(kind, &mut config, options.validation)?;
    let mut config = as_kept(kind, config);
    check_apply(&config, options)?;
    place(target, &mut config)?;
    config["metadata"]["name"] = json!(name);
    let api_version = kind.api_version();
    cluster.store.write(|tx| {
        let by = author(options, target.kind(), &api_version, target.sub);
        let live = tx.get(target.shelf(), target.place(), name);
        if live.is_none() && target.sub.is_some() {
            return Err(Refusal::not_found(kind, name));
        }
        let before = live.as_ref().map_or(Value::Null, |live| live.value.clone());
        let applied = ownership::apply(&before, &config, &shape(target), &by, options.force, now())?;
        match live {
            Some(old) if !applied.changed => Ok(Written { object: old, created: false, warnings }),
            Some(old) => {
                let mut object = applied.object;
                settle(kind, target.sub, &old.value, &mut object)?;
                let object = finish(cluster, tx, target, &old, object, options.dry_run)?;
                Ok(Written { object, created: false, warnings })
            }
            None => {
                let mut object = applied.object;
                system_fields(kind, &mut object);
                initial_status(kind, &mut object);
                defaults::fill(kind, &mut object);
                let object = check_and_put(cluster, tx, target, object, options.dry_run)?;
                Ok(Written { object, created: true, warnings })
            }
        }
    })
}

fn check_apply(config: &Value, options: &WriteOptions) -> Result<(), Refusal> {
    if !options.manager_given {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        return Err(Refusal::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]));
    }
    if config["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty()) {
        return Err(Refusal::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// Makes `new` a successor of `old`: the system's fields and the half of the object that this door does not write
/// are carried over, defaults are filled in, and the change is checked.
fn settle(kind: &Kind, sub: Option<Sub>, old: &Value, new: &mut Value) -> Result<(), Refusal> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let given = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match given(&new["metadata"]["resourceVersion"]) {
        Some(seen) if seen != old["metadata"]["resourceVersion"] => {
            return Err(Refusal::modified(kind, name));
        }
        None if kind.is_custom() => {
            let cause = Cause::invalid_text("metadata.resourceVersion", "0x0", "must be specified for an update");
            return Err(Refusal::invalid(kind.group, kind.kind, name, vec![cause]));
        }
        _ => {}
    }
    if let Some(uid) = given(&new["metadata"]["uid"])
        && uid != old["metadata"]["uid"]
    {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old["metadata"]["uid"].as_str().unwrap_or_default()
        );
        return Err(Refusal::conflict(kind, name, &why));
    }
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
    ] {
        copy(&old["metadata"], &mut new["metadata"], field);
    }
    match sub {
        Some(Sub::Status) => {
            let status = new["status"].take();
            let meta = new["metadata"].take();
            *new = old.clone();
            new["metadata"] = meta;
            new["status"] = status;
            copy(&old["metadata"], &mut new["metadata"], "ownerReferences");
        }
        _ if kind.splits_status() => copy(old, new, "status"),
        _ => {}
    }
    if kind.kind == "Namespace" {
        copy(&old["spec"], &mut new["spec"], "finalizers");
    }
    let status = new.get("status").cloned();
    defaults::fill(kind, new);
    if let Some(status) = status.filter(|_| kind.is_core("pods")) {
        new["status"] = status;
        copy(&old["status"], &mut new["status"], "qosClass");
    }
    Ok(())
}

/// Copies a field, or its absence.
fn copy(from: &Value, to: &mut Value, field: &str) {
    match from.get(field) {
        Some(value) if to.is_object() || to.is_null() => to[field] = value.clone(),
        Some(_) => {}
        None => {
            to.as_object_mut().map(|map| map.remove(field));
        }
    }
}

fn store_change(
    cluster: &Cluster,
    tx: &mut Transaction<'_>,
    target: &Target,
    old: &Arc<Object>,
    mut new: Value,
    options: &WriteOptions,
) -> Result<Arc<Object>, Refusal> {
    let kind = &kinds::KINDS[target.shelf()];
    settle(kind, target.sub, &old.value, &mut new)?;
    if kind.is_core("services") {
        addresses::assign(tx, cluster.service_cidr, &old.value, &mut new, options.dry_run)?;
    }
    let api_version = target.kind().api_version();
    let by = author(options, target.kind(), &api_version, target.sub);
    let brought = new["metadata"]["managedFields"] != old.value["metadata"]["managedFields"]
        && new["metadata"]["managedFields"].is_array();
    if lasting(&old.value) == lasting(&new) && !brought {
        return Ok(Arc::clone(old));
    }
    ownership::note_update(&old.value, &mut new, &shape(target), &by, now());
    finish(cluster, tx, target, old, new, options.dry_run)
}

/// The last checks of a change, and storing it.
pub(super) fn finish(
    cluster: &Cluster,
    tx: &mut Transaction<'_>,
    target: &Target,
    old: &Arc<Object>,
    mut new: Value,
    dry_run: bool,
) -> Result<Arc<Object>, Refusal> {
    let kind = &kinds::KINDS[target.shelf()];
    if kind.is_core("services") {
        addresses::assign(tx, cluster.service_cidr, &old.value, &mut new, dry_run)?;
    }
    if target.sub != Some(Sub::Status) {
        validate::object(kind, &new)?;
    }
    validate::change(kind, &old.value, &new)?;
    if kind.counts_generation && desired(&old.value) != desired(&new) {
        let generation = old.value["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
    if dry_run {
        return Ok(unsaved(new));
    }
    if may_go(kind, &new) {
        return Ok(tx.remove(target.shelf(), new));
    }
    Ok(tx.put(target.shelf(), new))
}
