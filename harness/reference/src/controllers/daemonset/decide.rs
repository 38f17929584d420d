//! What a daemon set needs next, node by node, and its status. Pure.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use kube::ResourceExt;
use serde_json::Value;

use super::pod::{REVISION_HASH, node_for, pod_for, tolerations};
use super::update;
use crate::controllers::drive::earliest;
use crate::controllers::matching::{admits_node, untolerated};
use crate::controllers::pod_state::{Availability, availability, is_finished, is_ready};
use crate::controllers::template::template_hash;
use crate::controllers::world::is_deleting;
use crate::controllers::write::status_patch;

/// A failed daemon pod is replaced, but not faster than this after it was made.
const REPLACE_AFTER: SignedDuration = SignedDuration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Create { pod: Box<Pod>, node: String },
    Delete { pod: Box<Pod>, failed_on: Option<String> },
    Status(Value),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { node, .. } => write!(f, "creating the pod for node `{node}`"),
            Self::Delete { pod, .. } => write!(f, "deleting pod `{}`", pod.name_any()),
            Self::Status(_) => write!(f, "writing the status"),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Duration>,
}

/// One node with the pods that the daemon set has there.
pub(super) struct Place<'a> {
    pub(super) node: &'a str,
    /// The template admits the node, so a pod is wanted there.
    pub(super) wanted: bool,
    /// A pod that runs there may stay.
    pub(super) tolerated: bool,
    pub(super) pods: Vec<Standing<'a>>,
}

/// A pod and what matters of it.
pub(super) struct Standing<'a> {
    pub(super) pod: &'a Pod,
    pub(super) updated: bool,
    pub(super) available: bool,
    pub(super) deleting: bool,
}

pub(super) fn decide(set: &DaemonSet, owned: &[&Pod], nodes: &[Arc<Node>], settled: bool, now: Timestamp) -> Decision {
    let Some(spec) = &set.spec else {
        return Decision::default();
    };
    let hash = template_hash(&spec.template, None);
    let mut again = None;
    let places = places(spec, owned, nodes, &hash, now, &mut again);
    let mut actions = Vec::new();
    if !is_deleting(set) && settled {
        for place in &places {
            actions.extend(keep(set, spec, &hash, place, now, &mut again));
        }
        if actions.is_empty() {
            actions.extend(update::roll(set, spec, &hash, &places));
        }
    }
    let status = status(set, &places);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::Status(status_patch(set.status.as_ref(), &status)));
    }
    Decision { actions, again }
}

fn places<'a>(
    spec: &DaemonSetSpec,
    owned: &[&'a Pod],
    nodes: &'a [Arc<Node>],
    hash: &str,
    now: Timestamp,
    again: &mut Option<Duration>,
) -> Vec<Place<'a>> {
    let mut pods: HashMap<&str, Vec<Standing<'a>>> = HashMap::new();
    for &pod in owned {
        let Some(node) = node_for(pod) else { continue };
        let availability = availability(pod, spec.min_ready_seconds.unwrap_or(0), now);
        if let Availability::In(left) = availability {
            *again = earliest(*again, Some(left));
        }
        pods.entry(node).or_default().push(Standing {
            pod,
            updated: pod.labels().get(REVISION_HASH).is_some_and(|label| label == hash),
            available: availability == Availability::Available,
            deleting: is_deleting(pod),
        });
    }
    let template = spec.template.spec.clone().unwrap_or_default();
    let tolerations = tolerations(&template);
    let mut places: Vec<_> = nodes
        .iter()
        .map(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let admitted = admits_node(&template, node);
            let bears = |effects: &[&str]| bears(node, &tolerations, effects);
            let mut here = pods.remove(name).unwrap_or_default();
            here.sort_by_key(|standing| (standing.pod.creation_timestamp(), standing.pod.name_any()));
            Place {
                node: name,
                wanted: admitted && bears(&["NoSchedule", "NoExecute"]),
                tolerated: admitted && bears(&["NoExecute"]),
                pods: here,
            }
        })
        .collect();
    places.sort_by_key(|place| place.node);
    places
}

fn bears(node: &Node, tolerations: &[Toleration], effects: &[&str]) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    untolerated(taints, tolerations, effects).is_none()
}

/// Keeps one node at one living pod, or none where none belongs.
fn keep(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    hash: &str,
    place: &Place<'_>,
    now: Timestamp,
    again: &mut Option<Duration>,
) -> Vec<Action> {
    if place.pods.is_empty() {
        return if place.wanted { vec![create(set, spec, hash, place)] } else { Vec::new() };
    }
    let staying = place.pods.iter().filter(|standing| !standing.deleting);
    if !place.tolerated {
        return staying.map(|standing| delete(standing, None)).collect();
    }
    let (failed, living): (Vec<_>, Vec<_>) = staying.partition(|standing| is_finished(standing.pod));
    let mut actions = Vec::new();
    for standing in failed {
        let made = standing.pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let left = REPLACE_AFTER - now.duration_since(made);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => *again = earliest(*again, Some(left)),
            _ => actions.push(delete(standing, Some(place.node))),
        }
    }
    // During an update with a surge an old and a new pod stand side by side; more than one of a kind is too many.
    for updated in [true, false] {
        let same = living.iter().filter(|standing| standing.updated == updated);
        actions.extend(same.skip(1).map(|standing| delete(standing, None)));
    }
    actions
}

pub(super) fn create(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, place: &Place<'_>) -> Action {
    Action::Create { pod: Box::new(pod_for(set, spec, hash, place.node)), node: place.node.to_owned() }
}

pub(super) fn delete(standing: &Standing<'_>, failed_on: Option<&str>) -> Action {
    Action::Delete { pod: Box::new(standing.pod.clone()), failed_on: failed_on.map(str::to_owned) }
}

fn status(set: &DaemonSet, places: &[Place<'_>]) -> DaemonSetStatus {
    let number = |holds: &dyn Fn(&Place<'_>) -> bool| {
        i32::try_from(places.iter().filter(|place| holds(place)).count()).unwrap_or(i32::MAX)
    };
    let any = |holds: fn(&Standing<'_>) -> bool| {
        number(&|place| place.wanted && place.pods.iter().any(|pod| !pod.deleting && holds(pod)))
    };
    let desired = number(&|place| place.wanted);
    let available = any(|standing| standing.available);
    let some = |count: i32| (count > 0).then_some(count);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: number(&|place| place.wanted && !place.pods.is_empty()),
        number_misscheduled: number(&|place| !place.wanted && !place.pods.is_empty()),
        number_ready: any(|standing| is_ready(standing.pod)),
        updated_number_scheduled: some(any(|standing| standing.updated)),
        number_available: some(available),
        number_unavailable: some(desired - available),
        observed_generation: set.metadata.generation,
        collision_count: set.status.as_ref().and_then(|status| status.collision_count),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
