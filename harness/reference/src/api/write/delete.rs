//! Deleting objects: at once, gracefully, or once their finalizers are done.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::cluster::Cluster;
use super::super::kinds::Kind;
use super::super::request::{Query, Target};
use super::super::selector::{FieldSelector, LabelSelector};
use super::super::status::Refusal;
use super::super::store::{Object, Transaction};
use super::super::time;
use super::{check_namespace, may_go, now, unsaved};

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub grace_seconds: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`.
    pub propagation: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads the options from the query and from a `DeleteOptions` body, which may be null.
    pub fn parse(query: &Query, body: &Value) -> Result<Self, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let grace = match query.get("gracePeriodSeconds") {
            Some(given) => {
                let why = || Refusal::bad_request(format!("invalid gracePeriodSeconds: `{given}` is not a number"));
                Some(given.parse::<i64>().map_err(|_| why())?)
            }
            None => body["gracePeriodSeconds"].as_i64(),
        };
        let mut propagation =
            query.get("propagationPolicy").map(str::to_owned).or_else(|| text(&body["propagationPolicy"]));
        if body["orphanDependents"] == true {
            propagation = Some("Orphan".to_owned());
        }
        if let Some(policy) = &propagation
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let allowed = "supported are `Foreground`, `Background`, `Orphan`";
            return Err(Refusal::bad_request(format!("invalid propagationPolicy: `{policy}`; {allowed}")));
        }
        let dry_run = query.get("dryRun") == Some("All")
            || body["dryRun"].as_array().is_some_and(|all| all.iter().any(|x| x == "All"));
        Ok(Self {
            grace_seconds: grace.map(|seconds| seconds.max(0)),
            propagation,
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }
}

/// Namespaces that cannot be deleted (NamespaceLifecycle, an admission plugin of the API server).
const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What became of an object that was to be deleted.
pub enum Deleted {
    Gone(Arc<Object>),
    /// It is marked, and goes when whoever holds it lets go.
    Going(Arc<Object>),
}

impl Deleted {
    /// The object as it was last.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Gone(object) | Self::Going(object) => object,
        }
    }
}

/// Deletes one object.
pub fn delete(cluster: &Cluster, target: &Target, options: &DeleteOptions) -> Result<Deleted, Refusal> {
    let name = target.named()?;
    cluster.store.write(|tx| {
        let Some(found) = tx.get(target.shelf(), target.place(), name) else {
            check_namespace(tx, target, None)?;
            return Err(Refusal::not_found(target.kind(), name));
        };
        remove(tx, target, &found, options)
    })
}

/// Deletes everything that the selectors select; returns what was deleted.
pub fn delete_collection(
    cluster: &Cluster,
    target: &Target,
    labels: &LabelSelector,
    fields: &FieldSelector,
    options: &DeleteOptions,
) -> Result<Vec<Arc<Object>>, Refusal> {
    cluster.store.write(|tx| {
        let wanted = |object: &&Arc<Object>| {
            target.namespace.as_ref().is_none_or(|namespace| object.value["metadata"]["namespace"] == **namespace)
                && labels.matches(&object.value)
                && fields.matches(&object.value)
        };
        let found: Vec<Arc<Object>> = tx.list(target.shelf()).filter(wanted).cloned().collect();
        found.iter().map(|object| remove(tx, target, object, options).map(|done| Arc::clone(done.object()))).collect()
    })
}

fn remove(
    tx: &mut Transaction<'_>,
    target: &Target,
    found: &Arc<Object>,
    options: &DeleteOptions,
) -> Result<Deleted, Refusal> {
    let kind = target.kind();
    if let Some(name) = found.value["metadata"]["name"].as_str()
        && kind.plural == "namespaces"
        && PERMANENT.contains(&name)
    {
        return Err(Refusal::permanent(kind, name));
    }
    check_preconditions(kind, &found.value, options)?;
    let mut object = found.value.clone();
    mark(kind, &mut object, options);
    if may_go(kind, &object) {
        // What an object that goes at once looked like last carries no mark, unless it was marked before.
        let last = if found.value["metadata"]["deletionTimestamp"].is_string() { object } else { found.value.clone() };
        let gone = if options.dry_run { unsaved(last) } else { tx.remove(target.shelf(), last) };
        return Ok(Deleted::Gone(gone));
    }
    if object == found.value {
        return Ok(Deleted::Going(Arc::clone(found)));
    }
    if kind.counts_generation {
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
    }
    let going = if options.dry_run { unsaved(object) } else { tx.put(target.shelf(), object) };
    Ok(Deleted::Going(going))
}

fn check_preconditions(kind: &Kind, object: &Value, options: &DeleteOptions) -> Result<(), Refusal> {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let checks =
        [("UID", &options.uid, &meta["uid"]), ("ResourceVersion", &options.resource_version, &meta["resourceVersion"])];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted
            && *found != **wanted
        {
            let found = found.as_str().unwrap_or_default();
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return Err(Refusal::conflict(kind, name, &why));
        }
    }
    Ok(())
}

/// Marks an object as to be deleted, with the time it is given and the finalizers that the policy asks for.
fn mark(kind: &Kind, object: &mut Value, options: &DeleteOptions) {
    let grace = if kind.is_core("pods") { pod_grace(object, options) } else { 0 };
    let meta = &mut object["metadata"];
    let before = meta["deletionGracePeriodSeconds"].as_i64();
    let shorter = before.is_none_or(|before| grace < before);
    if !meta["deletionTimestamp"].is_string() || shorter {
        let end = now() + SignedDuration::from_secs(grace);
        meta["deletionTimestamp"] = json!(time::seconds(end));
        meta["deletionGracePeriodSeconds"] = json!(grace);
    }
    if kind.is_core("namespaces") {
        object["status"]["phase"] = json!("Terminating");
    }
    let finalizer = match options.propagation.as_deref() {
        Some("Foreground") => "foregroundDeletion",
        Some("Orphan") => "orphan",
        _ => return,
    };
    // Only owners have dependents that somebody looks after.
    if matches!(kind.kind, "Deployment" | "ReplicaSet" | "DaemonSet" | "Service") {
        let meta = &mut object["metadata"];
        match meta["finalizers"].as_array_mut() {
            Some(known) if known.iter().any(|known| known == finalizer) => {}
            Some(known) => known.push(json!(finalizer)),
            None => meta["finalizers"] = json!([finalizer]),
        }
    }
}

/// Seconds a pod is given: as asked, or as it says itself; none if no kubelet has it or it is over.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let unbound = pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty);
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unbound || over {
        return 0;
    }
    options.grace_seconds.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30).max(0)
}
