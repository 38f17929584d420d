//! What the state of a pod means to those who count pods. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// How far a pod is on its way to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Available,
    /// Ready, but not yet for as long as `minReadySeconds` asks for.
    In(Duration),
    NotReady,
}

pub(super) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Ended for good: its containers will not run again.
pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts towards the replicas of its owner.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub(super) fn condition<'p>(pod: &'p Pod, kind: &str) -> Option<&'p PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

pub(super) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    let Some(ready) = condition(pod, "Ready").filter(|ready| ready.status == "True") else {
        return Availability::NotReady;
    };
    let min = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
    if min.is_zero() {
        return Availability::Available;
    }
    let since = ready.last_transition_time.as_ref().map_or(now, |time| time.0);
    let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match min.checked_sub(been) {
        Some(left) if !left.is_zero() => Availability::In(left),
        _ => Availability::Available,
    }
}

pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("True", 0, Availability::Available)]
    #[case("False", 0, Availability::NotReady)]
    #[case("True", 5, Availability::Available)]
    #[case("True", 30, Availability::In(Duration::from_secs(20)))]
    fn available(#[case] status: &str, #[case] min: i32, #[case] expected: Availability) {
        let pod: Pod = serde_json::from_value(json!({"status": {"conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-11-23T09:00:00Z"}]}}))
        .unwrap();
        let now = "2026-11-23T09:00:10Z".parse().unwrap();
        assert_eq!(availability(&pod, min, now), expected);
    }
}
