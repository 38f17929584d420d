//! Writing objects of any kind: server-side apply, workloads after what they need.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

const MANAGER: &str = "cknet-bootstrap";
const DEADLINE: Duration = Duration::from_secs(10);

/// Kinds that are written here, with the names of their collections.
const PLURALS: [(&str, &str); 8] = [
    ("ServiceAccount", "serviceaccounts"),
    ("ConfigMap", "configmaps"),
    ("Service", "services"),
    ("DaemonSet", "daemonsets"),
    ("Deployment", "deployments"),
    ("IPPool", "ippools"),
    ("FelixConfiguration", "felixconfigurations"),
    ("ClusterInformation", "clusterinformations"),
];

/// An object of the new cluster could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("cannot write {kind} `{name}`: {cause}")]
    Refused { kind: String, name: String, cause: Box<kube::Error> },
    #[error("cannot write {kind} `{name}`: no answer within {} s", DEADLINE.as_secs())]
    Late { kind: String, name: String },
    #[error("cannot read namespace `kube-system`: {0}")]
    Identity(Box<kube::Error>),
    #[error("cannot read namespace `kube-system`: no answer within {} s", DEADLINE.as_secs())]
    IdentityLate,
}

/// Something that is unique to a cluster and stays the same for its life: the identity of its system namespace.
pub(super) async fn identity(client: &Client) -> Result<String, ApplyError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = tokio::time::timeout(DEADLINE, api.get("kube-system")).await;
    let found = found.map_err(|_| ApplyError::IdentityLate)?;
    let found = found.map_err(|cause| ApplyError::Identity(Box::new(cause)))?;
    Ok(found.metadata.uid.unwrap_or_default().replace('-', ""))
}

pub(super) async fn apply(client: &Client, objects: Vec<Value>) -> Result<(), ApplyError> {
    let is_workload = |object: &Value| object["apiVersion"] == "apps/v1";
    let (workloads, needed): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_workload);
    for wave in [needed, workloads] {
        try_join_all(wave.into_iter().map(|object| write(client, object))).await?;
    }
    Ok(())
}

async fn write(client: &Client, object: Value) -> Result<(), ApplyError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let resource = resource(&text(&object["apiVersion"]), &kind);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply(MANAGER).force();
    let patch = Patch::Apply(&object);
    match tokio::time::timeout(DEADLINE, api.patch(&name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(ApplyError::Refused { kind, name, cause: Box::new(cause) }),
        Err(_) => Err(ApplyError::Late { kind, name }),
    }
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    match PLURALS.iter().find(|(known, _)| *known == kind) {
        Some((_, plural)) => ApiResource::from_gvk_with_plural(&gvk, plural),
        None => ApiResource::from_gvk(&gvk),
    }
}
