//! Steps that change objects of the cluster, by the API that kubectl uses.

use kube::api::Patch;
use serde_json::{Value, json};

use super::{Done, text};
use crate::cluster::objects::Coordinates;
use crate::run::stage::Stage;
use crate::scenario::model::{self, Manifest, PatchType};

/// What Tigera's operator looks for on everything that it makes before it changes that: with it, the thing is left as
/// it is (`utils.IgnoreObject` there). It says that it is for trying things out, and this is that.
const LEFT_ALONE: &str = "unsupported.operator.tigera.io/ignore";

pub async fn apply(stage: &mut Stage<'_>, manifest: &Manifest) -> Done {
    for object in &manifest.objects {
        let value = object.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
        // What a container writes into a folder of its node stays there when its pod goes.
        stage.tainted |= mentions(&value, "hostPath");
        let at = stage.cluster.objects.apply(&value).await.map_err(text)?;
        // Objects of the cluster's own were there before and cannot simply be deleted.
        if at.namespace.as_deref() == Some("kube-system") || at.namespace.is_none() && at.kind != "Namespace" {
            stage.tainted = true;
        } else if !stage.made.contains(&at) {
            stage.made.push(at);
        }
    }
    Ok(())
}

/// Whether an object has a field of this name at any depth.
fn mentions(value: &Value, field: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(field) || fields.values().any(|value| mentions(value, field)),
        Value::Array(items) => items.iter().any(|value| mentions(value, field)),
        _ => false,
    }
}

pub async fn patch(stage: &mut Stage<'_>, change: &model::Patch) -> Done {
    let value = change.patch.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
    let patch_body = match change.patch_type {
        PatchType::Merge => Patch::Merge(value),
        PatchType::Strategic => Patch::Strategic(value),
        PatchType::Json => Patch::Json(serde_json::from_value(value).map_err(text)?),
    };
    let at = Coordinates {
        api_version: change.api_version.clone(),
        kind: change.kind.clone(),
        namespace: change.namespace.as_ref().map(|namespace| namespace.as_str().to_string()),
        name: change.name.clone(),
    };
    // What the scenario made goes away with it; of anything else nobody knows what it was like.
    stage.tainted |= !stage.made.iter().any(|made| made.kind == at.kind && made.name == at.name);
    take_over(stage, &at).await?;
    stage.cluster.objects.patch(&at, &patch_body).await.map_err(text)
}

pub async fn delete(stage: &mut Stage<'_>, manifest: &Manifest) -> Done {
    for object in manifest.objects.iter().rev() {
        let value = object.resolve(&|fact| stage.facts.lookup(fact)).map_err(text)?;
        let mut at = crate::cluster::objects::coordinates(&value).map_err(text)?;
        stage.tainted |= !stage.made.iter().any(|made| made.kind == at.kind && made.name == at.name);
        if at.namespace.is_none() {
            at.namespace = object.namespace().map(str::to_string);
        }
        stage.cluster.objects.delete(&at).await.map_err(text)?;
    }
    Ok(())
}

/// Takes a DaemonSet away from an operator that would put it back to what it was at once. It stays so: whatever comes
/// later in the scenario builds on what was changed, and the cluster is made anew after it.
pub async fn take_over(stage: &Stage<'_>, at: &Coordinates) -> Done {
    if at.kind != "DaemonSet" {
        return Ok(());
    }
    let found = stage.cluster.objects.get(at).await.map_err(text)?;
    if found.is_some_and(|found| is_tigeras(&found)) {
        let patch = json!({"metadata": {"annotations": {LEFT_ALONE: "true"}}});
        stage.cluster.objects.patch(at, &Patch::Merge(patch)).await.map_err(text)?;
    }
    Ok(())
}

/// Whether Tigera's operator has made the object and looks after it.
fn is_tigeras(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|all| {
        all.iter().any(|owner| owner["apiVersion"].as_str().is_some_and(|of| of.starts_with("operator.tigera.io/")))
    })
}
