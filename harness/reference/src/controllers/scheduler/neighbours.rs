//! Rules between pods: which must share a place, which must not, and how even a spread has to be. Pure.
//!
//! Only what a pod requires is kept; what it merely prefers is left to the scheduler's own sense of even.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec};

use super::filter::{Candidate, Refusal, refusal};
use crate::controllers::matching::selects;
use crate::controllers::world::namespace_of;

/// What keeps `pod` off `candidate` because of the pods that run elsewhere or there.
pub(super) fn refuses(pod: &Pod, spec: &PodSpec, candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Option<Refusal> {
    if let Some(refusal) = uneven(pod, spec, candidate, all) {
        return Some(refusal);
    }
    let affinity = spec.affinity.as_ref();
    let together = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|terms| terms.required_during_scheduling_ignored_during_execution.as_ref());
    if !together.into_iter().flatten().all(|term| has_company(pod, term, candidate, all)) {
        return refusal("node(s) didn't match pod affinity rules", false);
    }
    if anti_terms(spec).any(|term| meets(pod, term, candidate, all)) {
        return refusal("node(s) didn't match pod anti-affinity rules", true);
    }
    if is_shunned(pod, candidate, all) {
        return refusal("node(s) didn't satisfy existing pods anti-affinity rules", true);
    }
    None
}

fn anti_terms(spec: &PodSpec) -> impl Iterator<Item = &PodAffinityTerm> {
    let affinity = spec.affinity.as_ref();
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    apart.into_iter().flat_map(|terms| terms.required_during_scheduling_ignored_during_execution.iter().flatten())
}

/// Whether a term of `pod` means `other`.
fn means(pod: &Pod, term: &PodAffinityTerm, other: &Pod) -> bool {
    let namespaces = term.namespaces.as_deref().unwrap_or_default();
    let is_near = match (namespaces.is_empty(), &term.namespace_selector) {
        (true, None) => namespace_of(pod) == namespace_of(other),
        // Namespaces are chosen by name only, or all of them: their labels are not looked at here.
        (true, Some(_)) => true,
        (false, _) => namespaces.iter().any(|name| name == namespace_of(other)),
    };
    let selector = term.label_selector.as_ref();
    is_near && selector.is_some_and(|selector| selects(selector, other.metadata.labels.as_ref()))
}

/// The place of a node in the topology that `key` names.
fn place<'n>(candidate: &'n Candidate<'_>, key: &str) -> Option<&'n str> {
    candidate.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn meets(pod: &Pod, term: &PodAffinityTerm, here: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
    let Some(place_here) = place(here, &term.topology_key) else {
        return false;
    };
    let same_place = all.iter().filter(|other| place(other, &term.topology_key) == Some(place_here));
    same_place.flat_map(|other| &other.pods).any(|other| means(pod, term, other))
}

fn has_company(pod: &Pod, term: &PodAffinityTerm, here: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
    if place(here, &term.topology_key).is_none() {
        return false;
    }
    // The first of a group that wants to be together has nobody to join.
    let is_first =
        means(pod, term, pod) && !all.iter().flat_map(|other| &other.pods).any(|other| means(pod, term, other));
    is_first || meets(pod, term, here, all)
}

/// Whether a pod that is there already must not share its place with `pod`.
fn is_shunned(pod: &Pod, here: &Candidate<'_>, all: &[Candidate<'_>]) -> bool {
    all.iter().any(|other| {
        other.pods.iter().any(|resident| {
            let Some(spec) = &resident.spec else {
                return false;
            };
            anti_terms(spec).any(|term| {
                let places = (place(here, &term.topology_key), place(other, &term.topology_key));
                matches!(places, (Some(a), Some(b)) if a == b) && means(resident, term, pod)
            })
        })
    })
}

/// A spread that `pod` insists on and that one more pod here would break.
fn uneven(pod: &Pod, spec: &PodSpec, here: &Candidate<'_>, all: &[Candidate<'_>]) -> Option<Refusal> {
    for rule in spec.topology_spread_constraints.iter().flatten() {
        if rule.when_unsatisfiable != "DoNotSchedule" {
            continue;
        }
        let Some(place_here) = place(here, &rule.topology_key) else {
            return refusal("node(s) didn't match pod topology spread constraints (missing required label)", false);
        };
        let Some(selector) = &rule.label_selector else {
            continue;
        };
        let is_meant = |other: &&&Pod| {
            namespace_of(**other) == namespace_of(pod) && selects(selector, other.metadata.labels.as_ref())
        };
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for other in all {
            let Some(name) = place(other, &rule.topology_key) else {
                continue;
            };
            if crate::controllers::matching::admits_node(spec, other.node) {
                *counts.entry(name).or_default() += other.pods.iter().filter(is_meant).count();
            }
        }
        let least = counts.values().min().copied().unwrap_or(0);
        let itself = usize::from(selects(selector, pod.metadata.labels.as_ref()));
        let most = least + usize::try_from(rule.max_skew).unwrap_or(0);
        if counts.get(place_here).copied().unwrap_or(0) + itself > most {
            return refusal("node(s) didn't match pod topology spread constraints", true);
        }
    }
    None
}
