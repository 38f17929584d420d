//! Which pods go where: each in turn, most important first, to the node that costs least. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;

use super::filter::{Candidate, Refusal, verdict};
use super::neighbours;
use crate::controllers::pod_state::{is_finished, node_of};
use crate::controllers::world::{is_deleting, uid_of};

/// Pods that one round finds a place for.
const PER_ROUND: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Bind { pod: Arc<Pod>, node: String },
    Unschedulable { pod: Arc<Pod>, message: String },
}

/// Decides about the pods that wait. `assumed` are the nodes of pods that are bound although `pods` shows it not yet.
pub(super) fn decide(pods: &[Arc<Pod>], nodes: &[Arc<Node>], assumed: &HashMap<String, String>) -> Vec<Verdict> {
    let mut waiting: Vec<&Arc<Pod>> = pods.iter().filter(|pod| waits(pod)).collect();
    waiting.retain(|pod| !assumed.contains_key(uid_of(pod.as_ref())));
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (Reverse(priority), pod.creation_timestamp(), pod.namespace(), pod.name_any())
    });
    let mut candidates = candidates(pods, nodes, assumed);
    let mut verdicts = Vec::new();
    for pod in waiting {
        if verdicts.len() >= PER_ROUND {
            break;
        }
        verdicts.push(place(pod, &mut candidates));
    }
    verdicts
}

fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let is_ours = spec.scheduler_name.as_deref().is_none_or(|name| name == "default-scheduler");
    let is_gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    is_ours && !is_gated && node_of(pod).is_none() && !is_deleting(pod) && !is_finished(pod)
}

fn candidates<'a>(
    pods: &'a [Arc<Pod>],
    nodes: &'a [Arc<Node>],
    assumed: &HashMap<String, String>,
) -> Vec<Candidate<'a>> {
    let living = nodes.iter().filter(|node| !is_deleting(node.as_ref()));
    let mut candidates: Vec<_> = living.map(|node| Candidate::new(node)).collect();
    candidates.sort_by_key(|candidate| candidate.name);
    let index: HashMap<&str, usize> =
        candidates.iter().enumerate().map(|(index, candidate)| (candidate.name, index)).collect();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let assumed = assumed.get(uid_of(pod.as_ref())).map(String::as_str);
        if let Some(&index) = node_of(pod).or(assumed).and_then(|node| index.get(node)) {
            candidates[index].take(pod);
        }
    }
    candidates
}

fn place<'a>(pod: &'a Arc<Pod>, candidates: &mut [Candidate<'a>]) -> Verdict {
    let spec = pod.spec.as_ref();
    let mut refusals: Vec<Refusal> = Vec::new();
    let mut best = None;
    if let Some(spec) = spec {
        for (index, candidate) in candidates.iter().enumerate() {
            let refused = candidate.refuses(spec).or_else(|| neighbours::refuses(pod, spec, candidate, candidates));
            match refused {
                Some(refusal) => refusals.push(refusal),
                None => {
                    let cost = (candidate.cost(pod, spec), index);
                    best = Some(best.map_or(cost, |best: (_, usize)| best.min(cost)));
                }
            }
        }
    }
    match best {
        Some((_, index)) => {
            candidates[index].take(pod);
            Verdict::Bind { pod: pod.clone(), node: candidates[index].name.to_owned() }
        }
        None => Verdict::Unschedulable { pod: pod.clone(), message: verdict(&refusals) },
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
