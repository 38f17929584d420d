//! The status of a deployment: its counts, and the conditions Available and Progressing that clients wait for. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::replicas;
use crate::controllers::world::name_of;

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// What the status is computed from.
pub(super) struct Totals<'a> {
    pub(super) replicas: i32,
    pub(super) unavailable: i32,
    pub(super) newest: Option<&'a ReplicaSet>,
    pub(super) all: &'a [&'a ReplicaSet],
    /// The replica set that this round creates.
    pub(super) created: Option<String>,
}

/// The status `deployment` should have, and when it changes although nothing else does.
pub(super) fn status(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    totals: &Totals<'_>,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let mut new = counts(&old, totals);
    new.observed_generation = deployment.metadata.generation;
    let mut conditions = old.conditions.clone().unwrap_or_default();
    set(&mut conditions, available_condition(&new, totals), Times::Keep, now);
    let again = progress(&mut conditions, spec, totals, &old, &new, now);
    new.conditions = Some(conditions);
    (new, again)
}

fn counts(old: &DeploymentStatus, totals: &Totals<'_>) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| totals.all.iter().map(|set| count(set)).sum::<i32>();
    let some = |count: i32| (count != 0).then_some(count);
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let available = sum(super::available);
    DeploymentStatus {
        replicas: some(sum(current)),
        updated_replicas: some(totals.newest.map_or(0, current)),
        ready_replicas: some(sum(ready)),
        available_replicas: some(available),
        unavailable_replicas: some((sum(replicas).max(totals.replicas) - available).max(0)),
        collision_count: old.collision_count,
        ..Default::default()
    }
}

/// Pods that `set` has.
fn current(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn available_condition(new: &DeploymentStatus, totals: &Totals<'_>) -> DeploymentCondition {
    let enough = new.available_replicas.unwrap_or(0) >= totals.replicas - totals.unavailable;
    let (status, reason, message) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    condition("Available", status, reason, message.to_owned())
}

fn progress(
    conditions: &mut Vec<DeploymentCondition>,
    spec: &DeploymentSpec,
    totals: &Totals<'_>,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    if let Some(created) = &totals.created {
        let message = format!("Created new replica set {created:?}");
        let condition = condition("Progressing", "True", "NewReplicaSetCreated", message);
        set(conditions, condition, Times::Renew, now);
        return None;
    }
    let newest = totals.newest?;
    let name = name_of(newest);
    let current = conditions.iter().find(|condition| condition.type_ == "Progressing").cloned();
    let reason = current.as_ref().and_then(|condition| condition.reason.as_deref());
    if new.replicas == new.updated_replicas && reason == Some(NEW_AVAILABLE) {
        // Finished before: pods that come and go later are not a rollout.
        return None;
    }
    if is_complete(totals, new) {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        let condition = condition("Progressing", "True", NEW_AVAILABLE, message);
        set(conditions, condition, Times::Renew, now);
        return None;
    }
    if current.is_none() || has_moved(old, new) {
        let message = format!("ReplicaSet {name:?} is progressing.");
        let condition = condition("Progressing", "True", "ReplicaSetUpdated", message);
        set(conditions, condition, Times::Renew, now);
    }
    let left = deadline_left(conditions, spec, now)?;
    if left.is_zero() {
        let message = format!("ReplicaSet {name:?} has timed out progressing.");
        let condition = condition("Progressing", "False", TIMED_OUT, message);
        set(conditions, condition, Times::Keep, now);
        return None;
    }
    Some(left)
}

/// How long the rollout may still stand where it is; none when nobody counts.
fn deadline_left(conditions: &[DeploymentCondition], spec: &DeploymentSpec, now: Timestamp) -> Option<Duration> {
    let current = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    let allowed = spec.progress_deadline_seconds.filter(|&seconds| seconds != i32::MAX)?;
    if spec.paused == Some(true) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let allowed = Duration::from_secs(u64::try_from(allowed).unwrap_or(0));
    let since = current.last_update_time.as_ref().map_or(now, |time| time.0);
    let stood = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(allowed.saturating_sub(stood))
}

fn is_complete(totals: &Totals<'_>, new: &DeploymentStatus) -> bool {
    let is_all = |count: Option<i32>| count.unwrap_or(0) == totals.replicas;
    is_all(new.updated_replicas) && is_all(new.replicas) && is_all(new.available_replicas)
}

fn has_moved(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let left = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    new.updated_replicas > old.updated_replicas
        || left(new) < left(old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..Default::default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    /// The same status for the same reason is no news.
    Keep,
    /// It is: something moved.
    Renew,
}

fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, times: Times, now: Timestamp) {
    let Some(old) = conditions.iter_mut().find(|condition| condition.type_ == new.type_) else {
        new.last_update_time = Some(Time(now));
        new.last_transition_time = Some(Time(now));
        conditions.push(new);
        return;
    };
    if times == Times::Keep && old.status == new.status && old.reason == new.reason {
        return;
    }
    new.last_update_time = Some(Time(now));
    new.last_transition_time = match old.status == new.status {
        true => old.last_transition_time.clone(),
        false => Some(Time(now)),
    };
    *old = new;
}
