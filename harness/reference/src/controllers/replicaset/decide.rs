//! What a replica set needs next: pods to claim, to let go, to create, to delete, and its status. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::victims::victims;
use crate::controllers::drive::earliest;
use crate::controllers::matching::{contains, owns};
use crate::controllers::pod_state::{Availability, availability, is_active, is_ready};
use crate::controllers::template::pod_from;
use crate::controllers::world::{controlled_by, is_deleting, namespace_of, uid_of};
use crate::controllers::write::status_patch;

/// Pods that one round creates or deletes for one replica set.
const BURST: usize = 100;

/// What a replica set has.
pub(super) struct Seen<'a> {
    pub(super) owned: &'a [&'a Pod],
    /// Pods of its namespace that nobody controls.
    pub(super) free: &'a [&'a Pod],
    /// Whether the effect of its earlier writes is in `owned`.
    pub(super) settled: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Makes the replica set the owner of a pod, or no longer.
    Owners {
        pod: Box<Pod>,
        patch: Value,
    },
    Create(Box<Pod>),
    Delete(Box<Pod>),
    Status(Value),
}

#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Duration>,
}

pub(super) fn decide(set: &ReplicaSet, seen: &Seen<'_>, now: Timestamp) -> Decision {
    let Some(spec) = &set.spec else {
        return Decision::default();
    };
    let selected = |pod: &Pod| owns(&spec.selector, pod.metadata.labels.as_ref());
    let (kept, lost): (Vec<&Pod>, Vec<&Pod>) = seen.owned.iter().copied().partition(|pod| selected(pod));
    let active: Vec<&Pod> = kept.into_iter().filter(|pod| is_active(pod)).collect();
    let mut actions = Vec::new();
    if !is_deleting(set) {
        actions.extend(lost.iter().filter(|pod| !is_deleting(**pod)).map(|pod| release(set, pod)));
        let found = seen.free.iter().filter(|pod| selected(pod) && is_active(pod));
        actions.extend(found.map(|pod| adopt(set, pod)));
        // What is claimed in this round counts in the next.
        if actions.is_empty() && seen.settled {
            actions.extend(adjust(set, spec, &active));
        }
    }
    let (status, again) = status(set, spec, &active, now);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::Status(status_patch(set.status.as_ref(), &status)));
    }
    Decision { actions, again }
}

fn adopt(set: &ReplicaSet, pod: &Pod) -> Action {
    let mut owners = pod.owner_references().to_vec();
    owners.push(controlled_by(set));
    let patch = json!({"metadata": {
        "resourceVersion": pod.metadata.resource_version, "ownerReferences": owners}});
    Action::Owners { pod: Box::new(pod.clone()), patch }
}

fn release(set: &ReplicaSet, pod: &Pod) -> Action {
    let mut owners = pod.owner_references().to_vec();
    owners.retain(|owner| owner.uid != uid_of(set));
    let patch = json!({"metadata": {
        "resourceVersion": pod.metadata.resource_version, "ownerReferences": owners}});
    Action::Owners { pod: Box::new(pod.clone()), patch }
}

fn adjust(set: &ReplicaSet, spec: &ReplicaSetSpec, active: &[&Pod]) -> Vec<Action> {
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST);
        let chosen = victims(active, surplus).into_iter();
        return chosen.map(|pod| Action::Delete(Box::new(pod.clone()))).collect();
    }
    let Some(template) = &spec.template else {
        return Vec::new();
    };
    let missing = (wanted - active.len()).min(BURST);
    let pod = pod_from(template, namespace_of(set), controlled_by(set));
    vec![Action::Create(Box::new(pod)); missing]
}

fn status(
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    active: &[&Pod],
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let (mut available, mut again) = (0, None);
    for pod in active {
        match availability(pod, spec.min_ready_seconds.unwrap_or(0), now) {
            Availability::Available => available += 1,
            Availability::In(left) => again = earliest(again, Some(left)),
            Availability::NotReady => {}
        }
    }
    let labels = spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let is_labelled = |pod: &&&Pod| contains(labels.into_iter().flatten(), pod.labels());
    let status = ReplicaSetStatus {
        replicas: count(active.len()).unwrap_or(0),
        fully_labeled_replicas: count(active.iter().filter(is_labelled).count()),
        ready_replicas: count(active.iter().filter(|pod| is_ready(pod)).count()),
        available_replicas: count(available),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..Default::default()
    };
    (status, again)
}

/// A count as the API writes it: nothing instead of zero.
fn count(pods: usize) -> Option<i32> {
    i32::try_from(pods).ok().filter(|&pods| pods > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "r", "generation": 3},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, more: Value) -> Pod {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r",
                    "controller": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (pointer, new) in more.as_object().unwrap() {
            *value.pointer_mut(pointer).unwrap() = new.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn actions(set: &ReplicaSet, owned: &[&Pod], free: &[&Pod], settled: bool) -> Vec<Action> {
        let seen = Seen { owned, free, settled };
        decide(set, &seen, Timestamp::UNIX_EPOCH).actions
    }

    fn tally(actions: &[Action]) -> (usize, usize, usize) {
        let count = |kind: fn(&Action) -> bool| actions.iter().filter(|action| kind(action)).count();
        (
            count(|action| matches!(action, Action::Create(_))),
            count(|action| matches!(action, Action::Delete(_))),
            count(|action| matches!(action, Action::Owners { .. })),
        )
    }

    #[rstest]
    #[case::none_yet(3, 0, (3, 0, 0))]
    #[case::some(3, 2, (1, 0, 0))]
    #[case::enough(2, 2, (0, 0, 0))]
    #[case::too_many(1, 3, (0, 2, 0))]
    #[case::none_wanted(0, 1, (0, 1, 0))]
    fn creates_and_deletes(#[case] wanted: i32, #[case] have: usize, #[case] expected: (usize, usize, usize)) {
        let pods: Vec<_> = (0..have).map(|index| pod(&format!("p{index}"), json!({}))).collect();
        let owned: Vec<_> = pods.iter().collect();
        assert_eq!(tally(&actions(&set(wanted), &owned, &[], true)), expected);
        assert_eq!(tally(&actions(&set(wanted), &owned, &[], false)), (0, 0, 0), "waits for old writes");
    }

    #[test]
    fn a_new_pod_belongs_to_its_set() {
        let actions = actions(&set(1), &[], &[], true);
        let Action::Create(pod) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-1-"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("shop"));
        let owner = &pod.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("ReplicaSet", "r", Some(true)));
    }

    #[test]
    fn ended_and_ending_pods_are_replaced() {
        let ended = pod("ended", json!({"/status/phase": "Failed"}));
        let mut ending = pod("ending", json!({}));
        ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-23T09:00:00Z")).unwrap();
        assert_eq!(tally(&actions(&set(2), &[&ended, &ending], &[], true)), (2, 0, 0));
    }

    #[test]
    fn a_matching_orphan_is_adopted_before_anything_is_made() {
        let orphan = pod("orphan", json!({"/metadata/ownerReferences": []}));
        let actions = actions(&set(2), &[], &[&orphan], true);
        assert_eq!(tally(&actions), (0, 0, 1));
        let Action::Owners { patch, .. } = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(patch.pointer("/metadata/ownerReferences/0/uid"), Some(&json!("r")));
    }

    #[test]
    fn a_pod_that_lost_its_label_is_let_go() {
        let relabelled = pod("relabelled", json!({"/metadata/labels": {"app": "other"}}));
        let actions = actions(&set(1), &[&relabelled], &[], true);
        let Action::Owners { patch, .. } = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(patch.pointer("/metadata/ownerReferences"), Some(&json!([])));
    }

    #[test]
    fn the_status_counts() {
        let ready = pod("ready", json!({}));
        let starting = pod("starting", json!({"/status/conditions/0/status": "False"}));
        let actions = actions(&set(2), &[&ready, &starting], &[], true);
        let [Action::Status(patch)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(
            patch,
            &json!({"status": {"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1,
            "availableReplicas": 1, "observedGeneration": 3}})
        );
    }

    #[test]
    fn a_pod_becomes_available_after_its_time() {
        let mut set = set(1);
        set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
        let pod = pod(
            "p",
            json!({"/status/conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T09:00:00Z"}]}),
        );
        let seen = Seen { owned: &[&pod], free: &[], settled: true };
        let decision = decide(&set, &seen, "2026-11-23T09:00:04Z".parse().unwrap());
        assert_eq!(decision.again, Some(Duration::from_secs(6)));
    }
}
