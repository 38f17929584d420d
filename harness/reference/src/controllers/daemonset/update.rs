//! Replacing the pods of an older template, a few nodes at a time. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::decide::{Action, Place, Standing, create, delete};
use crate::controllers::deployment::{Rounding, share};

/// The next step of a rolling update; nothing when the pods are replaced only as they are deleted.
pub(super) fn roll(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, places: &[Place<'_>]) -> Vec<Action> {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let wanted: Vec<&Place<'_>> = places.iter().filter(|place| place.wanted).collect();
    let pods = |value: Option<&IntOrString>, default: i32| {
        let whole = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
        let value = value.map_or(default, |value| share(value, whole, Rounding::Up));
        usize::try_from(value).unwrap_or(0)
    };
    let surge = pods(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
    if surge > 0 {
        return surging(set, spec, hash, &wanted, surge);
    }
    let unavailable = pods(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
    replacing(&wanted, unavailable.max(1))
}

/// The pod of the current template and that of an older one, of those that stay.
fn pair<'p, 'a>(place: &'p Place<'a>) -> (Option<&'p Standing<'a>>, Option<&'p Standing<'a>>) {
    let mut staying = place.pods.iter().filter(|standing| !standing.deleting);
    let new = staying.clone().find(|standing| standing.updated);
    (new, staying.find(|standing| !standing.updated))
}

/// Deletes old pods first; [`super::decide`] makes the new ones when the old are gone.
fn replacing(wanted: &[&Place<'_>], allowed: usize) -> Vec<Action> {
    let mut missing = 0;
    let (mut idle, mut serving) = (Vec::new(), Vec::new());
    for place in wanted {
        match pair(place) {
            (Some(new), _) if new.available => {}
            (None, Some(old)) if old.available => serving.push(old),
            // What does not serve can go at once: nobody misses it.
            (None, Some(old)) => {
                missing += 1;
                idle.push(old);
            }
            _ => missing += 1,
        }
    }
    let more = allowed.saturating_sub(missing);
    let gone = idle.into_iter().chain(serving.into_iter().take(more));
    gone.map(|standing| delete(standing, None)).collect()
}

/// Makes new pods beside the old ones and deletes an old one when its successor serves.
fn surging(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, wanted: &[&Place<'_>], allowed: usize) -> Vec<Action> {
    let mut beside = 0;
    let (mut actions, mut candidates) = (Vec::new(), Vec::new());
    for place in wanted {
        match pair(place) {
            (Some(new), Some(old)) if new.available => actions.push(delete(old, None)),
            (Some(_), Some(_)) => beside += 1,
            (None, Some(old)) if old.available => candidates.push(place),
            (None, Some(_)) => actions.push(create(set, spec, hash, place)),
            _ => {}
        }
    }
    let more = candidates.into_iter().take(allowed.saturating_sub(beside));
    actions.extend(more.map(|place| create(set, spec, hash, place)));
    actions
}
