//! The revisions of a deployment: which replica set is its current template, which number it has, which old ones
//! are forgotten. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::replicas;
use crate::controllers::template::{TEMPLATE_HASH, template_hash};
use crate::controllers::world::{controlled_by, is_deleting, name_of, namespace_of};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a deployment that say nothing about its replica sets.
const OWN: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    DESIRED,
    MAXIMUM,
];

pub(super) fn hash_of(deployment: &Deployment, spec: &DeploymentSpec) -> String {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    template_hash(&spec.template, collisions)
}

/// Whether `replica_set` was made of the template that `hash` names.
pub(super) fn is_of(replica_set: &ReplicaSet, hash: &str) -> bool {
    if replica_set.labels().get(TEMPLATE_HASH).is_some_and(|label| label == hash) {
        return true;
    }
    // One that was adopted, or made by another version, has the same template under another name.
    let template = replica_set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    template.is_some_and(|template| template_hash(template, None) == hash)
}

pub(super) fn revision_of(replica_set: &ReplicaSet) -> i64 {
    let text = replica_set.annotations().get(REVISION);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The number of the current template: one more than that of every older one.
pub(super) fn next_revision(old: &[&ReplicaSet]) -> i64 {
    old.iter().map(|set| revision_of(set)).max().unwrap_or(0) + 1
}

/// The replica set of the current template, not yet created.
pub(super) fn new_replica_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    replicas: i32,
    annotations: BTreeMap<String, String>,
) -> ReplicaSet {
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    let pairs = selector.match_labels.get_or_insert_default();
    pairs.insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let mut all = inherited(deployment);
    all.extend(annotations);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name_of(deployment))),
            namespace: Some(namespace_of(deployment).to_owned()),
            labels: Some(labels),
            annotations: Some(all),
            owner_references: Some(vec![controlled_by(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// What a deployment's annotations say about its replica sets too, such as the cause of a change.
fn inherited(deployment: &Deployment) -> BTreeMap<String, String> {
    let all = deployment.annotations().iter();
    let kept = all.filter(|(key, _)| !OWN.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Old replica sets beyond the history that the deployment keeps, oldest first.
pub(super) fn forgotten<'r>(spec: &DeploymentSpec, old: &[&'r ReplicaSet]) -> Vec<&'r ReplicaSet> {
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let mut idle: Vec<_> = old.iter().copied().filter(|set| is_idle(set)).collect();
    idle.sort_by_key(|set| revision_of(set));
    idle.truncate(idle.len().saturating_sub(keep));
    idle
}

fn is_idle(set: &ReplicaSet) -> bool {
    let status = set.status.as_ref();
    replicas(set) == 0
        && !is_deleting(set)
        && status.is_some_and(|status| status.replicas == 0 && status.observed_generation >= set.metadata.generation)
}
