//! How far a rollout may stray from the number of pods that is asked for. Pure.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Surge and unavailability in pods. A rollout that may do neither could never move.
pub(super) fn bounds(spec: &DeploymentSpec, replicas: i32) -> (i32, i32) {
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return (0, replicas);
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = share(surge, replicas, Rounding::Up);
    let unavailable = share(unavailable, replicas, Rounding::Down).min(replicas);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        other => other,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::controllers) enum Rounding {
    Up,
    Down,
}

/// A number of pods, given as such or as a percentage of `whole`.
pub(in crate::controllers) fn share(value: &IntOrString, whole: i32, rounding: Rounding) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0);
            let extra = if rounding == Rounding::Up { 99 } else { 0 };
            i32::try_from((percent * i64::from(whole) + extra) / 100).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("25%", 4, Rounding::Up, 1)]
    #[case("25%", 3, Rounding::Up, 1)]
    #[case("25%", 3, Rounding::Down, 0)]
    #[case("100%", 3, Rounding::Down, 3)]
    #[case("0%", 3, Rounding::Up, 0)]
    fn percentages(#[case] text: &str, #[case] whole: i32, #[case] rounding: Rounding, #[case] pods: i32) {
        assert_eq!(share(&IntOrString::String(text.to_owned()), whole, rounding), pods);
    }

    #[test]
    fn a_rollout_that_may_do_nothing_may_miss_one() {
        let spec = serde_json::from_value(json!({
            "selector": {}, "template": {},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}));
        assert_eq!(bounds(&spec.unwrap(), 4), (0, 1));
    }
}
